//! `fila` on real tables of both databases: what becomes of each message, with a gateway that only logs.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use emponto::{
    domain::{
        run::{Failure, FailureKind, Report},
        schedule::Zone,
    },
    handlers::{
        Context, Outbound, Scope, Targets, Tools, Work,
        fila::dead::{DeadLetters, Decided, Decision, Verdict, Which},
    },
    outbound::Allowlist,
};
use serde_json::{Value, json};

use crate::attempt::{Home, checked, commit, context, instant, noon};

/// Limits so wide that no test meets them by accident.
pub fn wide_open() -> Outbound {
    let mut outbound = Outbound { allowlist: Allowlist::Everybody, ..Outbound::default() };
    outbound.limits.per_hour = 10_000;
    outbound.limits.per_day = 10_000;
    outbound.limits.per_client_hour = 10_000;
    outbound.limits.per_tipo_hour.clear();
    outbound
}

/// The work with settings of `[outbound]`.
pub fn work(settings: Value, outbound: &Outbound) -> Work {
    let mut work = Work::parse("fila", settings).expect("settings of fila");
    let (targets, variables) = (Targets::new(), std::env::vars().collect());
    let folder = std::path::Path::new(".");
    let errors = work.check(&Scope { targets: &targets, outbound, folder, variables: &variables });
    assert_eq!(errors, Vec::<String>::new());
    work
}

/// An attempt in São Paulo, where it is 9 o'clock.
pub fn attempt(home: &Home, now: DateTime<Utc>) -> Context {
    let mut ctx = context(home.app());
    let mut job = crate::attempt::job();
    job.zone = Zone::parse("America/Sao_Paulo").expect("a zone");
    (ctx.now, ctx.deadline, ctx.job) = (now, now + TimeDelta::minutes(5), Arc::new(job));
    ctx
}

pub async fn run(home: &Home, now: DateTime<Utc>) -> Result<Report, Failure> {
    run_with(home, now, json!({}), &wide_open()).await
}

pub async fn run_with(
    home: &Home,
    now: DateTime<Utc>,
    settings: Value,
    outbound: &Outbound,
) -> Result<Report, Failure> {
    commit(work(settings, outbound).run(attempt(home, now)).await).await
}

/// The tables, made by a first run.
pub async fn made(home: &Home) {
    let report = run(home, noon()).await.expect("the tables are created");
    assert_eq!((report.items, report.left), (Some(0), Some(0)));
}

/// A message per line, by its text, as both databases can show it.
pub const MESSAGES: &str = "\
    select conteudo || ': ' || status || ' ' || coalesce(outcome, '-') || ' ' || coalesce(outcome_reason_code, '-')
        || ' ' || cast(tentativas as text)
    from fila_mensagens order by conteudo";

const DEAD: &str = "\
    select m.conteudo || ': ' || d.motivo || ' ' || cast(d.tentativas as text)
    from fila_mensagens_dlq d join fila_mensagens m on cast(m.id as text) = cast(d.mensagem_id as text)
    order by m.conteudo";

/// When each message is due, in Unix seconds.
async fn due(home: &Home) -> Vec<String> {
    let text = match home {
        Home::Sqlite { .. } => {
            "select conteudo || ' ' || cast(unixepoch(agendar_para) as text) from fila_mensagens where agendar_para is not null order by conteudo"
        }
        Home::Postgres { .. } => {
            "select conteudo || ' ' || cast(cast(extract(epoch from agendar_para) as bigint) as text) from fila_mensagens where agendar_para is not null order by conteudo"
        }
    };
    home.texts(text).await
}

fn outcomes(report: &Report) -> Value {
    report.result.as_ref().expect("a result")["outcomes"].clone()
}

