//! `drain` when the target, the table or the settings are in trouble.

use std::{collections::BTreeMap, sync::Mutex, time::Duration};

use chrono::TimeDelta;
use emponto::{
    domain::run::{Failure, FailureKind},
    handlers::{AppTx, Targets},
};
use serde_json::{Value, json};

use crate::{
    attempt::{Home, checked, commit, noon, work},
    drain::{ROWS, add, attempt, queue, run, settings, targets, with},
    http_script::{Script, reply},
};

#[tokio::test]
async fn a_target_that_asks_for_time_costs_no_row_an_attempt() {
    for home in Home::both().await {
        queue(&home).await;
        add(&home, "a b c").await;
        let server = Script::answering(|_, _| reply(429, "").with("retry-after", "30")).await;

        let settings = with(json!({ "concurrency": 1 }));
        let failure = run(settings, attempt(&home, &server.url, noon())).await.expect_err("nothing was done");

        assert!(matches!(failure.kind, FailureKind::Snooze(wait) if Duration::from_secs(30) <= wait), "{failure:?}");
        assert_eq!(server.asked().len(), 1, "the others are not even tried");
        assert_eq!(home.texts(ROWS).await, ["a queued 0", "b queued 0", "c queued 0"]);
        assert_eq!(failure.report.expect("counts").result.expect("counts")["released"], json!(3));
    }
}

#[tokio::test]
async fn an_endpoint_that_is_gone_or_lets_nobody_in_kills_no_row() {
    for (status, kind) in [
        (410, FailureKind::Pause),
        (302, FailureKind::Permanent),
        (401, FailureKind::Permanent),
        (403, FailureKind::Permanent),
        (404, FailureKind::Permanent),
        (405, FailureKind::Permanent),
    ] {
        for home in Home::both().await {
            queue(&home).await;
            add(&home, "a b").await;
            let server = Script::answering(move |_, _| reply(status, "")).await;

            let failure = run(settings(), attempt(&home, &server.url, noon())).await.expect_err("nothing was done");

            assert_eq!(failure.kind, kind, "{status}");
            assert!(failure.message.contains(&format!("answered {status}")), "{}", failure.message);
            assert_eq!(home.texts(ROWS).await, ["a queued 0", "b queued 0"]);
        }
    }
}

#[tokio::test]
async fn a_target_that_is_down_costs_one_batch_an_attempt() {
    for home in Home::both().await {
        queue(&home).await;
        add(&home, "a b c d").await;

        let changes = with(json!({ "batch": 2 }));
        let failure = run(changes, attempt(&home, "http://127.0.0.1:1", noon())).await.expect_err("all failed");

        assert_eq!(failure.kind, FailureKind::Retry);
        assert!(failure.message.starts_with("all 2 rows failed, the first: POST http://127.0.0.1:1"), "{failure:?}");
        let rows = home.texts(ROWS).await;
        assert_eq!(rows.iter().filter(|row| row.contains(" queued 1")).count(), 2, "{rows:?}");
        assert_eq!(failure.report.expect("counts").left, Some(2));
    }
}

#[tokio::test]
async fn rows_that_were_not_begun_go_back_as_they_were() {
    for release in [Value::Null, json!("status = 'queued', locked_at = null, locked_by = 'released'")] {
        for home in Home::both().await {
            queue(&home).await;
            add(&home, "a b c").await;
            home.execute("update queue_profile set locked_by = 'before' where cnpj = 'b'").await;
            let ctx = attempt(&home, "http://127.0.0.1:1", noon());
            let stop = ctx.cancelled.clone();
            let server = Script::answering(move |_, _| {
                stop.cancel();
                reply(200, "{}")
            })
            .await;
            let ctx = emponto::handlers::Context { tools: emponto::handlers::Tools::new(targets(&server.url)), ..ctx };

            let settings = with(json!({ "concurrency": 1, "release": release }));
            let report = run(settings, ctx).await.expect("one was done");

            assert_eq!((report.items, report.left), (Some(1), Some(2)));
            assert_eq!(home.texts(ROWS).await, ["a done 0 locked", "b queued 0", "c queued 0"]);
            let by = home
                .texts("select coalesce(locked_by, 'nobody') from queue_profile where cnpj <> 'a' order by id")
                .await;
            let expected = if release.is_null() { ["before", "nobody"] } else { ["released", "released"] };
            assert_eq!(by, expected);
        }
    }
}

