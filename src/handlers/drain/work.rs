//! One run: rescues what is stuck, then claims batch after batch, delivers each row, and writes down what became of it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{StreamExt, stream};

use super::{
    MaxAttempts, Settings,
    deliver::{self, Delivered, Taking},
    plan::{Claimed, Plan},
    table::cell::{Taken, Values},
    table::refusal::Refusal,
    table::statement::Statement,
    tally::{Fate, Stop, Tally},
};
use crate::{
    domain::{
        clean,
        duration::Length,
        health::QueueFigures,
        run::{Failure, FailureKind, MAX_ERROR_CHARS},
    },
    handlers::{Context, Ending, QueueLook, transaction},
};

/// Calls that are under way when a run is stopped by force may end within this time, and their rows are written down.
pub(super) const STOP_GRACE: Duration = Duration::from_secs(5);
/// A run leaves this share of its time, a half, to the calls it has begun.
const SHARE_TO_BEGIN: u32 = 2;
/// A tenth of a run's time, and no more than `STOP_GRACE`, is kept to write down what became of the last calls.
const SHARE_TO_SETTLE: u32 = 10;
/// How often the end of a row is written when the database does not answer,
const WRITES: u32 = 3;
/// and how long after the first time, then twice as long.
const BETWEEN_WRITES: Duration = Duration::from_millis(200);
/// A column may take less of `:error` than `MAX_ERROR_CHARS`: so much is tried then, in this order.
const SHORTER_ERRORS: [usize; 2] = [200, 0];
/// When the database does not let the ends of so many stuck rows be written, it is in trouble; the next run goes on.
const MOST_UNANSWERED: usize = 3;
/// A claim stands for so much longer than a run may take, whatever `stuck.after` says: an attempt that is timed out has
/// twice 5 s to end, first by itself and then by its abort.
const AFTER_THE_TIMEOUT: Duration = Duration::from_secs(15);
/// Waits between tries are spread by this share, up and down, where the job's `retry` has jitter.
const JITTER_SHARE: f64 = 0.25;

/// What became of a statement about one row.
enum Changed {
    Yes,
    /// It does not stand as it was read: somebody else has it.
    Elsewhere,
    /// The table does not take it.
    Refused(Refusal),
}

/// One run on one table.
struct Work<'a> {
    settings: &'a Settings,
    ctx: &'a Context,
    plan: Arc<Plan>,
    /// Reading of the boot clock when the attempt began.
    begun: Duration,
    /// Why no further call is begun.
    stop: Mutex<Option<Stop>>,
}

pub(super) async fn run(settings: &Settings, ctx: &Context) -> Ending {
    let begun = ctx.tools.clock.boot();
    let of = settings.clone();
    let plan = transaction::apart(ctx, move |tx| Box::pin(async move { Plan::of(&of, tx).await })).await?;
    let work = Work { settings, ctx, plan: Arc::new(plan), begun, stop: Mutex::default() };
    let mut tally = Tally::default();
    let drained = match work.rescue(&mut tally).await {
        Ok(()) => work.drain(&mut tally).await,
        Err(failure) => Err(failure),
    };
    if let Err(failure) = drained {
        // What was done before is told with what went wrong.
        let report = tally.report(None);
        return Err(Failure { before_effect: failure.before_effect && tally.is_empty(), ..failure }.with_report(report));
    }
    let left = work.left().await;
    let stop = work.stop.lock().unwrap_or_else(PoisonError::into_inner).take();
    tally.ending(left, stop, ctx.cancelled.is_cancelled())
}

/// What stands in the table now, for health and metrics.
pub(super) async fn look(settings: &Settings, look: QueueLook) -> Result<QueueFigures, Failure> {
    let (settings, now) = (settings.clone(), look.now);
    let stuck_before = now - stuck_after(&settings, look.job.policy.timeout).map_or(TimeDelta::zero(), delta);
    transaction::only_reading(&look, move |tx| {
        Box::pin(async move {
            let plan = Plan::of(&settings, tx).await?;
            plan.figures(tx, Values { now, stuck_before, ..Values::of_nothing(settings.time) }).await
        })
    })
    .await
}

