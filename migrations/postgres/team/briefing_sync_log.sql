-- The briefing as it was read, each time it had changed.
create table if not exists briefing_sync_log (
  id uuid primary key default gen_random_uuid(),
  doc_hash text not null,
  doc_title text,
  conteudo_raw text,
  -- What the server called this state of it, and a hash of the address where it was so called.
  etag text,
  origem_hash text,
  -- From here on the team may be told of this change; null = it was told.
  avisar_em timestamptz,
  created_at timestamptz not null default now()
);

-- Some hosts let anyone with a public key read new tables; rows are for the owner until somebody says otherwise.
alter table briefing_sync_log enable row level security;
