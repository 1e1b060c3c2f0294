//! `http` and work that was only accepted: posted once, looked at until it has ended, never posted again.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use emponto::{
    domain::run::{Failure, FailureKind, Reason, Report, Run},
    handlers::{Context, Targets, Tools, http::Target},
};
use serde_json::{Value, json};

use crate::{
    attempt::{checked, commit, context, no_database, noon},
    http_script::{Reply, Script, accepted, reply, standing},
};

/// A run of `post = "/start"` at a server, attempt after attempt.
struct Followed {
    targets: Targets,
    settings: Value,
    run: Run,
    now: DateTime<Utc>,
}

impl Followed {
    fn new(url: &str, more: Value) -> Self {
        let target = json!({ "base_url": url, "headers": { "Authorization": "Bearer t0ken" } });
        let target: Target = serde_json::from_value(target).expect("a target");
        let mut settings = json!({ "post": "/start", "target": "api" });
        settings.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        Self { targets: Targets::from([("api".to_owned(), target)]), settings, run: crate::attempt::run(), now: noon() }
    }

    /// One attempt; what it leaves to go on from is kept, as the engine keeps it.
    async fn attempt(&mut self) -> Result<Report, Failure> {
        let work = checked("http", self.settings.clone(), &self.targets).expect("settings that can run");
        let tools = Tools::new(self.targets.clone());
        let ctx = Context { run: Arc::new(self.run.clone()), tools, now: self.now, ..context(no_database()) };
        let ended = commit(work.run(ctx).await).await;
        if let Some(resume) = ended.as_ref().err().and_then(|failure| failure.resume.clone()) {
            self.run.resume = Some(resume);
        }
        ended
    }

    /// The attempt that is told to come back, and after how long.
    async fn goes_on(&mut self) -> Duration {
        let failure = self.attempt().await.expect_err("it goes on");
        assert!(failure.resume.is_some(), "{failure:?}");
        wait_of(&failure)
    }

    fn later(&mut self, seconds: i64) {
        self.now += TimeDelta::seconds(seconds);
    }
}

fn wait_of(failure: &Failure) -> Duration {
    match failure.kind {
        FailureKind::Pending(wait) => wait,
        other => panic!("not a wait but {other:?}: {}", failure.message),
    }
}

/// What one look makes of an answer.
async fn looked(answer: Reply, more: Value) -> Result<Report, Failure> {
    let server = Script::answering(move |asked, _| match asked.method.as_str() {
        "POST" => accepted("/jobs/1"),
        _ => answer.clone(),
    })
    .await;
    let mut followed = Followed::new(&server.url, more);
    followed.goes_on().await;
    let ended = followed.attempt().await;
    assert_eq!(server.calls(), ["POST /start", "GET /jobs/1"]);
    ended
}

#[tokio::test]
async fn accepted_work_is_posted_once_and_looked_at_until_it_has_ended() {
    let server = Script::replying(vec![
        accepted("/jobs/1?part=2#top"),
        standing("queued"),
        reply(202, "").with("location", "/elsewhere"),
        reply(200, json!({ "status": "done", "processados": 3, "erros": 1 })),
    ])
    .await;
    let mut followed = Followed::new(&server.url, json!({ "json": { "full": true } }));

    let waits = [followed.goes_on().await, followed.goes_on().await, followed.goes_on().await];
    let report = followed.attempt().await.expect("it has ended well");

    assert_eq!(waits, [Duration::from_secs(5); 3]);
    assert_eq!((report.items, report.items_failed, report.response_code), (Some(3), 1, Some(200)));
    assert_eq!(report.result, Some(json!({ "status": "done", "processados": 3, "erros": 1 })));
    let look = "GET /jobs/1?part=2";
    assert_eq!(server.calls(), ["POST /start", look, look, look]);
    let id = followed.run.id.to_string();
    for asked in server.asked() {
        assert_eq!(asked.header("authorization"), "Bearer t0ken");
        assert_eq!((asked.header("idempotency-key"), asked.header("workers-job")), (id.as_str(), "nightly"));
    }
    assert!(server.asked()[1].body.is_empty());
}

