-- Shifts that doctors take. Instants are text, RFC 3339 in UTC.
create table if not exists vagas (
  id integer primary key,
  titulo text,
  data text,
  hora_inicio text,
  hora_fim text,
  status text not null default 'aberta',
  cliente_id text,
  pendente_confirmacao_em text,
  created_at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ')),
  updated_at text
);

create index if not exists vagas_reservadas on vagas (data) where status = 'reservada';
