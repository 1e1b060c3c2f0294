-- Who is written to.
create table if not exists clientes (
  id uuid primary key default gen_random_uuid(),
  telefone text,
  primeiro_nome text,
  created_at timestamptz not null default now()
);

-- Some hosts let anyone with a public key read new tables; rows are for the owner until somebody says otherwise.
alter table clientes enable row level security;
