//! What stands in the message queue, in one look that changes nothing.

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    domain::{health::QueueFigures, run::Failure},
    handlers::{
        AppTx, QueueLook,
        team::{self, Adopted, tables::FILA_MENSAGENS},
        transaction,
    },
};

/// A message that has been `processando` for longer is stuck: whoever claimed it is gone (spec 6).
pub const STUCK_AFTER: TimeDelta = TimeDelta::minutes(60);
/// What `done_1h` and `errors_1h` look back on.
const HOUR: TimeDelta = TimeDelta::hours(1);

/// Counts by state. Each arm of the condition is that of an index of the table as we create it, so that a long history costs
/// nothing; `$1` = now, `$2` = an hour ago, `$3` = stuck before.
const COUNT: &str = "\
    select count(*) filter (where status = 'pendente' and is_due = 1) as due,
           count(*) filter (where status = 'pendente' and is_due = 0) as later,
           min(case when status = 'pendente' and is_due = 1 then due_at end) as oldest_due,
           count(*) filter (where status = 'processando') as running,
           count(*) filter (where status = 'processando' and since < @instant($3)) as stuck,
           count(*) filter (where status = 'erro') as failed,
           count(*) filter (where status = 'enviada') as done,
           count(*) filter (where status = 'erro' and @instant($2) <= ended_at) as errors
    from (
      select status,
             case when agendar_para is null or @instant(agendar_para) <= @instant($1) then 1 else 0 end as is_due,
             @instant(coalesce(agendar_para, created_at)) as due_at,
             @instant(coalesce(processando_desde, created_at)) as since,
             @instant(coalesce(outcome_at, created_at)) as ended_at
      from fila_mensagens
      where status = 'pendente'
         or status = 'processando'
         or status = 'erro'
         or (status = 'enviada' and @instant($2) <= @instant(enviada_em))
    ) as seen";

/// The statement, for `workers check`.
pub fn statement() -> &'static str {
    COUNT
}

/// A table that is not there yet holds nothing, where the first run may create it.
pub async fn look(look: QueueLook) -> Result<QueueFigures, Failure> {
    let (now, may_create) = (look.now, look.tools.create_team_tables);
    let counted = transaction::only_reading(&look, move |tx| {
        Box::pin(async move {
            match team::look_at(tx, &FILA_MENSAGENS).await? {
                Some(adopted) => count(tx, &adopted, now).await,
                None if may_create => Ok(QueueFigures::empty(now)),
                None => Err(Failure::permanent("table fila_mensagens is missing")),
            }
        })
    });
    counted.await
}

/// The figures as one statement counts them.
pub async fn count(tx: &mut AppTx, adopted: &Adopted, now: DateTime<Utc>) -> Result<QueueFigures, Failure> {
    let rows = adopted.rows(tx, COUNT, &[now.into(), (now - HOUR).into(), (now - STUCK_AFTER).into()]).await?;
    let row = rows.first().ok_or_else(|| Failure::permanent("no count came of fila_mensagens"))?;
    let number = |column| row.whole(column).unwrap_or(0);
    Ok(QueueFigures {
        at: now,
        left: number("due"),
        later: number("later"),
        oldest_due: row.instant("oldest_due"),
        running: number("running"),
        stuck: number("stuck"),
        failed: number("failed"),
        done_1h: number("done"),
        errors_1h: number("errors"),
    })
}
