-- How many messages were taken out of each limit's calendar hour or day, and when last. Bookkeeping of the daemon.
create table if not exists outbound_limits (
  scope text not null,
  opens_at timestamptz not null,
  taken integer not null,
  taken_at timestamptz not null,
  primary key (scope, opens_at)
);

-- Some hosts let anyone with a public key read new tables; rows are for the owner until somebody says otherwise.
alter table outbound_limits enable row level security;
