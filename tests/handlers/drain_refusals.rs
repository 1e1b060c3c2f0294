//! `drain` on tables that do not take everything: triggers, short columns, unique indexes, rows without an id.

use emponto::{domain::run::FailureKind, handlers::QueueLook};
use serde_json::json;

use crate::{
    attempt::{Home, checked, noon},
    drain::{ROWS, add, attempt, queue, run, settings, with},
    http_script::{Script, reply},
};

/// Refuses whatever is set in the row of company `b`, as long as it is claimed (or waits, for `queued`).
async fn refuse(home: &Home, status: &str) {
    let statements = match home {
        Home::Sqlite { .. } => format!(
            "create trigger no_b before update on queue_profile when old.cnpj = 'b' and old.status = '{status}'
            begin select raise(abort, 'b is frozen'); end"
        ),
        Home::Postgres { .. } => format!(
            "create function frozen() returns trigger language plpgsql as
              'begin raise exception ''b is frozen''; end';
            create trigger no_b before update on queue_profile for each row
              when (old.cnpj = 'b' and old.status = '{status}') execute function frozen()"
        ),
    };
    home.execute(Box::leak(statements.into_boxed_str())).await;
}

#[tokio::test]
async fn a_stuck_row_that_cannot_be_changed_holds_up_no_other() {
    for home in Home::both().await {
        queue(&home).await;
        add(&home, "a b c d").await;
        home.execute(
            "update queue_profile set status = 'processing', locked_at = '2025-01-08T11:00:00.000Z' where cnpj < 'd'",
        )
        .await;
        refuse(&home, "processing").await;
        let server = Script::answering(|_, _| reply(200, "{}")).await;

        let report = run(settings(), attempt(&home, &server.url, noon())).await.expect("the others go on");

        let rows = home.texts(ROWS).await;
        assert!(rows[0].starts_with("a queued 1") && rows[2].starts_with("c queued 1"), "{rows:?}");
        assert_eq!((&rows[1][..], &rows[3][..]), ("b processing 0 locked", "d done 0 locked"));
        assert_eq!((report.items, report.items_failed), (Some(1), 1));
        let result = report.result.expect("counts");
        assert_eq!((&result["rescued"], &result["unwritten"]), (&json!(2), &json!(1)));
        let told = result["errors"].to_string();
        assert!(told.contains("the table refuses `dead`: b is frozen"), "{told}");
    }
}

#[tokio::test]
async fn a_row_that_cannot_be_claimed_holds_up_no_other() {
    for home in Home::both().await {
        queue(&home).await;
        add(&home, "a b c").await;
        refuse(&home, "queued").await;
        let server = Script::answering(|_, _| reply(200, "{}")).await;

        let report = run(settings(), attempt(&home, &server.url, noon())).await.expect("the others go on");

        assert_eq!(home.texts(ROWS).await, ["a done 0 locked", "b queued 0", "c done 0 locked"]);
        assert_eq!((report.items, report.items_failed, report.left), (Some(2), 1, Some(1)));
        let error = &report.result.expect("counts")["errors"][0];
        assert_eq!(error, &json!({ "id": "2", "error": "the table refuses `claim`: b is frozen", "dead": false }));
    }
}

#[tokio::test]
async fn an_error_is_cut_to_what_its_column_takes() {
    for (length, kept) in [(255, 200), (3, 0)] {
        let home = Home::postgres().await;
        queue(&home).await;
        let alter = format!("alter table queue_profile alter last_error type varchar({length})");
        home.execute(Box::leak(alter.into_boxed_str())).await;
        add(&home, "a").await;
        let said = "x".repeat(1_000);
        let server = Script::answering(move |_, _| reply(422, json!({ "detail": said }))).await;

        run(settings(), attempt(&home, &server.url, noon())).await.expect_err("all failed");

        let row = "select status || ' ' || length(last_error)::text from queue_profile";
        assert_eq!(home.texts(row).await, [format!("failed {kept}")]);
    }
}

#[tokio::test]
async fn of_two_rows_of_one_company_one_is_claimed_after_the_other() {
    for home in Home::both().await {
        queue(&home).await;
        home.execute(
            "drop index one_active;
            create unique index one_active on queue_profile (cnpj) where status = 'processing'",
        )
        .await;
        add(&home, "a a b a c").await;
        let server = Script::answering(|_, _| reply(200, "{}")).await;

        let changes = json!({ "batch": 2, "concurrency": 1 });
        let report = run(with(changes), attempt(&home, &server.url, noon())).await.expect("nothing is wedged");

        assert_eq!((report.items, report.items_failed, report.left), (Some(5), 0, Some(0)));
        assert_eq!(server.asked().len(), 5);
        let result = report.result.expect("counts");
        assert!(0 < result["blocked"].as_u64().expect("a count"), "{result}");
        assert!(home.texts(ROWS).await.iter().all(|row| row.contains(" done 0")));
    }
}

