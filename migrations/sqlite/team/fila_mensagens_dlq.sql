-- Messages that were given up, as they stood; sent again by a person, or never. Instants are text, RFC 3339 in UTC.
create table if not exists fila_mensagens_dlq (
  id integer primary key,
  mensagem_id text not null unique,
  motivo text not null,
  erro text,
  tentativas integer not null default 0,
  mensagem text not null default '{}',
  created_at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ')),
  reenviada_em text
);