#[tokio::test]
async fn due_messages_are_sent_in_their_order_and_nothing_is_sent_again() {
    for home in Home::both().await {
        made(&home).await;
        home.execute(
            "insert into fila_mensagens (conteudo, telefone, prioridade, agendar_para, created_at) values
              ('a', '5511955550101', 5, null, '2025-01-08T11:00:00Z'),
              ('b', '5511955550102', 9, null, '2025-01-08T11:30:00Z'),
              ('c', '5511955550103', 5, null, '2025-01-08T10:00:00Z'),
              ('d later', '5511955550104', 10, '2025-01-08T12:00:01Z', '2025-01-08T10:00:00Z'),
              ('e due', '5511955550105', 0, '2025-01-08T12:00:00Z', '2025-01-08T10:00:00Z')",
        )
        .await;

        let first = run_with(&home, noon(), json!({ "batch": 3 }), &wide_open()).await.expect("a first run");
        let after_first = home.texts(MESSAGES).await;
        let second = run(&home, noon()).await.expect("a second run");
        let third = run(&home, noon()).await.expect("a third run");

        assert_eq!((first.items, first.items_failed, first.left), (Some(3), 0, Some(1)));
        assert_eq!(
            after_first,
            [
                "a: enviada SENT sent 0",
                "b: enviada SENT sent 0",
                "c: enviada SENT sent 0",
                "d later: pendente - - 0",
                "e due: pendente - - 0",
            ]
        );
        assert_eq!((second.items, second.left), (Some(1), Some(0)));
        assert_eq!((third.items, third.left), (Some(0), Some(0)));
        let sent =
            "select provider_message_id from fila_mensagens where enviada_em is not null and processando_desde is null";
        assert_eq!(home.texts(sent).await.len(), 4);
        let waiting = home.texts("select cast(count(*) as text) from fila_mensagens where status = 'pendente'").await;
        assert_eq!(waiting, ["1"]);
    }
}

#[tokio::test]
async fn the_number_is_the_message_s_or_its_client_s_and_without_one_it_is_tried_three_times() {
    for home in Home::both().await {
        made(&home).await;
        let client = match home {
            Home::Sqlite { .. } => {
                "insert into clientes (id, telefone) values (7, '+55 11 95555-0100'); \
                insert into fila_mensagens (conteudo, cliente_id) values ('a client', '7'), ('b nobody', '8'), ('c odd', 'x')"
            }
            Home::Postgres { .. } => {
                "insert into clientes (id, telefone) values ('01941111-0000-7000-8000-000000000007', '+55 11 95555-0100'); \
                insert into fila_mensagens (conteudo, cliente_id) values \
                ('a client', '01941111-0000-7000-8000-000000000007'), ('b nobody', '01941111-0000-7000-8000-000000000008'), ('c odd', null)"
            }
        };
        home.execute(client).await;
        home.execute("update fila_mensagens set created_at = '2025-01-08T11:00:00Z'").await;

        let first = run(&home, noon()).await.expect("one was sent");
        let early = run(&home, noon() + TimeDelta::seconds(119)).await.expect("nothing is due");
        let second = run(&home, noon() + TimeDelta::seconds(125)).await.expect_err("all failed");
        let third = run(&home, noon() + TimeDelta::seconds(370)).await.expect_err("all failed");

        assert_eq!((first.items, first.items_failed), (Some(1), 2));
        assert_eq!(outcomes(&first), json!({ "SENT": 1, "FAILED_VALIDATION": 2 }));
        assert_eq!((early.items, early.items_failed), (Some(0), 0));
        assert_eq!((second.kind, second.message.as_str()), (FailureKind::Permanent, "no message was sent, 2 failed"));
        let report = third.report.expect("what was done");
        assert_eq!(
            report.result.expect("a result")["errors"][0]["error"],
            "neither the message nor its client has a number"
        );
        assert_eq!(
            home.texts(MESSAGES).await,
            [
                "a client: enviada SENT sent 0",
                "b nobody: erro FAILED_VALIDATION no_number 3",
                "c odd: erro FAILED_VALIDATION no_number 3",
            ]
        );
        assert_eq!(home.texts(DEAD).await, ["b nobody: no_number 3", "c odd: no_number 3"]);
    }
}

