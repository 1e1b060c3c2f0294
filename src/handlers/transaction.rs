//! Work in a transaction of the daemon's own database, which the engine settles and commits with its run.

use std::{error::Error, panic::AssertUnwindSafe, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use sqlx::{AssertSqlSafe, PgConnection, SqliteConnection};
use tokio_util::sync::CancellationToken;

use super::{AppTx, Context, Done, Ending, QueueLook};
use crate::domain::run::{Failure, Report};

/// How long a transaction may hold the only writer of SQLite (spec 4, exactly-once SQL).
const SQLITE_LIMIT: Duration = Duration::from_secs(5);
/// How long a statement that only looks may take: health must not burden what it watches.
const LOOK_LIMIT: Duration = Duration::from_secs(5);
/// Steps of SQLite's machine between two looks at the clock: well below a millisecond.
const STEPS_BETWEEN_LOOKS: i32 = 10_000;

/// What runs inside the transaction.
pub(super) type Body<'a, T> = BoxFuture<'a, Result<T, Failure>>;

/// Begins a transaction, runs the body in it and hands it over to be settled and committed. When the body fails,
/// everything is rolled back, so that no failure leaves a doubt.
pub(super) async fn in_own_database<F>(ctx: &Context, body: F) -> Ending
where
    F: for<'a> FnOnce(&'a mut AppTx) -> Body<'a, Report> + Send + 'static,
{
    let tx = ctx.begin().await.map_err(Failure::before_effect)?;
    let (report, tx) = bounded(tx, ctx.job.policy.timeout, body).await.map_err(Failure::before_effect)?;
    Ok(Done::InTransaction(report, tx))
}

/// A step of its own: begins a transaction, runs the body in it and commits, whatever becomes of the run. When the body
/// fails everything is rolled back; when the commit is not answered, nobody knows.
pub(super) async fn apart<T, F>(ctx: &Context, body: F) -> Result<T, Failure>
where
    T: Send + 'static,
    F: for<'a> FnOnce(&'a mut AppTx) -> Body<'a, T> + Send + 'static,
{
    let tx = ctx.begin().await.map_err(Failure::before_effect)?;
    let (done, tx) = bounded(tx, ctx.job.policy.timeout, body).await.map_err(Failure::before_effect)?;
    match tx.commit().await {
        Ok(()) => Ok(done),
        // The database answered, and the answer is no.
        Err(error @ sqlx::Error::Database(_)) => Err(failure(&error).before_effect()),
        Err(error) => Err(Failure::retry(format!("the end of the transaction is unknown: {}", described(&error)))),
    }
}

/// Counts and reads for a run, in a transaction that changes nothing and holds up nobody who writes.
pub(super) async fn reading<T, F>(ctx: &Context, body: F) -> Result<T, Failure>
where
    T: Send + 'static,
    F: for<'a> FnOnce(&'a mut AppTx) -> Body<'a, T> + Send + 'static,
{
    let limit = ctx.job.policy.timeout;
    let read = async {
        let mut tx = ctx.begin_reading().await?;
        let AppTx::Postgres(postgres) = &mut tx else {
            return in_sqlite(tx, Bound { limit, why: "which is as long as the run may take" }, body).await;
        };
        limit_statements(postgres, limit).await?;
        let read = body(&mut tx).await?;
        Ok((read, tx))
    };
    read.await.map(|(read, _tx)| read).map_err(Failure::before_effect)
}

/// A look in a transaction that only reads, and is let go of.
pub(super) async fn only_reading<T, F>(look: &QueueLook, body: F) -> Result<T, Failure>
where
    T: Send + 'static,
    F: for<'a> FnOnce(&'a mut AppTx) -> Body<'a, T> + Send + 'static,
{
    let tx = (look.database.begin)().await?;
    let (seen, _tx) = bounded(tx, LOOK_LIMIT, body).await?;
    Ok(seen)
}

/// Runs a body whose statements take at most `limit` each; on SQLite all of it takes at most `SQLITE_LIMIT`.
pub(super) async fn bounded<T, F>(mut tx: AppTx, limit: Duration, body: F) -> Result<(T, AppTx), Failure>
where
    T: Send + 'static,
    F: for<'a> FnOnce(&'a mut AppTx) -> Body<'a, T> + Send + 'static,
{
    let AppTx::Postgres(postgres) = &mut tx else {
        return in_sqlite(tx, WRITER, body).await;
    };
    limit_statements(postgres, limit).await?;
    let done = body(&mut tx).await?;
    Ok((done, tx))
}

