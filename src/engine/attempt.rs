//! One attempt: asks the gate, runs the work on the handlers' runtime, and judges how it ended.

use std::{
    pin::{Pin, pin},
    sync::Arc,
};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::{task::JoinError, time};
use tokio_util::sync::CancellationToken;

use super::{
    Engine,
    desk::Desk,
    running::{ABORT_GRACE, Claimed, Live},
    settler::{self, Finished},
};
use crate::{
    domain::{
        job::{Gate, Job},
        run::{Failure, Lease, Report, Run},
        settle::{Ended, Settlement, settle},
    },
    handlers::{AppTx, Context, Done, Ending, Work, ask_gate},
    store::AppConnection,
};

/// So many stuck attempts end the process: the next ones would find no thread to run on.
pub const MOST_STUCK: usize = 3;

/// Runs a claimed run to its end, in the background.
pub fn start(engine: &Arc<Engine>, claimed: Claimed) {
    tokio::spawn(run(Arc::clone(engine), claimed));
}

async fn run(engine: Arc<Engine>, claimed: Claimed) {
    let Claimed { lease, run, desk, live } = claimed;
    let entry = desk.entry(&run.job);
    let run = Arc::new(run);
    engine.metrics.started(&run);
    engine.news.started(&run, engine.clock.now());
    let attempt = Attempt { engine: &engine, desk, job: entry.job, run: Arc::clone(&run), live };
    match attempt.execute(entry.work).await {
        End::Plain(ended) => attempt.hand_over(lease, ended),
        End::Told(cause, last_words) => attempt.hand_over_told(lease, cause, &last_words),
        End::InTransaction(report, tx) => attempt.settle_within(lease, report, tx).await,
    }
}

struct Attempt<'a> {
    engine: &'a Arc<Engine>,
    desk: Arc<Desk>,
    job: Arc<Job>,
    run: Arc<Run>,
    live: Arc<Live>,
}

enum End {
    Plain(Ended),
    /// Ended from outside, for this cause, and the handler had something to say.
    Told(Ended, Failure),
    InTransaction(Report, AppTx),
}

