-- Where rows may be missing because a person or the upkeep removed them: the ledger is compared from here on.

alter table {jobs} add column pruned_until integer;

-- Work that was accepted elsewhere and goes on there: nothing of its job begins beside it.
create index {prefix}runs_accepted on {runs} (job) where resume is not null and state <> 'finished';

-- That a run was done again is a fact about it, which outlives the row of its retry.
alter table {runs} add column retried_at integer;
create index {prefix}runs_retry_of on {runs} (retry_of) where retry_of is not null;
update {runs} set retried_at = (select min(n.created_at) from {runs} n where n.retry_of = {runs}.id)
where id in (select retry_of from {runs} where retry_of is not null);
create index {prefix}runs_retryable on {runs} (id)
where state = 'finished' and retried_at is null and outcome in ('error', 'timeout', 'panic', 'lost', 'unknown');
