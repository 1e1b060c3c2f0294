//! Dead letters of the message queue, read and decided over in the database itself.

use std::collections::BTreeMap;

use crate::{
    domain::run::Failure,
    engine::queues::as_tx,
    handlers::{AppTx, fila::dead::DeadLetters},
    store::{Store, StoreError},
};

pub use crate::handlers::fila::dead::{DeadLetter, Decided, Decision, Verdict, Which};

/// Dead letters of the message queue.
pub struct Letters<'a> {
    store: &'a Store,
}

impl<'a> Letters<'a> {
    pub fn of(store: &'a Store) -> Self {
        Self { store }
    }

    /// How many there are, and the oldest of them.
    pub async fn list(&self, which: &Which, whole_phones: bool) -> Result<(u64, Vec<DeadLetter>), Trouble> {
        let mut tx = as_tx(self.store.begin_look().await?);
        let Some(letters) = DeadLetters::find(&mut tx).await? else { return Ok((0, Vec::new())) };
        let found = letters.count(&mut tx, which).await?;
        Ok((found, letters.list(&mut tx, which, whole_phones).await?))
    }

    /// How many there are for each reason.
    pub async fn by_reason(&self, which: &Which) -> Result<BTreeMap<String, i64>, Trouble> {
        let mut tx = as_tx(self.store.begin_look().await?);
        let Some(letters) = DeadLetters::find(&mut tx).await? else { return Ok(BTreeMap::new()) };
        Ok(letters.by_reason(&mut tx, which).await?)
    }

    /// Decides over one message, in a transaction of its own.
    pub async fn decide(&self, id: &str, decision: &Decision) -> Result<Decided, Trouble> {
        let mut tx = as_tx(self.store.begin_app().await?);
        let Some(letters) = DeadLetters::find(&mut tx).await? else { return Ok(Decided::Absent) };
        let decided = letters.decide(&mut tx, id, decision).await?;
        commit(tx).await?;
        Ok(decided)
    }

    /// Decides over the oldest `which.limit` of them together; how many.
    pub async fn decide_many(&self, which: &Which, decision: &Decision) -> Result<u64, Trouble> {
        let mut tx = as_tx(self.store.begin_app().await?);
        let Some(letters) = DeadLetters::find(&mut tx).await? else { return Ok(0) };
        let decided = letters.decide_many(&mut tx, which, decision).await?;
        commit(tx).await?;
        Ok(decided)
    }
}

/// Why dead letters could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The team's tables are not what they must be.
    #[error("{0}")]
    Tables(String),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Tables(failure.message)
    }
}

async fn commit(tx: AppTx) -> Result<(), StoreError> {
    tx.commit().await.map_err(StoreError::from)
}