#[tokio::test]
async fn a_run_that_was_told_to_stop_before_it_began_is_put_down_to_the_stop() {
    for home in Home::both().await {
        queue(&home).await;
        add(&home, "a").await;
        let ctx = attempt(&home, "http://127.0.0.1:1", noon());
        ctx.cancelled.cancel();

        let report = run(settings(), ctx).await.expect("nothing was claimed");

        assert_eq!((report.items, report.left), (Some(0), Some(1)));
        assert_eq!(home.texts(ROWS).await, ["a queued 0"]);
    }
}

#[tokio::test]
async fn a_retry_that_the_table_refuses_gives_the_row_up() {
    for home in Home::both().await {
        queue(&home).await;
        add(&home, "a").await;
        // While it is delivered its company is free, so the application may queue it again.
        home.execute(
            "drop index one_active;
            create unique index one_active on queue_profile (cnpj) where status = 'queued';
            update queue_profile set status = 'processing', locked_at = '2025-01-08T11:00:00.000Z';
            insert into queue_profile (cnpj, available_at) values ('a', '2025-01-08T13:00:00.000Z')",
        )
        .await;

        run(settings(), attempt(&home, "http://127.0.0.1:1", noon())).await.expect_err("one was given up");

        let rows = home
            .texts("select cnpj || ' ' || status || ' ' || coalesce(last_error, '') from queue_profile order by id")
            .await;
        assert!(
            rows[0]
                .starts_with("a failed no end was written down within 5min of its claim; the table refuses `retry`: "),
            "{rows:?}"
        );
        assert!(rows[0].to_lowercase().contains("unique"), "{rows:?}");
        assert_eq!(rows[1], "a queued ");
    }
}

#[tokio::test]
async fn one_active_row_per_company_survives_a_gateway_that_fails_and_poison() {
    for home in Home::both().await {
        queue(&home).await;
        let companies: Vec<_> = (0..100).map(|number| format!("c{number:03}")).collect();
        add(&home, &companies.join(" ")).await;
        // 30 % of the calls fail, and whatever is done about the last three rows does.
        let taken = Mutex::new(BTreeMap::<String, usize>::new());
        let server = Script::answering(move |call, before| {
            let row: Value = serde_json::from_slice(&call.body).expect("JSON");
            let company = row["cnpj"].as_str().expect("text").to_owned();
            match &company[..] {
                "c097" => reply(422, "poison"),
                "c098" | "c099" => reply(500, "poison"),
                _ if before % 10 < 3 => reply(503, ""),
                _ => {
                    *taken.lock().expect("nobody panics").entry(company.clone()).or_default() += 1;
                    reply(200, json!({ "done_before": taken.lock().expect("nobody panics")[&company] }))
                }
            }
        })
        .await;
        let settings = with(json!({ "max_attempts": 8 }));

        let (mut now, mut done) = (noon(), 0);
        for _ in 0..20 {
            let report = match run(settings.clone(), attempt(&home, &server.url, now)).await {
                Ok(report) => report,
                Err(Failure { report, .. }) => *report.expect("a report of what was done"),
            };
            done += report.items.expect("counted");
            now += TimeDelta::minutes(5);
        }

        let rows = home.texts(ROWS).await;
        let of = |word: &str| rows.iter().filter(|row| row.contains(word)).count();
        assert_eq!((done, of(" done "), of(" failed ")), (97, 97, 3), "{rows:?}");
        assert!(rows[97].starts_with("c097 failed 1") && rows[98].starts_with("c098 failed 8"), "{rows:?}");
        let ok = server.asked();
        assert!(ok.len() <= 100 * 8, "{} calls", ok.len());
    }
}

