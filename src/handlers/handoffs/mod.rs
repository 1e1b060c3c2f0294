//! `handoffs`: a doctor's reservation hangs on an outside recruiter's word; we ask for it three times and then let go.

mod due;
mod expire;
mod follow_up;
mod notice;
mod recruiter;
mod tally;
mod texts;
mod vaga;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    AppTx, Context, Dialect, Done, Ending, Handler, Outbound, Scope, Statement, people,
    team::{
        self, Adopted, TeamTable,
        tables::{
            BUSINESS_EVENTS, CLIENTES, EXTERNAL_HANDOFFS, FILA_MENSAGENS, FILA_MENSAGENS_WITH_NUMBERS, PERMISSIONS,
            VAGAS,
        },
        words::{self, Words},
    },
    transaction::apart,
};
use crate::domain::{
    job::JobName,
    run::{Failure, FailureKind},
    schedule::Zone,
};
use due::{Due, Handoff};
use tally::Tally;
pub use texts::Texts;

/// Most handoffs of each kind that a run may be told to take.
const MOST_PER_RUN: u32 = 1_000;

/// Kinds of events; the key of one is its kind and the id of the handoff.
const EXPIRED: &str = "handoff_expired";
const FOLLOWED_UP: &str = "handoff_followup";
/// Stands for a notice that Slack has not got yet, and goes with it.
const NOTICE: &str = "handoff_expired_notice";

/// Settings of `run.handoffs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// `false` pauses follow-ups; handoffs go on expiring.
    pub follow_ups: bool,
    /// Most handoffs that a run lets expire, and most that it follows up.
    #[schemars(range(min = 1, max = 1_000))]
    pub batch: u32,
    /// What people are told.
    pub texts: Texts,
    /// `[outbound]` as it was when the settings were checked: it decides when follow-ups go.
    #[serde(skip_deserializing, serialize_with = "crate::outbound::hours_alone")]
    #[schemars(skip)]
    resolved: Outbound,
}

impl Default for Settings {
    fn default() -> Self {
        Self { follow_ups: true, batch: 500, texts: Texts::default(), resolved: Outbound::default() }
    }
}

impl Handler for Settings {
    fn check(&mut self, scope: &Scope<'_>) -> Vec<String> {
        self.resolved = scope.outbound.clone();
        let mut mistakes = self.texts.check();
        if !(1..=MOST_PER_RUN).contains(&self.batch) {
            mistakes.push(format!("batch is {}, and must be between 1 and {MOST_PER_RUN}", self.batch));
        }
        mistakes
    }

    /// Each handoff has its own transaction: one that the database refuses does not keep the others, and Slack is told
    /// of what is committed. The states and events make a repeat impossible, so nothing hangs on the run being settled.
    async fn run(&self, ctx: Context) -> Ending {
        let (attempt, due) = Attempt::begin(self, &ctx).await?;
        let mut tally = Tally::of(&due, attempt.way());
        for handoff in due.expiring {
            if ctx.cancelled.is_cancelled() {
                break;
            }
            let (attempt, id) = (Arc::clone(&attempt), handoff.id.clone());
            let done = apart(&ctx, move |tx| Box::pin(async move { attempt.expire(tx, &handoff).await })).await;
            tally.expiry(&id, done);
        }
        for handoff in due.to_follow_up {
            if ctx.cancelled.is_cancelled() {
                break;
            }
            let (attempt, id, stage) = (Arc::clone(&attempt), handoff.id.clone(), handoff.stage);
            let done = apart(&ctx, move |tx| Box::pin(async move { attempt.follow_up(tx, &handoff).await })).await;
            tally.follow_up((&id, stage), done);
        }
        let told = attempt.tell_slack(&ctx, tally.expired()).await;
        tally.slack(told);
        tally.ending().map(Done::Report)
    }

    fn statements(&self, own: Dialect) -> Vec<Statement> {
        let mut texts = vec![words::as_statement(&WORDS)];
        texts.extend(due::queries(own));
        texts.extend([due::expire(""), due::claim(""), vaga::REOPEN.to_owned(), notice::QUERY.to_owned()]);
        texts.into_iter().map(|text| Statement { text, line: 1, database: None }).collect()
    }

    fn doubts(&self, found: &Adopted) -> Vec<String> {
        let client = found.column(FILA_MENSAGENS.name, "cliente_id").filter(|_| self.follow_ups);
        let remedy = match found.dialect() {
            Dialect::Postgres => "mend with: alter table fila_mensagens alter column cliente_id drop not null",
            Dialect::Sqlite => "make the table again without that constraint",
        };
        client.filter(|column| column.is_required).map(|_| format!("{NEEDS_CLIENTS}; {remedy}")).into_iter().collect()
    }

