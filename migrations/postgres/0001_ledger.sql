-- The ledger: jobs, their schedules over time, runs, replicas and what belongs to them.
-- Names in braces are expanded by the migrator; see src/store/dialect.rs.

create table {jobs} (
  name text primary key,
  -- What an epoch stands for; empty for a queue.
  spec_hash text not null,
  -- What a claim must agree on.
  work_hash text not null,
  epoch bigint not null,
  first_seen timestamptz not null,
  -- The cursor: every instant up to here is in the ledger.
  planned_until timestamptz not null,
  audited_until timestamptz not null,
  audit jsonb not null,
  paused_at timestamptz,
  paused_until timestamptz,
  paused_reason text,
  retired_at timestamptz,
  -- What a producer that has no job table must know.
  key_path text,
  priority smallint not null,
  max_attempts integer not null,
  exclusive boolean not null,
  at_most_once boolean not null
) with (fillfactor = 50);

create table {schedules} (
  job text not null,
  epoch bigint not null,
  -- Null: the job was a queue in this epoch, and nothing was due.
  schedule text,
  timezone text,
  dst text,
  zone_data_version text,
  valid_from timestamptz not null,
  valid_until timestamptz,
  primary key (job, epoch)
);

create table {runs} (
  id uuid primary key,
  job text not null,
  epoch bigint not null,
  trigger text not null check (trigger in ('schedule', 'catch_up', 'manual', 'enqueue', 'retry')),
  scheduled_for timestamptz,
  covers bigint not null,
  covers_from timestamptz,
  state text not null check (state in ('waiting', 'due', 'running', 'finished')),
  outcome text check (
    outcome in ('success', 'partial', 'skipped', 'error', 'timeout', 'panic', 'lost', 'unknown', 'cancelled')
  ),
  reason text,
  due_at timestamptz not null,
  priority smallint not null,
  key text,
  dedupe_key text,
  payload jsonb,
  attempt integer not null check (attempt >= 0),
  max_attempts integer not null,
  crashes integer not null,
  exclusive boolean not null,
  at_most_once boolean not null,
  replica uuid,
  -- The fence of the last claim; it stays after settling, so that a settlement sent twice is recognised.
  lease uuid,
  resume jsonb,
  retry_of uuid,
  cancel_requested_at timestamptz,
  progress smallint,
  progress_note text,
  created_at timestamptz not null,
  started_at timestamptz,
  finished_at timestamptz,
  lag_ms bigint,
  duration_ms bigint,
  items bigint,
  items_failed bigint,
  items_left bigint,
  response_code integer,
  result jsonb,
  error text,
  errors jsonb not null,
  check ((state = 'finished') = (outcome is not null)),
  check ((state = 'finished') = (finished_at is not null)),
  check (state <> 'running' or (replica is not null and lease is not null and started_at is not null)),
  check ((scheduled_for is null) = (covers_from is null)),
  check ((scheduled_for is null) = (covers = 0)),
  check (covers >= 0 and covers_from <= scheduled_for)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

-- S1: one entry for a job and an instant, whoever plans and whenever it crashes.
create unique index runs_instant on {runs} (job, scheduled_for) where scheduled_for is not null;
-- One unfinished run for a key of a producer.
create unique index runs_dedupe on {runs} (job, dedupe_key) where dedupe_key is not null and state <> 'finished';
-- The backstop of exclusive scopes; the claim's lock keeps the peace.
create unique index runs_exclusive on {runs} (job) where state = 'running' and exclusive;
create index runs_claim on {runs} (job, exclusive, priority desc, due_at, id) where state = 'due';
-- Runs that took a process down with them are claimed one at a time.
create index runs_suspect on {runs} (job, exclusive) where state = 'due' and crashes > 0;
create index runs_waiting on {runs} (due_at) where state = 'waiting';
create index runs_running on {runs} (job) where state = 'running';
create index runs_replica on {runs} (replica) where state = 'running';
create index runs_unfinished on {runs} (job, trigger) where state <> 'finished' and scheduled_for is not null;
create index runs_finished on {runs} (job, finished_at) where state = 'finished';

create table {replicas} (
  id uuid primary key,
  host text not null,
  version text not null,
  table_hash text not null,
  state text not null check (state in ('live', 'left', 'dead')),
  started_at timestamptz not null,
  renewed_at timestamptz not null,
  lease_until timestamptz not null
) with (fillfactor = 50);

create table {job_configs} (
  table_hash text primary key,
  revision bigint,
  first_seen timestamptz not null,
  activated_at timestamptz not null,
  activated_by uuid not null,
  activations bigint not null,
  active boolean not null
);
create unique index job_configs_active on {job_configs} (active) where active;

create table {idempotency} (
  scope text not null,
  key text not null,
  body_hash text not null,
  run_id uuid not null,
  expires_at timestamptz not null,
  primary key (scope, key)
);
create index idempotency_expiry on {idempotency} (expires_at);

create table {hourly} (
  job text not null,
  hour timestamptz not null,
  outcome text not null,
  runs bigint not null,
  items bigint not null,
  duration_ms bigint not null,
  max_lag_ms bigint not null,
  primary key (job, hour, outcome)
);
create index hourly_hour on {hourly} (hour);
