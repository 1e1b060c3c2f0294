//! Reload: a new job table takes the place of the old one whole, or nothing changes and everybody can see why.

use std::{
    fs::Metadata,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{
    sync::{Mutex, Notify},
    time,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{activate, changes};
use crate::{
    domain::{health::FailedReload, job::Job},
    engine::Engine,
    job_table::JobTable,
    store::StoreError,
};

/// Between two looks at the file. Looking works on every file system and through every kind of replacement; being told
/// of changes does not.
const LOOK: Duration = Duration::from_secs(1);
/// Between two tries to activate a good table while the database is away.
const RETRY: Duration = Duration::from_secs(5);

/// Where a new table comes from.
pub struct Reader {
    /// Reads and checks the whole file. The error is the report that `workers check` prints.
    pub read: Box<dyn Fn() -> Result<Arc<JobTable>, String> + Send + Sync>,
    /// `--watch`: the file to look at.
    pub watched: Option<Watched>,
}

/// A file to look at, and how it looked before the table at work was read from it: an edit made while the database is
/// awaited counts, too.
#[derive(Debug, Clone)]
pub struct Watched {
    file: PathBuf,
    read: Option<Shape>,
}

impl Watched {
    /// Takes the shape of the file as it is now; the table must be read after this.
    pub fn now(file: PathBuf) -> Self {
        let read = std::fs::metadata(&file).ok().map(|file| shape_of(&file));
        Self { file, read }
    }
}

/// What a reload needs beside the engine.
#[derive(Clone)]
pub struct Reloading {
    pub reader: Arc<Reader>,
    /// Rings at each SIGHUP.
    pub hangup: Arc<Notify>,
    /// The jobs that HTTP answers are about.
    pub jobs: Arc<ArcSwap<Vec<Arc<Job>>>>,
    /// Held from the activation of a table until this process works by it: nobody may ask for the old one in between.
    pub turn: Arc<Mutex<()>>,
}

/// Reloads at each SIGHUP, and when the watched file has changed.
pub async fn reload(engine: Arc<Engine>, reloading: Reloading, stop: CancellationToken) {
    let Reloading { reader, hangup, jobs, turn } = reloading;
    let mut watch = Watch::new(reader.watched.clone());
    let mut again = None;
    let mut held = None;
    while !stop.is_cancelled() {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = hangup.notified() => {}
            () = watch.changed() => {}
            () = wait(again) => {}
        }
        let reader = Arc::clone(&reader);
        let read = tokio::task::spawn_blocking(move || (reader.read)()).await;
        let read = read.unwrap_or_else(|panic| Err(format!("reading the job table failed: {panic}")));
        let mine = match held.take() {
            Some(mine) => mine,
            None => Arc::clone(&turn).lock_owned().await,
        };
        again = once(&engine, &jobs, read).await;
        // An activation whose answer was lost may have happened: nobody asks for the old table before it was tried again.
        held = again.map(|_| mine);
    }
}

async fn wait(length: Option<Duration>) {
    match length {
        Some(length) => time::sleep(length).await,
        None => std::future::pending().await,
    }
}

/// One reload; returns when to try again, if waiting may help.
async fn once(
    engine: &Arc<Engine>,
    jobs: &ArcSwap<Vec<Arc<Job>>>,
    read: Result<Arc<JobTable>, String>,
) -> Option<Duration> {
    let accepted = read.and_then(|table| fits(engine, &table).map(|()| table));
    let table = match accepted {
        Ok(table) => table,
        Err(report) => {
            refuse(engine, &report);
            return None;
        }
    };
    let old = engine.table();
    match activate(engine, &table).await {
        Ok(()) => {}
        Err(StoreError::Unreachable(why)) => {
            refuse(engine, &format!("the database does not answer, tried again soon: {why}"));
            return Some(RETRY);
        }
        Err(error) => {
            refuse(engine, &error.to_string());
            return None;
        }
    }
    jobs.store(Arc::new(table.jobs.values().map(|entry| Arc::clone(&entry.job)).collect()));
    engine.work_by(Arc::clone(&table));
    engine.status.change(|condition| condition.reload = None);
    info!(component = "scheduler", "job table reloaded: {}", changes::sentence(&old, &table));
    for problem in &table.warnings {
        warn!(component = "scheduler", "{}:{}: {}", problem.file, problem.line, problem.message);
    }
    for setting in changes::of_the_process(&old, &table) {
        warn!(component = "scheduler", "{setting} has changed: it holds from the next start on");
    }
    None
}

/// A process that was told to run some jobs only must still know them.
fn fits(engine: &Engine, table: &JobTable) -> Result<(), String> {
    let known = |name: &String| table.jobs.keys().any(|job| job.as_str() == name);
    match engine.settings.scope.only.iter().find(|name| !known(name)) {
        Some(name) => Err(format!("job {name:?}, which this process was told to run, is not in the new job table")),
        None => Ok(()),
    }
}

/// The old table stays at work, and log, health and metric say so until a good one comes.
fn refuse(engine: &Engine, report: &str) {
    let now = engine.clock.now();
    let mut is_news = true;
    engine.status.change(|condition| {
        is_news = condition.reload.as_ref().is_none_or(|failed| failed.problem != report);
        let since = condition.reload.as_ref().map_or(now, |failed| failed.since);
        condition.reload = Some(FailedReload { since, problem: report.to_owned() });
    });
    if is_news {
        error!(component = "scheduler", "reload failed, the old job table stays: {report}");
    }
}

/// Looks at a file and notices that it is another one. A change counts once it has stood still for a whole look: an
/// editor may still be writing.
struct Watch {
    file: Option<PathBuf>,
    seen: Option<Shape>,
}

/// What changes with the content of a file: modification instant, length, and which file it is.
type Shape = (i64, i64, u64, u64, u64);

impl Watch {
    fn new(watched: Option<Watched>) -> Self {
        match watched {
            Some(Watched { file, read }) => Self { file: Some(file), seen: read },
            None => Self { file: None, seen: None },
        }
    }

    /// Returns after a change; never when nothing is watched.
    async fn changed(&mut self) {
        let Some(file) = &self.file else { return std::future::pending().await };
        let mut last = self.seen;
        loop {
            time::sleep(LOOK).await;
            let now = shape(file).await;
            if now != self.seen && now == last {
                self.seen = now;
                return;
            }
            last = now;
        }
    }
}

fn shape_of(file: &Metadata) -> Shape {
    (file.mtime(), file.mtime_nsec(), file.len(), file.ino(), file.dev())
}

async fn shape(file: &Path) -> Option<Shape> {
    tokio::fs::metadata(file).await.ok().map(|file| shape_of(&file))
}