/// The server gives a statement up by itself at the limit of the run, even when nobody is left to cancel it.
pub(super) async fn limit_statements(connection: &mut PgConnection, limit: Duration) -> Result<(), Failure> {
    // PostgreSQL reads 0 as "no limit" and holds an i32.
    let limit_ms = limit.as_millis().clamp(1, i32::MAX as u128);
    let statement = format!("set local statement_timeout = {limit_ms}");
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await.map_err(|error| failure(&error))?;
    Ok(())
}

/// How long a transaction on SQLite may take, and why.
struct Bound {
    limit: Duration,
    why: &'static str,
}

const WRITER: Bound = Bound { limit: SQLITE_LIMIT, why: "which is as long as one may hold the only writer of SQLite" };

/// SQLite works in its own thread, which goes on when nobody waits any more. So the body runs in a task that always
/// comes to its end, and a statement that takes too long, or that nobody waits for, is interrupted.
async fn in_sqlite<T, F>(mut tx: AppTx, bound: Bound, body: F) -> Result<(T, AppTx), Failure>
where
    T: Send + 'static,
    F: for<'a> FnOnce(&'a mut AppTx) -> Body<'a, T> + Send + 'static,
{
    let stop = CancellationToken::new();
    let _stops_when_dropped = stop.clone().drop_guard();
    let inner_stop = stop.clone();
    let mut task = tokio::spawn(async move {
        watch(&mut tx, Some(inner_stop)).await?;
        let ended = AssertUnwindSafe(body(&mut tx)).catch_unwind().await;
        // The connection is shared: it must not keep a watch that would interrupt the next work on it.
        watch(&mut tx, None).await?;
        match ended {
            Ok(ended) => ended.map(|done| (done, tx)),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    });
    let ended = match tokio::time::timeout(bound.limit, &mut task).await {
        Ok(ended) => ended,
        Err(_) => {
            stop.cancel();
            task.await
        }
    };
    match ended {
        Ok(ended) if !stop.is_cancelled() => ended,
        Ok(_) => {
            Err(Failure::retry(format!("the transaction took longer than {} s, {}", bound.limit.as_secs(), bound.why)))
        }
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => Err(Failure::retry(format!("the transaction was stopped: {error}"))),
    }
}

async fn watch(tx: &mut AppTx, stop: Option<CancellationToken>) -> Result<(), Failure> {
    let AppTx::Sqlite(connection) = tx else { return Ok(()) };
    watch_connection(connection, stop).await.map_err(|error| failure(&error))
}

/// Interrupts statements once `stop` fires; `None` ends the watch.
pub(super) async fn watch_connection(
    connection: &mut SqliteConnection,
    stop: Option<CancellationToken>,
) -> Result<(), sqlx::Error> {
    let mut handle = connection.lock_handle().await?;
    match stop {
        Some(stop) => handle.set_progress_handler(STEPS_BETWEEN_LOOKS, move || !stop.is_cancelled()),
        None => handle.remove_progress_handler(),
    }
    Ok(())
}

/// What a failed statement means for the run: mistakes of the statement stay, everything else may pass.
pub(super) fn failure(error: &sqlx::Error) -> Failure {
    let lasting = match error {
        sqlx::Error::Database(error) => match error.code() {
            // PostgreSQL: 42 = syntax, names and rights; 0A = not supported.
            Some(code) if code.len() == 5 => code.starts_with("42") || code.starts_with("0A"),
            // SQLite: 1 = syntax and names.
            Some(code) => code == "1",
            None => false,
        },
        sqlx::Error::Protocol(_) | sqlx::Error::Encode(_) | sqlx::Error::Configuration(_) => true,
        _ => false,
    };
    let message = described(error);
    if lasting { Failure::permanent(message) } else { Failure::retry(message) }
}

/// The error in the database's words, with its code.
fn described(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => match error.code() {
            Some(code) => format!("{} (code {code})", error.message()),
            None => error.message().to_owned(),
        },
        other => match other.source() {
            Some(source) => format!("{other}: {source}"),
            None => other.to_string(),
        },
    }
}