/// How long a claim stands: never shorter than a run that goes on. `None` = for ever.
fn stuck_after(settings: &Settings, timeout: Duration) -> Option<Duration> {
    let stuck = settings.stuck.as_ref()?;
    Some(stuck.after.0.max(timeout + AFTER_THE_TIMEOUT))
}

impl Work<'_> {
    fn elapsed(&self) -> Duration {
        self.ctx.tools.clock.boot().saturating_sub(self.begun)
    }

    fn now(&self) -> DateTime<Utc> {
        self.ctx.now + delta(self.elapsed())
    }

    /// The time of the whole attempt.
    fn limit(&self) -> Duration {
        (self.ctx.deadline - self.ctx.now).to_std().unwrap_or_default()
    }

    /// Whether a call may still be begun.
    fn may_begin(&self) -> bool {
        let is_stopped = self.stop.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        !is_stopped && !self.ctx.cancelled.is_cancelled() && self.elapsed() <= self.limit() / SHARE_TO_BEGIN
    }

    /// Whether another batch may be claimed: a run that goes on and on would be called slow.
    fn may_claim(&self) -> bool {
        let most = self.limit().min(self.ctx.job.policy.slow_after);
        self.may_begin() && self.elapsed() <= most / SHARE_TO_BEGIN
    }

    fn values(&self) -> Values {
        let now = self.now();
        let stuck_after = stuck_after(self.settings, self.ctx.job.policy.timeout);
        let replica = self.ctx.run.replica.map_or_else(|| self.ctx.run.id.to_string(), |replica| replica.to_string());
        Values {
            now,
            replica,
            stuck_before: now - stuck_after.map_or(TimeDelta::zero(), delta),
            ..Values::of_nothing(self.settings.time)
        }
    }

    /// Rows whose process died: an attempt is spent, and they wait again, or are given up.
    async fn rescue(&self, tally: &mut Tally) -> Result<(), Failure> {
        let Some(after) = stuck_after(self.settings, self.ctx.job.policy.timeout).map(Length) else { return Ok(()) };
        let (plan, values) = (Arc::clone(&self.plan), self.values());
        let found = transaction::apart(self.ctx, move |tx| Box::pin(async move { plan.find_stuck(tx, values).await }));
        let error = format!("no end was written down within {after} of its claim");
        let mut unanswered = 0;
        for row in found.await? {
            if !self.may_begin() || unanswered == MOST_UNANSWERED {
                break;
            }
            let fate = self.try_again(&row, &error, Which::Stuck).await.unwrap_or_else(|failure| {
                unanswered += usize::from(failure.kind == FailureKind::Retry);
                unwritten(&error, &failure)
            });
            tally.rescued(&row, fate, &error);
        }
        Ok(())
    }

    async fn drain(&self, tally: &mut Tally) -> Result<(), Failure> {
        while self.may_claim() {
            let Claimed { rows, blocked, refused } = self.claim().await?;
            tally.blocked(blocked);
            refused.iter().for_each(|(row, reason)| tally.unclaimed(row, reason));
            // A row that waited for another may not have to any more when that one is done.
            let is_full = rows.len() == self.settings.batch as usize || (0 < blocked && !rows.is_empty());
            let (done, failed) = (tally.done(), tally.failed());
            let fates =
                stream::iter(rows).map(|row| self.carry(row)).buffer_unordered(self.settings.concurrency as usize);
            fates
                .for_each(|(row, fate)| {
                    tally.count(&row, fate);
                    std::future::ready(())
                })
                .await;
            // When nothing gets through, or a failed row would come back at once, the next run is soon enough.
            let goes_well = done < tally.done() && (self.plan.waits_between_tries() || failed == tally.failed());
            if !is_full || !goes_well {
                break;
            }
        }
        Ok(())
    }

    async fn claim(&self) -> Result<Claimed, Failure> {
        let (plan, values) = (Arc::clone(&self.plan), self.values());
        let at_once =
            transaction::apart(self.ctx, move |tx| Box::pin(async move { plan.claim_at_once(tx, values).await }));
        if let Some(claimed) = at_once.await? {
            return Ok(claimed);
        }
        let (plan, values) = (Arc::clone(&self.plan), self.values());
        let one_by_one =
            transaction::apart(self.ctx, move |tx| Box::pin(async move { plan.claim_one_by_one(tx, values).await }));
        one_by_one.await
    }

    /// Takes one claimed row to its end. Never fails: what cannot be written down is told, and the row is rescued later.
    async fn carry(&self, row: Arc<Taken>) -> (Arc<Taken>, Fate) {
        if !self.may_begin() {
            let fate = self.put_back(&row).await;
            return (row, fate);
        }
        let kept = (self.limit() / SHARE_TO_SETTLE).min(STOP_GRACE);
        let limit = self.limit().saturating_sub(self.elapsed()).saturating_sub(kept);
        let attempt = self.attempt(&row).unwrap_or(1);
        let fate = match deliver::deliver(self.settings, self.ctx, (&row, attempt, self.now(), limit)).await {
            Delivered::Taken(taking) => self.finish(&row, taking).await,
            Delivered::TryAgain(error) => {
                self.try_again(&row, &error, Which::Own).await.unwrap_or_else(|failure| unwritten(&error, &failure))
            }
            Delivered::GiveUp(error) => {
                self.give_up(&row, &error, Which::Own).await.unwrap_or_else(|failure| unwritten(&error, &failure))
            }
            Delivered::NotBegun(stop) => {
                if let Some(stop) = stop {
                    self.stop.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(stop);
                }
                self.put_back(&row).await
            }
        };
        (row, fate)
    }

    async fn finish(&self, row: &Arc<Taken>, taking: Taking) -> Fate {
        match self.change(row, |plan| Some(&plan.done), self.values()).await {
            Ok(Changed::Yes) => Fate::Done { taking, elsewhere: false },
            Ok(Changed::Elsewhere) => Fate::Done { taking, elsewhere: true },
            Ok(Changed::Refused(Refusal { reason, .. })) => {
                Fate::Unwritten { error: format!("delivered, and the table refuses `done`: {reason}") }
            }
            Err(failure) => Fate::Unwritten { error: format!("delivered, and not written down: {}", failure.message) },
        }
    }

    async fn put_back(&self, row: &Arc<Taken>) -> Fate {
        match self.change(row, |plan| Some(&plan.release), self.values()).await {
            Ok(Changed::Yes) => Fate::Released,
            Ok(Changed::Elsewhere) => Fate::Elsewhere,
            Ok(Changed::Refused(Refusal { reason, .. })) => {
                Fate::Unwritten { error: format!("not begun, and the table refuses to take it back: {reason}") }
            }
            Err(failure) => Fate::Unwritten { error: format!("not begun, and not put back: {}", failure.message) },
        }
    }

    /// Spends the attempt: the row waits for its next one, or is given up when it was its last.
    async fn try_again(&self, row: &Arc<Taken>, error: &str, which: Which) -> Result<Fate, Failure> {
        let policy = &self.ctx.job.policy.retry;
        let ended = self.attempt(row);
        if ended.is_some_and(|ended| self.most(row) <= ended) {
            return self.give_up(row, error, which).await;
        }
        let wait = policy.backoff.after(ended.unwrap_or(1));
        let wait = if policy.jitter { wait.mul_f64(1.0 + JITTER_SHARE * (2.0 * fastrand::f64() - 1.0)) } else { wait };
        let values = self.values();
        let values =
            Values { retry_at: values.now + delta(wait), error: clean::text(error, MAX_ERROR_CHARS), ..values };
        match self.change(row, move |plan| which.retry(plan), values).await? {
            Changed::Yes => Ok(Fate::Failed { error: error.into(), dead: false }),
            Changed::Elsewhere => Ok(Fate::Elsewhere),
            // It cannot wait again, because another row has taken its place; trying for ever would not help it.
            Changed::Refused(Refusal { reason, .. }) => {
                self.give_up(row, &format!("{error}; the table refuses `retry`: {reason}"), which).await
            }
        }
    }

    async fn give_up(&self, row: &Arc<Taken>, error: &str, which: Which) -> Result<Fate, Failure> {
        let values = Values { error: clean::text(error, MAX_ERROR_CHARS), ..self.values() };
        match self.change(row, move |plan| which.dead(plan), values).await? {
            Changed::Yes => Ok(Fate::Failed { error: error.into(), dead: true }),
            Changed::Elsewhere => Ok(Fate::Elsewhere),
            Changed::Refused(Refusal { reason, .. }) => {
                Ok(Fate::Unwritten { error: format!("{error}; the table refuses `dead`: {reason}") })
            }
        }
    }

    /// Which attempt of the row this is, from 1; `None` = nobody counts.
    fn attempt(&self, row: &Taken) -> Option<u32> {
        let spent = u32::try_from(row.attempts.unwrap_or(0)).unwrap_or(0);
        self.plan.shape.attempts.as_ref()?;
        Some(if self.plan.counts_at_claim() { spent.max(1) } else { spent.saturating_add(1) })
    }

    /// How often the row may be tried.
    fn most(&self, row: &Taken) -> u32 {
        let by_policy = self.ctx.job.policy.retry.max_attempts;
        match &self.settings.max_attempts {
            Some(MaxAttempts::Number(most)) => *most,
            Some(MaxAttempts::Column(_)) => row.most.and_then(|most| u32::try_from(most).ok()).unwrap_or(by_policy),
            None => by_policy,
        }
    }

    /// Writes one end of a row, with as much of the error as its column takes.
    async fn change(
        &self,
        row: &Arc<Taken>,
        statement: impl Fn(&Plan) -> Option<&Statement>,
        values: Values,
    ) -> Result<Changed, Failure> {
        let statement = statement(&self.plan).cloned().unwrap_or_default();
        let values = Values { row: Some(Arc::clone(row)), ..values };
        let mut written = self.persist(&statement, &values).await?;
        for most in SHORTER_ERRORS {
            let may_help = statement.tells_error() && most < values.error.chars().count();
            match &written {
                Changed::Refused(refusal) if refusal.may_be_too_long && may_help => {}
                _ => break,
            }
            let error = values.error.chars().take(most).collect();
            written = self.persist(&statement, &Values { error, ..values.clone() }).await?;
        }
        Ok(written)
    }

    /// Runs a statement in a transaction of its own, again when the database does not answer.
    async fn persist(&self, statement: &Statement, values: &Values) -> Result<Changed, Failure> {
        let mut wait = BETWEEN_WRITES;
        for _ in 1..WRITES {
            match self.write(statement.clone(), values.clone()).await {
                Err(failure) if failure.kind == FailureKind::Retry => {}
                written => return written,
            }
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
        self.write(statement.clone(), values.clone()).await
    }

    async fn write(&self, statement: Statement, values: Values) -> Result<Changed, Failure> {
        let written = transaction::apart(self.ctx, move |tx| {
            Box::pin(async move {
                match values.change(tx, &statement).await {
                    Ok(0) => Ok(Changed::Elsewhere),
                    Ok(_) => Ok(Changed::Yes),
                    Err(error) => match Refusal::of(&error) {
                        Some(refusal) => Ok(Changed::Refused(refusal)),
                        None => Err(transaction::failure(&error)),
                    },
                }
            })
        });
        written.await
    }

    async fn left(&self) -> Result<u64, Failure> {
        let (plan, values) = (Arc::clone(&self.plan), self.values());
        transaction::apart(self.ctx, move |tx| Box::pin(async move { plan.left(tx, values).await })).await
    }
}

/// A row that this run claimed, or one that was stuck, which must be so still.
#[derive(Clone, Copy)]
enum Which {
    Own,
    Stuck,
}

impl Which {
    fn retry(self, plan: &Plan) -> Option<&Statement> {
        match self {
            Self::Own => Some(&plan.retry),
            Self::Stuck => plan.stuck.as_ref().map(|stuck| &stuck.retry),
        }
    }

    fn dead(self, plan: &Plan) -> Option<&Statement> {
        match self {
            Self::Own => Some(&plan.dead),
            Self::Stuck => plan.stuck.as_ref().map(|stuck| &stuck.dead),
        }
    }
}

fn unwritten(error: &str, failure: &Failure) -> Fate {
    Fate::Unwritten { error: format!("{error}; not written down: {}", failure.message) }
}

fn delta(length: Duration) -> TimeDelta {
    TimeDelta::from_std(length).unwrap_or(TimeDelta::zero())
}
