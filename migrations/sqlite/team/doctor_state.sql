-- What is known of a lead: how warm it is, and when it may be talked to. Instants are text, RFC 3339 in UTC.
create table if not exists doctor_state (
  cliente_id text primary key,
  permission_state text not null default 'active',
  cooling_off_until text,
  temperature real not null default 0.50 check (temperature between 0 and 1),
  temperature_trend text not null default 'stable',
  last_inbound_at text,
  last_outbound_at text,
  next_allowed_at text,
  contact_count_7d integer not null default 0 check (0 <= contact_count_7d),
  lifecycle_stage text not null default 'novo',
  last_decay_at text
);
