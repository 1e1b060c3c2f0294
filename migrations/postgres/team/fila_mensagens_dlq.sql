-- Messages that were given up, as they stood; sent again by a person, or never. Ids are text, so that those of any queue fit.
create table if not exists fila_mensagens_dlq (
  id uuid primary key default gen_random_uuid(),
  mensagem_id text not null unique,
  motivo text not null,
  erro text,
  tentativas integer not null default 0,
  mensagem jsonb not null default '{}',
  created_at timestamptz not null default now(),
  reenviada_em timestamptz
);

-- Some hosts let anyone with a public key read new tables; rows are for the owner until somebody says otherwise.
alter table fila_mensagens_dlq enable row level security;
