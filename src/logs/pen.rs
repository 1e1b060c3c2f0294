//! Brings lines to stderr on a thread of its own: a reader that stands still must not hold up planning.

use std::{
    io::{self, Write},
    sync::{
        Arc, OnceLock,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::Duration,
};

use super::{
    Look,
    limiter::{LINES_A_SECOND, Limiter},
    line::Line,
};
use crate::clock::Clock;

/// Lines on their way: one second's worth, so that only a reader that stands still loses any.
const WAITING_LINES: usize = LINES_A_SECOND as usize;
/// Between two looks for dropped lines while nothing is written.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// How long the end of the process waits for the last lines.
const LAST_LINES: Duration = Duration::from_secs(1);
/// Between two tries to ask for the end while there is no room.
const ASK_AGAIN: Duration = Duration::from_millis(10);

/// The way to the thread; there is one per process.
static WAY: OnceLock<SyncSender<Order>> = OnceLock::new();

enum Order {
    Line(Vec<u8>),
    /// Write what is there, then answer.
    Finish(SyncSender<()>),
}

/// Takes whole lines, never waits, and never fails.
#[derive(Clone)]
pub struct Pen {
    way: SyncSender<Order>,
    limiter: Arc<Limiter>,
}

impl Pen {
    /// Starts the thread.
    pub fn start(limiter: Arc<Limiter>, look: Look, clock: Clock) -> io::Result<Self> {
        let (way, orders) = sync_channel(WAITING_LINES);
        let hand = Hand { orders, limiter: Arc::clone(&limiter), look, clock };
        thread::Builder::new().name("logs".into()).spawn(move || hand.write(&mut io::stderr()))?;
        let _ = WAY.set(way.clone());
        Ok(Self { way, limiter })
    }
}

impl Write for Pen {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.way.try_send(Order::Line(line.to_vec())).is_err() {
            self.limiter.lost();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns when the lines so far are written, or after a second: before the process ends.
pub fn finish() {
    let Some(way) = WAY.get() else { return };
    let (done, written) = sync_channel(1);
    let mut waited = Duration::ZERO;
    while let Err(TrySendError::Full(_)) = way.try_send(Order::Finish(done.clone())) {
        if LAST_LINES <= waited {
            return;
        }
        // Nobody answers what was not sent: this only waits.
        let _ = written.recv_timeout(ASK_AGAIN);
        waited += ASK_AGAIN;
    }
    let _ = written.recv_timeout(LAST_LINES);
}

/// The thread's part.
struct Hand {
    orders: Receiver<Order>,
    limiter: Arc<Limiter>,
    look: Look,
    clock: Clock,
}

impl Hand {
    /// Writes until nobody can send any more. Where stderr is gone there is nobody to tell.
    fn write(&self, out: &mut impl Write) {
        loop {
            let order = self.orders.recv_timeout(LOOK_AGAIN);
            self.tell(out, self.limiter.untold(self.clock.now().timestamp()));
            match order {
                Ok(Order::Line(line)) => out.write_all(&line).unwrap_or_default(),
                Ok(Order::Finish(done)) => {
                    self.tell(out, self.limiter.untold_at_the_end());
                    let _ = done.try_send(());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn tell(&self, out: &mut impl Write, dropped: u64) {
        if dropped == 0 {
            return;
        }
        let message = format!("dropped {dropped} log lines: more than {LINES_A_SECOND} in a second");
        let line = Line::about_logs(self.clock.now(), message).render(self.look);
        out.write_all(line.as_bytes()).unwrap_or_default();
    }
}
