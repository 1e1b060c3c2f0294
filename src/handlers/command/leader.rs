//! The process that an attempt starts, and the group it leads: never lost, never mistaken for another.

use std::{
    io,
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus},
    thread,
    time::Duration,
};

use rustix::{
    io::Errno,
    process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid},
};
use tokio::{
    signal::unix::{self, SignalKind, signal},
    time::sleep,
};

use super::{descendants, orphans};

/// Between two looks when no signal says that a child has ended: a parent may have started the daemon without it.
const LOOK: Duration = Duration::from_secs(1);

/// A child that leads a group. As long as it is not reaped its process id is nobody else's, and neither is that of its
/// group. Dropped before that, the group is killed at once.
pub(super) struct Leader {
    pid: Pid,
    /// Its descendants carry it.
    run: String,
    /// `None` = reaped, or handed over to be buried.
    child: Option<Child>,
    changes: unix::Signal,
}

impl Leader {
    /// Starts the command, which must make its child the leader of a new group.
    pub fn start(command: &mut Command, run: &str) -> io::Result<Self> {
        // Before the child, so that its end is not missed.
        let changes = signal(SignalKind::child())?;
        let (child, pid) = orphans::start(command, run)?;
        Ok(Self { pid, run: run.to_owned(), child: Some(child), changes })
    }

    /// The ends of its pipes, as far as they were asked for; once.
    pub fn pipes(&mut self) -> (Option<ChildStdin>, Option<ChildStdout>, Option<ChildStderr>) {
        let child = self.child.as_mut().expect("a leader is taken apart by `reap` alone");
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    }

    /// Returns when it has ended. It stays in the list of processes.
    pub async fn ended(&mut self) {
        while !self.has_ended() {
            tokio::select! {
                _ = self.changes.recv() => {}
                () = sleep(LOOK) => {}
            }
        }
    }

    pub fn has_ended(&self) -> bool {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        match waitid(WaitId::Pid(self.pid), look) {
            Ok(ended) => ended.is_some(),
            Err(Errno::INTR) => false,
            // Not our child any more: somebody has taken its status.
            Err(_) => true,
        }
    }

    /// Sends a signal to the group. Safe at any time: the leader is not reaped, so the group is still its own.
    pub fn signal_group(&self, signal: Signal) {
        // An error means that nobody is left in it, or that those left are another user's.
        kill_process_group(self.pid, signal).unwrap_or_default();
    }

    /// Takes the status of a leader that has ended. Its group is nobody's from here on.
    pub fn reap(mut self) -> io::Result<ExitStatus> {
        let child = self.child.take().expect("a leader is taken apart by `reap` alone");
        orphans::reap(child)
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        let Some(child) = self.child.take() else { return };
        self.signal_group(Signal::KILL);
        let run = std::mem::take(&mut self.run);
        let bury = move || {
            descendants::kill_carriers(&run);
            // A status that nobody waits for any more, and an error that nobody can mend.
            let _ = orphans::reap(child);
        };
        // Not a task: the runtime may be the very thing that is being torn down. Without a thread the child stays in the
        // list of processes until this one ends.
        let _ = thread::Builder::new().name("undertaker".into()).spawn(bury);
    }
}
