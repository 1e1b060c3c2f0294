//! A bar on stderr for long work: only where somebody sees it.

use std::io::{IsTerminal as _, Write as _, stderr};

/// Cells of the bar.
const WIDTH: u64 = 30;

/// How far a work of known size has come; wiped away when dropped.
pub struct Progress {
    what: &'static str,
    total: u64,
    done: u64,
    shown: bool,
}

impl Progress {
    pub fn new(what: &'static str, total: u64) -> Self {
        Self { what, total, done: 0, shown: stderr().is_terminal() && 0 < total }
    }

    /// This many more are done.
    pub fn add(&mut self, done: u64) {
        self.done += done;
        if self.shown {
            // A terminal that went away is no reason to stop.
            let _ = write!(stderr().lock(), "\r{}\x1b[K", bar(self.what, self.done, self.total));
        }
    }

    pub fn done(&self) -> u64 {
        self.done
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(stderr().lock(), "\r\x1b[K");
        }
    }
}

/// `pruning [######------] 500 of 1000`; work that grew meanwhile stays within the bar.
fn bar(what: &str, done: u64, total: u64) -> String {
    let filled = (done.min(total) * WIDTH / total.max(1)) as usize;
    let empty = WIDTH as usize - filled;
    format!("{what} [{}{}] {done} of {total}", "#".repeat(filled), "-".repeat(empty))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_fills_and_never_overflows() {
        assert_eq!(bar("pruning", 0, 10), "pruning [------------------------------] 0 of 10");
        assert_eq!(bar("pruning", 5, 10), "pruning [###############---------------] 5 of 10");
        assert_eq!(bar("pruning", 12, 10), "pruning [##############################] 12 of 10");
        assert_eq!(bar("pruning", 0, 0), "pruning [------------------------------] 0 of 0");
    }
}
