-- What happened to the business, each at most once. Instants are text, RFC 3339 in UTC.
create table if not exists business_events (
  id integer primary key,
  event_type text not null,
  dedupe_key text unique,
  cliente_id text,
  vaga_id text,
  event_props text not null default '{}',
  created_at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ'))
);
