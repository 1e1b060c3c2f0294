//! `report`: every morning the team reads what was sent, what waits and what failed, without asking a database.

mod counts;
mod language;
mod page;
mod period;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

pub use language::Language;
pub use period::Period;

use super::{Context, Done, Ending, Handler, Outbound, Scope, people, team::TeamTable};
use crate::domain::run::{Failure, Report};
use counts::Counts;
use page::Page;

/// Settings of `run.report`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Which days it is about, on the clocks of the job's zone.
    pub period: Period,
    /// What it is written in.
    pub language: Language,
    /// Whom to tell, and which days are of business, as they were when the settings were checked.
    #[serde(skip_deserializing, serialize_with = "crate::outbound::hours_alone")]
    #[schemars(skip)]
    resolved: Outbound,
}

impl Handler for Settings {
    fn check(&mut self, scope: &Scope<'_>) -> Vec<String> {
        self.resolved = scope.outbound.clone();
        Vec::new()
    }

    fn tables_looked_at(&self) -> Vec<&'static TeamTable> {
        vec![&counts::MESSAGES, &counts::HANDOFFS]
    }

    async fn run(&self, ctx: Context) -> Ending {
        let page = self.page(&ctx).await.map_err(Failure::before_effect)?;
        let notice = page.notice(self.language);
        let mut result = page.counts();
        result["text"] = json!(notice.text);
        let report = Report { items: Some(1), result: Some(result), ..Report::default() };
        match people::tell_team(&ctx, &self.resolved, &notice).await {
            Ok(true) => Ok(Done::Report(report)),
            Ok(false) => {
                let note =
                    Some("nobody is told: [outbound] names no Slack webhook; the report is in the result".into());
                Ok(Done::Report(Report { note, ..report }))
            }
            // What was counted is kept, whoever could not be told.
            Err(failure) => Err(failure.with_report(Report { items: None, ..report })),
        }
    }
}

impl Settings {
    /// Counts everything. The period is that of the instant the run was planned for, or asked for, so that a late or
    /// repeated attempt tells of the same days.
    async fn page(&self, ctx: &Context) -> Result<Page, Failure> {
        let moment = ctx.run.scheduled_for.unwrap_or(ctx.run.created_at);
        let zone = ctx.job.zone.clone();
        let span = self.period.span(moment, &zone, &self.resolved.hours).map_err(Failure::permanent)?;
        let counts = Counts::of(ctx, &span).await?;
        let jobs = ctx.history(span.from, span.until).await?;
        Ok(Page { period: self.period, span, zone, counts, jobs })
    }
}
