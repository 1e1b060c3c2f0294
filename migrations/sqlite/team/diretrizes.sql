-- Sections of the briefing, the newest text of each. Instants are text, RFC 3339 in UTC.
create table if not exists diretrizes (
  id integer primary key,
  tipo text not null unique,
  conteudo text not null,
  -- The briefing that had this section last; null = it came from elsewhere.
  doc_hash text,
  -- A hash of the address of that briefing.
  origem_hash text,
  updated_at text
);
