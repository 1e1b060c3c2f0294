//! A bounded number of connections: those without a request under way give their place to newer ones, the oldest first.
//!
//! A connection costs an attacker nothing while it only stands there, so standing there earns no right to stay. A request
//! under way is never interrupted for want of a place, and the routes that can take long have fewer places than there are
//! connections (`ApiPlaces` in `routes.rs`): some connection is always resting, and health, which answers at once, gets in.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio_util::sync::CancellationToken;

/// All places of a listener.
pub struct Places {
    most: usize,
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    taken: usize,
    /// Counts up with each rest that begins.
    last_turn: u64,
    /// Connections without a request under way, by when that began.
    resting: BTreeMap<u64, Resting>,
    sweeps: u64,
}

struct Resting {
    leave: CancellationToken,
    since_sweep: u64,
}

/// One connection's place, given back when dropped.
pub struct Place {
    places: Arc<Places>,
    /// Cancelled when the place is needed for another.
    pub leave: CancellationToken,
    /// When the present rest began; `None` while a request is under way. Changed only with the book in hand.
    turn: Mutex<Option<u64>>,
    has_asked: AtomicBool,
}

impl Places {
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, book: Mutex::default() })
    }

    /// A place; the oldest resting connection leaves when all are taken, which `bool` tells. `None` = none is resting.
    pub fn take(self: &Arc<Self>) -> Option<(Place, bool)> {
        let mut book = self.book();
        let is_full = self.most <= book.taken;
        if is_full && !book.send_away_oldest() {
            return None;
        }
        book.taken += 1;
        let leave = CancellationToken::new();
        let turn = book.rest(leave.clone());
        let place =
            Place { places: Arc::clone(self), leave, turn: Mutex::new(Some(turn)), has_asked: AtomicBool::new(false) };
        Some((place, is_full))
    }

    /// Sends resting connections away, the oldest first, at most this many.
    pub fn make_room(&self, most: usize) {
        let mut book = self.book();
        for _ in 0..most {
            if !book.send_away_oldest() {
                break;
            }
        }
    }

    /// Called once a second: sends away who has rested longer than `seconds`. Those are clients that do not take their
    /// answer; who sends no request is sent away sooner, by the time-out of heads.
    pub fn sweep(&self, seconds: u64) {
        let mut book = self.book();
        book.sweeps += 1;
        while book.resting.first_key_value().is_some_and(|(_, oldest)| oldest.since_sweep + seconds < book.sweeps) {
            book.send_away_oldest();
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub fn taken(&self) -> usize {
        self.book().taken
    }
}

impl Book {
    fn rest(&mut self, leave: CancellationToken) -> u64 {
        self.last_turn += 1;
        self.resting.insert(self.last_turn, Resting { leave, since_sweep: self.sweeps });
        self.last_turn
    }

    fn send_away_oldest(&mut self) -> bool {
        let Some((_, oldest)) = self.resting.pop_first() else { return false };
        oldest.leave.cancel();
        self.taken -= 1;
        true
    }
}

impl Place {
    /// True the first time.
    pub fn is_new(&self) -> bool {
        !self.has_asked.swap(true, Ordering::Relaxed)
    }

    /// A request came; until the answer is dropped the place is safe. `None` = it was given away just before.
    pub fn work(self: &Arc<Self>) -> Option<Working> {
        let mut book = self.places.book();
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        book.resting.remove(&(*turn)?)?;
        *turn = None;
        Some(Working { place: Arc::clone(self) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut book = self.places.book();
        let turn = self.turn.get_mut().unwrap_or_else(PoisonError::into_inner);
        // Who was sent away has been counted out already.
        if turn.is_none_or(|turn| book.resting.remove(&turn).is_some()) {
            book.taken -= 1;
        }
    }
}

/// A request under way.
pub struct Working {
    place: Arc<Place>,
}

impl Drop for Working {
    fn drop(&mut self) {
        let mut book = self.place.places.book();
        let mut turn = self.place.turn.lock().unwrap_or_else(PoisonError::into_inner);
        *turn = Some(book.rest(self.place.leave.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(places: &Arc<Places>) -> Arc<Place> {
        Arc::new(places.take().expect("there is a place").0)
    }

    #[test]
    fn the_oldest_idle_connection_leaves_for_a_new_one() {
        let places = Places::new(2);
        let (first, second) = (take(&places), take(&places));

        let third = take(&places);

        assert!(first.leave.is_cancelled() && !second.leave.is_cancelled() && !third.leave.is_cancelled());
        assert_eq!(places.taken(), 2);
        drop(first);
        assert_eq!(places.taken(), 2);
        drop((second, third));
        assert_eq!(places.taken(), 0);
    }

    #[test]
    fn a_request_under_way_is_never_interrupted_and_rests_as_the_youngest() {
        let places = Places::new(2);
        let (first, second) = (take(&places), take(&places));
        let working = first.work().expect("it has its place");

        let third = take(&places);
        assert!(second.leave.is_cancelled() && !first.leave.is_cancelled());
        let also_working = third.work().expect("it has its place");
        assert!(places.take().is_none(), "nobody rests");
        drop((also_working, working));
        let _fourth = take(&places);

        assert!(third.leave.is_cancelled() && !first.leave.is_cancelled(), "the first has rested for a shorter time");
    }

    #[test]
    fn who_was_sent_away_works_no_more() {
        let places = Places::new(1);
        let first = take(&places);
        let second = take(&places);

        assert!(first.work().is_none());
        drop(first.work());
        drop(first);
        assert!(second.work().is_some());
        assert_eq!(places.taken(), 1);
    }

    #[test]
    fn a_long_rest_ends_and_work_does_not() {
        let places = Places::new(3);
        let (resting, busy) = (take(&places), take(&places));
        let working = busy.work().expect("it has its place");

        for _ in 0..=3 {
            places.sweep(3);
        }

        assert!(resting.leave.is_cancelled() && !busy.leave.is_cancelled());
        drop(working);
        assert_eq!(places.taken(), 1);
    }
}
