//! Asks for a run, shows it, waits for its end, cancels it, asks for it once more.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Path, RawQuery, Request, State, rejection::PathRejection},
    http::{
        HeaderValue, StatusCode,
        header::{CACHE_CONTROL, LOCATION, RETRY_AFTER},
    },
    response::{IntoResponse as _, Response},
};
use chrono::{DateTime, Utc};
use tokio::time;
use uuid::Uuid;

use super::{ask, body, desk::store};
use crate::{
    domain::{
        duration,
        job::{Job, JobName},
        run::{Run, RunId, State as RunState},
    },
    http::{HttpState, problem::Problem, routes::App},
    store::NewRun,
};

/// Longest wait of one request.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// When to look at a run for the first time, and the latest that we advise.
const FIRST_LOOK_SECONDS: i64 = 1;
const LAST_LOOK_SECONDS: i64 = 3_600;

type PathText = Result<Path<String>, PathRejection>;
type Answer = Result<Response, Problem>;

/// `POST /api/v1/jobs/{name}/runs`: a run of the job, now or later.
pub async fn enqueue(State(app): State<App>, name: PathText, request: Request) -> Answer {
    let job = job(&app.http, name)?;
    let _body = app.desk.body()?;
    let bytes = body::read(request).await?;
    let now = app.http.clock.now();
    let new = ask::new_run(&job, body::members(&bytes)?, now)?;
    drop(bytes);
    let (id, fresh) = write(&app, (job, new), now).await?;
    let code = if fresh { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok(shown(&app, code, id).await)
}

/// `GET /api/v1/runs/{id}?wait=30s`: the run, at once or when it has ended.
pub async fn show(State(app): State<App>, id: PathText, RawQuery(query): RawQuery) -> Answer {
    let id = run_id(id)?;
    let wait = wait(query.as_deref().unwrap_or_default())?;
    let seen = read(&app, id).await?.ok_or_else(|| unknown(id))?;
    if wait.is_zero() || seen.state == RunState::Finished {
        return Ok(whole(StatusCode::OK, &seen));
    }
    let store = store(&app.http)?;
    let bell = app.desk.waiting.join(&app.desk.database, store, id);
    let bell = bell.ok_or_else(|| Problem::busy("too many clients wait for runs: ask without wait"))?;
    tokio::select! {
        _ = time::timeout(wait, bell) => {}
        () = app.desk.shutdown.cancelled() => {}
    }
    let gone = || Problem::new(StatusCode::GONE, "the run has ended, and its job keeps no row of it");
    Ok(whole(StatusCode::OK, &read(&app, id).await?.ok_or_else(gone)?))
}

/// `POST /api/v1/runs/{id}/cancel`: what waits ends at once, what runs is asked to end.
pub async fn cancel(State(app): State<App>, id: PathText, request: Request) -> Answer {
    let id = run_id(id)?;
    no_members(&app, request).await?;
    let store = store(&app.http)?;
    let now = app.http.clock.now();
    let state = app.desk.ask(async move { store.request_cancel(id, now).await }).await?;
    let code = if state == RunState::Running { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok(shown(&app, code, id).await)
}

/// `POST /api/v1/runs/{id}/retry`: a new run of the same; the old row is a fact and stays.
pub async fn retry(State(app): State<App>, id: PathText, request: Request) -> Answer {
    let id = run_id(id)?;
    no_members(&app, request).await?;
    let store = store(&app.http)?;
    let now = app.http.clock.now();
    let new = app.desk.ask(async move { store.retry(id, None, now).await }).await?;
    app.http.bell.notify_one();
    Ok(shown(&app, StatusCode::ACCEPTED, new).await)
}

/// The job of the path, if our table has it.
fn job(state: &HttpState, name: PathText) -> Result<Arc<Job>, Problem> {
    let name = name.ok().and_then(|Path(name)| JobName::parse(&name).ok());
    let jobs = state.jobs.load();
    let found = name.and_then(|name| jobs.iter().find(|job| job.name == name).cloned());
    found.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "the job table has no job of this name"))
}

fn run_id(id: PathText) -> Result<RunId, Problem> {
    let id = id.ok().and_then(|Path(id)| Uuid::try_parse(&id).ok());
    id.map(RunId).ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "there is no run of this id: ids are UUIDs"))
}

fn unknown(id: RunId) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("there is no run {id}"))
}

/// The only parameter, `wait`, once or not at all.
fn wait(query: &str) -> Result<Duration, Problem> {
    let bad = |why: String| Problem::field("wait", why).with_status(StatusCode::BAD_REQUEST);
    let mut wait = None;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let Some(text) = pair.strip_prefix("wait=").filter(|text| text.len() <= 32) else {
            return Err(bad("the only parameter is wait, such as wait=30s".into()));
        };
        let length = duration::parse(text).map_err(|why| bad(ask::first_line(&why)))?;
        if MAX_WAIT < length {
            return Err(bad(format!("at most {} s", MAX_WAIT.as_secs())));
        }
        if wait.replace(length).is_some() {
            return Err(bad("given twice".into()));
        }
    }
    Ok(wait.unwrap_or_default())
}

/// A verb that takes nothing, and says so when something is given.
async fn no_members(app: &App, request: Request) -> Result<(), Problem> {
    let _body = app.desk.body()?;
    let bytes = body::read(request).await?;
    body::refuse_others(&body::members(&bytes)?, "none")
}

/// Acknowledged after commit; whether the run is new.
async fn write(app: &App, (job, new): (Arc<Job>, NewRun), now: DateTime<Utc>) -> Result<(RunId, bool), Problem> {
    let store = store(&app.http)?;
    let verb = async move {
        store.refuse_unable(&job, new.trigger, now).await?;
        store.enqueue_many(&[new], now).await
    };
    let enqueued = app.desk.ask(verb).await?;
    app.http.bell.notify_one();
    let enqueued = enqueued.first().expect("one request has one answer");
    Ok((enqueued.run, enqueued.fresh))
}

async fn read(app: &App, id: RunId) -> Result<Option<Run>, Problem> {
    let store = store(&app.http)?;
    app.desk.ask(async move { store.run(id).await }).await
}

/// The run after a verb, with where and when to look at it again.
async fn shown(app: &App, code: StatusCode, id: RunId) -> Response {
    let now = app.http.clock.now();
    // What was asked for is done and stays done, also when the row cannot be read, or is gone already.
    let run = read(app, id).await.unwrap_or_default();
    let mut response = match &run {
        Some(run) => whole(code, run),
        None => whole(code, &serde_json::json!({ "id": id })),
    };
    let headers = response.headers_mut();
    let place = HeaderValue::try_from(format!("/api/v1/runs/{id}")).expect("a UUID is plain text");
    headers.insert(LOCATION, place);
    if let Some(run) = run.filter(|run| run.state != RunState::Finished) {
        let until_due = (run.due_at - now).num_seconds().clamp(0, LAST_LOOK_SECONDS - FIRST_LOOK_SECONDS);
        headers.insert(RETRY_AFTER, HeaderValue::from(until_due + FIRST_LOOK_SECONDS));
    }
    response
}

fn whole(code: StatusCode, body: &impl serde::Serialize) -> Response {
    (code, [(CACHE_CONTROL, "no-store")], Json(body)).into_response()
}
