//! `pilot`: while a small group of clients tries what is new, somebody must see at once when it goes wrong for them.

mod alert;
mod figures;

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Context, Dialect, Done, Ending, Handler, Outbound, Scope, Statement, TeamTable,
    team::{
        self,
        tables::{BUSINESS_EVENTS, CLIENTES, FILA_MENSAGENS},
    },
    transaction,
};
use crate::domain::{
    duration::Length,
    run::{Failure, Reason, Report},
};
use alert::Alert;
use figures::{Figures, Group};

/// The variables that switch the pilot and what runs by itself in it (spec 6).
const SWITCHES: [&str; 5] = [
    "PILOT_MODE",
    "DISCOVERY_AUTOMATICO_ENABLED",
    "OFERTA_AUTOMATICO_ENABLED",
    "REATIVACAO_AUTOMATICO_ENABLED",
    "FEEDBACK_AUTOMATICO_ENABLED",
];
/// Longest window: what is older says nothing about now.
const LONGEST_WINDOW: Duration = Duration::from_secs(30 * 86_400);

/// Settings of `run.pilot`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The column of `clientes` that is true for those in the pilot group.
    pub group: String,
    /// How far back is counted.
    pub window: Length,
    /// The share of messages that may fail before the team is told, from 0 to 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub alert_above: f64,
    /// The switches as they stood when jobs.toml was read; `None` = not set, or neither true nor false.
    #[serde(skip)]
    #[schemars(skip)]
    switches: BTreeMap<&'static str, Option<bool>>,
    /// Those that are set to something that is neither.
    #[serde(skip)]
    #[schemars(skip)]
    unreadable: Vec<&'static str>,
    /// How the team is told.
    #[serde(skip_deserializing)]
    #[schemars(skip)]
    resolved: Outbound,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            group: "piloto".into(),
            window: Length(Duration::from_secs(15 * 60)),
            alert_above: 0.10,
            switches: BTreeMap::new(),
            unreadable: Vec::new(),
            resolved: Outbound::default(),
        }
    }
}

impl Handler for Settings {
    fn check(&mut self, scope: &Scope<'_>) -> Vec<String> {
        self.resolved = scope.outbound.clone();
        self.read_switches(scope.variables);
        let mut mistakes = Vec::new();
        if !is_column(&self.group) {
            mistakes.push(format!("group is {:?}, and must be a column: small letters, digits and _", self.group));
        }
        if !(0.0..=1.0).contains(&self.alert_above) {
            mistakes.push(format!("alert_above is {}, and must be from 0 to 1", self.alert_above));
        }
        if LONGEST_WINDOW < self.window.0 {
            mistakes.push(format!("window is {}, and must be {} at most", self.window, Length(LONGEST_WINDOW)));
        }
        mistakes
    }

    fn warnings(&self) -> Vec<String> {
        let told = |name: &&str| format!("{name} is neither true nor false, and is reported as unknown");
        self.unreadable.iter().map(told).collect()
    }

    async fn run(&self, ctx: Context) -> Ending {
        let Some((figures, change)) = self.observe(&ctx).await? else {
            let report = Report { result: Some(json!({ "switches": self.switches })), ..Report::default() };
            return Err(Failure::skipped(Reason::NotConfigured, self.no_group()).with_report(report));
        };
        if let Some(change) = change {
            change.tell(&ctx, &self.resolved).await?;
        }
        Ok(Done::Report(self.report(&figures)))
    }

    fn statements(&self, _: Dialect) -> Vec<Statement> {
        let statement = |text: &str| Statement { text: text.into(), line: 1, database: None };
        alert::TEXTS.iter().map(|text| statement(text)).collect()
    }

    fn team_tables(&self) -> Vec<&'static TeamTable> {
        vec![&CLIENTES, &FILA_MENSAGENS, &BUSINESS_EVENTS]
    }
}

