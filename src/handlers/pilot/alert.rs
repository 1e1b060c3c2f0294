//! Tells the team once when too much fails for the pilot group, and once when it is over.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::json;

use super::figures::Figures;
use crate::{
    domain::{duration::Length, run::Failure},
    handlers::{
        AppTx, Context, Outbound,
        events::{self, Event},
        people::{self, Notice},
        team::{self, Adopted, tables::BUSINESS_EVENTS},
        transaction,
    },
};

/// The kind of event that an alert is written down as.
pub(super) const KIND: &str = "pilot_alert";

/// The newest change of a job's alert. The key ends in its instant and its word; instants of one length sort as text. The
/// range is for the index on the keys: after `$1` comes a year, which any collation has before the letter in `$2`. Where
/// a collation has other jobs' keys in it too, the beginning of the key tells.
pub(super) const LAST: &str = "\
    select max(dedupe_key) as last
    from business_events
    where $1 <= dedupe_key
      and dedupe_key < $2
      and substr(dedupe_key, 1, cast($3 as integer)) = $1";

/// When the team is told.
pub(super) struct Alert {
    pub job: String,
    pub now: DateTime<Utc>,
    /// The share of messages that may fail.
    pub above: f64,
    pub window: Length,
}

/// An alert that began or ended, written down as an event so that it is told once.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Change {
    key: String,
    text: String,
}

impl Alert {
    /// Whether what was counted changes the alert. A window in which nothing ended changes nothing: it says neither that
    /// it fails nor that it works again.
    pub async fn is_changed(&self, tx: &mut AppTx, adopted: &Adopted, figures: &Figures) -> Result<bool, Failure> {
        if figures.failure_rate().is_none() {
            return Ok(false);
        }
        let prefix = format!("{KIND}:{}:", self.job);
        let length = i64::try_from(prefix.chars().count()).unwrap_or(i64::MAX);
        let params = [prefix.as_str().into(), format!("{prefix}z").into(), length.into()];
        let rows = adopted.rows(tx, LAST, &params).await?;
        let last = rows.first().and_then(|row| row.text("last"));
        Ok(last.is_some_and(|key| key.ends_with(":on")) != figures.is_above(self.above))
    }

    /// Writes a change down; `None` = somebody else has.
    pub async fn change(
        &self,
        tx: &mut AppTx,
        adopted: &Adopted,
        figures: &Figures,
    ) -> Result<Option<Change>, Failure> {
        if !self.is_changed(tx, adopted, figures).await? {
            return Ok(None);
        }
        let is_on = figures.is_above(self.above);
        let at = self.now.to_rfc3339_opts(SecondsFormat::Millis, true);
        let event = Event {
            kind: KIND,
            about: format!("{}:{at}:{}", self.job, if is_on { "on" } else { "off" }),
            props: json!({ "sent": figures.sent, "failed": figures.failed, "group": figures.group }),
            ..Event::default()
        };
        let is_ours = event.record(tx, adopted, self.now).await?;
        Ok(is_ours.then(|| Change { key: event.key(), text: self.text(figures, is_on) }))
    }

    fn text(&self, figures: &Figures, is_on: bool) -> String {
        let (failed, ended, window) = (figures.failed, figures.ended(), self.window);
        let percent = |share: f64| format!("{:.1}", share * 100.0).replace('.', ",");
        let (rate, above) = (percent(figures.failure_rate().unwrap_or(0.0)), percent(self.above));
        let state = if is_on { "falhas demais" } else { "voltou ao normal" };
        format!("Piloto: {state}. {failed} de {ended} mensagens falharam em {window} ({rate} %; limite {above} %).")
    }
}

impl Change {
    /// After the change was committed. When Slack does not take it the change is taken back, so that the next attempt
    /// tells it; a crash between the two loses the notice and not the figures.
    pub async fn tell(self, ctx: &Context, outbound: &Outbound) -> Result<(), Failure> {
        let notice = Notice { text: self.text, blocks: Vec::new() };
        let Err(failure) = people::tell_team(ctx, outbound, &notice).await else { return Ok(()) };
        let key = self.key;
        let taken_back = transaction::apart(ctx, move |tx| {
            Box::pin(async move {
                let adopted = team::adopt(tx, &[&BUSINESS_EVENTS], false).await?;
                events::forget(tx, &adopted, key).await
            })
        });
        taken_back.await?;
        Err(failure)
    }
}
