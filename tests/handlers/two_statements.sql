-- Read by a test of `sql`.
create table numbers (at text, value integer);
insert into numbers values (:now, 1), (:now, 2);
