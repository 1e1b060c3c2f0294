//! Finds and kills what has left the group of its run. Linux: elsewhere there is no list of processes to read, and the
//! group is all that is killed.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read},
    thread,
    time::Duration,
};

use rustix::process::{Pid, RawPid, Signal, getpid};

/// The variable that every process of a run inherits, unless one of them wiped its environment.
pub(super) const RUN_ID: &str = "WORKERS_RUN_ID";
/// Passes over the list of processes: a storm of forks is killed from pass to pass, and what cannot be killed must not
/// hold the end of its run.
const MOST_PASSES: usize = 40;
const BETWEEN_PASSES: Duration = Duration::from_millis(5);
/// Most that is read of an environment: what Linux lets a program have, by default, for arguments and variables.
const MOST_ENVIRONMENT_BYTES: u64 = 2 * 1024 * 1024;

/// Kills every process that carries the id of this run, wherever it went, and returns how many there were. Blocks for
/// some milliseconds, and at most for `MOST_PASSES` pauses beside the reading itself.
#[expect(clippy::disallowed_methods, reason = "its callers have a thread of their own, or end the process")]
pub(super) fn kill_carriers(run: &str) -> usize {
    let mark = format!("{RUN_ID}={run}");
    let mut killed = BTreeSet::new();
    let mut unreadable = BTreeSet::new();
    for _ in 0..MOST_PASSES {
        let pass = Pass::look(&mark);
        let is_new = |pid: &RawPid| !unreadable.contains(pid);
        if pass.carriers.is_empty() && !pass.unreadable.iter().any(is_new) {
            break;
        }
        killed.extend(pass.carriers);
        unreadable.extend(pass.unreadable);
        thread::sleep(BETWEEN_PASSES);
    }
    killed.len()
}

/// What one look at the list of processes found.
#[derive(Default)]
struct Pass {
    /// They carried the mark, and were killed.
    carriers: Vec<RawPid>,
    /// A process that is just being replaced by another program has no environment for a moment: look again.
    unreadable: Vec<RawPid>,
}

impl Pass {
    fn look(mark: &str) -> Self {
        let mut pass = Self::default();
        let ourselves = getpid();
        for pid in processes().filter(|pid| *pid != ourselves) {
            match carries(pid, mark) {
                Some(true) => {
                    kill_carrier(pid, mark);
                    pass.carriers.push(pid.as_raw_pid());
                }
                Some(false) => {}
                None if is_alive(pid) => pass.unreadable.push(pid.as_raw_pid()),
                None => {}
            }
        }
        pass
    }
}

/// All processes that can be seen.
pub(super) fn processes() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
}

/// Whether a process was started with this variable; `None` = its environment is empty. One that is gone, or that is
/// somebody else's, carries nothing.
fn carries(pid: Pid, mark: &str) -> Option<bool> {
    match environment(pid) {
        Ok(variables) if variables.is_empty() => None,
        Ok(variables) => Some(variables.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())),
        Err(_) => Some(false),
    }
}

fn environment(pid: Pid) -> io::Result<Vec<u8>> {
    let mut variables = Vec::new();
    File::open(format!("/proc/{pid}/environ"))?.take(MOST_ENVIRONMENT_BYTES).read_to_end(&mut variables)?;
    Ok(variables)
}

/// It has memory of its own: neither ended nor a thread of the kernel.
fn is_alive(pid: Pid) -> bool {
    fs::read_to_string(format!("/proc/{pid}/statm")).is_ok_and(|sizes| !sizes.starts_with("0 "))
}

/// Kills a process and no other that may have its id by now: the handle is taken first and looked through after.
#[cfg(target_os = "linux")]
fn kill_carrier(pid: Pid, mark: &str) {
    use rustix::process::{PidfdFlags, kill_process, pidfd_open, pidfd_send_signal};

    let sent = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(handle) if carries(pid, mark) == Some(true) => pidfd_send_signal(handle, Signal::KILL),
        Ok(_) => Ok(()),
        // Kernels before 5.3 have no handles: between look and signal there are some microseconds.
        Err(rustix::io::Errno::NOSYS) => kill_process(pid, Signal::KILL),
        Err(error) => Err(error),
    };
    // Gone already is as good; what may not be killed is found again by the next pass, and left in the end.
    sent.unwrap_or_default();
}

#[cfg(not(target_os = "linux"))]
fn kill_carrier(_: Pid, _: &str) {}
