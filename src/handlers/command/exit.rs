//! How a process ended, in words: exit codes with their names in sysexits.h, signals by name.

use std::{fmt, os::unix::process::ExitStatusExt, process::ExitStatus};

use rustix::process::Signal;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    Code(i32),
    Signal(i32),
}

/// The codes of sysexits.h, which say that another try is in vain; 75 alone says the contrary.
const SYSEXITS: [&str; 15] = [
    "EX_USAGE",
    "EX_DATAERR",
    "EX_NOINPUT",
    "EX_NOUSER",
    "EX_NOHOST",
    "EX_UNAVAILABLE",
    "EX_SOFTWARE",
    "EX_OSERR",
    "EX_OSFILE",
    "EX_CANTCREAT",
    "EX_IOERR",
    "EX_TEMPFAIL",
    "EX_PROTOCOL",
    "EX_NOPERM",
    "EX_CONFIG",
];
const FIRST_SYSEXIT: i32 = 64;

const SIGNALS: [(Signal, &str); 20] = [
    (Signal::HUP, "SIGHUP"),
    (Signal::INT, "SIGINT"),
    (Signal::QUIT, "SIGQUIT"),
    (Signal::ILL, "SIGILL"),
    (Signal::TRAP, "SIGTRAP"),
    (Signal::ABORT, "SIGABRT"),
    (Signal::BUS, "SIGBUS"),
    (Signal::FPE, "SIGFPE"),
    (Signal::KILL, "SIGKILL"),
    (Signal::USR1, "SIGUSR1"),
    (Signal::SEGV, "SIGSEGV"),
    (Signal::USR2, "SIGUSR2"),
    (Signal::PIPE, "SIGPIPE"),
    (Signal::ALARM, "SIGALRM"),
    (Signal::TERM, "SIGTERM"),
    (Signal::XCPU, "SIGXCPU"),
    (Signal::XFSZ, "SIGXFSZ"),
    (Signal::VTALARM, "SIGVTALRM"),
    (Signal::PROF, "SIGPROF"),
    (Signal::SYS, "SIGSYS"),
];

impl From<ExitStatus> for Exit {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Code(code),
            (None, signal) => Self::Signal(signal.unwrap_or_default()),
        }
    }
}

impl Exit {
    /// The name in sysexits.h.
    fn sysexit(code: i32) -> Option<&'static str> {
        SYSEXITS.get(usize::try_from(code - FIRST_SYSEXIT).ok()?).copied()
    }

    /// One of 64 to 78 but 75: the program says that another try is in vain.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Code(code) if Self::sysexit(code).is_some_and(|name| name != "EX_TEMPFAIL"))
    }

    /// The code, or the name of the signal: what a person would look for.
    pub fn short(self) -> String {
        match self {
            Self::Code(code) => code.to_string(),
            Self::Signal(signal) => signal_name(signal),
        }
    }
}

/// `exited with 78 (EX_CONFIG)`, `was killed by SIGSEGV`.
impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// What a shell adds to the number of the signal that killed its own child.
        const SHELL_SIGNALS: i32 = 128;
        match *self {
            Self::Signal(signal) => write!(f, "was killed by {}", signal_name(signal)),
            Self::Code(code) => match (Self::sysexit(code), known_signal(code - SHELL_SIGNALS)) {
                (Some(name), _) => write!(f, "exited with {code} ({name})"),
                (None, Some(name)) => write!(f, "exited with {code} (a shell says so of {name})"),
                (None, None) => write!(f, "exited with {code}"),
            },
        }
    }
}

fn known_signal(number: i32) -> Option<&'static str> {
    SIGNALS.iter().find(|(signal, _)| signal.as_raw() == number).map(|(_, name)| *name)
}

fn signal_name(number: i32) -> String {
    known_signal(number).map_or_else(|| format!("signal {number}"), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_by_code_and_name() {
        for (exit, words, is_final) in [
            (Exit::Code(1), "exited with 1", false),
            (Exit::Code(63), "exited with 63", false),
            (Exit::Code(64), "exited with 64 (EX_USAGE)", true),
            (Exit::Code(75), "exited with 75 (EX_TEMPFAIL)", false),
            (Exit::Code(78), "exited with 78 (EX_CONFIG)", true),
            (Exit::Code(79), "exited with 79", false),
            (Exit::Code(127), "exited with 127", false),
            (Exit::Code(137), "exited with 137 (a shell says so of SIGKILL)", false),
            (Exit::Code(255), "exited with 255", false),
            (Exit::Signal(11), "was killed by SIGSEGV", false),
            (Exit::Signal(6), "was killed by SIGABRT", false),
            (Exit::Signal(40), "was killed by signal 40", false),
        ] {
            assert_eq!((exit.to_string().as_str(), exit.is_final()), (words, is_final));
        }
    }
}