impl Attempt<'_> {
    async fn execute(&self, work: Arc<Work>) -> End {
        // After a wake the deadline check goes first: the claim may be older than it looks.
        if self.engine.running.is_expired(self.engine.clock.boot()) || self.live.stop.is_cancelled() {
            return self.unstarted();
        }
        if self.run.resume.is_some() && !work.resumes() {
            // The job was given other work since; doing that as well would be a second effect.
            let message = format!("accepted work cannot be followed: the job does run.{} now", work.name());
            return End::Plain(Ended::Answered(Err(Failure::permanent(message))));
        }
        let timeout = TimeDelta::from_std(self.job.policy.timeout).unwrap_or(TimeDelta::MAX);
        let begun = self.engine.clock.now();
        let deadline = begun.checked_add_signed(timeout).unwrap_or(begun);
        let mut limit = pin!(time::sleep(self.job.policy.timeout));
        let asked = tokio::select! {
            asked = self.gate_is_open() => asked,
            () = &mut limit => Err(Failure::retry("gate: no answer within the timeout of the run").before_effect()),
            () = self.live.stop.cancelled() => return self.unstarted(),
        };
        match asked {
            Ok(true) => self.execute_open(work, (limit, deadline)).await,
            Ok(false) => End::Plain(Ended::GateClosed),
            Err(failure) => End::Plain(Ended::Answered(Err(failure))),
        }
    }

    fn unstarted(&self) -> End {
        match self.live.cause() {
            Ended::Interrupted => End::Plain(Ended::Unstarted),
            cause => End::Plain(cause),
        }
    }

    /// `limit` ends at `deadline`: the gate was asked within the time of the attempt.
    async fn execute_open(&self, work: Arc<Work>, (limit, deadline): (Pin<&mut time::Sleep>, DateTime<Utc>)) -> End {
        let cancelled = self.engine.draining.child_token();
        let ctx = self.context(deadline, cancelled.clone());
        let stop_grace = work.stop_grace();
        let mut task = self.engine.handlers.spawn(async move { work.run(ctx).await });
        let cause = tokio::select! {
            joined = &mut task => return self.end_unasked(joined),
            () = limit => Ended::TimedOut,
            () = self.live.stop.cancelled() => self.live.cause(),
        };
        cancelled.cancel();
        if let Ok(joined) = time::timeout(stop_grace, &mut task).await {
            return end(joined, Some(cause));
        }
        task.abort();
        match time::timeout(ABORT_GRACE, &mut task).await {
            Ok(joined) => end(joined, Some(cause)),
            Err(_) => {
                self.stuck();
                end(task.await, Some(cause))
            }
        }
    }

    /// It ended by itself; a failure after the process was told to stop is put down to the stop.
    fn end_unasked(&self, joined: Result<Ending, JoinError>) -> End {
        match end(joined, None) {
            End::Plain(Ended::Answered(Err(failure))) if self.engine.draining.is_cancelled() => {
                End::Plain(Ended::Stopped(failure))
            }
            end => end,
        }
    }

    fn stuck(&self) {
        self.live.mark_stuck();
        tracing::error!(
            component = "scheduler", job_name = %self.run.job, run_id = %self.run.id,
            "attempt has not ended {} s after its abort: its handler blocks a thread", ABORT_GRACE.as_secs()
        );
        if MOST_STUCK <= self.engine.running.stuck() {
            self.engine.fail_for_good(format!("{MOST_STUCK} attempts are stuck"));
        }
    }

    async fn gate_is_open(&self) -> Result<bool, Failure> {
        match &self.job.gate {
            // It was asked when the job fired; work that has begun is seen to its end.
            _ if self.run.resume.is_some() => Ok(true),
            None => Ok(true),
            Some(Gate::Environment { open, .. }) => Ok(*open),
            Some(Gate::Sql { text }) => {
                let tx = (self.engine.database.begin)().await?;
                ask_gate(tx, text).await
            }
        }
    }

    fn context(&self, deadline: DateTime<Utc>, cancelled: CancellationToken) -> Context {
        Context {
            run: Arc::clone(&self.run),
            job: Arc::clone(&self.job),
            attempt: self.run.attempt.unsigned_abs(),
            now: self.engine.clock.now(),
            deadline,
            cancelled,
            tools: self.desk.tools.clone(),
            database: self.engine.database.clone(),
        }
    }

    fn settlement(&self, ended: Ended) -> Settlement {
        settle(&self.run, &self.job.policy, ended, self.engine.clock.now())
    }

    fn hand_over(&self, lease: Lease, ended: Ended) {
        self.send(lease, self.settlement(ended));
    }

    /// The cause decides; what the handler says about the end explains it.
    fn hand_over_told(&self, lease: Lease, cause: Ended, last_words: &Failure) {
        self.send(lease, self.settlement(cause).with_last_words(last_words));
    }

    fn send(&self, lease: Lease, settlement: Settlement) {
        let finished = Finished { lease, settlement, run: Arc::clone(&self.run) };
        if self.engine.settlements.send(finished).is_err() {
            tracing::error!(run_id = %self.run.id, "settler is gone: the run stays running until its lease is freed");
        }
    }

    /// R3: effect and settlement commit together, or neither does.
    async fn settle_within(&self, held: Lease, report: Report, tx: AppTx) {
        let ended_at = self.engine.clock.now();
        let settlement = self.settlement(Ended::Answered(Ok(report)));
        let connection = match tx {
            AppTx::Postgres(tx) => AppConnection::Postgres(tx),
            AppTx::Sqlite(guard) => AppConnection::Sqlite(guard),
        };
        match self.engine.store.settle_within(connection, &held, &settlement, ended_at).await {
            Ok(settled) => {
                self.engine.database_answered();
                self.engine.running.leave(&held);
                settler::note(self.engine, &self.run, &settlement, &settled);
            }
            Err(error) if !error.is_passing() => {
                // Rolled back: it did not happen, and it is the handler's to do better.
                let failure = Failure::retry(format!("the transaction was rolled back: {error}")).before_effect();
                self.hand_over(held, Ended::Answered(Err(failure)));
            }
            Err(error) => {
                // Committed or not, the fence knows: if it was, the settlement below is late and changes nothing.
                self.engine.database_failed(&error);
                self.hand_over(held, Ended::Interrupted);
            }
        }
    }
}

/// What the handler's task left behind; `cause` says why it was ended from outside, if it was.
fn end(joined: Result<Ending, JoinError>, cause: Option<Ended>) -> End {
    match (joined, cause) {
        (Ok(Ok(Done::Report(report))), _) => End::Plain(Ended::Answered(Ok(report))),
        (Ok(Ok(Done::InTransaction(report, tx))), _) => End::InTransaction(report, tx),
        (Err(error), _) if error.is_panic() => End::Plain(Ended::Panicked(panic_text(error))),
        // A handler that failed because it was told to stop did not fail by itself.
        (Ok(Err(failure)), Some(Ended::Interrupted)) if failure.before_effect => End::Told(Ended::Unstarted, failure),
        (Ok(Err(failure)), Some(cause)) => End::Told(cause, failure),
        (Err(_), Some(cause)) => End::Plain(cause),
        (Ok(Err(failure)), None) => End::Plain(Ended::Answered(Err(failure))),
        (Err(_), None) => End::Plain(Ended::Interrupted),
    }
}

fn panic_text(error: JoinError) -> String {
    let payload = error.into_panic();
    let text = payload.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into())
}
