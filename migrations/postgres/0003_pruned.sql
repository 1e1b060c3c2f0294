-- Where rows may be missing because a person or the upkeep removed them: the ledger is compared from here on.

alter table {jobs} add column pruned_until timestamptz;

-- Work that was accepted elsewhere and goes on there: nothing of its job begins beside it.
create index runs_accepted on {runs} (job) where resume is not null and state <> 'finished';
