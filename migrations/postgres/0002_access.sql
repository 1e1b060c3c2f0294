-- Who may look: the view that dashboards know, and nothing for roles that an API serves.

do $$
declare
  view_name text := '{schema}.job_executions';
  options text := '';
begin
  -- A team's own table of this name is left alone.
  if to_regclass('public.job_executions') is null and has_schema_privilege('public', 'create') then
    view_name := 'public.job_executions';
  end if;
  if current_setting('server_version_num')::int >= 150000 then
    options := 'with (security_invoker = true)';
  end if;
  execute format(
    $view$
      create view %s %s as
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
        left(error, 500) as error,
        items as items_processed
      from {runs}
      where state in ('running', 'finished')
    $view$,
    view_name,
    options
  );
  execute format('comment on view %s is %L', view_name, 'runs of {schema}, in the shape of a job_executions table');
  execute format('revoke all on %s from public', view_name);
end
$$;

revoke all on schema {schema} from public;
revoke all on all tables in schema {schema} from public;

-- Roles of Supabase and PostgREST: default privileges may have given them rights on what was made above.
do $$
declare
  guest text;
  place text;
begin
  foreach guest in array array['anon', 'authenticated'] loop
    if exists (select 1 from pg_roles where rolname = guest) then
      execute format('revoke all on schema {schema} from %I', guest);
      execute format('revoke all on all tables in schema {schema} from %I', guest);
      select obj_description('public.job_executions'::regclass, 'pg_class') into place
      where to_regclass('public.job_executions') is not null;
      if place like 'runs of {schema},%' then
        execute format('revoke all on public.job_executions from %I', guest);
      end if;
    end if;
  end loop;
end
$$;

-- The owner passes; everybody else sees no row until somebody writes a policy.
alter table {jobs} enable row level security;
alter table {schedules} enable row level security;
alter table {runs} enable row level security;
alter table {replicas} enable row level security;
alter table {job_configs} enable row level security;
alter table {idempotency} enable row level security;
alter table {hourly} enable row level security;
