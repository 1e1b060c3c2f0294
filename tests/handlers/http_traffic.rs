//! `http` and what targets bear: `Retry-After` holds all runs back, rates space calls, breakers leave alone.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::TimeDelta;
use emponto::{
    clock::Clock,
    domain::run::{Failure, FailureKind, Report},
    handlers::{Context, Targets, Tools, http::Target},
};
use serde_json::{Value, json};

use crate::{
    attempt::{checked, commit, context, no_database, noon},
    http_script::{Script, accepted, reply},
};

/// A target, and runs that call it at instants of the test's choosing.
struct Scene {
    targets: Targets,
    tools: Tools,
    clock: Clock,
}

impl Scene {
    fn new(url: &str, more: Value) -> Self {
        let mut settings = json!({ "base_url": url });
        settings.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let target: Target = serde_json::from_value(settings).expect("a target");
        assert_eq!(target.check(), Vec::<String>::new());
        let targets = Targets::from([("api".to_owned(), target)]);
        let clock = Clock::manual(noon());
        Self { tools: Tools::on_clock(targets.clone(), clock.clone()), targets, clock }
    }

    fn context(&self) -> Context {
        Context { tools: self.tools.clone(), now: self.clock.now(), ..context(no_database()) }
    }

    /// A new run of a job of this target.
    async fn call(&self) -> Result<Report, Failure> {
        self.run(json!({ "post": "/x", "target": "api" })).await
    }

    async fn run(&self, settings: Value) -> Result<Report, Failure> {
        let work = checked("http", settings, &self.targets).expect("settings that can run");
        commit(work.run(self.context()).await).await
    }

    fn later(&self, seconds: i64) {
        self.clock.set(self.clock.now() + TimeDelta::seconds(seconds));
    }
}

