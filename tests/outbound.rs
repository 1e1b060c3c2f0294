//! How people are reached: every gateway against a real server, and what each of its answers and silences makes of a message.

mod support;

#[path = "handlers/attempt.rs"]
#[expect(dead_code, reason = "it is made for handlers, and this is what they share")]
mod attempt;
#[path = "outbound/breaks.rs"]
mod breaks;
#[path = "outbound/gateway.rs"]
mod gateway;
#[path = "outbound/slack.rs"]
mod slack;
#[path = "outbound/webhook.rs"]
mod webhook;

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use emponto::{
    clock::Clock,
    handlers::{Context, Targets, Tools, people::write_to},
    job_table::{Environment, parse, problem},
    outbound::{Delivery, Message, Outbound, SendOutcome},
};

use crate::{
    attempt::{context, no_database, noon},
    gateway::{Gateway, Move, answer, nobody},
};

/// The number and the words of a test's message: personal, and in no error.
const NUMBER: &str = "5511988887777";
const TEXT: &str = "Oi, Ana! Tem plantão no sábado?";

pub fn message(id: &str) -> Message {
    Message { id: id.into(), number: "+55 (11) 98888-7777".into(), text: TEXT.into(), tipo: "campanha".into() }
}

/// `[outbound]` and `[targets]` as a job table gives them, in production.
pub fn table(text: &str) -> (Outbound, Targets) {
    let environment = Environment::new([("APP_ENV".to_owned(), "production".to_owned())].into());
    let table = parse(text, "jobs.toml", &environment);
    let table = table.unwrap_or_else(|problems| panic!("{}", problem::as_text(&problems, false)));
    (table.outbound, table.targets)
}

pub fn evolution(url: &str) -> Outbound {
    let key = "evolution = { instance = 'escala', key = 'c4nary-key'";
    table(&format!("[outbound]\n{key}, url = '{url}/c4nary-path' }}\n")).0
}

/// The same, for servers that let it wait.
pub fn hasty(url: &str) -> Outbound {
    Outbound { timeout: Duration::from_millis(700), ..evolution(url) }
}

pub fn ctx() -> Context {
    context(no_database())
}

/// Nothing that is the team's or a person's own business.
pub fn assert_tells_nothing(text: &str) {
    for secret in ["c4nary", "127.0.0.1", NUMBER, "98888", "Ana", "plantão"] {
        assert!(!text.contains(secret), "{secret} is in {text:?}");
    }
}

fn failed(outcome: SendOutcome) -> impl Fn(&Delivery) -> bool {
    move |delivery| matches!(delivery, Delivery::Failed { outcome: told, .. } if *told == outcome)
}

fn sent(id: Option<&str>) -> Delivery {
    Delivery::Sent { provider_message_id: id.map(str::to_owned) }
}

