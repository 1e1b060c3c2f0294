//! What a database says of the settings before the first run: every statement is prepared, and columns are looked into.

use sqlx::{AssertSqlSafe, Executor as _, SqlSafeStr as _};

use super::{
    Settings,
    plan::{Plan, execute},
    table::cell::{Cell, Values},
    table::fragment::Fragment,
    table::statement::Statement,
    table::time::Time,
};
use crate::{
    domain::run::Failure,
    handlers::{AppTx, Dialect, transaction::failure},
};

/// What is wrong, one message each; changes nothing that outlives the transaction.
pub(super) async fn examine(settings: &Settings, tx: &mut AppTx) -> Result<Vec<String>, Failure> {
    let plan = Plan::of(settings, tx).await?;
    let mut wrong = Vec::new();
    for (setting, fragment) in plan.fragments.named() {
        let statement = alone(&plan, setting, fragment);
        wrong.extend(refusal(tx, &statement).await?.map(|reason| format!("{setting}: {reason}")));
    }
    if wrong.is_empty() {
        for statement in plan.statements() {
            wrong.extend(refusal(tx, statement).await?);
        }
    }
    if wrong.is_empty() && tx.dialect() == Dialect::Sqlite {
        wrong = other_times(settings, &plan, tx).await?;
    }
    Ok(wrong)
}

fn alone(plan: &Plan, setting: &str, fragment: &Fragment) -> Statement {
    match setting {
        "where" | "stuck.where" => plan.shape.condition_alone(fragment),
        "order" => plan.shape.order_alone(fragment),
        _ => plan.shape.set_alone(fragment),
    }
}

/// Why the database does not take a statement. A refusal spoils a transaction, so it is undone.
async fn refusal(tx: &mut AppTx, statement: &Statement) -> Result<Option<String>, Failure> {
    let sql = AssertSqlSafe(statement.text.clone()).into_sql_str();
    execute(tx, "savepoint prepared").await?;
    let answer = match tx {
        AppTx::Postgres(tx) => (&mut **tx).prepare(sql).await.map(drop),
        AppTx::Sqlite(tx) => (&mut **tx).prepare(sql).await.map(drop),
    };
    execute(tx, "rollback to prepared").await?;
    let kind = match tx.dialect() {
        Dialect::Postgres => "PostgreSQL",
        Dialect::Sqlite => "SQLite",
    };
    match answer {
        Ok(()) => Ok(None),
        Err(sqlx::Error::Database(refusal)) => Ok(Some(format!("the {kind} database says: {}", refusal.message()))),
        Err(error) => Err(failure(&error)),
    }
}

/// SQLite compares text with text and numbers with numbers, whatever they mean: a column of another form than `time` is
/// always due, or never.
async fn other_times(settings: &Settings, plan: &Plan, tx: &mut AppTx) -> Result<Vec<String>, Failure> {
    let mut wrong = Vec::new();
    for column in plan.timed() {
        let Some(column) = plan.shape.columns.iter().find(|known| known.name.eq_ignore_ascii_case(column)) else {
            continue;
        };
        let statement = plan.shape.sample(&column.name);
        let held = Values::of_nothing(settings.time).column(tx, &statement).await.map_err(|error| failure(&error))?;
        wrong.extend(
            held.iter()
                .find_map(|cell| other_form(settings.time, cell))
                .map(|form| format!("time is {:?}, and column {:?} holds {form}", settings.time.word(), column.name)),
        );
    }
    Ok(wrong)
}

/// The form of a value that is not as `time` says; nothing of the value itself.
fn other_form(time: Time, cell: &Cell) -> Option<String> {
    match Time::of(cell) {
        Some(form) if form == time => None,
        // A number of 0 is always in the past: due at once.
        None if *cell == Cell::Whole(0) && matches!(time, Time::Unix | Time::UnixMs) => None,
        Some(form) => Some(format!("instants of the form {:?}", form.word())),
        None => Some("what is no instant of a known form".into()),
    }
}
