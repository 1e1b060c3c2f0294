-- Sections of the briefing, the newest text of each. Instants are text, RFC 3339 in UTC.
create table if not exists diretrizes (
  id integer primary key,
  tipo text not null unique,
  conteudo text not null,
  updated_at text
);
