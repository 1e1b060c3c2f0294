//! What targets bear: how often each is called, and which is left alone. Lives as long as the process, across reloads.

mod breaker;
mod rate;
mod send;

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use reqwest::Url;

pub use breaker::{BreakerSettings, OpenFor};
pub use rate::Rate;
pub(crate) use send::{Caller, Heard, Unheard, finding, send};

use super::{Target, Targets};
use crate::{clock::Clock, domain::run::RunId};
use breaker::{Breaker, Finding, Kind, Pass};
use rate::{Bucket, Turn};

/// Runs that are held back come back spread over this share of their wait,
const SPREAD_SHARE: u32 = 4;
/// but over no less
const SHORTEST_SPREAD: Duration = Duration::from_secs(1);
/// and no more than this.
const LONGEST_SPREAD: Duration = Duration::from_secs(60);
/// How long a run waits while another one probes a target whose breaker was open.
const WHILE_PROBING: Duration = Duration::from_secs(10);
/// Most origins of full URLs that are remembered; those that nobody is held back from are forgotten first.
const MOST_ORIGINS: usize = 1_000;

/// The lanes of all targets, by name, and of full URLs, by origin.
pub struct Traffic {
    clock: Clock,
    by_target: BTreeMap<String, (Target, Arc<Lane>)>,
    by_origin: Arc<Mutex<BTreeMap<String, Arc<Lane>>>>,
}

impl Traffic {
    pub(crate) fn new(targets: &Targets, clock: Clock) -> Self {
        Self { clock, by_target: BTreeMap::new(), by_origin: Arc::default() }.with_targets(targets)
    }

    /// The lanes for a newly read job table: targets that have not changed keep what is known about them.
    pub(crate) fn with_targets(&self, targets: &Targets) -> Self {
        let lane = |(name, target): (&String, &Target)| {
            let kept = self.by_target.get(name).filter(|(before, _)| before == target).map(|(_, lane)| lane);
            let new = || Arc::new(Lane::new(format!("target {name:?}"), target, self.clock.clone()));
            (name.clone(), (target.clone(), kept.map_or_else(new, Arc::clone)))
        };
        let by_target = targets.iter().map(lane).collect();
        Self { clock: self.clock.clone(), by_target, by_origin: Arc::clone(&self.by_origin) }
    }

    /// The lane of a call: that of its target, or that of its URL's origin.
    pub(crate) fn lane(&self, target: Option<&str>, url: &Url) -> Arc<Lane> {
        if let Some((_, lane)) = target.and_then(|name| self.by_target.get(name)) {
            return Arc::clone(lane);
        }
        let origin = url.origin().ascii_serialization();
        let mut lanes = self.by_origin.lock().unwrap_or_else(PoisonError::into_inner);
        if MOST_ORIGINS <= lanes.len() && !lanes.contains_key(&origin) {
            lanes.retain(|_, lane| lane.is_held());
        }
        let new = || Arc::new(Lane::new(origin.clone(), &Target::default(), self.clock.clone()));
        Arc::clone(lanes.entry(origin.clone()).or_insert_with(new))
    }
}

/// The way to one target, which all its calls share.
pub(crate) struct Lane {
    /// The target as messages name it.
    pub shown: String,
    clock: Clock,
    standing: Mutex<Standing>,
}

/// Why a call may not go now, and when to ask again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// What is left of its cause.
    pub left: Duration,
    /// When this run asks again: not before, and apart from the others.
    pub after: Duration,
    pub why: Why,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// It said so, with `Retry-After`.
    AskedToWait,
    BreakerOpen,
    Probing,
    Rate,
}

impl Lane {
    fn new(shown: String, target: &Target, clock: Clock) -> Self {
        let bucket = target.rate.map(Bucket::new);
        let breaker = target.breaker.clone().map(Breaker::new);
        let standing = Standing { held_until: Duration::ZERO, bucket, breaker };
        Self { shown, clock, standing: Mutex::new(standing) }
    }

    /// A lane with a breaker and nothing else.
    pub fn guarded_by(breaker: BreakerSettings, clock: Clock) -> Self {
        Self::new(String::new(), &Target { breaker: Some(breaker), ..Target::default() }, clock)
    }

    /// Leave to send one call after `Leave::wait`. Runs that are refused are told times of their own.
    pub fn ask(self: &Arc<Self>, run: RunId) -> Result<Leave, Refusal> {
        let (kind, wait) = self.standing().ask(self.clock.boot()).map_err(|refusal| refusal.spread(run))?;
        Ok(Leave { lane: Arc::clone(self), wait, kind, stage: Stage::Waiting })
    }