#[tokio::test]
async fn what_a_client_wants_is_kept_and_sends_are_written_down() {
    for home in Home::both().await {
        made(&home).await;
        commit(crate::attempt::work("temperature_decay", json!({})).run(context(home.app())).await)
            .await
            .expect("a table");
        let ids = |n: u32| match home {
            Home::Sqlite { .. } => format!("{n}"),
            Home::Postgres { .. } => format!("01941111-0000-7000-8000-00000000000{n}"),
        };
        let mut rows = String::new();
        for (n, text, state) in [
            (1, "a opted out", "'opted_out', null, null, 0"),
            (2, "b cooling off", "'cooling_off', '2025-01-08T14:00:00Z', null, 0"),
            (3, "c next allowed", "'active', null, '2025-01-08T13:00:00Z', 0"),
            (4, "d often", "'active', null, null, 2"),
            (5, "e free", "'active', null, null, 1"),
        ] {
            let id = ids(n);
            rows += &format!(
                "insert into doctor_state (cliente_id, permission_state, cooling_off_until, next_allowed_at, contact_count_7d)
                values ('{id}', {state});
                insert into fila_mensagens (conteudo, cliente_id, telefone, created_at)
                values ('{text}', '{id}', '551195555010{n}', '2025-01-08T11:00:00Z');"
            );
        }
        home.execute(Box::leak(rows.into_boxed_str())).await;

        let report = run_with(&home, noon(), json!({ "contact_cap": 2 }), &wide_open()).await.expect("a run");

        assert_eq!((report.items, report.items_failed, report.left), (Some(1), 0, Some(0)));
        assert_eq!(
            home.texts(MESSAGES).await,
            [
                "a opted out: bloqueada BLOCKED_OPTED_OUT opted_out 0",
                "b cooling off: pendente BLOCKED_COOLING_OFF cooling_off 0",
                "c next allowed: pendente BLOCKED_NEXT_ALLOWED next_allowed 0",
                "d often: pendente BLOCKED_CONTACT_CAP contact_cap 0",
                "e free: enviada SENT sent 0",
            ]
        );
        let at = |text: &str| instant(text).timestamp();
        let due = due(&home).await;
        assert_eq!(due[0], format!("b cooling off {}", at("2025-01-08T14:00:00Z")));
        assert_eq!(due[1], format!("c next allowed {}", at("2025-01-08T13:00:00Z")));
        assert_eq!(due[2], format!("d often {}", at("2025-01-13T11:00:00Z")));
        let contacts = "select cast(contact_count_7d as text) from doctor_state where last_outbound_at is not null";
        assert_eq!(home.texts(contacts).await, ["2"]);
    }
}

#[tokio::test]
async fn a_message_to_a_number_that_is_not_listed_is_blocked() {
    for home in Home::both().await {
        made(&home).await;
        home.execute(
            "insert into fila_mensagens (conteudo, telefone, metadata) values
              ('a listed', '+55 11 95555-0101', '{}'), ('b not listed', '5511955550102', '{\"bypass\": true}')",
        )
        .await;
        home.execute("update fila_mensagens set created_at = '2025-01-08T11:00:00Z'").await;
        let mut outbound = wide_open();
        outbound.allowlist = Allowlist::Only(["5511955550101".to_owned()].into());

        run_with(&home, noon(), json!({}), &outbound).await.expect("a run");

        assert_eq!(
            home.texts(MESSAGES).await,
            ["a listed: enviada SENT sent 0", "b not listed: bloqueada BLOCKED_DEV_ALLOWLIST dev_allowlist 0"]
        );
    }
}

#[tokio::test]
async fn limits_hold_and_messages_wait_for_the_next_window() {
    for home in Home::both().await {
        made(&home).await;
        home.execute(
            "insert into fila_mensagens (conteudo, telefone, tipo, metadata, created_at) values
              ('a', '5511955550101', 'resposta', '{}', '2025-01-08T11:00:00Z'),
              ('b same number', '5511955550101', 'resposta', '{}', '2025-01-08T11:00:01Z'),
              ('c', '5511955550103', 'resposta', '{}', '2025-01-08T11:00:02Z'),
              ('d over the hour', '5511955550104', 'resposta', '{}', '2025-01-08T11:00:03Z'),
              ('e bypass', '5511955550105', 'resposta', '{\"bypass\": true}', '2025-01-08T11:00:04Z')",
        )
        .await;
        let mut outbound = wide_open();
        outbound.limits.per_hour = 2;

        let report = run_with(&home, noon(), json!({}), &outbound).await.expect("a run");

        assert_eq!((report.items, report.items_failed, report.left), (Some(3), 0, Some(0)));
        assert_eq!(
            home.texts(MESSAGES).await,
            [
                "a: enviada SENT sent 0",
                "b same number: pendente FAILED_RATE_LIMIT rate_limit 0",
                "c: enviada SENT sent 0",
                "d over the hour: pendente FAILED_RATE_LIMIT rate_limit 0",
                "e bypass: enviada BYPASS bypass 0",
            ]
        );
        let due = due(&home).await;
        assert_eq!(due.last(), Some(&format!("d over the hour {}", instant("2025-01-08T13:00:00Z").timestamp())));
        let again: i64 = due[0].rsplit(' ').next().expect("a time").parse().expect("a number");
        let wait = again - noon().timestamp();
        assert!((45..60).contains(&wait), "45 s after the end of the first send, not {wait}");
    }
}

