//! Clients that wait for the end of a run: one look at the database for all of them together.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{runtime::Handle, sync::oneshot, time};
use uuid::Uuid;

use crate::{domain::run::RunId, store::Store};

/// Clients that may wait at once.
const MAX_WAITING: usize = 64;
/// Between two looks at the runs that are waited for.
const LOOK: Duration = Duration::from_millis(50);
/// After a look that failed.
const LOOK_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Who waits for what.
#[derive(Default)]
pub struct Waiting {
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    asked: Vec<Asked>,
    /// A task looks; it ends when nobody waits any more.
    is_watched: bool,
}

struct Asked {
    run: RunId,
    tell: oneshot::Sender<()>,
}

impl Waiting {
    /// A bell that rings soon after the run has ended, or is gone. `None` = too many wait already.
    pub fn join(self: &Arc<Self>, database: &Handle, store: Store, run: RunId) -> Option<oneshot::Receiver<()>> {
        let mut book = self.book();
        book.asked.retain(|asked| !asked.tell.is_closed());
        if MAX_WAITING <= book.asked.len() {
            return None;
        }
        let (tell, bell) = oneshot::channel();
        book.asked.push(Asked { run, tell });
        if !book.is_watched {
            book.is_watched = true;
            database.spawn(Arc::clone(self).watch(store));
        }
        Some(bell)
    }

    async fn watch(self: Arc<Self>, store: Store) {
        let mut pause = LOOK;
        loop {
            time::sleep(pause).await;
            let Some(runs) = self.awaited() else { return };
            pause = match store.unfinished_among(runs.clone()).await {
                Ok(unfinished) => {
                    self.tell(&runs, &unfinished);
                    LOOK
                }
                // The outage is told where the engine meets it; whoever waits asks again at the end of the wait.
                Err(_) => LOOK_AFTER_FAILURE,
            };
        }
    }

    /// The runs somebody waits for; `None` = nobody does, and the watch is over.
    fn awaited(&self) -> Option<Vec<Uuid>> {
        let mut book = self.book();
        book.asked.retain(|asked| !asked.tell.is_closed());
        book.is_watched = !book.asked.is_empty();
        book.is_watched.then(|| book.asked.iter().map(|asked| asked.run.0).collect())
    }

    /// Rings for those that were looked at and are not among the unfinished.
    fn tell(&self, looked_at: &[Uuid], unfinished: &[Uuid]) {
        let mut book = self.book();
        let has_ended = |asked: &mut Asked| looked_at.contains(&asked.run.0) && !unfinished.contains(&asked.run.0);
        for asked in book.asked.extract_if(.., has_ended) {
            // Nobody listens any more: nothing to tell.
            let _ = asked.tell.send(());
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
