//! The statements of the queue, for both databases (marks: see `team::Adopted`). Each changes a row only as long as it
//! is in the state that it leaves.

use super::dead;
use crate::handlers::{
    Dialect, Statement,
    team::words::{self, Words},
};

/// Every word that a message's state can be.
pub(super) const WORDS: [Words; 1] =
    [("fila_mensagens", "status", &["pendente", "processando", "enviada", "erro", "cancelada", "bloqueada"])];

/// What [`super::message::Claimed::read`] reads.
macro_rules! columns {
    () => {
        "id, cliente_id, conversa_id, @optional(fila_mensagens.telefone) as telefone, conteudo, tipo, prioridade, metadata,
           tentativas, max_tentativas, @instant(processando_desde) as processando_desde"
    };
}

/// A row that is ours: `$1` its id, `$2` what the claim wrote into `processando_desde`.
macro_rules! ours {
    () => {
        "id = @type(fila_mensagens.id, $1)
      and status = 'processando'
      and @instant(processando_desde) is not distinct from @instant($2)"
    };
}

/// `$1` now, `$2` what fell due before is too old, `$3` the most rows. The common table expression is run once, whatever
/// the planner makes of the rest, so no more rows are locked than asked for. A word `sending` or `foreign` that a person
/// left when putting a row back is not taken for a call. A row without any time is due, and never too old.
pub(super) const CLAIM: &str = concat!(
    "with due as materialized (
       select id
       from fila_mensagens
       where status = 'pendente'
         and (agendar_para is null or @instant(agendar_para) <= @instant($1))
         and (coalesce(agendar_para, created_at) is null
              or @instant($2) <= @instant(coalesce(agendar_para, created_at)))
       order by prioridade desc,
                case when cast(tipo as text) in ('resposta', 'sistema') then 0 else 1 end,
                @instant(created_at), id
       limit $3
       @locked
     )
     update fila_mensagens
     set status = 'processando',
         processando_desde = $1,
         outcome_reason_code = nullif(nullif(outcome_reason_code, 'sending'), 'foreign')
     where id in (select id from due)
       and status = 'pendente'
     returning ",
    columns!(),
    ", @instant(created_at) as created_at"
);

/// The last thing before the call: `$3` now.
pub(super) const MARK_SENDING: &str = concat!(
    "update fila_mensagens
    set outcome_reason_code = 'sending', outcome_at = $3
    where ",
    ours!(),
    "
      and outcome_reason_code is distinct from 'sending'"
);

/// A cast to a `varchar(n)` cuts what is too long: the end of a call must be written, whatever words came with it.
macro_rules! settle {
    ($held:literal) => {
        concat!(
            "update fila_mensagens
            set status = @type(fila_mensagens.status, $3),
                agendar_para = coalesce(@type(fila_mensagens.agendar_para, $4), agendar_para),
                tentativas = coalesce(tentativas, 0) + $5,
                erro = @type(fila_mensagens.erro, $6),
                outcome = @type(fila_mensagens.outcome, $7),
                outcome_reason_code = @type(fila_mensagens.outcome_reason_code, $8),
                outcome_at = $9,
                provider_message_id = coalesce(@type(fila_mensagens.provider_message_id, $10), provider_message_id),
                enviada_em = coalesce(@type(fila_mensagens.enviada_em, $11), enviada_em),
                processando_desde = null
            where ",
            ours!(),
            $held
        )
    };
}

/// Of a message whose call was made, or was about to be.
pub(super) const SETTLE_BEGUN: &str = settle!(" and outcome_reason_code = 'sending'");
/// Of a message that was not begun.
pub(super) const SETTLE_WAITING: &str = settle!(" and outcome_reason_code is distinct from 'sending'");

/// Back as it was.
pub(super) const RELEASE: &str = concat!(
    "update fila_mensagens
    set status = 'pendente', processando_desde = null
    where ",
    ours!(),
    "
      and outcome_reason_code is distinct from 'sending'"
);

/// The same for a message whose call was about to be made and was not.
pub(super) const UNDO_SENDING: &str = concat!(
    "update fila_mensagens
    set status = 'pendente', processando_desde = null, outcome_reason_code = null
    where ",
    ours!(),
    "
      and outcome_reason_code = 'sending'"
);

/// `$1` now, `$2` what fell due before is too old, `$3` outcome, `$4` the most rows.
pub(super) const EXPIRE: &str = "\
    with old as materialized (
      select id
      from fila_mensagens
      where status = 'pendente'
        and @instant(coalesce(agendar_para, created_at)) < @instant($2)
      limit $4
      @locked
    )
    update fila_mensagens
    set status = 'cancelada',
        outcome = @type(fila_mensagens.outcome, $3),
        outcome_reason_code = 'expired',
        outcome_at = $1
    where id in (select id from old)
      and status = 'pendente'";

/// What waits for a time that is none, as only SQLite's texts can be: `$1` now, `$2` outcome, `$3` the words, `$4` the most
/// rows.
pub(super) const UNREADABLE: &str = concat!(
    "with unreadable as materialized (
      select id
      from fila_mensagens
      where status = 'pendente'
        and coalesce(agendar_para, created_at) is not null
        and @instant(coalesce(agendar_para, created_at)) is null
      limit $4
      @locked
    )
    update fila_mensagens
    set status = 'erro',
        tentativas = coalesce(tentativas, 0) + 1,
        erro = @type(fila_mensagens.erro, $3),
        outcome = @type(fila_mensagens.outcome, $2),
        outcome_reason_code = @type(fila_mensagens.outcome_reason_code, 'unreadable_time'),
        outcome_at = $1
    where id in (select id from unreadable)
      and status = 'pendente'
    returning ",
    columns!()
);