#[tokio::test]
async fn a_look_that_finds_nothing_out_is_followed_by_another() {
    for (answer, heard) in [
        (standing("in_progress"), r#"status is "in_progress""#),
        (reply(200, json!({ "success": true, "job": { "status": "queued" } })), r#"job.status is "queued""#),
        (reply(202, json!({ "status": "done" })), "answered 202"),
        (reply(201, json!({ "state": "ACTIVE" })), r#"state is "ACTIVE""#),
        (reply(408, ""), "answered 408"),
        (reply(425, ""), "answered 425"),
        (reply(429, "slow down"), "answered 429: slow down"),
        (reply(500, json!({ "error": "oops" })), "answered 500: oops"),
        (reply(502, "<html>"), "answered 502"),
        (reply(503, "").with("retry-after", "7"), "answered 503"),
        (reply(200, r#"{"status": "do"#), "answered 200 with JSON that cannot be read"),
    ] {
        let failure = looked(answer.clone(), json!({})).await.expect_err("it goes on");

        let wait = Duration::from_secs(if heard == "answered 503" { 7 } else { 5 });
        assert_eq!(wait_of(&failure), wait, "{answer:?}");
        let resume = failure.resume.expect("something to go on from");
        assert_eq!(resume["heard"], heard, "{answer:?}");
    }
}

#[tokio::test]
async fn an_end_is_judged_by_its_words_and_no_end_is_tried_again() {
    let items = |items| Ok((Some(items), 0));
    let skipped = Err((FailureKind::Skipped(Reason::Handler), "lock"));
    let permanent = |message| Err((FailureKind::Permanent, message));
    let inner = |status: &str| json!({ "success": true, "job": { "status": status, "result": { "processados": 4 } } });
    for (answer, more, expected) in [
        (standing("succeeded"), json!({}), Ok((None, 0))),
        (reply(200, json!({ "processados": 2 })), json!({}), items(2)),
        (reply(200, "plain words"), json!({}), Ok((None, 0))),
        (reply(204, ""), json!({}), Ok((None, 0))),
        (reply(200, r#"{"status": "do"#), json!({ "judge": "status" }), Ok((None, 0))),
        (reply(200, inner("complete")), json!({}), items(4)),
        (reply(200, inner("complete")), json!({ "items": "job.result.processados" }), items(4)),
        (reply(200, json!({ "status": "done", "skipped": true, "reason": "lock" })), json!({}), skipped),
        (standing("failed"), json!({}), permanent(r#": status is "failed""#)),
        (standing("dead"), json!({}), permanent(r#": status is "dead""#)),
        (reply(202, json!({ "status": "error" })), json!({}), permanent(r#": status is "error""#)),
        (
            reply(200, json!({ "success": false, "message": "no", "job": { "status": "not_found", "error": "gone" } })),
            json!({}),
            permanent(r#": job.status is "not_found": gone"#),
        ),
        (reply(200, json!({ "status": "done", "success": false })), json!({}), permanent(": success is false")),
        (
            reply(200, json!({ "status": "done", "processados": 0, "erros": 2 })),
            json!({}),
            permanent(": 2 failed and none was done"),
        ),
        (reply(400, ""), json!({}), permanent(" answered 400")),
        (reply(404, json!({ "detail": "no such job" })), json!({}), permanent(" answered 404: no such job")),
        (reply(410, ""), json!({}), permanent(" answered 410")),
        (reply(303, "").with("location", "/r"), json!({}), permanent(" answered 303: redirects are not followed")),
        // The switches of a call hold for its end.
        (standing("processing"), json!({ "judge": "status" }), Ok((None, 0))),
        (standing("failed"), json!({ "judge": "status" }), Ok((None, 0))),
        (
            standing("done"),
            json!({ "expect": { "json": { "ready": true } } }),
            permanent(": not the expected answer: ready is not true"),
        ),
        (standing("done"), json!({ "expect": { "status": 202, "json": { "status": "done" } } }), Ok((None, 0))),
    ] {
        let ended = looked(answer.clone(), more.clone()).await;

        match (&ended, &expected) {
            (Ok(report), Ok(counts)) => assert_eq!((report.items, report.items_failed), *counts, "{answer:?} {more}"),
            (Err(failure), Err((kind, message))) => {
                assert_eq!(failure.kind, *kind, "{answer:?} {more}");
                assert!(failure.message.ends_with(message), "{answer:?} {more}: {}", failure.message);
                assert!(failure.report.is_some() && !failure.before_effect, "{answer:?} {more}");
            }
            _ => panic!("{answer:?} {more}: {ended:?}"),
        }
    }
}

#[tokio::test]
async fn accepted_without_a_location_is_a_good_answer_like_any_other() {
    for (body, expected) in [
        (json!({ "status": "queued", "count": 1 }), Ok(Some(1))),
        (json!({ "success": false }), Err(FailureKind::Retry)),
    ] {
        let server = Script::replying(vec![reply(202, &body)]).await;

        let ended = Followed::new(&server.url, json!({})).attempt().await;

        assert_eq!(ended.map(|report| report.items).map_err(|failure| failure.kind), expected, "{body}");
    }
    // And only 202 means that the work is elsewhere.
    let server = Script::replying(vec![reply(201, "").with("location", "/jobs/1")]).await;
    Followed::new(&server.url, json!({})).attempt().await.expect("created, and done");
}

#[tokio::test]
async fn accepted_is_not_done_whatever_is_expected() {
    for more in
        [json!({ "expect": { "status": 200 } }), json!({ "judge": "status" }), json!({ "expect": { "status": 202 } })]
    {
        let server = Script::replying(vec![accepted("/jobs/1")]).await;

        let failure = Followed::new(&server.url, more.clone()).attempt().await.expect_err("accepted is not done");

        assert!(failure.resume.is_some(), "{more}: {failure:?}");
    }
}

#[tokio::test]
async fn a_location_is_followed_within_its_origin_only() {
    for (location, seen) in [
        ("/jobs/1", "/jobs/1"),
        ("jobs/1", "/v1/jobs/1"),
        ("?id=1", "/v1/start?id=1"),
        ("BASE/jobs/1", "/jobs/1"),
        ("BASE//twice", "//twice"),
        ("http://user:canary@HOST/jobs/1", "/jobs/1"),
    ] {
        let server = Script::answering(move |asked, _| match asked.method.as_str() {
            "POST" => accepted(&located(location, asked.header("host"))),
            _ => standing("done"),
        })
        .await;
        let mut followed = Followed::new(&format!("{}/v1", server.url), json!({}));

        followed.goes_on().await;
        assert!(!followed.run.resume.as_ref().expect("kept").to_string().contains("canary"));
        followed.attempt().await.expect("done");

        assert_eq!(server.calls(), ["POST /v1/start".to_owned(), format!("GET {seen}")], "{location}");
    }
    let trap = Script::replying(vec![standing("done")]).await;
    let long = format!("/{}", "x".repeat(2_100));
    for (location, fault) in [
        (trap.url.as_str(), "of another origin (http://127.0.0.1:"),
        ("//evil.example/jobs/1", "of another origin (http://evil.example)"),
        ("https://HOST/jobs/1", "of another origin (https://127.0.0.1"),
        ("ftp://x/", "of another origin (ftp://x)"),
        ("http://", "that is no address"),
        ("", "that is no address"),
        (&long, "of more than 2048 bytes"),
    ] {
        let answered = location.to_owned();
        let server = Script::answering(move |asked, _| accepted(&located(&answered, asked.header("host")))).await;

        let failure = Followed::new(&server.url, json!({})).attempt().await.expect_err("not followed");

        assert_eq!((failure.kind, failure.resume.clone()), (FailureKind::Permanent, None), "{location}");
        let message = format!("POST {}/start answered 202 with a location {fault}", server.url);
        assert!(failure.message.starts_with(&message), "{location}: {}", failure.message);
    }
    assert!(trap.asked().is_empty());
}

fn located(location: &str, host: &str) -> String {
    location.replace("BASE", &format!("http://{host}")).replace("HOST", host)
}

#[tokio::test]
async fn the_server_says_how_long_to_wait_and_the_time_as_a_whole_is_bounded() {
    for (asked, wait) in [("1", 1), ("0", 1), ("90", 90), ("999999", 1_800), ("soon", 5)] {
        let server = Script::replying(vec![
            accepted("/jobs/1").with("retry-after", asked),
            standing("active").with("retry-after", asked),
        ])
        .await;
        let mut followed = Followed::new(&server.url, json!({}));

        let waits = [followed.goes_on().await, followed.goes_on().await];

        // What is left of the time is shorter or longer by what the calls took.
        let slack = Duration::from_secs(if wait == 1_800 { 20 } else { 0 });
        let wait = Duration::from_secs(wait);
        assert!(waits.iter().all(|found| found.abs_diff(wait) <= slack), "{asked}: {waits:?}");
    }
}

#[tokio::test]
async fn a_run_that_does_not_end_in_time_says_what_was_last_heard() {
    let server = Script::replying(vec![accepted("/jobs/1"), standing("queued"), standing("processing")]).await;
    let mut followed = Followed::new(&server.url, json!({ "poll": { "every": "1min", "within": "100s" } }));

    assert_eq!(followed.goes_on().await, Duration::from_secs(60));
    followed.later(60);
    let last = followed.goes_on().await;
    // The first call takes a while on a loaded machine, and the time counts from its end.
    assert!(last <= Duration::from_secs(50), "the last look is at the end of the time, not after it: {last:?}");
    followed.later(90);
    let failure = followed.attempt().await.expect_err("the time is over");

    assert_eq!(failure.kind, FailureKind::Permanent);
    let message = "not ended within 1min40s of its acceptance; last heard: status is \"processing\"";
    assert_eq!(failure.message, format!("GET {}/jobs/1: {message}", server.url));
    assert_eq!(server.calls(), ["POST /start", "GET /jobs/1", "GET /jobs/1"]);
}

#[tokio::test]
async fn a_daemon_that_was_away_past_the_time_looks_once_more() {
    let server = Script::replying(vec![accepted("/jobs/1"), standing("done")]).await;
    let mut followed = Followed::new(&server.url, json!({}));
    followed.goes_on().await;

    followed.later(86_400);

    followed.attempt().await.expect("it had ended meanwhile");
}

#[tokio::test]
async fn a_server_that_is_gone_for_a_while_is_looked_for_again_and_never_posted_to() {
    let server = Script::replying(vec![accepted("/jobs/1")]).await;
    let mut followed = Followed::new(&server.url, json!({ "poll": { "within": "1h" } }));
    followed.goes_on().await;
    let mut resume = followed.run.resume.clone().expect("kept");
    let closed = format!("http://127.0.0.1:{}", crate::support::free_port());
    resume["url"] = format!("{closed}/jobs/1").into();

    let mut gone = Followed::new(&closed, json!({ "poll": { "within": "1h" } }));
    gone.run.resume = Some(resume);
    assert_eq!(gone.goes_on().await, Duration::from_secs(5));
    gone.later(4_000);
    let failure = gone.attempt().await.expect_err("the time is over");

    assert!(failure.message.contains("last heard: GET http://127.0.0.1:"), "{}", failure.message);
    assert!(failure.message.contains("cannot connect: "), "{}", failure.message);
    assert_eq!(server.calls(), ["POST /start"]);
}

#[tokio::test]
async fn a_look_that_hangs_ends_before_its_attempt_does() {
    let hanging = crate::server::raw(vec![crate::server::Step::Wait(Duration::from_secs(60))]).await;
    let mut followed = Followed::new(&hanging, json!({ "timeout": "200ms" }));
    followed.run.resume = Some(kept(&hanging));

    let begun = std::time::Instant::now();
    followed.goes_on().await;

    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let heard = followed.run.resume.expect("kept")["heard"].to_string();
    assert!(heard.contains("no whole answer within 200ms"), "{heard}");
}

#[tokio::test]
async fn a_look_ends_at_once_when_the_process_is_told_to_stop() {
    let hanging = crate::server::raw(vec![crate::server::Step::Wait(Duration::from_secs(60))]).await;
    let mut followed = Followed::new(&hanging, json!({}));
    followed.run.resume = Some(kept(&hanging));
    let work = checked("http", followed.settings.clone(), &followed.targets).expect("settings that can run");
    let tools = Tools::new(followed.targets.clone());
    let ctx = Context { run: Arc::new(followed.run.clone()), tools, ..context(no_database()) };
    ctx.cancelled.cancel();

    let begun = std::time::Instant::now();
    let failure = commit(work.run(ctx).await).await.expect_err("it goes on elsewhere");

    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(failure.resume, followed.run.resume);
}

/// What an attempt that was accepted at noon leaves.
fn kept(origin: &str) -> Value {
    json!({ "form": 1, "url": format!("{origin}/jobs/1"), "at": "2025-01-08T12:00:00Z", "heard": "accepted" })
}

#[tokio::test]
async fn what_is_left_to_go_on_from_is_checked_when_it_is_read_back() {
    let server = Script::replying(vec![standing("done")]).await;
    let mut whole = Followed::new(&server.url, json!({}));
    whole.run.resume = Some(kept(&server.url));
    whole.attempt().await.expect("a whole one is understood");

    let mutant = |field: &str, value: Value| {
        let mut resume = kept(&server.url);
        resume[field] = value;
        resume
    };
    let not_understood = "what an earlier attempt left to go on from is not of this release's form";
    for resume in [
        json!("canary"),
        json!([]),
        json!({}),
        json!({ "cursor": "canary" }),
        mutant("form", json!(2)),
        mutant("form", json!("1")),
        mutant("url", json!("canary")),
        mutant("url", json!(5)),
        mutant("at", json!("canary")),
        mutant("heard", Value::Null),
        mutant("more", json!("canary")),
    ] {
        let mut followed = Followed::new(&server.url, json!({}));
        followed.run.resume = Some(resume.clone());

        let failure = followed.attempt().await.expect_err("not understood");

        assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::Permanent, not_understood), "{resume}");
    }
    let mut moved = Followed::new(&server.url, json!({}));
    moved.run.resume = Some(kept("http://before.example:8000"));
    let failure = moved.attempt().await.expect_err("another origin");
    assert_eq!(failure.kind, FailureKind::Permanent);
    assert!(failure.message.starts_with("the work was accepted by http://before.example:8000, and its job now calls"));
    assert_eq!(server.calls(), ["GET /jobs/1"]);
}

#[test]
fn a_poll_that_cannot_be_kept_is_refused_before_anything_runs() {
    let targets = Targets::from([("default".to_owned(), Target::at("http://x"))]);
    for (poll, message) in [
        (json!({ "every": "50ms" }), "poll: every is 50ms, and must be 100ms or more"),
        (json!({ "every": "1min", "within": "30s" }), "poll: within (30s) is shorter than every (1min)"),
        (json!({ "every": "1h" }), "poll: within (30min) is shorter than every (1h)"),
        (json!({ "each": "5s" }), "unknown field `each`"),
        (json!("5s"), "invalid type: string \"5s\""),
    ] {
        let errors = checked("http", json!({ "post": "/a", "poll": poll }), &targets).expect_err("a mistake");

        assert!(errors.len() == 1 && errors[0].starts_with(message), "{poll}: {errors:?}");
    }
}
