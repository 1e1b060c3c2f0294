-- What came in while nobody was there.
create table if not exists mensagens_fora_horario (
  id uuid primary key default gen_random_uuid(),
  cliente_id text,
  conversa_id text,
  mensagem text,
  recebida_em timestamptz not null default now(),
  contexto jsonb not null default '{}',
  processada boolean not null default false,
  processada_em timestamptz,
  processada_resultado text,
  inbound_message_id text
);

create index if not exists mensagens_fora_horario_a_responder on mensagens_fora_horario (recebida_em)
  where coalesce(cast(processada as text), 'false') in ('false', '0');

-- Some hosts let anyone with a public key read new tables; rows are for the owner until somebody says otherwise.
alter table mensagens_fora_horario enable row level security;