impl Settings {
    /// Counts, and writes down when the alert changes, in one short transaction; `None` = there is no pilot group.
    async fn observe(&self, ctx: &Context) -> Result<Option<(Figures, Option<alert::Change>)>, Failure> {
        let (until, may_create) = (until(ctx), ctx.tools.create_team_tables);
        let since = until - TimeDelta::from_std(self.window.0).unwrap_or(TimeDelta::MAX);
        let group = Group { column: self.group.clone(), since, until };
        let alert = Alert { job: ctx.job.name.to_string(), now: ctx.now, above: self.alert_above, window: self.window };
        transaction::apart(ctx, move |tx| {
            Box::pin(async move {
                // A team without a pilot gets no tables for one.
                let clients = team::look_at(tx, &CLIENTES).await?;
                if !clients.is_some_and(|clients| clients.has(CLIENTES.name, &group.column)) {
                    return Ok(None);
                }
                let adopted = team::adopt(tx, &[&CLIENTES, &FILA_MENSAGENS, &BUSINESS_EVENTS], may_create).await?;
                let figures = group.figures(tx, &adopted).await?;
                let change = alert.change(tx, &adopted, &figures).await?;
                Ok(Some((figures, change)))
            })
        })
        .await
    }

    fn report(&self, figures: &Figures) -> Report {
        let is_alert = figures.is_above(self.alert_above);
        let result = json!({
            "switches": self.switches,
            "group": figures.group,
            "sent": figures.sent,
            "answered": figures.answered,
            "failed": figures.failed,
            "failure_rate": figures.failure_rate(),
            "alert": is_alert,
        });
        let note =
            is_alert.then(|| format!("{} of {} messages to the pilot group failed", figures.failed, figures.ended()));
        Report { items: Some(figures.sent), note, result: Some(result), ..Report::default() }
    }

    fn no_group(&self) -> String {
        let column = &self.group;
        format!(
            "no pilot group: table clientes has no column {column}; \
             add with: alter table clientes add column {column} boolean not null default false"
        )
    }

    fn read_switches(&mut self, variables: &BTreeMap<String, String>) {
        let read = |name: &&'static str| (*name, variables.get(*name).and_then(|value| truth(value)));
        self.switches = SWITCHES.iter().map(read).collect();
        let is_set = |name: &&str| variables.get(*name).is_some_and(|value| !value.trim().is_empty());
        self.unreadable = SWITCHES.into_iter().filter(|name| is_set(name) && self.switches[name].is_none()).collect();
    }
}

/// The end of the window. By the instant that the run was planned for, windows of one job meet without a gap.
fn until(ctx: &Context) -> DateTime<Utc> {
    ctx.run.scheduled_for.filter(|planned| *planned <= ctx.now).unwrap_or(ctx.now)
}

/// What a switch says, in the words that people use.
fn truth(value: &str) -> Option<bool> {
    match value.trim().to_lowercase().as_str() {
        "true" | "1" | "yes" | "on" | "sim" => Some(true),
        "false" | "0" | "no" | "off" | "nao" | "não" => Some(false),
        _ => None,
    }
}

fn is_column(name: &str) -> bool {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_') && name.chars().all(is_part) && name.len() <= 63
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_are_read_in_the_words_that_people_use() {
        for (value, meant) in [
            ("true", Some(true)),
            (" TRUE ", Some(true)),
            ("1", Some(true)),
            ("sim", Some(true)),
            ("false", Some(false)),
            ("0", Some(false)),
            ("não", Some(false)),
            ("NÃO", Some(false)),
            ("", None),
            ("maybe", None),
        ] {
            assert_eq!(truth(value), meant, "{value:?}");
        }
    }

    #[test]
    fn a_group_is_a_plain_column() {
        for name in ["piloto", "_piloto", "grupo_piloto2"] {
            assert!(is_column(name), "{name}");
        }
        for name in ["", "2piloto", "Piloto", "piloto\"", "a b", "a;b", &"a".repeat(64)] {
            assert!(!is_column(name), "{name}");
        }
    }
}
