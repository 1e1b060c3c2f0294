-- Sections of the briefing, the newest text of each.
create table if not exists diretrizes (
  id uuid primary key default gen_random_uuid(),
  tipo text not null unique,
  conteudo text not null,
  -- The briefing that had this section last; null = it came from elsewhere.
  doc_hash text,
  -- A hash of the address of that briefing.
  origem_hash text,
  updated_at timestamptz
);

-- Some hosts let anyone with a public key read new tables; rows are for the owner until somebody says otherwise.
alter table diretrizes enable row level security;