#[tokio::test]
async fn evolution_is_asked_as_its_manual_says_and_its_id_is_kept() {
    for status in [200, 201] {
        let gateway = Gateway::answering(status, r#"{"key":{"id":"3EB0B430"},"status":"PENDING"}"#).await;

        let delivery = write_to(&ctx(), &evolution(&gateway.url()), &message("7")).await;

        assert_eq!(delivery, sent(Some("3EB0B430")));
        let [request] = &gateway.requests()[..] else { panic!("one request") };
        assert_eq!(request.first_line, "POST /c4nary-path/message/sendText/escala HTTP/1.1");
        assert_eq!(request.headers["apikey"], "c4nary-key");
        assert_eq!(request.headers["content-type"], "application/json");
        let body: serde_json::Value = serde_json::from_str(&request.body).expect("a JSON body");
        assert_eq!(body, serde_json::json!({ "number": NUMBER, "text": TEXT }));
    }
}

#[tokio::test]
async fn what_is_final_is_asked_once() {
    use SendOutcome::{FailedProvider, FailedValidation};
    let unknown = r#"{"status":400,"response":{"message":[{"jid":"x","exists":false,"number":"5511988887777"}]}}"#;
    for (status, body, outcome) in [
        (400, unknown, FailedValidation),
        (422, "{}", FailedValidation),
        (401, r#"{"apikey":"c4nary-key"}"#, FailedProvider),
        (403, "<html>5511988887777</html>", FailedProvider),
        // The address holds the instance and nothing of the message.
        (404, "{}", FailedProvider),
        (302, "", FailedProvider),
        (409, "{}", FailedProvider),
    ] {
        let gateway = Gateway::answering(status, body).await;

        let delivery = write_to(&ctx(), &evolution(&gateway.url()), &message("7")).await;

        assert!(failed(outcome)(&delivery), "{status}: {delivery:?}");
        assert_eq!(gateway.connections(), 1, "{status}");
        let Delivery::Failed { why, .. } = delivery else { panic!("failed") };
        assert!(why.starts_with(&format!("the gateway evolution answered {status}")), "{why}");
        assert_eq!(why.contains("has no account there"), body == unknown, "{why}");
        assert_tells_nothing(&why);
    }
}

#[tokio::test]
async fn what_was_surely_not_accepted_is_tried_four_times_and_a_later_success_is_one() {
    use SendOutcome::{FailedProvider, FailedRateLimit};
    let cases = [(408, FailedProvider), (425, FailedProvider), (429, FailedRateLimit), (503, FailedProvider)];
    let tries = cases.map(|(status, outcome)| async move {
        let gateway = Gateway::answering(status, "{}").await;
        let begun = std::time::Instant::now();
        let delivery = write_to(&ctx(), &evolution(&gateway.url()), &message("7")).await;
        assert!(failed(outcome)(&delivery), "{status}: {delivery:?}");
        assert_eq!(gateway.requests().len(), 4, "{status}");
        // 0.5, 1 and 2 s, a quarter less at the least.
        assert!(Duration::from_millis(2_625) <= begun.elapsed(), "{status}: {:?}", begun.elapsed());

        let gateway = Gateway::start(vec![answer(status, "{}"), answer(201, r#"{"key":{"id":"A"}}"#)]).await;
        let delivery = write_to(&ctx(), &evolution(&gateway.url()), &message("7")).await;
        assert_eq!((delivery, gateway.requests().len()), (sent(Some("A")), 2), "{status}");
    });

    futures_util::future::join_all(tries).await;
}

#[tokio::test]
async fn retry_after_is_waited_for_when_it_is_short_and_left_to_the_queue_when_it_is_long() {
    let asks = |status, header| Move::Answer(status, header, "{}".into());
    let short = Gateway::start(vec![asks(503, "Retry-After: 2\r\n"), answer(200, "{}")]).await;
    let begun = std::time::Instant::now();

    let delivery = write_to(&ctx(), &evolution(&short.url()), &message("7")).await;

    assert_eq!((delivery, short.requests().len()), (sent(None), 2));
    assert!(Duration::from_secs(2) <= begun.elapsed(), "{:?}", begun.elapsed());
    for (status, outcome) in [(429, SendOutcome::FailedRateLimit), (503, SendOutcome::FailedProvider)] {
        let long = Gateway::start(vec![asks(status, "Retry-After: 60\r\n")]).await;
        let (ctx, outbound) = (ctx(), evolution(&long.url()));
        assert!(failed(outcome)(&write_to(&ctx, &outbound, &message("7")).await), "{status}");

        // It said when it wants to be called, and nobody calls it before.
        let next = write_to(&ctx, &outbound, &message("8")).await;

        assert!(matches!(next, Delivery::CircuitOpen { after } if after <= Duration::from_secs(75)), "{next:?}");
        assert_eq!(long.requests().len(), 1, "{status}");
    }
}

#[tokio::test]
async fn nobody_who_is_not_listed_is_written_to_outside_of_production() {
    let gateway = Gateway::answering(200, "{}").await;
    let write = async |app_env: &str, allowlist: &str| {
        let keys = format!("evolution = {{ instance = 'e', key = 'k', url = '{}' }}", gateway.url());
        let environment = Environment::new([("APP_ENV".to_owned(), app_env.to_owned())].into());
        let table = parse(&format!("[outbound]\n{keys}\nallowlist = '{allowlist}'\n"), "jobs.toml", &environment);
        write_to(&ctx(), &table.expect("a good table").outbound, &message("7")).await
    };

    for app_env in ["", "staging", "PRODUCTION"] {
        let delivery = write(app_env, "5511900000000").await;
        assert!(failed(SendOutcome::BlockedDevAllowlist)(&delivery), "{app_env}: {delivery:?}");
        let Delivery::Failed { why, .. } = delivery else { panic!("failed") };
        assert_tells_nothing(&why);
    }
    assert_eq!(gateway.connections(), 0);

    assert_eq!(write("staging", "5511900000000, +55 11 98888-7777").await, sent(None));
    assert_eq!(write("production", "").await, sent(None));
}

#[tokio::test]
async fn a_message_without_number_or_text_goes_nowhere() {
    let gateway = Gateway::answering(200, "{}").await;
    for wrong in [
        Message { number: "Ana".into(), ..message("7") },
        Message { number: String::new(), ..message("7") },
        Message { text: " \n".into(), ..message("7") },
    ] {
        let delivery = write_to(&ctx(), &evolution(&gateway.url()), &wrong).await;

        assert!(failed(SendOutcome::FailedValidation)(&delivery), "{delivery:?}");
    }
    assert_eq!(gateway.connections(), 0);
}

#[tokio::test]
async fn with_nothing_set_a_message_goes_to_the_log_and_counts_as_sent() {
    assert_eq!(write_to(&ctx(), &Outbound::default(), &message("7")).await, sent(Some("log:7")));
}

#[tokio::test]
async fn who_is_told_to_stop_sends_nothing_more() {
    let gateway = Gateway::answering(503, "{}").await;
    let (ctx, outbound) = (ctx(), evolution(&gateway.url()));
    let stop = ctx.cancelled.clone();
    let stopping = async {
        while gateway.requests().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stop.cancel();
    };

    let (message, ()) = (message("7"), ());
    let (between_tries, ()) = tokio::join!(write_to(&ctx, &outbound, &message), stopping);
    let asked = gateway.requests().len();
    let before = write_to(&ctx, &outbound, &message).await;

    assert_eq!((between_tries, before), (Delivery::Held, Delivery::Held));
    assert_eq!(gateway.requests().len(), asked);
}

/// An attempt of a process whose clock a test moves.
fn on_clock(clock: &Clock) -> Context {
    Context { tools: Tools::on_clock(Targets::new(), clock.clone()), ..ctx() }
}

#[tokio::test]
async fn a_gateway_that_fails_five_times_is_left_alone_and_then_probed_once() {
    let gateway = Gateway::answering(500, "{}").await;
    let clock = Clock::manual(noon());
    let (ctx, outbound) = (on_clock(&clock), evolution(&gateway.url()));
    let write = async || write_to(&ctx, &outbound, &message("7")).await;
    let minute = |minute: i64| -> DateTime<Utc> { noon() + TimeDelta::minutes(minute) };
    let open_for = |minutes: u64| Delivery::CircuitOpen { after: Duration::from_secs(60 * minutes) };

    for failure in 1..=5 {
        assert!(matches!(write().await, Delivery::Doubtful { .. }), "{failure}");
    }
    assert_eq!(write().await, open_for(5));
    clock.set(minute(4));
    assert_eq!(write().await, open_for(1));
    assert_eq!(gateway.requests().len(), 5);
    // Each probe that fails doubles the time, up to half an hour.
    let mut now = 5;
    for length in [10, 20, 30, 30] {
        clock.set(minute(now));
        assert!(matches!(write().await, Delivery::Doubtful { .. }), "a probe at minute {now}");
        assert_eq!(write().await, open_for(length));
        now += i64::try_from(length).expect("minutes");
    }
    assert_eq!(gateway.requests().len(), 9);
    // A probe that is answered closes it, and the count begins anew.
    gateway.now(answer(201, "{}"));
    clock.set(minute(now));
    assert_eq!(write().await, sent(None));
    gateway.now(answer(500, "{}"));
    for failure in 1..=5 {
        assert!(matches!(write().await, Delivery::Doubtful { .. }), "{failure}");
    }
    assert_eq!(write().await, open_for(5));
}

#[tokio::test]
async fn only_one_message_probes_at_a_time() {
    let gateway = Gateway::answering(500, "{}").await;
    let clock = Clock::manual(noon());
    let (ctx, outbound) = (on_clock(&clock), hasty(&gateway.url()));
    for _ in 0..5 {
        let _ = write_to(&ctx, &outbound, &message("7")).await;
    }
    clock.set(noon() + TimeDelta::minutes(5));
    gateway.now(Move::Hang);
    let before = gateway.connections();

    let (first, others) = (message("7"), ["8", "9", "10"].map(message));
    let others = async {
        while gateway.connections() == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        futures_util::future::join_all(others.iter().map(|other| write_to(&ctx, &outbound, other))).await
    };
    let (probe, refused) = tokio::join!(write_to(&ctx, &outbound, &first), others);

    assert!(matches!(probe, Delivery::Doubtful { .. }), "a time-out: {probe:?}");
    assert!(refused.iter().all(|delivery| matches!(delivery, Delivery::CircuitOpen { .. })), "{refused:?}");
    assert_eq!(gateway.connections(), before + 1);
}

#[tokio::test]
async fn a_gateway_that_goes_down_in_the_middle_of_a_send_does_not_spend_the_message() {
    let url = nobody().await;
    let (ctx, outbound) = (ctx(), evolution(&url));

    let first = write_to(&ctx, &outbound, &message("7")).await;
    let second = write_to(&ctx, &outbound, &message("8")).await;

    // Four tries of the first, one of the second: five failures.
    assert!(failed(SendOutcome::FailedProvider)(&first), "{first:?}");
    assert!(matches!(second, Delivery::CircuitOpen { .. }), "{second:?}");
}

#[tokio::test]
async fn a_reload_keeps_what_is_known_about_a_gateway_that_stays_the_same() {
    let gateway = Gateway::answering(500, "{}").await;
    let clock = Clock::manual(noon());
    let (ctx, outbound) = (on_clock(&clock), evolution(&gateway.url()));
    for _ in 0..5 {
        let _ = write_to(&ctx, &outbound, &message("7")).await;
    }

    let reloaded = Context { tools: ctx.tools.with_targets(Targets::new()), ..on_clock(&clock) };
    let same = write_to(&reloaded, &evolution(&gateway.url()), &message("7")).await;
    let mut other = evolution(&gateway.url());
    other.breaker.failures = 2;
    let other = write_to(&reloaded, &other, &message("7")).await;

    assert!(matches!(same, Delivery::CircuitOpen { .. }), "{same:?}");
    assert!(matches!(other, Delivery::Doubtful { .. }), "{other:?}");
}
