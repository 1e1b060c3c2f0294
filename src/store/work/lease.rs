//! The lease of a replica: one row, and what runs in its name (spec 4, Lease).

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::{
    domain::run::{Fence, ReplicaId, RunId},
    store::{
        Held, Replica, Result, Store,
        connect::Database,
        dialect::{Kind, Of, Sql, statements},
        row::{Row, params},
        session::{QUICK, Session},
    },
};

statements! {
    /// On SQLite whoever registers is alone: the file lock proved the others dead.
    BURY = Sql::sqlite("update {replicas} set state = 'dead' where state = 'live' and id <> $1");
    REGISTER = Sql::both(
        "insert into {replicas} (id, host, version, table_hash, state, started_at, renewed_at, lease_until)
        values ($1, $2, $3, $4, 'live', $5, $5, $6)"
    );
    /// Expired is dead for ever, whether or not anybody noticed. On SQLite a lease cannot expire.
    RENEW = Sql::each(
        "update {replicas} set lease_until = $3, renewed_at = $2
        where id = $1 and state = 'live' and lease_until > $2",
        "update {replicas} set lease_until = $3, renewed_at = $2 where id = $1 and state = 'live'"
    );
    HELD = Sql::both(
        "select id, lease, cancel_requested_at is not null, reason from {runs} where replica = $1 and state = 'running'"
    );
    GIVE_BACK = Sql::bulk(
        &[("id", Of::Uuid), ("lease", Of::Uuid)],
        "update {runs} set state = 'due', attempt = attempt - 1, replica = null, lease = null,
            started_at = case when resume is null then null else started_at end
        from {given}
        where id = given_id and lease = given_lease and {still_running(state)}
        returning id"
    );
    LEAVE = Sql::both(
        "update {replicas} set state = 'left', renewed_at = $2, lease_until = $2 where id = $1 and state = 'live'"
    );
}

impl Store {
    /// Whether death must be proven by an expired lease; on SQLite the file lock proves it.
    pub fn needs_lease(&self) -> bool {
        self.kind() == Kind::Postgres
    }

    /// Puts a replica on the list, alive until `lease_until`; its `state` is ours to write.
    pub async fn register(&self, replica: &Replica) -> Result<()> {
        let replica = Arc::new(replica.clone());
        self.write(QUICK, move |session| Box::pin(register(session, Arc::clone(&replica)))).await
    }

    /// Prolongs a lease and returns what runs in its name; `None` = it is gone or has expired, for ever. On PostgreSQL
    /// over a connection of its own, within 3 s.
    pub async fn renew(
        &self,
        replica: ReplicaId,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Result<Option<Vec<Held>>> {
        match &self.inner.database {
            Database::Postgres(database) => {
                let book = &self.inner.book;
                database.renew(QUICK, book, &move |session| Box::pin(renew(session, replica, now, until))).await
            }
            Database::Sqlite(_) => {
                self.write(QUICK, move |session| Box::pin(renew(session, replica, now, until))).await
            }
        }
    }

    /// Puts claimed runs back that never started (a claim whose answer was lost): no attempt is spent.
    /// Their `due_at` stands: they have waited since then.
    pub async fn give_back(&self, runs: &[(RunId, Fence)]) -> Result<()> {
        let runs = Arc::new(runs.to_vec());
        self.write(QUICK, move |session| {
            let given = runs.iter().map(|(run, fence)| params![*run, fence.0]).collect();
            Box::pin(async move { session.bulk(&GIVE_BACK, given, params![]).await.map(drop) })
        })
        .await
    }

    /// Takes a replica off the list, in order; what still runs in its name is freed by the others.
    pub async fn leave(&self, replica: ReplicaId, now: DateTime<Utc>) -> Result<()> {
        self.write(QUICK, move |session| {
            Box::pin(async move { session.execute(&LEAVE, params![replica, now]).await.map(drop) })
        })
        .await
    }
}

async fn register(session: &mut Session<'_>, replica: Arc<Replica>) -> Result<()> {
    if session.kind() == Kind::Sqlite {
        session.execute(&BURY, params![replica.id]).await?;
    }
    let (host, version) = (replica.host.as_str(), replica.version.as_str());
    let values =
        params![replica.id, host, version, replica.table_hash.as_str(), replica.started_at, replica.lease_until];
    session.execute(&REGISTER, values).await?;
    Ok(())
}

async fn renew(
    session: &mut Session<'_>,
    replica: ReplicaId,
    now: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<Option<Vec<Held>>> {
    if session.execute(&RENEW, params![replica, now, until]).await? == 0 {
        return Ok(None);
    }
    let rows = session.rows(&HELD, params![replica]).await?;
    rows.iter().map(held).collect::<Result<_>>().map(Some)
}

fn held(row: &Row) -> Result<Held> {
    let mut columns = row.columns();
    let (run, fence, cancel_requested) = (columns.uuid()?, columns.uuid()?, columns.flag()?);
    let cancel_reason = columns.maybe_word()?.filter(|_| cancel_requested);
    Ok(Held { run: RunId(run), fence: Fence(fence), cancel_requested, cancel_reason })
}
