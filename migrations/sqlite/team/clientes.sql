-- Who is written to. Instants are text, RFC 3339 in UTC.
create table if not exists clientes (
  id integer primary key,
  telefone text,
  primeiro_nome text,
  created_at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ'))
);
