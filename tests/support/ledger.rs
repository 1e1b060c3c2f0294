//! The ledger as the database has it, read past the daemon: an oracle that does not ask the accused.

use sqlx::{Connection, FromRow, PgConnection, SqliteConnection};

/// A row of `runs`, instants as milliseconds of Unix time.
#[derive(Debug, Clone, FromRow)]
pub struct Row {
    pub job: String,
    pub trigger: String,
    pub covers_from: i64,
    pub scheduled_for: i64,
    pub covers: i64,
    pub state: String,
    /// Empty = not finished.
    pub outcome: String,
    /// Empty = none.
    pub reason: String,
    pub attempt: i64,
    pub crashes: i64,
    /// 0 = never started.
    pub lag_ms: i64,
}

const COLUMNS: &str = "job, trigger, covers, state, coalesce(outcome, '') as outcome, coalesce(reason, '') as reason,
    cast(attempt as bigint) as attempt, cast(crashes as bigint) as crashes, coalesce(lag_ms, 0) as lag_ms";

/// The rows with an instant, in order; `url` as the daemon has it, `sqlite://...` or `postgres://...`.
pub async fn rows(url: &str, job: &str) -> Vec<Row> {
    if url.starts_with("sqlite") {
        let query = format!(
            "select {COLUMNS}, covers_from, scheduled_for from workers_runs
            where job = $1 and scheduled_for is not null order by scheduled_for"
        );
        let mut connection = SqliteConnection::connect(url).await.expect("the daemon made its file");
        return read(sqlx::query_as(sqlx::AssertSqlSafe(query)).bind(job).fetch_all(&mut connection).await);
    }
    let query = format!(
        "select {COLUMNS}, (extract(epoch from covers_from) * 1000)::bigint as covers_from,
            (extract(epoch from scheduled_for) * 1000)::bigint as scheduled_for
        from workers.runs where job = $1 and scheduled_for is not null order by workers.runs.scheduled_for"
    );
    let mut connection = PgConnection::connect(url).await.expect("the database answers");
    read(sqlx::query_as(sqlx::AssertSqlSafe(query)).bind(job).fetch_all(&mut connection).await)
}

fn read(answer: sqlx::Result<Vec<Row>>) -> Vec<Row> {
    answer.unwrap_or_else(|error| panic!("the ledger cannot be read: {error}"))
}

/// Every instant of a fixed interval is in exactly one row: no gap and no overlap between the rows, and each covers as
/// many instants as lie in it.
#[track_caller]
pub fn assert_unbroken(rows: &[Row], period_ms: i64) {
    assert!(!rows.is_empty(), "the ledger is empty");
    for row in rows {
        let instants = (row.scheduled_for - row.covers_from) / period_ms + 1;
        assert_eq!(row.covers, instants, "{row:?} covers as many instants as lie in it");
        assert_eq!(row.scheduled_for % period_ms, 0, "{row:?} is anchored to the epoch");
    }
    for pair in rows.windows(2) {
        assert_eq!(
            pair[1].covers_from,
            pair[0].scheduled_for + period_ms,
            "no gap and no overlap between {:?} and {:?}",
            pair[0],
            pair[1]
        );
    }
}
