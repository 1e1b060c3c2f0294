//! The queue in figures, for health and metrics.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    domain::run::Failure,
    handlers::{
        AppTx,
        team::{Adopted, Row},
    },
};

/// How the queue stands (spec 7, `/health/fila`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// Waiting, those for later included: `select count(*) from fila_mensagens where status = 'pendente'`.
    pub pending: u64,
    /// Waiting and due: the queue's size.
    pub due: u64,
    pub processing: u64,
    pub sent_last_hour: u64,
    pub errors_last_hour: u64,
    /// Whole minutes since the oldest message that is due fell due; 0 = none is.
    pub oldest_overdue_minutes: u64,
    /// In `processando` for longer than `stuck_after`.
    pub stuck: u64,
}

/// `$1` now, `$2` an hour ago, `$3` what is stuck was taken before.
pub(super) const FIGURES: &str = "\
    select
      (select count(*) from fila_mensagens where status = 'pendente') as pending,
      (select count(*) from fila_mensagens
       where status = 'pendente'
         and (agendar_para is null or @instant(agendar_para) <= @instant($1))) as due,
      (select min(@instant(coalesce(agendar_para, created_at))) from fila_mensagens
       where status = 'pendente'
         and (agendar_para is null or @instant(agendar_para) <= @instant($1))) as oldest,
      (select count(*) from fila_mensagens where status = 'processando') as processing,
      (select count(*) from fila_mensagens
       where status = 'processando'
         and @instant(coalesce(processando_desde, agendar_para, created_at)) < @instant($3)) as stuck,
      (select count(*) from fila_mensagens
       where status = 'enviada' and @instant($2) < @instant(enviada_em)) as sent,
      (select count(*) from fila_mensagens
       where status = 'erro' and @instant($2) < @instant(outcome_at)) as errors";

impl Figures {
    /// Asks for them all in one statement. `adopted` must hold `FILA_MENSAGENS`; `stuck_after` is the setting of the job.
    pub async fn ask(
        tx: &mut AppTx,
        adopted: &Adopted,
        now: DateTime<Utc>,
        stuck_after: Duration,
    ) -> Result<Self, Failure> {
        let stuck_before = now - TimeDelta::from_std(stuck_after).unwrap_or(TimeDelta::days(365));
        let hour_ago = now - TimeDelta::hours(1);
        let rows = adopted.rows(tx, FIGURES, &[now.into(), hour_ago.into(), stuck_before.into()]).await?;
        let row = rows.first().ok_or_else(|| Failure::permanent("the figures of fila_mensagens have no row"))?;
        let count = |column| row.whole(column).and_then(|count| u64::try_from(count).ok()).unwrap_or(0);
        Ok(Self {
            pending: count("pending"),
            due: count("due"),
            processing: count("processing"),
            sent_last_hour: count("sent"),
            errors_last_hour: count("errors"),
            oldest_overdue_minutes: minutes_since(row, now),
            stuck: count("stuck"),
        })
    }
}

fn minutes_since(row: &Row, now: DateTime<Utc>) -> u64 {
    let minutes = row.instant("oldest").map_or(0, |oldest| (now - oldest).num_minutes());
    u64::try_from(minutes).unwrap_or(0)
}
