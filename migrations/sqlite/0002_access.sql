-- The view that dashboards know, under its plain name when that is free. Access is the file's.

create view {view} as
select
  id,
  job as job_name,
  started_at,
  finished_at,
  case
    when state = 'running' then 'running'
    when outcome in ('success', 'partial', 'skipped', 'timeout') then outcome
    else 'error'
  end as status,
  duration_ms,
  response_code,
  substr(error, 1, 500) as error,
  items as items_processed
from {runs}
where state in ('running', 'finished');
