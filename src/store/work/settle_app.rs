//! Settling inside a handler's own transaction: effect and settlement commit together (promise R3).

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use sqlx::{Postgres, SqliteConnection, Transaction};
use tokio::{sync::OwnedMutexGuard, time::timeout};

use super::settle::{Item, apply};
use crate::{
    domain::{
        run::{Lease, Outcome, Reason, State},
        settle::{Next, Settlement},
    },
    store::{
        AppConnection, Result, Settled, Store, StoreError,
        connect::Database,
        dialect::{Sql, statements},
        row::params,
        session::{QUICK, Session},
    },
};

/// Settling and committing, after the handler's own work is done.
const COMMIT_LIMIT: Duration = Duration::from_secs(10);

statements! {
    /// Waits until a commit that is still on its way has ended, one way or the other.
    LOOK = Sql::both("select lease, state, at_most_once from {runs} where id = $1 {for_update}");
}

/// What became of the handler's transaction.
enum End {
    Settled(Settled),
    /// Nobody told us.
    InDoubt,
    /// Rolled back, because the database would not take the result.
    Refused(String),
    /// Rolled back, because the handler left it unusable.
    Failed(StoreError),
}

impl End {
    fn of(error: StoreError) -> Self {
        match error {
            StoreError::Refused(reason) => Self::Refused(reason),
            error => Self::Failed(error),
        }
    }

    /// A refused commit (a deferred constraint of the handler's own tables) is known to have changed nothing.
    fn of_commit(error: StoreError) -> Self {
        match error {
            StoreError::Unreachable(_) => Self::InDoubt,
            error => Self::Failed(error),
        }
    }
}

impl Store {
    /// Settles a run inside the handler's transaction and commits both. `Late` = the lease was gone, and the
    /// handler's work was rolled back. `Undone` = the commit did not happen, and the run goes on without an attempt.
    ///
    /// # Errors
    /// `Unreachable` when the commit is in doubt and nobody can be asked; any other error = rolled back, and the lease
    /// still stands.
    pub async fn settle_within(
        &self,
        connection: AppConnection,
        lease: &Lease,
        settlement: &Settlement,
        now: DateTime<Utc>,
    ) -> Result<Settled> {
        let item = Item::new(lease, settlement);
        let end = match connection {
            AppConnection::Postgres(tx) => self.end_postgres(tx, &item, now).await,
            AppConnection::Sqlite(connection) => self.end_sqlite(connection, &item, now).await,
        };
        match end {
            End::Settled(Settled::Late) => {
                // Its note was rolled back with the handler's work: noted again, outside.
                let items: Arc<[Item]> = Arc::new([item]);
                self.write(QUICK, move |session| Box::pin(apply(session, Arc::clone(&items), now))).await?;
                Ok(Settled::Late)
            }
            End::Settled(settled) => Ok(settled),
            End::Refused(reason) => self.settle_refused(lease, reason, now).await,
            End::Failed(error) => Err(error),
            End::InDoubt => self.write(QUICK, move |session| Box::pin(look(session, item.clone(), now))).await,
        }
    }

    async fn end_postgres(&self, mut tx: Transaction<'static, Postgres>, item: &Item, now: DateTime<Utc>) -> End {
        let Database::Postgres(database) = &self.inner.database else {
            return End::Failed(StoreError::Other("a transaction of another database".into()));
        };
        let ended = timeout(COMMIT_LIMIT, async {
            let mut session = Session::postgres(&mut tx, &self.inner.book, !database.pooled);
            let settled = match apply(&mut session, Arc::new([item.clone()]), now).await {
                Ok(mut settled) => settled.remove(0),
                // Nothing can be committed on a connection that is gone.
                Err(StoreError::Unreachable(_)) => return End::InDoubt,
                Err(error) => return End::of(error),
            };
            if settled == Settled::Late {
                // Dropped without a commit, it rolls back all the same.
                let _ = tx.rollback().await;
                return End::Settled(settled);
            }
            match tx.commit().await.map_err(StoreError::from) {
                Ok(()) => End::Settled(settled),
                Err(error) => End::of_commit(error),
            }
        });
        ended.await.unwrap_or(End::InDoubt)
    }

    async fn end_sqlite(&self, mut guard: OwnedMutexGuard<SqliteConnection>, item: &Item, now: DateTime<Utc>) -> End {
        let applied = apply(&mut Session::sqlite(&mut guard, &self.inner.book), Arc::new([item.clone()]), now).await;
        let end = match applied {
            Ok(mut settled) => End::Settled(settled.remove(0)),
            Err(error) => End::of(error),
        };
        let keep = matches!(&end, End::Settled(Settled::Applied));
        let text = if keep { "commit" } else { "rollback" };
        // Whoever locks the writer next rolls back what is still open.
        match sqlx::raw_sql(text).execute(&mut *guard).await.map_err(StoreError::from) {
            Err(error) if keep => End::of_commit(error),
            _ => end,
        }
    }
}

/// Finds out whether an unanswered commit happened. If it did not, the effect did not either, and the run goes on.
async fn look(session: &mut Session<'_>, item: Item, now: DateTime<Utc>) -> Result<Settled> {
    let Some(row) = session.maybe_row(&LOOK, params![item.run]).await? else {
        return Ok(if item.settlement.delete { Settled::Applied } else { Settled::Late });
    };
    let mut columns = row.columns();
    let (lease, state) = (columns.maybe_uuid()?, columns.word::<State>()?);
    let at_most_once = columns.flag()?;
    if lease != Some(item.fence) {
        return Ok(Settled::Late);
    }
    if state != State::Running {
        return Ok(Settled::Applied);
    }
    let reason = Some(Reason::Interrupted);
    let next =
        if at_most_once { Next::Finish { outcome: Outcome::Unknown, reason } } else { Next::Again { at: now, reason } };
    let undone = Settlement { next, attempt_spent: at_most_once, delete: false, result: None, ..item.settlement };
    apply(session, Arc::new([Item { settlement: undone, ..item }]), now).await?;
    Ok(Settled::Undone)
}