#[tokio::test]
async fn ten_thousand_waiting_rows_are_claimed_ten_at_a_time_within_the_time_of_a_run() {
    for home in Home::both().await {
        queue(&home).await;
        home.execute(
            "insert into queue_profile (cnpj)
            with recursive number (n) as (select 1 union all select n + 1 from number where n < 10000)
            select cast(n as text) from number",
        )
        .await;
        home.execute("create index waiting on queue_profile (id) where status = 'queued'").await;
        let server = Script::answering(|_, _| reply(200, "{}")).await;
        let mut ctx = attempt(&home, &server.url, noon());
        // Half of these six seconds are for claims.
        ctx.deadline = noon() + TimeDelta::seconds(6);

        let report = run(with(json!({ "concurrency": 8 })), ctx).await.expect("some were done");

        let (done, left) = (report.items.expect("counted"), report.left.expect("counted"));
        assert!(10 <= done && done + left == 10_000, "{done} done and {left} left");
        assert_eq!(
            home.texts("select status from queue_profile where status not in ('queued', 'done')").await,
            [""; 0]
        );
    }
}

/// What a database says of settings.
async fn examined(home: &Home, settings: Value) -> Result<Vec<String>, Failure> {
    let work = checked("drain", settings, &targets("http://127.0.0.1:1")).expect("settings that a reader takes");
    let mut tx: AppTx = (home.app().begin)().await.expect("a transaction");
    work.examine(&mut tx).await
}

#[tokio::test]
async fn a_mistake_about_the_table_is_named_by_check() {
    for home in Home::both().await {
        queue(&home).await;
        for (change, named) in [
            (json!({}), None),
            (json!({ "where": "status = 'queued' and availble_at <= :now" }), Some(["where: ", "availble_at"])),
            (json!({ "done": "state = 'done'" }), Some(["done: ", "state"])),
            (json!({ "retry": "attempts = attempts + 1, last_eror = :error" }), Some(["retry: ", "last_eror"])),
            (json!({ "order": "priority desc" }), Some(["order: ", "priority"])),
            (
                json!({ "stuck": { "where": "lockd_at < :stuck_before", "after": "5min" } }),
                Some(["stuck.where: ", "lockd_at"]),
            ),
        ] {
            let wrong = examined(&home, with(change.clone())).await.expect("an answer");

            match named {
                None => assert!(wrong.is_empty(), "{wrong:?}"),
                Some([setting, name]) => assert!(wrong[0].starts_with(setting) && wrong[0].contains(name), "{wrong:?}"),
            }
        }
        for (change, named) in [
            (json!({ "table": "queue_profil" }), "there is no table \"queue_profil\""),
            (json!({ "id": "key" }), "id: table \"queue_profile\" has no column \"key\"; it has id, cnpj, "),
            (json!({ "id": "cnpj" }), "id: column \"cnpj\" of table \"queue_profile\" is not unique by itself"),
            (
                json!({ "attempts": "tries", "claim": "tries = 1" }),
                "claim: table \"queue_profile\" has no column \"tries\"",
            ),
            (json!({ "max_attempts": "most" }), "max_attempts: table \"queue_profile\" has no column \"most\""),
        ] {
            let failure = examined(&home, with(change)).await.expect_err(named);
            assert!(failure.message.starts_with(named), "{}", failure.message);
        }
    }
}