#[tokio::test]
async fn rows_behind_many_of_a_company_that_is_being_worked_on_are_reached() {
    for home in Home::both().await {
        queue(&home).await;
        home.execute(
            "drop index one_active;
            create unique index one_active on queue_profile (cnpj) where status = 'processing'",
        )
        .await;
        add(&home, "a a a a b").await;
        // Somebody else has the first one.
        home.execute(
            "update queue_profile set status = 'processing', locked_at = '2025-01-08T11:59:00.000Z' where id = 1",
        )
        .await;
        let server = Script::answering(|_, _| reply(200, "{}")).await;

        let changes = json!({ "batch": 2 });
        let report = run(with(changes), attempt(&home, &server.url, noon())).await.expect("b is done");

        assert_eq!((report.items, report.items_failed, report.left), (Some(1), 0, Some(3)));
        assert_eq!(home.texts(ROWS).await[4], "b done 0 locked");
    }
}

#[tokio::test]
async fn a_row_of_which_a_part_failed_leaves_a_trace() {
    for home in Home::both().await {
        queue(&home).await;
        add(&home, "a b").await;
        let server = Script::answering(|call, _| {
            let is_b = String::from_utf8_lossy(&call.body).contains("\"b\"");
            reply(200, if is_b { json!({ "processados": 3, "erros": 2 }) } else { json!({ "processados": 3 }) })
        })
        .await;

        let report = run(settings(), attempt(&home, &server.url, noon())).await.expect("both were done");

        assert_eq!((report.items, report.items_failed), (Some(2), 1), "the run is partial");
        assert_eq!(report.result.expect("counts")["done_in_part"], json!(1));
        assert_eq!(
            report.note.as_deref(),
            Some("the application said of 1 of the rows done that some of it went wrong")
        );
        assert_eq!(home.texts(ROWS).await, ["a done 0 locked", "b done 0 locked"]);
    }
}

#[tokio::test]
async fn a_claim_is_never_called_stuck_while_its_run_may_go_on() {
    for home in Home::both().await {
        queue(&home).await;
        add(&home, "a b").await;
        home.execute(
            "update queue_profile set status = 'processing', locked_at = '2025-01-08T11:55:46.000Z';
            update queue_profile set locked_at = '2025-01-08T11:55:44.000Z' where cnpj = 'b'",
        )
        .await;
        let settings = with(json!({
            "stuck": { "where": "status = 'processing' and locked_at < :stuck_before", "after": "1s" },
        }));
        let ctx = attempt(&home, "http://127.0.0.1:1", noon());
        let work = checked("drain", settings.clone(), &ctx.tools.targets).expect("settings that can run");
        let look = QueueLook { job: ctx.job.clone(), now: noon(), tools: ctx.tools.clone(), database: home.app() };
        let figures = work.look(look).await.expect("a drain has a queue").expect("it can be counted");

        run(settings, ctx).await.expect("nothing waits");

        assert_eq!(figures.stuck, Some(1));
        let rows = home.texts(ROWS).await;
        assert!(rows[0].starts_with("a processing 0") && rows[1].starts_with("b queued 1"), "{rows:?}");
    }
}

#[tokio::test]
async fn instants_without_end_do_not_spoil_the_look() {
    let home = Home::postgres().await;
    queue(&home).await;
    add(&home, "a b").await;
    home.execute("update queue_profile set available_at = '-infinity' where cnpj = 'a'").await;
    let ctx = attempt(&home, "http://127.0.0.1:1", noon());
    let work = checked("drain", settings(), &ctx.tools.targets).expect("settings that can run");

    let look = QueueLook { job: ctx.job, now: noon(), tools: ctx.tools, database: home.app() };
    let figures = work.look(look).await.expect("a drain has a queue").expect("it can be counted");

    assert_eq!((figures.left, figures.oldest_due), (2, Some(noon() - chrono::TimeDelta::hours(1))));
}

#[tokio::test]
async fn a_row_without_an_id_is_never_claimed() {
    for home in Home::both().await {
        queue(&home).await;
        home.execute("alter table queue_profile add column key text; create unique index keys on queue_profile (key)")
            .await;
        add(&home, "a b").await;
        home.execute("update queue_profile set key = 'k' where cnpj = 'b'").await;
        let server = Script::answering(|_, _| reply(200, "{}")).await;

        let report = run(with(json!({ "id": "key" })), attempt(&home, &server.url, noon())).await.expect("a run");

        assert_eq!(home.texts(ROWS).await, ["a queued 0", "b done 0 locked"]);
        assert_eq!((report.items, report.left), (Some(1), Some(1)));
    }
}

#[tokio::test]
async fn rows_done_before_an_endpoint_was_gone_stay_done() {
    for home in Home::both().await {
        queue(&home).await;
        add(&home, "a b c").await;
        let server = Script::answering(|_, before| if before == 0 { reply(200, "{}") } else { reply(404, "") }).await;

        let settings = with(json!({ "concurrency": 1 }));
        let failure = run(settings, attempt(&home, &server.url, noon())).await.expect_err("the endpoint is gone");

        assert_eq!((failure.kind, failure.response_code), (FailureKind::Permanent, Some(404)));
        assert_eq!(home.texts(ROWS).await, ["a done 0 locked", "b queued 0", "c queued 0"]);
        assert_eq!(failure.report.expect("counts").items, Some(1));
    }
}