/// The wait of a run that spent no attempt and surely had no effect.
fn snoozed(ended: Result<Report, Failure>) -> (Duration, String) {
    let failure = ended.expect_err("it was sent away");
    assert!(failure.before_effect, "{failure:?}");
    match failure.kind {
        FailureKind::Snooze(wait) => (wait, failure.message),
        other => panic!("not a snooze but {other:?}: {}", failure.message),
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test]
async fn a_target_that_asks_for_time_is_left_alone_by_all_its_runs() {
    for status in [429, 503] {
        let server = Script::answering(move |_, before| match before {
            0 => reply(status, "").with("retry-after", "60"),
            _ => reply(200, ""),
        })
        .await;
        let scene = Scene::new(&server.url, json!({}));

        let (first, _) = snoozed(scene.call().await);
        scene.later(10);
        let others = [snoozed(scene.call().await), snoozed(scene.call().await), snoozed(scene.call().await)];

        assert_eq!(first, seconds(60));
        for (wait, message) in &others {
            assert!((seconds(50)..seconds(63)).contains(wait), "{wait:?}");
            assert_eq!(message, "target \"api\" asked to be left alone until 2025-01-08T12:01:00Z");
        }
        assert!(others[0].0 != others[1].0 || others[1].0 != others[2].0, "they come back in one instant: {others:?}");
        assert_eq!(server.calls().len(), 1, "nothing is sent meanwhile");
        scene.later(50);
        scene.call().await.expect("the time is over");
    }
}

#[tokio::test]
async fn a_full_url_is_held_back_with_its_origin_and_nobody_else() {
    let server = Script::answering(|asked, _| match asked.place.as_str() {
        "/limited" => reply(429, "").with("retry-after", "60"),
        _ => reply(200, ""),
    })
    .await;
    let other = Script::replying(vec![reply(200, "")]).await;
    let scene = Scene::new(&other.url, json!({}));

    snoozed(scene.run(json!({ "get": format!("{}/limited", server.url) })).await);
    let (_, message) = snoozed(scene.run(json!({ "get": format!("{}/free", server.url) })).await);

    assert_eq!(message, format!("{} asked to be left alone until 2025-01-08T12:01:00Z", server.url));
    scene.run(json!({ "get": format!("{}/x", other.url) })).await.expect("another origin");
    scene.call().await.expect("another target");
}

#[tokio::test]
async fn other_answers_hold_nobody_back() {
    let server = Script::answering(|_, before| match before {
        0 => reply(429, ""),
        1 => reply(500, "").with("retry-after", "60"),
        2 => reply(202, "").with("retry-after", "60"),
        _ => reply(200, ""),
    })
    .await;
    let scene = Scene::new(&server.url, json!({}));

    assert_eq!(scene.call().await.expect_err("429").kind, FailureKind::Retry);
    assert_eq!(scene.call().await.expect_err("500").kind, FailureKind::Retry);
    scene.call().await.expect("202");
    scene.call().await.expect("200");
}

#[tokio::test]
async fn looks_at_accepted_work_are_held_back_too_and_lose_nothing() {
    let server = Script::answering(|asked, before| match (asked.method.as_str(), before) {
        ("POST", 0) => accepted("/jobs/1"),
        ("POST", _) => reply(429, "").with("retry-after", "60"),
        _ => reply(200, ""),
    })
    .await;
    let scene = Scene::new(&server.url, json!({}));
    let resume = scene.call().await.expect_err("accepted").resume;
    let mut run = crate::attempt::run();
    run.resume = resume;
    snoozed(scene.call().await);
    let work =
        checked("http", json!({ "post": "/x", "target": "api" }), &scene.targets).expect("settings that can run");

    let look = work.run(Context { run: Arc::new(run.clone()), ..scene.context() }).await;
    let failure = commit(look).await.expect_err("held back");
    assert!(failure.resume.expect("something to go on from")["heard"].to_string().contains("asked to be left alone"));

    scene.later(61);
    commit(work.run(Context { run: Arc::new(run), ..scene.context() }).await).await.expect("ended");
    assert_eq!(server.calls(), ["POST /x", "POST /x", "GET /jobs/1"]);
}

#[tokio::test]
async fn a_rate_spaces_calls_in_place_and_sends_the_rest_away_to_turns_of_their_own() {
    let server = Script::replying(vec![reply(200, "")]).await;
    let scene = Scene::new(&server.url, json!({ "rate": "2/s" }));
    let begun = Instant::now();

    let calls = futures_util::future::join_all((0..8).map(|_| scene.call())).await;

    let (sent, away): (Vec<_>, Vec<_>) = calls.into_iter().partition(Result::is_ok);
    assert_eq!((sent.len(), server.calls().len()), (4, 4), "two at once and two more within a second");
    assert!(Duration::from_millis(900) <= begun.elapsed(), "{:?}", begun.elapsed());
    let waits: Vec<_> = away.into_iter().map(|ended| snoozed(ended).0.as_millis()).collect();
    assert_eq!(waits, [1_500, 2_000, 2_500, 3_000]);
    let (_, message) = snoozed(scene.call().await);
    assert_eq!(message, "the rate of target \"api\" is used up: this run's turn comes at 2025-01-08T12:00:03Z");
}

#[tokio::test]
async fn a_stop_ends_the_wait_for_a_turn_before_anything_is_sent() {
    let server = Script::replying(vec![reply(200, "")]).await;
    let scene = Scene::new(&server.url, json!({ "rate": "1/s" }));
    scene.call().await.expect("the first goes at once");
    let ctx = scene.context();
    ctx.cancelled.cancel();
    let work =
        checked("http", json!({ "post": "/x", "target": "api" }), &scene.targets).expect("settings that can run");

    let failure = commit(work.run(ctx).await).await.expect_err("told to stop");

    assert_eq!((failure.kind, failure.before_effect), (FailureKind::Retry, true));
    assert_eq!(server.calls().len(), 1);
}

#[tokio::test]
async fn a_target_that_only_fails_is_left_alone_until_a_probe_finds_it_back() {
    let server = Script::answering(|_, before| reply(if before < 4 { 500 } else { 200 }, "")).await;
    let scene = Scene::new(&server.url, json!({ "breaker": { "failures": 3, "open_for": "5min..8min" } }));
    for _ in 0..3 {
        assert_eq!(scene.call().await.expect_err("500").kind, FailureKind::Retry);
    }

    let (wait, message) = snoozed(scene.call().await);
    assert!((seconds(300)..seconds(360)).contains(&wait), "{wait:?}");
    assert_eq!(message, "target \"api\" failed too often in a row: its breaker is open until 2025-01-08T12:05:00Z");
    assert_eq!(server.calls().len(), 3, "no call is made");

    scene.later(300);
    assert_eq!(scene.call().await.expect_err("the probe fails").kind, FailureKind::Retry);
    let (_, message) = snoozed(scene.call().await);
    assert!(
        message.ends_with("open until 2025-01-08T12:13:00Z"),
        "twice the time, and no more than the most: {message}"
    );

    scene.later(480);
    scene.call().await.expect("the probe finds it back");
    scene.call().await.expect("closed");
}

#[tokio::test]
async fn what_opens_a_breaker_and_what_does_not() {
    let closed = format!("http://127.0.0.1:{}", crate::support::free_port());
    let hanging = crate::server::raw(vec![crate::server::Step::Wait(seconds(60))]).await;
    let reset = crate::server::raw(vec![crate::server::Step::Reset]).await;
    for url in [closed.as_str(), &hanging, &reset] {
        let scene = Scene::new(url, json!({ "timeout": "200ms", "breaker": { "failures": 1 } }));
        assert_eq!(scene.call().await.expect_err("nobody answers").kind, FailureKind::Retry);

        snoozed(scene.call().await);
    }
    for status in [200, 400, 404, 408, 410, 429] {
        let server = Script::replying(vec![reply(status, "")]).await;
        let scene = Scene::new(&server.url, json!({ "breaker": { "failures": 1 } }));

        let _ = scene.call().await;
        let _ = scene.call().await;

        assert_eq!(server.calls().len(), 2, "{status}: it answers, so it is there");
    }
}

#[tokio::test]
async fn an_attempt_that_the_engine_aborts_counts_as_a_failure() {
    let hanging = crate::server::raw(vec![crate::server::Step::Wait(seconds(60))]).await;
    let scene = Scene::new(&hanging, json!({ "breaker": { "failures": 2 } }));
    for _ in 0..2 {
        let aborted = tokio::time::timeout(Duration::from_millis(300), scene.call()).await;
        assert!(aborted.is_err(), "it hangs");
    }

    let (_, message) = snoozed(scene.call().await);

    assert!(message.contains("its breaker is open until"), "{message}");
}

#[tokio::test]
async fn a_reload_keeps_what_is_known_of_targets_that_did_not_change() {
    let server = Script::replying(vec![reply(500, "")]).await;
    let mut scene = Scene::new(&server.url, json!({ "breaker": { "failures": 1 } }));
    assert_eq!(scene.call().await.expect_err("500").kind, FailureKind::Retry);

    scene.tools = scene.tools.with_targets(scene.targets.clone());
    snoozed(scene.call().await);

    let other = Scene::new(&server.url, json!({ "breaker": { "failures": 2 } }));
    scene.tools = scene.tools.with_targets(other.targets);
    assert_eq!(scene.call().await.expect_err("500").kind, FailureKind::Retry, "a target with other settings is new");
}
