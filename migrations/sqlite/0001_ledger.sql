-- The ledger: jobs, their schedules over time, runs, replicas and what belongs to them.
-- Names in braces are expanded by the migrator; see src/store/dialect.rs.

create table {jobs} (
  name text not null primary key,
  -- What an epoch stands for; empty for a queue.
  spec_hash text not null,
  -- What a claim must agree on.
  work_hash text not null,
  epoch integer not null,
  first_seen integer not null,
  -- The cursor: every instant up to here is in the ledger.
  planned_until integer not null,
  audited_until integer not null,
  audit text not null,
  paused_at integer,
  paused_until integer,
  paused_reason text,
  retired_at integer,
  -- What a producer that has no job table must know.
  key_path text,
  priority integer not null,
  max_attempts integer not null,
  exclusive integer not null,
  at_most_once integer not null
) strict;

create table {schedules} (
  job text not null,
  epoch integer not null,
  -- Null: the job was a queue in this epoch, and nothing was due.
  schedule text,
  timezone text,
  dst text,
  zone_data_version text,
  valid_from integer not null,
  valid_until integer,
  primary key (job, epoch)
) strict;

create table {runs} (
  id text not null primary key,
  job text not null,
  epoch integer not null,
  trigger text not null check (trigger in ('schedule', 'catch_up', 'manual', 'enqueue', 'retry')),
  scheduled_for integer,
  covers integer not null,
  covers_from integer,
  state text not null check (state in ('waiting', 'due', 'running', 'finished')),
  outcome text check (
    outcome in ('success', 'partial', 'skipped', 'error', 'timeout', 'panic', 'lost', 'unknown', 'cancelled')
  ),
  reason text,
  due_at integer not null,
  priority integer not null,
  key text,
  dedupe_key text,
  payload text,
  attempt integer not null check (attempt >= 0),
  max_attempts integer not null,
  crashes integer not null,
  exclusive integer not null,
  at_most_once integer not null,
  replica text,
  -- The fence of the last claim; it stays after settling, so that a settlement sent twice is recognised.
  lease text,
  resume text,
  retry_of text,
  cancel_requested_at integer,
  progress integer,
  progress_note text,
  created_at integer not null,
  started_at integer,
  finished_at integer,
  lag_ms integer,
  duration_ms integer,
  items integer,
  items_failed integer,
  items_left integer,
  response_code integer,
  result text,
  error text,
  errors text not null,
  check ((state = 'finished') = (outcome is not null)),
  check ((state = 'finished') = (finished_at is not null)),
  check (state <> 'running' or (replica is not null and lease is not null and started_at is not null)),
  check ((scheduled_for is null) = (covers_from is null)),
  check ((scheduled_for is null) = (covers = 0)),
  check (covers >= 0 and covers_from <= scheduled_for)
) strict;

-- S1: one entry for a job and an instant, whoever plans and whenever it crashes.
create unique index {prefix}runs_instant on {runs} (job, scheduled_for) where scheduled_for is not null;
-- One unfinished run for a key of a producer.
create unique index {prefix}runs_dedupe on {runs} (job, dedupe_key) where dedupe_key is not null and state <> 'finished';
-- The backstop of exclusive scopes; the claim's lock keeps the peace.
create unique index {prefix}runs_exclusive on {runs} (job) where state = 'running' and exclusive;
create index {prefix}runs_claim on {runs} (job, exclusive, priority desc, due_at, id) where state = 'due';
-- Runs that took a process down with them are claimed one at a time.
create index {prefix}runs_suspect on {runs} (job, exclusive) where state = 'due' and crashes > 0;
create index {prefix}runs_waiting on {runs} (due_at) where state = 'waiting';
create index {prefix}runs_running on {runs} (job) where state = 'running';
create index {prefix}runs_replica on {runs} (replica) where state = 'running';
create index {prefix}runs_unfinished on {runs} (job, trigger) where state <> 'finished' and scheduled_for is not null;
create index {prefix}runs_finished on {runs} (job, finished_at) where state = 'finished';

create table {replicas} (
  id text not null primary key,
  host text not null,
  version text not null,
  table_hash text not null,
  state text not null check (state in ('live', 'left', 'dead')),
  started_at integer not null,
  renewed_at integer not null,
  lease_until integer not null
) strict;

create table {job_configs} (
  table_hash text not null primary key,
  revision integer,
  first_seen integer not null,
  activated_at integer not null,
  activated_by text not null,
  activations integer not null,
  active integer not null
) strict;
create unique index {prefix}job_configs_active on {job_configs} (active) where active;

create table {idempotency} (
  scope text not null,
  key text not null,
  body_hash text not null,
  run_id text not null,
  expires_at integer not null,
  primary key (scope, key)
) strict;
create index {prefix}idempotency_expiry on {idempotency} (expires_at);

create table {hourly} (
  job text not null,
  hour integer not null,
  outcome text not null,
  runs integer not null,
  items integer not null,
  duration_ms integer not null,
  max_lag_ms integer not null,
  primary key (job, hour, outcome)
) strict;
create index {prefix}hourly_hour on {hourly} (hour);
