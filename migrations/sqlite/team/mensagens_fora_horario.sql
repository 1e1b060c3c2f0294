-- What came in while nobody was there. Instants are text, RFC 3339 in UTC.
create table if not exists mensagens_fora_horario (
  id integer primary key,
  cliente_id text,
  conversa_id text,
  mensagem text,
  recebida_em text not null default (strftime('%Y-%m-%dT%H:%M:%fZ')),
  contexto text not null default '{}',
  processada integer not null default 0,
  processada_em text,
  processada_resultado text,
  inbound_message_id text
);

create index if not exists mensagens_fora_horario_a_responder on mensagens_fora_horario (recebida_em)
  where coalesce(cast(processada as text), 'false') in ('false', '0');