#[tokio::test]
async fn a_limit_of_none_lets_nothing_out() {
    for home in Home::both().await {
        made(&home).await;
        home.execute(
            "insert into fila_mensagens (conteudo, telefone, created_at) values ('a', '5511955550101', '2025-01-08T11:00:00Z')",
        )
        .await;
        let mut outbound = wide_open();
        outbound.limits.per_day = 0;

        run_with(&home, noon(), json!({}), &outbound).await.expect("a run");

        assert_eq!(home.texts(MESSAGES).await, ["a: pendente FAILED_RATE_LIMIT rate_limit 0"]);
        assert_eq!(due(&home).await, [format!("a {}", instant("2025-01-09T03:00:00Z").timestamp())]);
    }
}

#[tokio::test]
async fn the_same_is_sent_once() {
    for home in Home::both().await {
        made(&home).await;
        home.execute(
            "insert into fila_mensagens (conteudo, telefone, metadata, status, outcome_reason_code, created_at) values
              ('a first', '5511955550101', '{\"dedupe_key\": \"k1\"}', 'pendente', null, '2025-01-08T11:00:00Z'),
              ('b its twin', '5511955550102', '{\"dedupe_key\": \"k1\"}', 'pendente', null, '2025-01-08T11:00:01Z'),
              ('c other key', '5511955550103', '{\"dedupe_key\": \"k2\"}', 'pendente', null, '2025-01-08T11:00:02Z'),
              ('d in doubt', '5511955550104', '{\"dedupe_key\": \"k3\"}', 'erro', 'unknown', '2025-01-08T11:00:03Z'),
              ('e its twin', '5511955550105', '{\"dedupe_key\": \"k3\"}', 'pendente', null, '2025-01-08T11:00:04Z'),
              ('f failed', '5511955550106', '{\"dedupe_key\": \"k4\"}', 'erro', 'provider', '2025-01-08T11:00:05Z'),
              ('g its twin', '5511955550107', '{\"dedupe_key\": \"k4\"}', 'pendente', null, '2025-01-08T11:00:06Z'),
              ('h no key', '5511955550108', '{}', 'pendente', null, '2025-01-08T11:00:07Z')",
        )
        .await;

        run(&home, noon()).await.expect("a run");

        assert_eq!(
            home.texts(MESSAGES).await,
            [
                "a first: enviada SENT sent 0",
                "b its twin: bloqueada DEDUPED deduped 0",
                "c other key: enviada SENT sent 0",
                "d in doubt: erro - unknown 0",
                "e its twin: bloqueada DEDUPED deduped 0",
                "f failed: erro - provider 0",
                "g its twin: enviada SENT sent 0",
                "h no key: enviada SENT sent 0",
            ]
        );
    }
}

#[tokio::test]
async fn what_is_too_old_is_cancelled_and_never_sent() {
    for home in Home::both().await {
        made(&home).await;
        home.execute(
            "insert into fila_mensagens (conteudo, telefone, agendar_para, created_at) values
              ('a old', '5511955550101', null, '2025-01-07T11:59:59Z'),
              ('b a day old', '5511955550102', null, '2025-01-07T12:00:00Z'),
              ('c old and just due', '5511955550103', '2025-01-08T11:00:00Z', '2024-01-07T12:00:00Z'),
              ('d long due', '5511955550104', '2025-01-06T11:00:00Z', '2024-01-07T12:00:00Z')",
        )
        .await;

        let report = run(&home, noon()).await.expect("a run");

        assert_eq!(outcomes(&report), json!({ "SENT": 2, "FAILED_EXPIRED": 2 }));
        assert_eq!(
            home.texts(MESSAGES).await,
            [
                "a old: cancelada FAILED_EXPIRED expired 0",
                "b a day old: enviada SENT sent 0",
                "c old and just due: enviada SENT sent 0",
                "d long due: cancelada FAILED_EXPIRED expired 0",
            ]
        );
    }
}

