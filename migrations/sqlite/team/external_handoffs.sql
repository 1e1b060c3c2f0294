-- Shifts that an outside recruiter was asked to confirm. Instants are text, RFC 3339 in UTC.
create table if not exists external_handoffs (
  id integer primary key,
  vaga_id text,
  cliente_id text,
  divulgador_nome text,
  divulgador_telefone text,
  status text not null default 'pending'
    check (status in ('pending', 'contacted', 'confirmed', 'not_confirmed', 'expired')),
  reserved_until text,
  last_followup_at text,
  followup_count integer not null default 0,
  expired_at text,
  created_at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ')),
  updated_at text
);

create index if not exists external_handoffs_abertos on external_handoffs (reserved_until) where status in ('pending', 'contacted');
