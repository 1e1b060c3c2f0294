-- Shifts that doctors take.
create table if not exists vagas (
  id uuid primary key default gen_random_uuid(),
  titulo text,
  data date,
  hora_inicio time,
  hora_fim time,
  status text not null default 'aberta',
  cliente_id text,
  pendente_confirmacao_em timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz
);

create index if not exists vagas_reservadas on vagas (data) where status = 'reservada';

-- Some hosts let anyone with a public key read new tables; rows are for the owner until somebody says otherwise.
alter table vagas enable row level security;
