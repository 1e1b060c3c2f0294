-- How many messages were taken out of each limit's calendar hour or day, and when last. Bookkeeping of the daemon. Instants are text, RFC 3339 in UTC.
create table if not exists outbound_limits (
  scope text not null,
  opens_at text not null,
  taken integer not null,
  taken_at text not null,
  primary key (scope, opens_at)
);
