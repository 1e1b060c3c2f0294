-- What happened to the business, each at most once.
create table if not exists business_events (
  id uuid primary key default gen_random_uuid(),
  event_type text not null,
  dedupe_key text unique,
  cliente_id text,
  vaga_id text,
  event_props jsonb not null default '{}',
  created_at timestamptz not null default now()
);

-- Some hosts let anyone with a public key read new tables; rows are for the owner until somebody says otherwise.
alter table business_events enable row level security;
