//! How the rules of what waits for a job are decided.

use super::{
    Finding, JobLook,
    table::{
        FIGURES_PATIENCE, FILA_BACKLOG_LIMIT, FILA_ERRORS_LIMIT, FILA_OLDEST_LIMIT, FILA_STUCK_MANY, FIRST_STUCK,
        QUEUE_LIMIT,
    },
};
use crate::domain::{health::queue::QueueFigures, job::Job};

/// Whether the job drains the message queue.
pub fn is_fila(job: &Job) -> bool {
    job.handler == "fila"
}

impl JobLook<'_> {
    /// What was last seen of the message queue, for its drain.
    fn fila(&self) -> Option<&QueueFigures> {
        self.snapshot.queue_of(&self.job.name).filter(|_| is_fila(self.job))
    }
}

pub fn backlog(look: &JobLook<'_>) -> Option<Finding> {
    let size = look.snapshot.queue_size(&look.job.name);
    let oldest = match look.snapshot.queue_of(&look.job.name) {
        Some(figures) => figures.oldest_due,
        None => look.stats.oldest_due,
    };
    let message = || format!("has {size} waiting, more than {QUEUE_LIMIT}");
    (QUEUE_LIMIT < size).then(|| look.found(oldest, message()))
}

/// A database that is away is another rule's to tell.
pub fn unseen(look: &JobLook<'_>) -> Option<Finding> {
    let (queue, database) = (look.snapshot.queues.get(&look.job.name)?, &look.snapshot.database);
    let since = queue.seen_at().max(database.since);
    let age = look.now - since;
    let holds = database.up && look.job.disabled.is_none() && FIGURES_PATIENCE < age;
    let message = || format!("has a queue that nobody could look at for {} s", age.num_seconds());
    holds.then(|| Finding { detail: queue.failure.clone(), ..look.found(Some(since), message()) })
}

pub fn large_backlog(look: &JobLook<'_>) -> Option<Finding> {
    let figures = look.fila().filter(|figures| FILA_BACKLOG_LIMIT < figures.left)?;
    let message = format!("has {} messages waiting, more than {FILA_BACKLOG_LIMIT}", figures.left);
    Some(look.found(figures.oldest_due, message))
}

pub fn some_stuck(look: &JobLook<'_>) -> Option<Finding> {
    stuck(look, FIRST_STUCK)
}

pub fn many_stuck(look: &JobLook<'_>) -> Option<Finding> {
    stuck(look, FILA_STUCK_MANY)
}

fn stuck(look: &JobLook<'_>, least: i64) -> Option<Finding> {
    let stuck = look.fila()?.stuck.filter(|stuck| least <= *stuck)?;
    Some(look.found(None, format_args!("has {stuck} messages that are stuck in sending")))
}

pub fn errors(look: &JobLook<'_>) -> Option<Finding> {
    let errors = look.fila()?.errors_1h.filter(|errors| FILA_ERRORS_LIMIT < *errors)?;
    Some(look.found(None, format!("gave {errors} messages up within an hour, more than {FILA_ERRORS_LIMIT}")))
}

pub fn late(look: &JobLook<'_>) -> Option<Finding> {
    let figures = look.fila()?;
    let age = figures.oldest_age(look.now);
    let message = || format!("has a message that has been due for {} min", age.num_minutes());
    (FILA_OLDEST_LIMIT < age).then(|| look.found(figures.oldest_due, message()))
}
