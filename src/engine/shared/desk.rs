//! The job table at work: what a reload replaces as a whole.

use std::sync::Arc;

use crate::{
    domain::job::{Job, JobName},
    engine::Scope,
    handlers::Tools,
    job_table::{Entry, JobTable},
    store::Lane,
};

/// A job table with what follows from it. Whoever looks at it twice in one step takes it once: it may be replaced.
pub struct Desk {
    pub table: Arc<JobTable>,
    /// Clients and pools of the process, with the targets of this table.
    pub tools: Tools,
    /// The jobs this process may claim, one list for each of `Pick::ALL`; shared with every claim, so listed once.
    lists: [Arc<Vec<Arc<Job>>>; Pick::ALL.len()],
}

/// The jobs that one claim asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pick {
    pub lane: Lane,
    /// Commands are processes: besides the slots of their lane they need one of their own few.
    pub commands: bool,
}

impl Pick {
    /// In the order of claiming: scheduled work first.
    pub const ALL: [Self; 4] = [
        Self { lane: Lane::Scheduled, commands: false },
        Self { lane: Lane::Scheduled, commands: true },
        Self { lane: Lane::Queue, commands: false },
        Self { lane: Lane::Queue, commands: true },
    ];

    fn takes(self, job: &Job) -> bool {
        let lane = if job.schedule.is_some() { Lane::Scheduled } else { Lane::Queue };
        self == Self { lane, commands: job.is_command() }
    }
}

impl Desk {
    /// Lays out the part of the table that this process claims.
    pub fn new(table: Arc<JobTable>, tools: Tools, scope: &Scope) -> Self {
        let list = |pick: Pick| {
            let mine = table.jobs.values().map(|entry| &entry.job).filter(|job| scope.claims(job) && pick.takes(job));
            Arc::new(mine.cloned().collect())
        };
        let lists = Pick::ALL.map(list);
        Self { table, tools, lists }
    }

    /// The jobs that such a claim asks for.
    pub fn list(&self, pick: Pick) -> &Arc<Vec<Arc<Job>>> {
        let place = Pick::ALL.iter().position(|known| *known == pick).expect("`Pick::ALL` has every pick");
        &self.lists[place]
    }

    /// The entry of a job that was planned or claimed by this desk.
    pub fn entry(&self, job: &JobName) -> Entry {
        self.table.jobs.get(job).expect("only jobs of the table are asked for").clone()
    }
}