/// A row in `processando` without a time was taken by somebody who writes none: `$1` now, from which on he has his hour;
/// `$2` the most rows. `foreign` tells that he may have sent it.
pub(super) const STAMP: &str = "\
    with unstamped as materialized (
      select id
      from fila_mensagens
      where status = 'processando' and @instant(processando_desde) is null
      limit $2
      @locked
    )
    update fila_mensagens
    set processando_desde = $1,
        outcome_reason_code = @type(fila_mensagens.outcome_reason_code,
          case when outcome_reason_code = 'sending' then 'sending' else 'foreign' end)
    where id in (select id from unstamped)
      and status = 'processando'
      and @instant(processando_desde) is null";

/// Whose worker is gone: in `processando` since before `$1`; `$2` the most rows.
pub(super) const ABANDONED: &str = concat!(
    "select ",
    columns!(),
    ", coalesce(outcome_reason_code, '') as reason
    from fila_mensagens
    where status = 'processando'
      and @instant(processando_desde) < @instant($1)
    order by @instant(processando_desde), id
    limit $2
    @locked"
);

/// What waits and could go: `$1` now.
pub(super) const LEFT: &str = "\
    select count(*)
    from fila_mensagens
    where status = 'pendente'
      and (agendar_para is null or @instant(agendar_para) <= @instant($1))";

pub(super) const CLIENT_NUMBER: &str = "\
    select telefone from clientes where id = @type(clientes.id, $1) limit 1";

/// On `doctor_state`, where there is one.
pub(super) const LEAD: &str = "\
    select permission_state,
           @instant(@optional(doctor_state.cooling_off_until)) as cooling_off_until,
           @instant(@optional(doctor_state.next_allowed_at)) as next_allowed_at,
           @optional(doctor_state.contact_count_7d) as contact_count_7d
    from doctor_state
    where cliente_id = @type(doctor_state.cliente_id, $1)
    limit 1";

/// On `doctor_state`: somebody was written to at `$2`, and it was a contact (`$3` = 1) or an answer (0).
pub(super) const TOUCH: &str = "\
    update doctor_state
    set last_outbound_at = $2, contact_count_7d = coalesce(contact_count_7d, 0) + $3
    where cliente_id = @type(doctor_state.cliente_id, $1)";

/// Whether the same was sent by another row: `$1` its key, `$2` the row that asks. What may have been sent counts. The
/// form of the key's expression is that of the index in migrations/*/team/fila_mensagens.sql.
pub(super) fn same_key(own: Dialect) -> String {
    let key = match own {
        Dialect::Postgres => "((metadata)::jsonb ->> 'dedupe_key')",
        Dialect::Sqlite => "(case when json_valid(metadata) then json_extract(metadata, '$.dedupe_key') end)",
    };
    format!(
        "select case when status = 'processando' then 'sending' else 'sent' end as found
        from fila_mensagens
        where {key} = $1
          and id <> @type(fila_mensagens.id, $2)
          and (status = 'enviada' or outcome_reason_code in ('sending', 'unknown'))
        order by 1 desc
        limit 1"
    )
}

/// As [`same_key`], where PostgreSQL keeps `metadata` as text, which a cast of any row could fail on: `$1` = [`key_pattern`].
pub(super) const SAME_KEY_IN_TEXT: &str = "\
    select case when status = 'processando' then 'sending' else 'sent' end as found
    from fila_mensagens
    where cast(metadata as text) ~ $1
      and id <> @type(fila_mensagens.id, $2)
      and (status = 'enviada' or outcome_reason_code in ('sending', 'unknown'))
    order by 1 desc
    limit 1";

/// What a JSON text with this key matches, for PostgreSQL.
pub(super) fn key_pattern(key: &str) -> String {
    let quoted = serde_json::Value::from(key).to_string();
    let escaped = quoted.chars().flat_map(|c| (c.is_ascii_punctuation().then_some('\\')).into_iter().chain([c]));
    format!("\"dedupe_key\"\\s*:\\s*{}", escaped.collect::<String>())
}

/// All of them, for `workers check`, but those on tables that need not be there.
pub(super) fn all(own: Dialect) -> Vec<Statement> {
    let same_key = same_key(own);
    let places = super::limits::take_text(2);
    let words = words::as_statement(&WORDS);
    let texts = [
        &words,
        CLAIM,
        MARK_SENDING,
        SETTLE_BEGUN,
        SETTLE_WAITING,
        RELEASE,
        UNDO_SENDING,
        EXPIRE,
        UNREADABLE,
        STAMP,
        ABANDONED,
        LEFT,
        CLIENT_NUMBER,
        &same_key,
        &places,
    ];
    let dead = dead::statements(own);
    let texts = texts.into_iter().chain(dead.iter().map(String::as_str));
    let texts = texts.chain([super::figures::FIGURES]);
    let statement =
        |(at, text): (usize, &str)| Statement { text: text.to_owned(), line: at as u64 + 1, database: None };
    texts.enumerate().map(statement).collect()
}
