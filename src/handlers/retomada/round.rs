//! One attempt: message after message, the oldest first, until none waits, time is up, or nobody can be answered.

use std::{pin::pin, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::FutureExt;
use serde_json::{Value, json};
use tokio::time;

use super::{
    Settings,
    endpoint::{Endpoint, Trouble},
    inbox::{Answer, Inbox, Left, MOST_TRIES, Taken, Waiting},
};
use crate::{
    domain::run::{Failure, FailureKind, Report},
    handlers::{Context, Done, Ending},
};

/// Messages that fail one after the other before the endpoint itself is taken to be at fault.
const MOST_FAILURES_IN_A_ROW: u32 = 5;
/// Most failures whose reasons are kept in the result.
const MOST_REASONS: usize = 20;
/// How often an answer is written before the row is taken to be at fault and not the database, and the wait before each
/// further try: what the application said must not be lost over a moment without a database.
const TRIES_TO_WRITE: u32 = 3;
const WAIT_TO_WRITE: Duration = Duration::from_millis(250);
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
    /// Of `failed`, those whose rows take no mark.
    unmarkable: u64,
    failed_in_a_row: u32,
    /// Ids of rows that failed and wait, one for each row: they are not looked at again in this attempt, whatever their
    /// table keeps of the marks of their tries.
    hidden: Vec<String>,
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
            unmarkable: 0,
            failed_in_a_row: 0,
            hidden: Vec::new(),
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
            // What ended the attempt says more than that the rest could not be counted.
            Err(failure) if matches!(end, End::NoneWaits) => return Err(self.ended_by(End::Failed(failure), None)),
            Err(_) => return Err(self.ended_by(end, None)),
        };
        // Earlier legs of this attempt, before its time was up, have failures too.
        self.failed = self.failed.max(tried + self.given_up + self.unmarkable);
        match end {
            End::NoneWaits if self.failed == 0 || 0 < self.done => Ok(Done::Report(self.report(Some(left)))),
            end => Err(self.ended_by(end, Some(left))),
        }
    }

    async fn answer_all(&mut self) -> Result<End, Failure> {
        let budget = length(self.ctx).saturating_sub(self.endpoint.as_ref().map_or(Duration::ZERO, |it| it.limit));
        let mut time_is_up = pin!(time::sleep(budget - budget / 10));
        loop {
            let hidden = u32::try_from(self.hidden.len()).unwrap_or(u32::MAX);
            let page = self.fresh(self.inbox.oldest(self.settings.batch.saturating_add(hidden)).await?);
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

    /// The rows of a page that this attempt has not failed on. Several rows may have one id, or none.
    fn fresh(&self, mut page: Vec<Waiting>) -> Vec<Waiting> {
        let mut hidden = self.hidden.clone();
        page.retain(|message| match hidden.iter().position(|id| *id == message.id) {
            Some(at) => {
                hidden.swap_remove(at);
                false
            }
            None => true,
        });
        page
    }

    /// Answers one message. An error ends the attempt.
    async fn answer(&mut self, message: &Waiting) -> Result<(), Failure> {
        if message.id.is_empty() {
            self.note_failure(message, "the row has no id, so it cannot be marked as answered", Left::Unmarkable);
            return Ok(());
        }
        let answer = match &self.endpoint {
            None => Answer::Greeting(self.settings.greeting()),
            Some(endpoint) => match endpoint.ask(message).await {
                Ok(answer) => answer,
                Err(Trouble::OfEndpoint(failure)) => return Err(failure),
                Err(Trouble::OfMessage(why)) => return self.fail(message, &why).await,
            },
        };
        match self.write(message, answer).await {
            Ok(Taken::Processed(processed)) => {
                self.done += processed;
                self.failed_in_a_row = 0;
                Ok(())
            }
            Ok(Taken::Gone) => Ok(()),
            Ok(Taken::Unmarkable) => {
                self.note_failure(message, "its row does not take the mark that it was answered", Left::Unmarkable);
                Ok(())
            }
            // The statement is wrong for every row.
            Err(failure) if failure.kind == FailureKind::Permanent => Err(failure),
            // Perhaps the database refuses this row; when it is away, the try cannot be counted either.
            Err(failure) => self.fail(message, &failure.message).await,
        }
    }

    /// Writes an answer, more than once if it must be.
    async fn write(&mut self, message: &Waiting, answer: Answer) -> Result<Taken, Failure> {
        let (mut tries, mut may_be_written) = (0, false);
        loop {
            tries += 1;
            let now = self.moment();
            match self.inbox.answer(message, answer.clone(), now).await {
                // The end of our own commit was not heard, and it had come.
                Ok(Taken::Gone) if may_be_written => return Ok(Taken::Processed(1)),
                Err(failure) if failure.kind != FailureKind::Permanent && tries < TRIES_TO_WRITE => {
                    may_be_written |= !failure.before_effect;
                    time::sleep(WAIT_TO_WRITE * tries).await;
                }
                end => return end,
            }
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
        self.note_failure(message, why, left);
        if self.failed_in_a_row < MOST_FAILURES_IN_A_ROW {
            return Ok(());
        }
        Err(Failure::retry(format!("{MOST_FAILURES_IN_A_ROW} messages failed in a row, the last because {why}")))
    }

    fn note_failure(&mut self, message: &Waiting, why: &str, left: Left) {
        if left == Left::Gone {
            return;
        }
        let given_up = left == Left::GivenUp;
        self.failed += 1;
        self.given_up += u64::from(given_up);
        if !given_up {
            self.hidden.push(message.id.clone());
        }
        // Rows that take no mark come first in each attempt: they must not keep those behind them waiting.
        let is_unmarkable = left == Left::Unmarkable;
        self.unmarkable += u64::from(is_unmarkable);
        self.failed_in_a_row += u32::from(!is_unmarkable);
        if self.reasons.len() < MOST_REASONS {
            self.reasons.push(json!({ "id": message.id, "error": why, "given_up": given_up }));
        }
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
