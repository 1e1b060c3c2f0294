-- Where rows may be missing because a person or the upkeep removed them: the ledger is compared from here on.

alter table {jobs} add column pruned_until integer;
