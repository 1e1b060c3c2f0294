//! The children of this process: which of them attempts wait for, and what becomes of those that nobody waits for.

use std::{
    collections::BTreeMap,
    fs, io,
    process::{Child, Command, ExitStatus},
    sync::{
        Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::{
    io::retry_on_intr,
    process::{Pid, RawPid, Signal, WaitId, WaitIdOptions, getpid, kill_process_group, waitid},
};
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

/// Those of this process.
static LEADERS: Leaders = Leaders::new();

/// Leaders of groups that an attempt has started and nobody has reaped: their exit status and their process id are the
/// attempt's own.
struct Leaders {
    /// With the id of the run, which their descendants carry.
    listed: Mutex<BTreeMap<RawPid, String>>,
    /// Set before the last look at the list, and read while the list is held: whoever starts after that look is refused.
    closed: AtomicBool,
}

/// Starts a child as the leader of a group. Nobody else reaps it until `reap`.
pub(super) fn start(command: &mut Command, run: &str) -> io::Result<(Child, Pid)> {
    LEADERS.start(command, run)
}

/// Waits for the end of a leader and takes its status. Its process id may be somebody else's from here on.
pub(super) fn reap(child: Child) -> io::Result<ExitStatus> {
    LEADERS.reap(child)
}

/// Kills the groups of all attempts under way, and what has left them, for a process that ends without waiting. None can
/// be started any more.
pub fn kill_children() {
    LEADERS.close();
}

impl Leaders {
    const fn new() -> Self {
        Self { listed: Mutex::new(BTreeMap::new()), closed: AtomicBool::new(false) }
    }

    fn listed(&self) -> MutexGuard<'_, BTreeMap<RawPid, String>> {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self, command: &mut Command, run: &str) -> io::Result<(Child, Pid)> {
        // Held until the child is listed: the collection must not take one that has ended already.
        let mut listed = self.listed();
        if self.closed.load(Ordering::SeqCst) {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "the daemon is ending"));
        }
        let child = command.spawn()?;
        let pid = Pid::from_child(&child);
        listed.insert(pid.as_raw_pid(), run.to_owned());
        Ok((child, pid))
    }

    fn reap(&self, mut child: Child) -> io::Result<ExitStatus> {
        let pid = Pid::from_child(&child);
        // Without the list, for it may take its time; without taking the status, for the list still names it. An error
        // means that there is nothing to wait for.
        let _ = retry_on_intr(|| waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT));
        // In one step: a process id that is listed is never another's.
        let mut listed = self.listed();
        let status = child.wait();
        listed.remove(&pid.as_raw_pid());
        status
    }

    fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        // Not for ever: a start may hang on a disk that does not answer.
        let listed = (0..MOST_TRIES).find_map(|_| match self.listed.try_lock() {
            Ok(listed) => Some(listed),
            Err(TryLockError::Poisoned(listed)) => Some(listed.into_inner()),
            Err(TryLockError::WouldBlock) => {
                pause();
                None
            }
        });
        for (pid, run) in listed.iter().flat_map(|listed| listed.iter()) {
            if let Some(pid) = Pid::from_raw(*pid) {
                // Unreaped, so the group is surely theirs; an error means that it is gone.
                kill_process_group(pid, Signal::KILL).unwrap_or_default();
            }
            descendants::kill_carriers(run);
        }
    }
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
        let leaders = LEADERS.listed();
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

#[expect(clippy::disallowed_methods, reason = "the process ends here, and its runtime with it")]
fn pause() {
    thread::sleep(BETWEEN_TRIES);
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;

    use super::*;

    fn sleep() -> Command {
        let mut command = Command::new("sleep");
        command.arg("300").process_group(0);
        command
    }

    #[test]
    fn once_children_were_killed_none_is_started_any_more() {
        let leaders = Leaders::new();
        let (child, _) = leaders.start(&mut sleep(), "no-run-carries-this").expect("sleep starts");

        leaders.close();
        let refused = leaders.start(&mut sleep(), "no-run-carries-this").expect_err("refused");

        assert_eq!(refused.kind(), io::ErrorKind::Interrupted, "{refused}");
        let status = leaders.reap(child).expect("its status is ours");
        assert!(!status.success(), "it was killed");
    }

    #[test]
    fn a_leader_is_listed_until_its_process_id_is_free() {
        let leaders = Leaders::new();
        let (child, pid) = leaders.start(&mut sleep(), "no-run-carries-this").expect("sleep starts");
        kill_process_group(pid, Signal::KILL).expect("ours");
        let look = || waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT);

        thread::scope(|scope| {
            let listed = leaders.listed();
            let reaping = scope.spawn(|| leaders.reap(child));
            for _ in 0..20 {
                pause();
                assert!(look().is_ok(), "whoever holds the list finds only what is not reaped: {listed:?}");
            }
            drop(listed);
            reaping.join().expect("no panic").expect("its status is ours");
        });

        assert!(leaders.listed().is_empty() && look().is_err());
    }
}