    /// A reading of the clock that leaves, rates and breakers go by.
    pub fn boot(&self) -> Duration {
        self.clock.boot()
    }

    /// It asked to be left alone for so long. Gives the wait of the run that was told so.
    pub fn hold(&self, wait: Duration, run: RunId) -> Duration {
        let now = self.clock.boot();
        let mut standing = self.standing();
        let others_wait_too = now < standing.held_until;
        standing.held_until = standing.held_until.max(now + wait);
        if others_wait_too { wait + spread(wait, run) } else { wait }
    }

    fn is_held(&self) -> bool {
        self.clock.boot() < self.standing().held_until
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leave to send one call. Dropped before it was sent it is given back; dropped after, nobody heard an answer.
pub(crate) struct Leave {
    /// To be waited for before the call is sent; short.
    pub wait: Duration,
    lane: Arc<Lane>,
    kind: Kind,
    stage: Stage,
}

#[derive(Clone, Copy)]
enum Stage {
    Waiting,
    Sent,
    Told,
}

impl Leave {
    /// The call is on its way: from here on its end is a finding, also when its attempt is aborted.
    pub fn sent(&mut self) {
        self.stage = Stage::Sent;
    }

    pub fn tell(mut self, finding: Finding) {
        self.told(finding);
    }

    fn told(&mut self, finding: Finding) {
        self.stage = Stage::Told;
        let now = self.lane.clock.boot();
        if let Some(breaker) = &mut self.lane.standing().breaker {
            breaker.tell(self.kind, finding, now);
        }
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        match self.stage {
            Stage::Waiting => self.told(Finding::Nothing),
            Stage::Sent => self.told(Finding::Failed),
            Stage::Told => {}
        }
    }
}

/// What is known about one target.
#[derive(Debug, Clone, PartialEq)]
struct Standing {
    held_until: Duration,
    bucket: Option<Bucket>,
    breaker: Option<Breaker>,
}

impl Standing {
    /// Lets a call go after a short wait, or says when to ask again. The rate is asked last: a refused call uses none.
    fn ask(&mut self, now: Duration) -> Result<(Kind, Duration), Refusal> {
        if now < self.held_until {
            return Err(Refusal::new(self.held_until - now, Why::AskedToWait));
        }
        let kind = match self.breaker.as_mut().map_or(Pass::Go(Kind::Ordinary), |breaker| breaker.ask(now)) {
            Pass::Go(kind) => kind,
            Pass::OpenUntil(until) => return Err(Refusal::new(until - now, Why::BreakerOpen)),
            Pass::Probing => return Err(Refusal::new(WHILE_PROBING, Why::Probing)),
        };
        match self.bucket.as_mut().map_or(Turn::In(Duration::ZERO), |bucket| bucket.ask(now)) {
            Turn::In(wait) => Ok((kind, wait)),
            Turn::Later(after) => {
                if let Some(breaker) = &mut self.breaker {
                    breaker.tell(kind, Finding::Nothing, now);
                }
                Err(Refusal::new(after, Why::Rate))
            }
        }
    }
}

impl Refusal {
    fn new(left: Duration, why: Why) -> Self {
        Self { left, after: left, why }
    }

    /// So that those who wait for one instant do not come back in one instant; places in a line are apart already.
    fn spread(self, run: RunId) -> Self {
        match self.why {
            Why::Rate => self,
            _ => Self { after: self.after + spread(self.after, run), ..self },
        }
    }
}

/// A part of the spread that belongs to this run, always the same.
fn spread(wait: Duration, run: RunId) -> Duration {
    let mut hasher = DefaultHasher::new();
    run.hash(&mut hasher);
    let unit = (hasher.finish() % 1_000) as f64 / 1_000.0;
    (wait / SPREAD_SHARE).clamp(SHORTEST_SPREAD, LONGEST_SPREAD).mul_f64(unit)
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta, Utc};
    use uuid::Uuid;

    use super::*;

    fn start() -> DateTime<Utc> {
        DateTime::from_timestamp_millis(1_700_000_000_000).expect("an instant")
    }

    fn target(settings: serde_json::Value) -> Targets {
        let target: Target = serde_json::from_value(settings).expect("settings of a target");
        Targets::from([("api".to_owned(), target)])
    }

    fn breaking() -> serde_json::Value {
        serde_json::json!({ "base_url": "http://x", "breaker": { "failures": 1, "open_for": "5min" } })
    }

    fn url() -> Url {
        Url::parse("http://x/a").expect("a URL")
    }

    fn run() -> RunId {
        RunId(Uuid::now_v7())
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn refused(lane: &Arc<Lane>, run: RunId) -> Refusal {
        lane.ask(run).map(drop).expect_err("refused")
    }

    #[test]
    fn a_held_target_refuses_all_runs_and_they_come_back_apart() {
        let clock = Clock::manual(start());
        let lane = Traffic::new(&target(breaking()), clock.clone()).lane(Some("api"), &url());

        assert_eq!(lane.hold(seconds(60), run()), seconds(60), "the first is told what the target asked for");
        let told: Vec<_> = (0..200).map(|_| lane.hold(seconds(40), run())).collect();
        let refused: Vec<_> = (0..200).map(|_| refused(&lane, run())).collect();

        assert!(refused.iter().all(|refusal| refusal.why == Why::AskedToWait));
        for waits in [told.clone(), refused.iter().map(|refusal| refusal.after).collect()] {
            let distinct: std::collections::BTreeSet<_> = waits.iter().collect();
            assert!(100 < distinct.len(), "{} of 200 come back apart", distinct.len());
        }
        assert!(told.iter().all(|wait| (seconds(40)..seconds(50)).contains(wait)));
        // A shorter wait that is asked for later does not end the longer one.
        assert!(refused.iter().all(|refusal| (seconds(60)..seconds(75)).contains(&refusal.after)));
        clock.set(start() + TimeDelta::seconds(60));
        assert!(lane.ask(run()).is_ok());
    }

    #[test]
    fn an_attempt_that_is_aborted_has_found_a_failure_once_its_call_was_sent() {
        let lane = || Traffic::new(&target(breaking()), Clock::manual(start())).lane(Some("api"), &url());

        let before = lane();
        drop(before.ask(run()).expect("leave"));
        assert!(before.ask(run()).is_ok(), "nothing was sent");

        let after = lane();
        let mut leave = after.ask(run()).expect("leave");
        leave.sent();
        drop(leave);
        assert_eq!(refused(&after, run()).why, Why::BreakerOpen);

        let told = lane();
        let mut leave = told.ask(run()).expect("leave");
        leave.sent();
        leave.tell(Finding::Sound);
        assert!(told.ask(run()).is_ok());
    }

    #[test]
    fn a_probe_that_the_rate_refuses_leaves_its_place() {
        let clock = Clock::manual(start());
        let mut settings = breaking();
        settings["rate"] = "1/h".into();
        let lane = Traffic::new(&target(settings), clock.clone()).lane(Some("api"), &url());
        let mut first = lane.ask(run()).expect("the first call of the hour");
        first.sent();
        first.tell(Finding::Failed);
        clock.set(start() + TimeDelta::minutes(10));

        assert_eq!(refused(&lane, run()).why, Why::Rate);
        clock.set(start() + TimeDelta::minutes(60));
        let probe = lane.ask(run()).expect("the next one probes");
        assert_eq!(refused(&lane, run()).why, Why::Probing);
        drop(probe);
    }

    #[test]
    fn a_reload_forgets_only_targets_that_changed() {
        let clock = Clock::manual(start());
        let before = Traffic::new(&target(breaking()), clock);
        before.lane(Some("api"), &url()).hold(seconds(60), run());
        before.lane(None, &url()).hold(seconds(60), run());

        let same = before.with_targets(&target(breaking()));
        let mut settings = breaking();
        settings["base_url"] = "http://y".into();
        let other = same.with_targets(&target(settings));

        assert!(same.lane(Some("api"), &url()).is_held());
        assert!(!other.lane(Some("api"), &url()).is_held());
        assert!(other.lane(None, &url()).is_held(), "full URLs belong to no target");
        assert!(!other.lane(None, &Url::parse("http://x:81/a").expect("a URL")).is_held(), "another port");
    }

    #[test]
    fn origins_that_nobody_waits_for_are_forgotten() {
        let traffic = Traffic::new(&Targets::new(), Clock::manual(start()));
        let url = |host: usize| Url::parse(&format!("http://h{host}/")).expect("a URL");
        traffic.lane(None, &url(0)).hold(seconds(60), run());

        for host in 0..3 * MOST_ORIGINS {
            traffic.lane(None, &url(host));
        }

        assert!(traffic.by_origin.lock().expect("no panic under it").len() <= MOST_ORIGINS);
        assert!(traffic.lane(None, &url(0)).is_held());
    }
}
