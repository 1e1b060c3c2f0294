//! What the daemon says of itself when it starts: a wrong database, zone or table must be visible at once.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use chrono::{DateTime, SecondsFormat, Utc};
use tracing::{info, warn};

use super::demo;
use crate::{
    config::Config,
    domain::{job::Job, lasting::Lasting, schedule::Zone},
    engine::Engine,
    job_table::JobTable,
    store::{Described, Store},
};

/// Jobs named in one warning.
const NAMED: usize = 5;

/// What there is to say before the database is open.
pub struct Notice {
    environment: String,
    zone: Option<String>,
    has_token: bool,
    is_production: bool,
    grace: Duration,
    warnings: Vec<String>,
}

impl Notice {
    pub fn new(config: &Config, table: &JobTable, lasting: Lasting) -> Self {
        let has_token = !(config.tokens.is_empty() && config.read_tokens.is_empty());
        let of_table =
            table.warnings.iter().map(|problem| format!("{}:{}: {}", problem.file, problem.line, problem.message));
        let ephemeral = (lasting != Lasting::Yes)
            .then(|| "the database lies on the container's own layer and goes with it: mount a volume".to_owned());
        Self {
            environment: config.app_env.clone().unwrap_or_else(|| "not named (APP_ENV)".into()),
            zone: config.zone.clone(),
            has_token,
            is_production: config.is_production(),
            grace: config.shutdown_grace,
            warnings: config.warnings.iter().cloned().chain(of_table).chain(ephemeral).collect(),
        }
    }

    /// Writes it to the log: of the jobs, those that this process claims.
    pub fn print(&self, engine: &Arc<Engine>, listen: Option<SocketAddr>) {
        let now = engine.clock.now();
        let (version, host) = (&engine.settings.version, &engine.settings.host);
        info!(component = "banner", "workers {version}, replica {} on {host}", engine.running.replica());
        info!(
            component = "banner",
            "environment {}, local time {}",
            self.environment,
            local(self.zone.as_deref(), now)
        );
        info!(component = "banner", "database {}", place(&engine.store.describe()));
        tokio::spawn(count(engine.store.clone(), now));
        match listen {
            Some(address) => info!(component = "banner", "listening on {address}"),
            None => info!(component = "banner", "listening nowhere"),
        }
        let table = engine.table();
        let all = table.jobs.values().map(|entry| &entry.job);
        let jobs: Vec<_> = all.filter(|job| engine.settings.scope.claims(job)).collect();
        for job in &jobs {
            info!(component = "banner", job_name = %job.name, "{}", sentence(job, now));
        }
        // Such a listener asks for tokens.
        if !self.has_token && listen.is_some_and(|address| !address.ip().is_loopback()) {
            warn!(
                component = "banner",
                "no token is configured: all but health answers 401 until WORKERS_TOKEN or WORKERS_READ_TOKEN is set"
            );
        }
        for warning in self.warnings.iter().cloned().chain(short_grace(&jobs, self.grace)) {
            warn!(component = "banner", "{warning}");
        }
        if !self.is_production {
            let engine = Arc::clone(engine);
            tokio::spawn(async move { demo::offer(&engine).await });
        }
    }
}

/// Says how the tables stand and what waits in them, as soon as the database has counted.
async fn count(store: Store, now: DateTime<Utc>) {
    let (Ok(status), Ok(figures)) = (store.migration_status().await, store.figures(now).await) else { return };
    let waiting: i64 = figures.jobs.values().map(|stats| stats.waiting).sum();
    info!(
        component = "banner",
        "database at migration {} of {}, {waiting} runs waiting", status.current, status.latest
    );
}

fn place(database: &Described) -> String {
    let schema = if database.schema.is_empty() { String::new() } else { format!(", schema {}", database.schema) };
    let pooled = if database.pooled { ", behind a transaction pooler" } else { "" };
    format!("{} {}{schema}{pooled} ({})", database.kind.word(), database.database, database.url)
}

/// The hour as people see it, and the zone that says so.
fn local(zone: Option<&str>, now: DateTime<Utc>) -> String {
    let zone = zone.and_then(|name| Zone::parse(name).ok()).unwrap_or_else(Zone::utc);
    format!("{} ({}, zone data {})", zone.shown(now), zone.name(), zone.version())
}

/// One job in one line.
fn sentence(job: &Job, now: DateTime<Utc>) -> String {
    let when = job.schedule.as_ref().map_or_else(|| "queue".into(), crate::domain::schedule::Schedule::words);
    let next = job.schedule.as_ref().and_then(|schedule| schedule.next_after(now));
    let next = next.map(|at| format!(", next {}", at.to_rfc3339_opts(SecondsFormat::Secs, true))).unwrap_or_default();
    let running = job.max_running().map_or_else(|| "any number".into(), |most| most.to_string());
    let timeout = job.policy.timeout.as_secs_f64();
    let off = job.disabled.as_ref().map(|reason| format!(", disabled: {reason}")).unwrap_or_default();
    let placeholder = if job.handler == "noop" { ", a placeholder" } else { "" };
    format!("{when}{next}; run.{}{placeholder}, {running} at once, timeout {timeout} s{off}", job.handler)
}

/// Runs that take longer than the grace are interrupted by each deploy.
fn short_grace(jobs: &[&Arc<Job>], grace: Duration) -> Option<String> {
    let longer = |job: &&&Arc<Job>| grace < job.policy.timeout && job.disabled.is_none() && job.handler != "noop";
    let names: Vec<_> = jobs.iter().filter(longer).map(|job| job.name.as_str()).collect();
    let more = if NAMED < names.len() { ", ..." } else { "" };
    (!names.is_empty()).then(|| {
        let named = names[..names.len().min(NAMED)].join(", ");
        format!(
            "shutdown_grace of {} s is shorter than the timeout of {} jobs ({named}{more}): a stop may interrupt their runs",
            grace.as_secs_f64(),
            names.len()
        )
    })
}
