-- Messages to people. Higher `prioridade` goes first.
create table if not exists fila_mensagens (
  id uuid primary key default gen_random_uuid(),
  cliente_id text,
  conversa_id text,
  telefone text,
  conteudo text not null,
  tipo text not null default 'lembrete',
  prioridade integer not null default 5 check (prioridade between 0 and 10),
  status text not null default 'pendente'
    check (status in ('pendente', 'processando', 'enviada', 'erro', 'cancelada', 'bloqueada')),
  agendar_para timestamptz,
  enviada_em timestamptz,
  metadata jsonb not null default '{}',
  created_at timestamptz not null default now(),
  max_tentativas integer not null default 3,
  tentativas integer not null default 0,
  erro text,
  processando_desde timestamptz,
  outcome text,
  outcome_reason_code text,
  outcome_at timestamptz,
  provider_message_id text
);

create index if not exists fila_mensagens_a_enviar on fila_mensagens (prioridade desc, created_at) where status = 'pendente';
create index if not exists fila_mensagens_em_envio on fila_mensagens (processando_desde) where status = 'processando';
create index if not exists fila_mensagens_enviadas on fila_mensagens (enviada_em) where status = 'enviada';
create index if not exists fila_mensagens_erros on fila_mensagens (outcome_at) where status = 'erro';
create index if not exists fila_mensagens_iguais on fila_mensagens ((metadata ->> 'dedupe_key'))
  where metadata ->> 'dedupe_key' is not null;

-- Some hosts let anyone with a public key read new tables; rows are for the owner until somebody says otherwise.
alter table fila_mensagens enable row level security;
