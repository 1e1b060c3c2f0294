//! The runner: fills free slots with due runs. Queues and scheduled work have slots of their own.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::{
    Engine,
    desk::{Desk, Pick},
    running::Claimed,
};
use crate::store::Result;

/// Claims; starting what was claimed is the loop's part, so that tests can hold time still.
pub struct Runner {
    engine: Arc<Engine>,
}

/// What a tick claimed.
#[derive(Default)]
pub struct Claims {
    pub claimed: Vec<Claimed>,
    /// When the earliest waiting run becomes due.
    pub next_due: Option<DateTime<Utc>>,
}

impl Runner {
    pub fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }

    /// Promotes what has become due and claims, scheduled work first. When a later claim fails, what was
    /// claimed before it is handed out all the same: nobody else would ever start it.
    pub async fn tick(&self, now: DateTime<Utc>) -> Result<Claims> {
        let mut claims = Claims { next_due: self.engine.store.promote(now).await?, ..Claims::default() };
        match self.fill(&mut claims.claimed, now).await {
            Err(error) if claims.claimed.is_empty() => Err(error),
            // The next tick, at once, meets the same error if it lasts.
            _ => Ok(claims),
        }
    }

    async fn fill(&self, claimed: &mut Vec<Claimed>, now: DateTime<Utc>) -> Result<()> {
        let desk = self.engine.desk();
        for pick in Pick::ALL {
            // A run that lost its process before is let in alone: should it do so again, it convicts no neighbour.
            // It goes first, or the newer runs of its job would always be in its way.
            if !self.engine.running.has_suspect() {
                claimed.extend(self.claim(&desk, (pick, true), now).await?);
            }
            claimed.extend(self.claim(&desk, (pick, false), now).await?);
        }
        Ok(())
    }

    async fn claim(
        &self,
        desk: &Arc<Desk>,
        (pick, suspects): (Pick, bool),
        now: DateTime<Utc>,
    ) -> Result<Vec<Claimed>> {
        let running = &self.engine.running;
        let Some(mut request) = self.engine.claim_request(desk, (pick, suspects), now) else { return Ok(Vec::new()) };
        if suspects {
            request.limit = 1;
        }
        match self.engine.store.claim(&request).await {
            Ok(claimed) => Ok(running.enter(claimed, request.fence, desk)),
            Err(error) => {
                running.unanswered(request.fence);
                Err(error)
            }
        }
    }
}
