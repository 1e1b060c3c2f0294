//! The queue in figures, for health and metrics.

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    domain::{health::QueueFigures, run::Failure},
    handlers::{
        AppTx,
        team::{self, tables::FILA_MENSAGENS},
    },
};

/// `$1` now, `$2` an hour ago, `$3` what is stuck was taken before.
pub(super) const FIGURES: &str = "\
    select
      (select count(*) from fila_mensagens
       where status = 'pendente'
         and (agendar_para is null or @instant(agendar_para) <= @instant($1))) as due,
      (select count(*) from fila_mensagens
       where status = 'pendente'
         and @instant($1) < @instant(agendar_para)) as later,
      (select min(@instant(coalesce(agendar_para, created_at))) from fila_mensagens
       where status = 'pendente'
         and (agendar_para is null or @instant(agendar_para) <= @instant($1))) as oldest,
      (select count(*) from fila_mensagens where status = 'processando') as processing,
      (select count(*) from fila_mensagens
       where status = 'processando'
         and @instant(coalesce(processando_desde, agendar_para, created_at)) < @instant($3)) as stuck,
      (select count(*) from fila_mensagens
       where status = 'enviada' and @instant($2) < @instant(enviada_em)) as sent,
      (select count(*) from fila_mensagens where status = 'erro') as dead,
      (select count(*) from fila_mensagens
       where status = 'erro' and @instant($2) < @instant(outcome_at)) as errors";

/// How the queue stands at a moment: `left` + `later` is what `select count(*) from fila_mensagens where status =
/// 'pendente'` says, `left` the queue's size. Needs no table and makes none; no table = an empty queue.
pub async fn ask(tx: &mut AppTx, now: DateTime<Utc>, stuck_before: DateTime<Utc>) -> Result<QueueFigures, Failure> {
    let Some(queue) = team::look_at(tx, &FILA_MENSAGENS).await? else { return Ok(QueueFigures::empty(now)) };
    let hour_ago = now - TimeDelta::hours(1);
    let rows = queue.rows(tx, FIGURES, &[now.into(), hour_ago.into(), stuck_before.into()]).await?;
    let row = rows.first().ok_or_else(|| Failure::permanent("the figures of fila_mensagens have no row"))?;
    let count = |column| row.whole(column).unwrap_or(0);
    Ok(QueueFigures {
        at: now,
        left: count("due"),
        later: Some(count("later")),
        oldest_due: row.instant("oldest"),
        running: Some(count("processing")),
        stuck: Some(count("stuck")),
        failed: Some(count("dead")),
        done_1h: Some(count("sent")),
        errors_1h: Some(count("errors")),
    })
}
