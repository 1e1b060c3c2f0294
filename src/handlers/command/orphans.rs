//! The children of this process: which of them attempts wait for, and what becomes of those that nobody waits for.

use std::{
    collections::BTreeMap,
    fs, io,
    process::{Child, Command},
    sync::{Mutex, MutexGuard, PoisonError, TryLockError},
    thread,
    time::Duration,
};

use rustix::process::{Pid, RawPid, Signal, WaitId, WaitIdOptions, getpid, kill_process_group, waitid};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::sleep,
};

use super::descendants;

/// Between two collections: however many orphans end in that time, the list of processes is read once.
const COLLECTION_PAUSE: Duration = Duration::from_secs(1);

/// At the end of the process: tries to get at the list of leaders, and the pause between them.
const MOST_TRIES: usize = 50;
const BETWEEN_TRIES: Duration = Duration::from_millis(10);

/// Leaders of groups that an attempt has started and nobody has reaped: their exit status and their process id are the
/// attempt's own. With the id of the run, which their descendants carry.
static LEADERS: Mutex<BTreeMap<RawPid, String>> = Mutex::new(BTreeMap::new());

fn leaders() -> MutexGuard<'static, BTreeMap<RawPid, String>> {
    LEADERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a child as the leader of a group. Nobody else reaps it until `forget`.
pub(super) fn start(command: &mut Command, run: &str) -> io::Result<(Child, Pid)> {
    // Held until the child is listed: the collection must not take one that has ended already.
    let mut leaders = leaders();
    let child = command.spawn()?;
    let pid = Pid::from_child(&child);
    leaders.insert(pid.as_raw_pid(), run.to_owned());
    Ok((child, pid))
}

/// The leader was reaped: its process id may be somebody else's from here on.
pub(super) fn forget(pid: Pid) {
    leaders().remove(&pid.as_raw_pid());
}

/// Makes this process the parent of what its jobs leave behind, and collects what of it has ended, for ever. Without it
/// orphans go to the first process of the system; in a container that is this one, whether it likes it or not.
pub async fn adopt_orphans() {
    if let Err(error) = become_parent_of_orphans() {
        tracing::warn!(component = "command", "orphans of jobs will go to the first process of the system: {error}");
    }
    let mut changes = match signal(SignalKind::child()) {
        Ok(changes) => changes,
        Err(error) => {
            tracing::warn!(component = "command", "orphans of jobs will stay in the list of processes: {error}");
            return;
        }
    };
    while changes.recv().await.is_some() {
        sleep(COLLECTION_PAUSE).await;
        // A panic in there leaves zombies, and the next signal tries again.
        let _ = tokio::task::spawn_blocking(collect_orphans).await;
    }
}

#[cfg(target_os = "linux")]
fn become_parent_of_orphans() -> io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(getpid()))?)
}

#[cfg(not(target_os = "linux"))]
fn become_parent_of_orphans() -> io::Result<()> {
    Ok(())
}

/// Reaps ended children that no attempt has started.
fn collect_orphans() {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    if !matches!(waitid(WaitId::All, look), Ok(Some(_))) {
        return;
    }
    for pid in descendants::processes().filter(|pid| is_ended_child(*pid)) {
        let leaders = leaders();
        if !leaders.contains_key(&pid.as_raw_pid()) {
            // Gone already is as good.
            let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
        }
    }
}

fn is_ended_child(pid: Pid) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    // `pid (name) state parent ...`: a name may hold spaces and brackets.
    let Some((_, after_name)) = stat.rsplit_once(") ") else { return false };
    let mut fields = after_name.split(' ');
    fields.next() == Some("Z") && fields.next() == Some(getpid().to_string().as_str())
}

/// Kills the groups of all attempts under way, and what has left them: for a process that ends without waiting.
pub fn kill_children() {
    // Not for ever: a start may hang on a disk that does not answer.
    let leaders = (0..MOST_TRIES).find_map(|_| match LEADERS.try_lock() {
        Ok(leaders) => Some(leaders),
        Err(TryLockError::Poisoned(leaders)) => Some(leaders.into_inner()),
        Err(TryLockError::WouldBlock) => {
            pause();
            None
        }
    });
    for (pid, run) in leaders.iter().flat_map(|leaders| leaders.iter()) {
        if let Some(pid) = Pid::from_raw(*pid) {
            // Unreaped, so the group is surely theirs; an error means that it is gone.
            kill_process_group(pid, Signal::KILL).unwrap_or_default();
        }
        descendants::kill_carriers(run);
    }
}

#[expect(clippy::disallowed_methods, reason = "the process ends here, and its runtime with it")]
fn pause() {
    thread::sleep(BETWEEN_TRIES);
}