    fn tables_looked_at(&self) -> Vec<&'static TeamTable> {
        vec![&CLIENTES, &PERMISSIONS]
    }

    fn team_tables(&self) -> Vec<&'static TeamTable> {
        let mut tables = TABLES.to_vec();
        if self.follow_ups {
            tables.push(&FILA_MENSAGENS_WITH_NUMBERS);
        }
        tables
    }
}

const NEEDS_CLIENTS: &str = "\
    fila_mensagens.cliente_id must not be null, so a follow-up to a number that is no client's is refused";

/// What it cannot do without. Numbers in the queue are not among them: handoffs expire without.
const TABLES: [&TeamTable; 4] = [&EXTERNAL_HANDOFFS, &VAGAS, &BUSINESS_EVENTS, &FILA_MENSAGENS];

const WORDS: [Words; 5] = [
    ("external_handoffs", "status", &["pending", "contacted", "expired"]),
    ("vagas", "status", &["reservada", "aberta"]),
    ("fila_mensagens", "status", &["pendente"]),
    ("fila_mensagens", "tipo", &["followup", "sistema"]),
    ("business_events", "event_type", &[EXPIRED, FOLLOWED_UP, NOTICE]),
];

/// Whether follow-ups go now.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Open,
    Paused,
    OutsideHours,
}

/// What all steps of one attempt share.
struct Attempt {
    settings: Settings,
    adopted: Adopted,
    /// Looked at when they exist. A column that is missing stops the follow-ups, which hang on them, and no end.
    clients: Result<Option<Adopted>, Failure>,
    permissions: Result<Option<Adopted>, Failure>,
    job: JobName,
    zone: Zone,
    now: DateTime<Utc>,
}

impl Attempt {
    /// Adopts the tables and lists what is due, in a transaction of its own.
    async fn begin(settings: &Settings, ctx: &Context) -> Result<(Arc<Self>, Due), Failure> {
        let (settings, may_create) = (settings.clone(), ctx.tools.create_team_tables);
        let (job, zone, now) = (ctx.job.name.clone(), ctx.job.zone.clone(), ctx.now);
        let begun = apart(ctx, move |tx| {
            Box::pin(async move {
                let adopted = adopt(tx, may_create).await?;
                let clients = looked_at(tx, &CLIENTES).await?;
                let permissions = looked_at(tx, &PERMISSIONS).await?;
                let attempt = Self { settings, adopted, clients, permissions, job, zone, now };
                let due = attempt.due(tx).await?;
                Ok((Arc::new(attempt), due))
            })
        });
        begun.await
    }

    fn way(&self) -> Way {
        match self.settings.follow_ups {
            false => Way::Paused,
            true if !self.settings.resolved.hours.is_open(self.now, &self.zone) => Way::OutsideHours,
            true => Way::Open,
        }
    }

    /// The moment itself within business hours, else when they begin.
    fn next_open(&self) -> DateTime<Utc> {
        self.settings.resolved.hours.next_open(self.now, &self.zone).unwrap_or(self.now)
    }

    /// The end of a reservation on the clocks of the business.
    fn deadline_words(&self, handoff: &Handoff) -> String {
        let local = self.zone.local(handoff.until.unwrap_or(self.now));
        local.format("%d/%m às %H:%M").to_string()
    }

    /// The assignment that dates a change of a handoff, where there is a column for it.
    fn touched(&self, now: &str) -> String {
        let is_there = self.adopted.has(EXTERNAL_HANDOFFS.name, "updated_at");
        if is_there { format!(", updated_at = {now}") } else { String::new() }
    }

    /// Tells Slack what it was not told yet. `None` = there was nothing to tell; `false` = there is no Slack.
    async fn tell_slack(self: &Arc<Self>, ctx: &Context, expired: u64) -> Result<Option<bool>, Failure> {
        let attempt = Arc::clone(self);
        let untold = apart(ctx, move |tx| Box::pin(async move { attempt.untold(tx).await })).await?;
        let has_slack = self.settings.resolved.slack.is_some();
        let Some(untold) = untold else { return Ok((!has_slack && 0 < expired).then_some(false)) };
        let was_told = people::tell_team(ctx, &self.settings.resolved, &untold.notice).await?;
        let attempt = Arc::clone(self);
        apart(ctx, move |tx| Box::pin(async move { attempt.was_told(tx, &untold).await })).await?;
        Ok(Some(was_told))
    }
}

/// As `look_at`, with what is missing kept for those who need it.
async fn looked_at(tx: &mut AppTx, table: &'static TeamTable) -> Result<Result<Option<Adopted>, Failure>, Failure> {
    match team::look_at(tx, table).await {
        Err(lacks) if lacks.kind == FailureKind::Permanent => Ok(Err(lacks)),
        found => found.map(Ok),
    }
}

async fn adopt(tx: &mut AppTx, may_create: bool) -> Result<Adopted, Failure> {
    let adopted = team::adopt(tx, &TABLES, may_create).await?;
    adopted.must_know_all(&WORDS)?;
    Ok(adopted)
}