/// Rows as a lost worker leaves them, half an hour and 61 minutes before `noon`.
pub const ABANDONED: &str = "\
    insert into fila_mensagens
      (conteudo, telefone, status, tentativas, outcome_reason_code, processando_desde, created_at) values
      ('a claimed', '5511955550101', 'processando', 0, null, '2025-01-08T10:59:00Z', '2025-01-08T10:00:00Z'),
      ('b claimed for the third time', '5511955550102', 'processando', 2, null, '2025-01-08T10:59:00Z', '2025-01-08T10:00:00Z'),
      ('c was being sent', '5511955550103', 'processando', 0, 'sending', '2025-01-08T10:59:00Z', '2025-01-08T10:00:00Z'),
      ('d at work', '5511955550104', 'processando', 0, 'sending', '2025-01-08T11:30:00Z', '2025-01-08T10:00:00Z'),
      ('e claimed by a stranger', '5511955550105', 'processando', 0, null, null, '2025-01-08T10:00:00Z'),
      ('f just claimed by a stranger', '5511955550106', 'processando', 0, null, null, '2025-01-08T11:30:00Z')";

#[tokio::test]
async fn what_lost_its_worker_is_rescued_and_never_sent_twice() {
    for home in Home::both().await {
        made(&home).await;
        home.execute(ABANDONED).await;

        let report = run(&home, noon()).await.expect("one was sent");
        let again = run(&home, noon()).await.expect("nothing is left");

        assert_eq!((report.items, report.items_failed), (Some(1), 2));
        assert_eq!(again.items, Some(0));
        assert_eq!(
            home.texts(MESSAGES).await,
            [
                "a claimed: enviada SENT sent 1",
                "b claimed for the third time: erro FAILED_TIMEOUT stuck 3",
                "c was being sent: erro FAILED_TIMEOUT unknown 1",
                "d at work: processando - sending 0",
                "e claimed by a stranger: processando - foreign 0",
                "f just claimed by a stranger: processando - foreign 0",
            ]
        );
        assert_eq!(home.texts(DEAD).await, ["b claimed for the third time: stuck 3", "c was being sent: unknown 1",]);

        home.execute("delete from fila_mensagens where conteudo not like 'e%'").await;
        run(&home, noon() + TimeDelta::minutes(59)).await.expect("his hour is not over");
        let within = home.texts(MESSAGES).await;
        run(&home, noon() + TimeDelta::minutes(61)).await.expect_err("the only one is in doubt");

        assert_eq!(within, ["e claimed by a stranger: processando - foreign 0"]);
        assert_eq!(home.texts(MESSAGES).await, ["e claimed by a stranger: erro FAILED_TIMEOUT unknown 1"]);
    }
}

#[tokio::test]
async fn who_chose_to_send_again_what_may_have_been_sent_gets_it() {
    for home in Home::both().await {
        made(&home).await;
        home.execute(ABANDONED).await;
        home.execute("delete from fila_mensagens where conteudo not like 'c%'").await;
        let settings = json!({ "resend_unknown": true });

        run_with(&home, noon(), settings.clone(), &wide_open()).await.expect("a rescue");
        let waiting = home.texts(MESSAGES).await;
        run_with(&home, noon() + TimeDelta::minutes(3), settings, &wide_open()).await.expect("a run");

        assert_eq!(waiting, ["c was being sent: pendente FAILED_TIMEOUT unknown 1"]);
        assert_eq!(home.texts(MESSAGES).await, ["c was being sent: enviada SENT sent 1"]);
    }
}

#[tokio::test]
async fn an_attempt_that_is_stopped_begins_no_send_and_puts_all_back() {
    for home in Home::both().await {
        made(&home).await;
        home.execute(
            "insert into fila_mensagens (conteudo, telefone, created_at) values
              ('a', '5511955550101', '2025-01-08T11:00:00Z'), ('b', '5511955550102', '2025-01-08T11:00:00Z')",
        )
        .await;
        let stopped = attempt(&home, noon());
        stopped.cancelled.cancel();
        let mut late = attempt(&home, noon());
        late.deadline = noon() + TimeDelta::seconds(1);

        for ctx in [stopped, late] {
            let report = commit(work(json!({}), &wide_open()).run(ctx).await).await.expect("nothing failed");

            assert_eq!((report.items, report.items_failed, report.left), (Some(0), 0, Some(2)));
            assert_eq!(home.texts(MESSAGES).await, ["a: pendente - - 0", "b: pendente - - 0"]);
            assert_eq!(due(&home).await, Vec::<String>::new());
        }
    }
}

