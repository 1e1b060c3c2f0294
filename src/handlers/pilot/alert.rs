//! Tells the team once when too much fails for the pilot group, and once when it is over.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::json;

use super::figures::Figures;
use crate::{
    domain::{duration::Length, run::Failure},
    handlers::{
        AppTx, Context, Outbound,
        people::{self, Notice},
        team::{Adopted, Param, tables::BUSINESS_EVENTS},
        transaction,
    },
};

/// The newest change of a job's alert. The key ends in its instant and its word; instants of one length sort as text.
const LAST: &str = "\
    select max(dedupe_key) as last
    from business_events
    where substr(dedupe_key, 1, cast($2 as integer)) = $1";

const TAKE_BACK: &str = "delete from business_events where dedupe_key = $1";

/// For `workers check`.
pub(super) const TEXTS: [&str; 2] = [LAST, TAKE_BACK];

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
    /// Writes a change down. A window in which nothing ended changes nothing: it says neither that it fails nor that it
    /// works again.
    pub async fn change(
        &self,
        tx: &mut AppTx,
        adopted: &Adopted,
        figures: &Figures,
    ) -> Result<Option<Change>, Failure> {
        if figures.failure_rate().is_none() {
            return Ok(None);
        }
        let prefix = format!("pilot_alert:{}:", self.job);
        let length = i64::try_from(prefix.chars().count()).unwrap_or(i64::MAX);
        let rows = adopted.rows(tx, LAST, &[prefix.as_str().into(), length.into()]).await?;
        let last = rows.first().and_then(|row| row.text("last"));
        let was_on = last.is_some_and(|key| key.ends_with(":on"));
        let is_on = figures.is_above(self.above);
        if was_on == is_on {
            return Ok(None);
        }
        let at = self.now.to_rfc3339_opts(SecondsFormat::Millis, true);
        let key = format!("{prefix}{at}:{}", if is_on { "on" } else { "off" });
        self.write(tx, adopted, (&key, figures)).await?;
        Ok(Some(Change { key, text: self.text(figures, is_on) }))
    }

    async fn write(&self, tx: &mut AppTx, adopted: &Adopted, (key, figures): (&str, &Figures)) -> Result<(), Failure> {
        let props = json!({ "sent": figures.sent, "failed": figures.failed, "group": figures.group });
        let optional: [(&str, Param); 3] =
            [("event_type", "pilot_alert".into()), ("event_props", props.into()), ("created_at", self.now.into())];
        let mut columns: Vec<(&'static str, Param)> = vec![("dedupe_key", key.into())];
        columns.extend(optional.into_iter().filter(|(name, _)| adopted.has(BUSINESS_EVENTS.name, name)));
        adopted.insert(tx, BUSINESS_EVENTS.name, columns).await
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
                let adopted = crate::handlers::team::adopt(tx, &[&BUSINESS_EVENTS], false).await?;
                adopted.change(tx, TAKE_BACK, &[key.into()]).await
            })
        });
        taken_back.await?;
        Err(failure)
    }
}
