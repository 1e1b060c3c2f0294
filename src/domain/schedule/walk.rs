//! From clock readings to instants: a calendar in a zone, under a stated policy for clock changes.
//!
//! A zone is a row of stretches with one offset each. Inside a stretch, readings and instants differ by a constant,
//! so the calendar alone decides; the policy speaks only where one stretch meets the next.

use super::{
    Dst, Gap, Repeat,
    calendar::Calendar,
    zone::{END, START, Zone},
};

/// One stretch as seen by a calendar.
struct Step {
    /// Where the local clock jumped over a matching reading: the instant after the jump, which stands for it.
    jump: Option<i64>,
    /// The readings to look at, in civil seconds, the end excluded.
    from: i64,
    before: i64,
    /// Local time minus UTC.
    offset: i64,
}

/// A walk through the stretches of `from..before` (Unix seconds).
struct Walk<'a> {
    calendar: &'a Calendar,
    zone: &'a Zone,
    dst: Dst,
    /// The next instant to look at.
    from: i64,
    before: i64,
    /// The excluded end of the readings that the clock has shown or jumped over before this stretch.
    passed: i64,
    /// The next stretch begins with a clock change that belongs to this walk.
    changed: bool,
}

/// The first instant at or after `second` (Unix seconds, at least `START + 1`).
pub fn next(calendar: &Calendar, zone: &Zone, dst: Dst, second: i64) -> Option<i64> {
    Walk::new(calendar, zone, dst, (second, END)).find_map(|step| {
        let plain = || calendar.next(step.from, step.before).map(|reading| reading - step.offset);
        step.jump.or_else(plain)
    })
}

/// How many instants there are in `from..before` (Unix seconds).
pub fn count(calendar: &Calendar, zone: &Zone, dst: Dst, (from, before): (i64, i64)) -> i64 {
    let steps = Walk::new(calendar, zone, dst, (from, before));
    let counted = steps.map(|step| {
        // The reading right after a jump may match too: the two are one instant.
        let met = step.jump.is_some() && calendar.count(step.from, step.from + 1) == 1;
        i64::from(step.jump.is_some() && !met) + calendar.count(step.from, step.before)
    });
    counted.sum()
}

impl<'a> Walk<'a> {
    fn new(calendar: &'a Calendar, zone: &'a Zone, dst: Dst, (from, before): (i64, i64)) -> Self {
        let from = from.max(START + 1);
        // Beginning one second early makes a clock change at `from` itself part of the walk.
        let passed = zone.passed_before(from - 1);
        Self { calendar, zone, dst, from: from - 1, before: before.min(END), passed, changed: false }
    }
}

impl Iterator for Walk<'_> {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        if self.before <= self.from {
            return None;
        }
        let stretch = self.zone.stretch_at(self.from);
        let begin = self.from + stretch.offset;
        let jumped = self.changed && self.dst.gap == Gap::After;
        let jump = jumped && self.calendar.next(self.passed, begin).is_some();
        // The first stretch began one second early.
        let begin = if self.changed { begin } else { begin + 1 };
        let step = Step {
            jump: jump.then_some(self.from),
            from: if self.dst.repeat == Repeat::First { begin.max(self.passed) } else { begin },
            before: stretch.end.min(self.before) + stretch.offset,
            offset: stretch.offset,
        };
        self.passed = self.passed.max(stretch.end + stretch.offset);
        self.from = stretch.end;
        self.changed = true;
        Some(step)
    }
}
