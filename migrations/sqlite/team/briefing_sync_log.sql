-- The briefing as it was read, each time it had changed. Instants are text, RFC 3339 in UTC.
create table if not exists briefing_sync_log (
  id integer primary key,
  doc_hash text not null,
  doc_title text,
  conteudo_raw text,
  etag text,
  created_at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ'))
);
