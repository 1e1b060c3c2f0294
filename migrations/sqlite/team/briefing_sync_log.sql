-- The briefing as it was read, each time it had changed. Instants are text, RFC 3339 in UTC.
create table if not exists briefing_sync_log (
  id integer primary key,
  doc_hash text not null,
  doc_title text,
  conteudo_raw text,
  -- What the server called this state of it, and a hash of the address where it was so called.
  etag text,
  origem_hash text,
  -- From here on the team may be told of this change; null = it was told.
  avisar_em text,
  created_at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ'))
);
