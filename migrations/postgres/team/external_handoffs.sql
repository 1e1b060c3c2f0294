-- Shifts that an outside recruiter was asked to confirm.
create table if not exists external_handoffs (
  id uuid primary key default gen_random_uuid(),
  vaga_id text,
  cliente_id text,
  divulgador_nome text,
  divulgador_telefone text,
  status text not null default 'pending'
    check (status in ('pending', 'contacted', 'confirmed', 'not_confirmed', 'expired')),
  reserved_until timestamptz,
  last_followup_at timestamptz,
  followup_count integer not null default 0,
  expired_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz
);

create index if not exists external_handoffs_abertos on external_handoffs (reserved_until) where status in ('pending', 'contacted');

-- Some hosts let anyone with a public key read new tables; rows are for the owner until somebody says otherwise.
alter table external_handoffs enable row level security;