#[tokio::test]
async fn on_sqlite_a_column_of_another_form_than_time_is_told() {
    for (time, held, told) in [
        ("rfc3339", "'2025-01-08T11:00:00Z'", None),
        ("rfc3339", "'2025-01-08 11:00:00'", Some("instants of the form \"text\"")),
        ("text", "'2025-01-08T11:00:00.000Z'", Some("instants of the form \"rfc3339\"")),
        ("rfc3339", "1736337600", Some("instants of the form \"unix\"")),
        ("unix_ms", "1736337600", Some("instants of the form \"unix\"")),
        ("unix", "1736337600", None),
        ("rfc3339", "'08/01/2025 11:00'", Some("what is no instant of a known form")),
    ] {
        let home = Home::sqlite().await;
        let table = format!(
            "create table queue_profile (id integer primary key, status text, available_at, n integer);
            insert into queue_profile values (1, 'queued', {held}, 0)"
        );
        home.execute(Box::leak(table.into_boxed_str())).await;
        let mut settings = with(json!({ "time": time, "claim": "status = 'processing'", "attempts": "n" }));
        settings["retry"] = json!("status = 'queued', n = n + 1, available_at = :retry_at");
        settings["dead"] = json!("status = 'failed'");
        settings.as_object_mut().expect("an object").remove("stuck");

        let wrong = examined(&home, settings).await.expect("an answer");

        let expected = told.map(|told| format!("time is {time:?}, and column \"available_at\" holds {told}"));
        assert_eq!(wrong, Vec::from_iter(expected), "{held}");
    }
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_before_any_database_is_asked() {
    let targets = targets("http://127.0.0.1:1");
    for (change, message) in [
        (
            json!({ "table": "a b" }),
            "table: \"a b\" is not a name: letters, digits and _, or anything in double quotes",
        ),
        (json!({ "where": "true; drop table queue_profile" }), "where: has a semicolon, which ends the statement"),
        (
            json!({ "claim": "status = 'processing' where true" }),
            "claim: has the word \"where\", which begins another clause; put it in parentheses",
        ),
        (
            json!({ "done": "status = :error" }),
            "done: the parameter :error has no value here; there are :now, :replica",
        ),
        (json!({ "where": "locked_by = :replica" }), "where: the parameter :replica has no value here; there are :now"),
        (json!({ "batch": 0 }), "batch is 0, and must be 1 to 1000"),
        (json!({ "concurrency": 65 }), "concurrency is 65, and must be 1 to 64"),
        (json!({ "max_attempts": 0 }), "max_attempts is 0, and must be 1 or more"),
        (
            json!({ "retry": "status = 'queued'" }),
            "neither claim nor retry sets \"attempts\", which counts attempts: a row that fails would be tried for ever",
        ),
        (
            json!({ "deliver": { "target": "api", "get": "/x" } }),
            "deliver: a row is sent with post, put or patch; get and delete have no body",
        ),
        (
            json!({ "deliver": { "target": "api", "post": "/x", "json": {} } }),
            "deliver: json is given, and the row is the body",
        ),
        (json!({ "deliver": { "target": "apy", "post": "/x" } }), "deliver: unknown target \"apy\"; known are: api"),
    ] {
        assert_eq!(checked("drain", with(change), &targets).expect_err(message), [message]);
    }
    let unknown = checked("drain", with(json!({ "wher": "true" })), &Targets::new()).expect_err("unknown");
    assert!(unknown[0].starts_with("unknown field `wher`"), "{unknown:?}");
}

#[tokio::test]
async fn what_is_doubtful_is_warned_of() {
    let settings = with(json!({
        "claim": "status = 'processing'", "retry": "status = 'queued', attempts = attempts + 1", "stuck": null,
        "deliver": { "post": "http://127.0.0.1:1/x" },
    }));

    let warnings = work("drain", settings).warnings();

    assert_eq!(warnings.len(), 3, "{warnings:?}");
}

#[tokio::test]
async fn a_table_that_is_missing_fails_the_run_for_good() {
    for home in Home::both().await {
        let ctx = attempt(&home, "http://127.0.0.1:1", noon());
        let work = checked("drain", settings(), &ctx.tools.targets).expect("settings that can run");

        let failure = commit(work.run(ctx).await).await.expect_err("no table");

        assert_eq!((failure.kind, failure.before_effect), (FailureKind::Permanent, true));
        assert_eq!(failure.message, "there is no table \"queue_profile\"");
    }
}
