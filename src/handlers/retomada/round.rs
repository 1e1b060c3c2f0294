//! One attempt: message after message, the oldest first, until none waits, time is up, or nobody can be answered.

use std::{pin::pin, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::FutureExt;
use serde_json::{Value, json};
use tokio::time;

use super::{
    Settings,
    endpoint::{Endpoint, Trouble},
    inbox::{Answer, Inbox, Left, MOST_TRIES, Waiting},
};
use crate::{
    domain::run::{Failure, FailureKind, Report},
    handlers::{Context, Done, Ending},
};

/// Messages that fail one after the other before the endpoint itself is taken to be at fault.
const MOST_FAILURES_IN_A_ROW: u32 = 5;
/// Most failures whose reasons are kept in the result.
const MOST_REASONS: usize = 20;
/// When time is up the run goes on in a claim of its own, after this long.
const GOES_ON_AFTER: Duration = Duration::from_secs(1);

/// An attempt that is under way.
pub(super) struct Round<'a> {
    ctx: &'a Context,
    settings: &'a Settings,
    inbox: Inbox<'a>,
    endpoint: Option<Endpoint<'a>>,
    done: u64,
    failed: u64,
    given_up: u64,
    failed_in_a_row: u32,
    reasons: Vec<Value>,
    /// A reading of the clock when the attempt began.
    begun: Duration,
    /// When the last message was answered.
    last: DateTime<Utc>,
}

/// Why no further message is begun.
enum End {
    NoneWaits,
    TimeIsUp,
    Failed(Failure),
}

impl<'a> Round<'a> {
    pub async fn open(settings: &'a Settings, ctx: &'a Context) -> Result<Self, Failure> {
        let inbox = Inbox::open(ctx).await?;
        // A call that takes longer than half of the attempt leaves no time to write down what it said.
        let limit = settings.timeout.0.min(length(ctx) / 2).max(Duration::from_millis(1));
        let endpoint = settings.endpoint.as_ref().map(|call| {
            let field = settings.field.as_deref();
            Endpoint { ctx, call, field, limit }
        });
        let (begun, last, reasons) = (ctx.tools.clock.boot(), ctx.now, Vec::new());
        Ok(Self {
            ctx,
            settings,
            inbox,
            endpoint,
            done: 0,
            failed: 0,
            given_up: 0,
            failed_in_a_row: 0,
            reasons,
            begun,
            last,
        })
    }

    pub async fn run(mut self) -> Ending {
        let end = match self.answer_all().await {
            Ok(end) => end,
            Err(failure) => End::Failed(failure),
        };
        let (left, tried) = match self.inbox.counts().await {
            Ok(counts) => counts,
            Err(failure) => return Err(self.ended_by(End::Failed(failure), None)),
        };
        // Earlier legs of this attempt, before its time was up, have failures too.
        self.failed = self.failed.max(tried + self.given_up);
        match end {
            End::NoneWaits if self.failed == 0 || 0 < self.done => Ok(Done::Report(self.report(Some(left)))),
            end => Err(self.ended_by(end, Some(left))),
        }
    }

    async fn answer_all(&mut self) -> Result<End, Failure> {
        let budget = length(self.ctx).saturating_sub(self.endpoint.as_ref().map_or(Duration::ZERO, |it| it.limit));
        let mut time_is_up = pin!(time::sleep(budget - budget / 10));
        loop {
            let page = self.inbox.oldest(self.settings.batch).await?;
            if page.is_empty() {
                return Ok(End::NoneWaits);
            }
            for message in page {
                if self.ctx.cancelled.is_cancelled() {
                    return Ok(End::Failed(Failure::retry("told to stop before all were answered").before_effect()));
                }
                if time_is_up.as_mut().now_or_never().is_some() {
                    return Ok(End::TimeIsUp);
                }
                self.answer(&message).await?;
            }
        }
    }

    /// Answers one message. An error ends the attempt.
    async fn answer(&mut self, message: &Waiting) -> Result<(), Failure> {
        let answer = match &self.endpoint {
            None => Answer::Greeting(self.settings.greeting()),
            Some(endpoint) => match endpoint.ask(message).await {
                Ok(answer) => answer,
                Err(Trouble::OfEndpoint(failure)) => return Err(failure),
                Err(Trouble::OfMessage(why)) => return self.fail(message, &why).await,
            },
        };
        let now = self.moment();
        match self.inbox.answer(message, answer, now).await {
            Ok(processed) => {
                self.done += processed;
                self.failed_in_a_row = 0;
                Ok(())
            }
            // The statement is wrong for every row.
            Err(failure) if failure.kind == FailureKind::Permanent => Err(failure),
            // Perhaps the database refuses this row; when it is away, the try cannot be counted either.
            Err(failure) => self.fail(message, &failure.message).await,
        }
    }

    /// Now, and later than any before: the queue sends in the order in which its rows were made.
    fn moment(&mut self) -> DateTime<Utc> {
        let passed = self.ctx.tools.clock.boot().saturating_sub(self.begun);
        let passed = TimeDelta::milliseconds(i64::try_from(passed.as_millis()).unwrap_or(0));
        self.last = (self.ctx.now + passed).max(self.last + TimeDelta::milliseconds(1));
        self.last
    }

    async fn fail(&mut self, message: &Waiting, why: &str) -> Result<(), Failure> {
        let left = self.inbox.count_try(message, why).await?;
        self.failed += 1;
        self.given_up += u64::from(left == Left::GivenUp);
        self.failed_in_a_row += 1;
        if self.reasons.len() < MOST_REASONS {
            let given_up = left == Left::GivenUp;
            self.reasons.push(json!({ "id": message.id, "error": why, "given_up": given_up }));
        }
        if self.failed_in_a_row < MOST_FAILURES_IN_A_ROW {
            return Ok(());
        }
        Err(Failure::retry(format!("{MOST_FAILURES_IN_A_ROW} messages failed in a row, the last because {why}")))
    }

    /// The failure that an attempt ends as which has not answered all. Each message was committed or left by itself, so
    /// nothing is in doubt.
    fn ended_by(&self, end: End, left: Option<u64>) -> Failure {
        let failure = match end {
            End::Failed(failure) => failure,
            End::TimeIsUp => Failure::snooze(GOES_ON_AFTER, "time is up for this attempt; the run goes on"),
            End::NoneWaits => Failure::retry(format!("{} messages failed and none was answered", self.failed)),
        };
        failure.with_report(self.report(left)).before_effect()
    }

    fn report(&self, left: Option<u64>) -> Report {
        let note =
            (0 < self.given_up).then(|| format!("{} messages were given up after {MOST_TRIES} tries", self.given_up));
        let result = json!({
            "answered": self.done,
            "failed": self.failed,
            "given_up": self.given_up,
            "errors": self.reasons,
        });
        Report {
            items: Some(self.done),
            items_failed: self.failed,
            left,
            note,
            result: Some(result),
            ..Report::default()
        }
    }
}

/// How long the attempt may take.
fn length(ctx: &Context) -> Duration {
    (ctx.deadline - ctx.now).max(TimeDelta::zero()).to_std().unwrap_or_default()
}
