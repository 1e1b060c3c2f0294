-- What is known of a lead: how warm it is, and when it may be talked to.
create table if not exists doctor_state (
  cliente_id text primary key,
  permission_state text not null default 'active',
  cooling_off_until timestamptz,
  temperature numeric(3, 2) not null default 0.50 check (temperature between 0 and 1),
  temperature_trend text not null default 'stable',
  last_inbound_at timestamptz,
  last_outbound_at timestamptz,
  next_allowed_at timestamptz,
  contact_count_7d integer not null default 0 check (0 <= contact_count_7d),
  lifecycle_stage text not null default 'novo',
  last_decay_at timestamptz
);

-- Some hosts let anyone with a public key read new tables; rows are for the owner until somebody says otherwise.
alter table doctor_state enable row level security;
