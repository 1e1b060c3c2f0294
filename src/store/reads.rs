//! Runs as people ask for them.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    Result, Store,
    dialect::{Sql, statements},
    row::{params, run},
    session::Session,
};
use crate::domain::{
    job::JobName,
    run::{Outcome, Run, RunId, State},
};

statements! {
    ONE = Sql::both("select {run_columns} from {runs} where id = $1");
    UNFINISHED = Sql::both("select id from {runs} where id {in($1)} and state <> 'finished'");
    FILTERED = Sql::both(
        "select {run_columns} from {runs}
        where ({text($1)} is null or job = $1) and ({text($2)} is null or state = $2)
        and ({text($3)} is null or outcome = $3) and ({instant($4)} is null or created_at >= $4)
        order by id desc
        limit $5"
    );
}

/// Which runs; every field narrows, `None` does not.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    pub job: Option<JobName>,
    pub state: Option<State>,
    pub outcome: Option<Outcome>,
    /// Created at this instant or later.
    pub since: Option<DateTime<Utc>>,
    pub limit: u32,
}

impl Store {
    /// A run by its id.
    pub async fn run(&self, id: RunId) -> Result<Option<Run>> {
        self.read(move |session| {
            Box::pin(async move { session.maybe_row(&ONE, params![id]).await?.as_ref().map(run).transpose() })
        })
        .await
    }

    /// Which of these runs have not finished: the others have, or are gone. One round trip, asked again and again.
    pub async fn unfinished_among(&self, ids: Vec<Uuid>) -> Result<Vec<Uuid>> {
        self.glance(move |session| Box::pin(unfinished(session, ids.clone()))).await
    }

    /// Runs, the newest first.
    pub async fn runs(&self, filter: &RunFilter) -> Result<Vec<Run>> {
        let filter = Arc::new(filter.clone());
        self.read(move |session| Box::pin(filtered(session, Arc::clone(&filter)))).await
    }
}

async fn unfinished(session: &mut Session<'_>, ids: Vec<Uuid>) -> Result<Vec<Uuid>> {
    session.rows(&UNFINISHED, params![ids]).await?.iter().map(|row| row.columns().uuid()).collect()
}

async fn filtered(session: &mut Session<'_>, filter: Arc<RunFilter>) -> Result<Vec<Run>> {
    let values = params![
        filter.job.as_ref().map(JobName::as_str),
        filter.state.map(State::word),
        filter.outcome.map(Outcome::word),
        filter.since,
        filter.limit,
    ];
    session.rows(&FILTERED, values).await?.iter().map(run).collect()
}
