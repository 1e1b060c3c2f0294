//! What this process runs right now, and how to stop it.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    domain::{
        job::JobName,
        run::{Fence, Lease, Reason, ReplicaId, Run, RunId},
        settle::Ended,
    },
    engine::desk::Desk,
    store::{Held, Lane},
};

/// An attempt that has not ended this long after its abort is stuck: it keeps slot and row.
pub const ABORT_GRACE: Duration = Duration::from_secs(5);

/// The attempts of this process, and the leases they stand on.
pub struct Running(Mutex<Inner>);

struct Inner {
    replica: ReplicaId,
    /// A run that was lost and claimed again may be here twice: its old attempt is still ending.
    attempts: HashMap<(RunId, Fence), Arc<Live>>,
    /// Fences of claims that were sent and not answered yet.
    claiming: HashSet<Fence>,
    /// On the boot clock; past it the database is not asked any more, everything stops. `None` = no lease needed.
    deadline: Option<Duration>,
}

/// A run that this process holds and has not started yet.
pub struct Claimed {
    pub lease: Lease,
    pub run: Run,
    /// The table it was claimed by; a reload does not change it any more.
    pub desk: Arc<Desk>,
    pub live: Arc<Live>,
}

/// One attempt under way.
pub struct Live {
    pub job: JobName,
    pub lane: Lane,
    /// A process of its own.
    pub command: bool,
    /// Lost its process before: runs as the only suspect of its replica.
    pub suspect: bool,
    pub stop: CancellationToken,
    state: Mutex<LiveState>,
}

#[derive(Default)]
struct LiveState {
    cause: Option<Ended>,
    stuck: bool,
}

impl Live {
    /// Asks the attempt to end; the first cause counts.
    pub fn stop(&self, cause: Ended) {
        self.state().cause.get_or_insert(cause);
        self.stop.cancel();
    }

    pub fn cause(&self) -> Ended {
        self.state().cause.clone().unwrap_or(Ended::Interrupted)
    }

    /// It did not end after its abort: it keeps slot and row.
    pub fn mark_stuck(&self) {
        self.state().stuck = true;
    }

    pub fn is_stuck(&self) -> bool {
        self.state().stuck
    }

    fn state(&self) -> MutexGuard<'_, LiveState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    pub fn new(replica: ReplicaId) -> Self {
        let inner = Inner { replica, attempts: HashMap::new(), claiming: HashSet::new(), deadline: None };
        Self(Mutex::new(inner))
    }

    pub fn replica(&self) -> ReplicaId {
        self.inner().replica
    }

    /// A replica whose lease expired is dead for ever: the process goes on under a new name.
    pub fn rename(&self, replica: ReplicaId) {
        self.inner().replica = replica;
    }

    /// A fence for a claim about to be sent; `enter` or `unanswered` takes it out of the air.
    pub fn new_fence(&self) -> Fence {
        let fence = Fence(Uuid::now_v7());
        self.inner().claiming.insert(fence);
        fence
    }

    /// The claim failed; if it took effect all the same, the next renewal finds its rows and puts them back.
    pub fn unanswered(&self, fence: Fence) {
        self.inner().claiming.remove(&fence);
    }

    /// Takes the answer of a claim in: its runs are known from here on, and its fence is no longer in the air. `desk` is
    /// the one that was claimed by.
    pub fn enter(&self, claimed: Vec<(Lease, Run)>, fence: Fence, desk: &Arc<Desk>) -> Vec<Claimed> {
        let mut inner = self.inner();
        inner.claiming.remove(&fence);
        let enter = |(lease, run): (Lease, Run)| {
            let job = desk.entry(&run.job).job;
            let live = Arc::new(Live {
                job: run.job.clone(),
                lane: if job.schedule.is_some() { Lane::Scheduled } else { Lane::Queue },
                command: job.is_command(),
                suspect: 0 < run.crashes,
                stop: CancellationToken::new(),
                state: Mutex::default(),
            });
            if run.replica != Some(inner.replica) {
                // Claimed in the name of a replica whose lease was lost while the answer was on its way.
                live.stop(Ended::Interrupted);
            }
            inner.attempts.insert((run.id, fence), Arc::clone(&live));
            Claimed { lease, run, desk: Arc::clone(desk), live }
        };
        claimed.into_iter().map(enter).collect()
    }

    pub fn leave(&self, lease: &Lease) {
        self.inner().attempts.remove(&(lease.run(), lease.fence()));
    }

    pub fn count(&self, lane: Lane) -> usize {
        self.inner().attempts.values().filter(|live| live.lane == lane).count()
    }

    /// Commands that run now.
    pub fn commands(&self) -> usize {
        self.inner().attempts.values().filter(|live| live.command).count()
    }

    pub fn is_empty(&self) -> bool {
        self.inner().attempts.is_empty()
    }

    pub fn has_suspect(&self) -> bool {
        self.inner().attempts.values().any(|live| live.suspect)
    }

    /// Running and stuck attempts, by job.
    pub fn by_job(&self) -> HashMap<JobName, (usize, usize)> {
        let mut counts: HashMap<JobName, (usize, usize)> = HashMap::new();
        for live in self.inner().attempts.values() {
            let count = counts.entry(live.job.clone()).or_default();
            count.0 += 1;
            count.1 += usize::from(live.is_stuck());
        }
        counts
    }

    pub fn stuck(&self) -> usize {
        self.inner().attempts.values().filter(|live| live.is_stuck()).count()
    }

    pub fn stop_all(&self, cause: &Ended) {
        for live in self.inner().attempts.values() {
            live.stop(cause.clone());
        }
    }

    /// Stops what was asked to cancel, and names the rows that run in our name without our knowing: the answers
    /// to their claims were lost.
    pub fn compare(&self, held: &[Held]) -> Vec<(RunId, Fence)> {
        let inner = self.inner();
        let mut unknown = Vec::new();
        for row in held {
            match inner.attempts.get(&(row.run, row.fence)) {
                Some(live) => {
                    if row.cancel_requested {
                        live.stop(Ended::Cancelled(row.cancel_reason.unwrap_or(Reason::Operator)));
                    }
                }
                None if inner.claiming.contains(&row.fence) => {}
                None => unknown.push((row.run, row.fence)),
            }
        }
        unknown
    }

    pub fn set_deadline(&self, deadline: Duration) {
        self.inner().deadline = Some(deadline);
    }

    /// The lease cannot be trusted any more at this reading of the boot clock.
    pub fn is_expired(&self, boot: Duration) -> bool {
        self.inner().deadline.is_some_and(|deadline| deadline <= boot)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