#[tokio::test]
async fn a_person_sends_dead_letters_again_or_lets_them_go() {
    for home in Home::both().await {
        made(&home).await;
        home.execute(ABANDONED).await;
        run(&home, noon()).await.expect("a rescue");
        let later = noon() + TimeDelta::hours(2);
        let which = Which { reason: None, until: later, limit: 10, is_sure: false };
        let decision = |verdict| Decision { verdict, by: "Ana".into(), at: later };
        let mut tx = (home.app().begin)().await.expect("a transaction");
        let dead = DeadLetters::find(&mut tx).await.expect("an answer").expect("there is a queue");

        let letters = dead.list(&mut tx, &which, false).await.expect("a list");
        let id = |reason: &str| {
            let mut with = letters.iter().filter(|letter| letter.reason == reason);
            with.next().expect("a letter").id.clone()
        };
        let mut decided = Vec::new();
        for (id, verdict) in [
            (id("unknown"), Verdict::Retry),
            (id("unknown"), Verdict::Retry),
            (id("stuck"), Verdict::Discard),
            ("no such id".to_owned(), Verdict::Retry),
        ] {
            decided.push(dead.decide(&mut tx, &id, &decision(verdict)).await.expect("an answer"));
        }
        let left = dead.list(&mut tx, &which, false).await.expect("a list");
        tx.commit().await.expect("it commits");

        let again = Decided::NotDead("pendente".into());
        assert_eq!(decided, [Decided::Done, again, Decided::Done, Decided::Absent]);
        assert_eq!((letters.len(), left.len()), (2, 0));
        run(&home, later).await.expect("the retried one is sent");
        let messages = home.texts(MESSAGES).await;
        let discarded = "b claimed for the third time: cancelada FAILED_TIMEOUT discarded 3".to_owned();
        assert!(messages.contains(&discarded), "{messages:?}");
        assert_eq!(messages.iter().filter(|line| line.ends_with("enviada SENT sent 0")).count(), 1, "{messages:?}");
    }
}

#[tokio::test]
async fn two_replicas_never_claim_one_row() {
    let home = Home::postgres().await;
    made(&home).await;
    home.execute(
        "insert into fila_mensagens (conteudo, telefone, created_at)
        select 'm' || n, '55119' || (50000000 + n), '2025-01-08T11:00:00Z' from generate_series(1, 60) n",
    )
    .await;
    let outbound = wide_open();
    let run = || run_with(&home, noon(), json!({ "batch": 30 }), &outbound);

    let reports = tokio::join!(run(), run(), run());

    let sent = [reports.0, reports.1, reports.2].map(|report| report.expect("a run").items.expect("items"));
    assert_eq!(sent.iter().sum::<u64>(), 60, "{sent:?}");
    let taken = "select cast(taken as text) from outbound_limits where scope = 'all:hour'";
    assert_eq!(home.texts(taken).await, ["60"]);
}

#[tokio::test]
async fn two_replicas_at_once_keep_the_limits_and_send_twins_once() {
    let home = Home::postgres().await;
    made(&home).await;
    home.execute(
        "insert into fila_mensagens (conteudo, telefone, metadata, created_at)
        select 'm' || n, '55119' || (50000000 + n), jsonb_build_object('dedupe_key', 'k' || n / 2), '2025-01-08T11:00:00Z'
        from generate_series(0, 39) n",
    )
    .await;
    let mut outbound = wide_open();
    outbound.limits.per_hour = 10;
    let run = || run_with(&home, noon(), json!({ "batch": 20 }), &outbound);

    let reports = tokio::join!(run(), run());

    let sent = [reports.0, reports.1].map(|report| report.expect("a run").items.expect("items"));
    assert_eq!(sent.iter().sum::<u64>(), 10, "{sent:?}");
    let twins =
        "select metadata ->> 'dedupe_key' from fila_mensagens where status = 'enviada' group by 1 having 1 < count(*)";
    assert_eq!(home.texts(twins).await, Vec::<String>::new());
}

#[tokio::test]
async fn settings_that_make_no_sense_are_refused() {
    for batch in [0, 1_001] {
        let errors = checked("fila", json!({ "batch": batch }), &Targets::new()).expect_err("refused");
        assert_eq!(errors, [format!("batch is {batch}, and must be between 1 and 1000")]);
    }
    checked("fila", json!({ "expire_after": "0s" }), &Targets::new()).expect_err("refused");
}

#[tokio::test]
async fn a_missing_table_is_made_only_where_that_is_allowed() {
    for home in Home::both().await {
        let mut ctx = attempt(&home, noon());
        ctx.tools = Tools { create_team_tables: false, ..ctx.tools };

        let failure = commit(work(json!({}), &wide_open()).run(ctx).await).await.expect_err("forbidden");

        assert_eq!(
            failure.message,
            "table fila_mensagens is missing, and create_team_tables = false forbids to create it"
        );
    }
}
