//! The list of all settings: their variables with units and ranges, defaults and meanings. The documentation is this list.

use super::value::{Kind, Unit};

/// A setting and everything that can set it.
pub struct Setting {
    /// Its name; `server.listen` is also the key `listen` of `[server]` in jobs.toml.
    pub name: &'static str,
    pub kind: Kind,
    /// Built-in value; empty = none, or worked out from the surroundings.
    pub default: &'static str,
    /// Our own variable.
    pub ours: Option<&'static str>,
    /// The team's own variables, under the names their programs know.
    pub team: &'static [(&'static str, Unit)],
    pub meaning: &'static str,
}

const YEAR_MS: u64 = 366 * 86_400_000;
const DAY_MS: u64 = 86_400_000;

macro_rules! settings {
    ($($name:literal $kind:expr, $default:literal, [$($ours:literal)?] [$($team:literal $unit:ident),*] $meaning:literal;)+) => {
        /// All settings.
        pub const SETTINGS: &[Setting] = &[$(Setting {
            name: $name,
            kind: $kind,
            default: $default,
            ours: settings!(@ours $($ours)?),
            team: &[$(($team, Unit::$unit)),*],
            meaning: $meaning,
        }),+];
    };
    (@ours) => { None };
    (@ours $ours:literal) => { Some($ours) };
}

settings! {
    "jobs_file" Kind::Text, "jobs.toml", ["WORKERS_CONFIG"] [] "the job table";
    "data_dir" Kind::Text, "", ["WORKERS_DATA_DIR"] [] "folder of workers.db; the working directory unless given";
    "server.listen" Kind::Address, "", ["WORKERS_LISTEN"] []
        "where to answer; [::] and PORT when PORT is set or in a container, else 127.0.0.1:8000";
    "port" Kind::Whole(0, 65_535), "8000", [] ["PORT" One] "port to answer on when no address is given";
    "server.token" Kind::Secret, "", ["WORKERS_TOKEN"] [] "tokens that may do everything, separated by commas";
    "server.read_token" Kind::Secret, "", ["WORKERS_READ_TOKEN"] [] "tokens that may read, separated by commas";
    "server.metrics_public" Kind::Boolean, "false", ["WORKERS_METRICS_PUBLIC"] [] "/metrics answers without a token";
    "database.url" Kind::Url, "", ["WORKERS_DATABASE_URL"] ["DATABASE_URL" One]
        "where the ledger lives; workers.db unless given";
    "database.direct_url" Kind::Url, "", ["WORKERS_DIRECT_URL"] ["DIRECT_URL" One]
        "the same PostgreSQL past its pooler, for migrations and LISTEN";
    "database.schema" Kind::Identifier, "workers", ["WORKERS_SCHEMA"] [] "schema of our tables on PostgreSQL";
    "database.pool_min" Kind::Whole(0, 1_000), "1", ["WORKERS_POOL_MIN"] ["DATABASE_POOL_MIN_SIZE" One]
        "connections kept open";
    "database.pool_max" Kind::Whole(2, 1_000), "5", ["WORKERS_POOL_MAX"] ["DATABASE_POOL_MAX_SIZE" One]
        "most connections at once";
    "database.create_team_tables" Kind::Boolean, "true", ["WORKERS_CREATE_TEAM_TABLES"] []
        "handlers may create the team's tables they do not find";
    "allow_ephemeral" Kind::Boolean, "false", ["WORKERS_ALLOW_EPHEMERAL"] []
        "allow SQLite on a container's own layer in production";
    "executor.concurrency" Kind::Whole(1, 50), "4", ["WORKERS_CONCURRENCY"]
        ["WORKER_CONCURRENCY" One, "ARQ_MAX_JOBS" One] "runs of queues at once";
    "executor.scheduled" Kind::Whole(1, 10_000), "64", ["WORKERS_SCHEDULED"] []
        "scheduled, caught-up and triggered runs at once";
    "executor.shutdown_grace" Kind::Time(0, DAY_MS), "8s", ["WORKERS_SHUTDOWN_GRACE"]
        ["RAILWAY_DEPLOYMENT_DRAINING_SECONDS" Seconds] "how long running work may go on after SIGTERM";
    "log.level" Kind::LogLevel, "info", ["WORKERS_LOG_LEVEL"] ["LOG_LEVEL" One] "least important lines that are written";
    "log.format" Kind::Choice(&["auto", "text", "json"]), "auto", ["WORKERS_LOG_FORMAT"] []
        "text on a terminal, else JSON lines";
    "log.success" Kind::Choice(&["all", "summary", "none"]), "summary", ["WORKERS_LOG_SUCCESS"] []
        "lines about successes of jobs faster than a minute";
    "app_env" Kind::Text, "", [] ["APP_ENV" One] "name of this environment, compared with only_in";
    "zone" Kind::Text, "", [] ["TZ" One] "zone in which people are shown times";
    "run_mode" Kind::Choice(&["api", "worker", "scheduler"]), "", ["WORKERS_RUN_MODE"] ["RUN_MODE" One]
        "api = publish only, worker = queues only, scheduler = schedules only; everything unless given";
    "worker_mode" Kind::Boolean, "", [] ["WORKER_MODE" One] "false = publish only, as RUN_MODE=api";
    "queue" Kind::Text, "", [] ["QUEUE_NAME" One] "the queue to claim when only one is wanted";
    "team.job_timeout" Kind::Time(1, YEAR_MS), "", []
        ["JOB_TIMEOUT" Seconds, "ARQ_JOB_TIMEOUT" Seconds, "WORKER_TIMEOUT" Milliseconds]
        "timeout of jobs where neither job nor [defaults] give one (300 s)";
    "team.queue_keep_done" Kind::Time(0, YEAR_MS), "", [] ["ARQ_KEEP_RESULT" Seconds]
        "keep.done of queues (3600 s with arq)";
    "team.queue_concurrency" Kind::Whole(1, 10_000), "", [] ["N_WORKERS" One] "slots of each queue (2)";
    "team.poll_interval" Kind::Time(1_000, YEAR_MS), "", [] ["QUEUE_POLL_INTERVAL" Seconds]
        "for ${QUEUE_POLL_INTERVAL:-30} in jobs.toml";
    "team.processing_interval" Kind::Time(1_000, 60_000), "", [] ["WORKER_PROCESSING_INTERVAL" Milliseconds]
        "for jobs.toml (5000)";
    "team.batch_size" Kind::Whole(1, 1_000), "", [] ["WORKER_BATCH_SIZE" One] "for jobs.toml (50)";
    "team.claim_batch_size" Kind::Whole(1, 1_000), "", [] ["CLAIM_BATCH_SIZE" One] "for jobs.toml (10)";
    "team.llm_cap" Kind::Whole(1, 10_000), "", [] ["LLM_CONCURRENCY_HARD_CAP" One] "for jobs.toml (32)";
    "team.pilot_mode" Kind::Flag, "", [] ["PILOT_MODE" One]
        "switch that run.pilot reports; for gates: when = { env = \"PILOT_MODE\", is = \"false\" }";
    "team.discovery_automatic" Kind::Flag, "", [] ["DISCOVERY_AUTOMATICO_ENABLED" One] "switch that run.pilot reports";
    "team.oferta_automatic" Kind::Flag, "", [] ["OFERTA_AUTOMATICO_ENABLED" One] "switch that run.pilot reports";
    "team.reativacao_automatic" Kind::Flag, "", [] ["REATIVACAO_AUTOMATICO_ENABLED" One] "switch that run.pilot reports";
    "team.feedback_automatic" Kind::Flag, "", [] ["FEEDBACK_AUTOMATICO_ENABLED" One] "switch that run.pilot reports";
    "team.messages_per_hour" Kind::Whole(0, 1_000_000), "", [] ["MAX_MSGS_POR_HORA" One]
        "limits.per_hour of [outbound]: messages in an hour (20)";
    "team.messages_per_day" Kind::Whole(0, 1_000_000), "", [] ["MAX_MSGS_POR_DIA" One]
        "limits.per_day of [outbound]: messages in a day (100)";
    "team.outbound_allowlist" Kind::Secret, "", [] ["OUTBOUND_ALLOWLIST" One]
        "allowlist of [outbound]: numbers that may be written to outside of production, separated by commas";
    "team.evolution_url" Kind::Web, "", [] ["EVOLUTION_API_URL" One] "evolution.url of [outbound]";
    "team.evolution_key" Kind::Secret, "", [] ["EVOLUTION_API_KEY" One] "evolution.key of [outbound]";
    "team.evolution_instance" Kind::Text, "", [] ["EVOLUTION_INSTANCE" One] "evolution.instance of [outbound]";
    "team.slack_webhook" Kind::Secret, "", [] ["SLACK_WEBHOOK_URL" One] "slack of [outbound]: where the team is told things";
}

/// A row of `workers config env`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct VariableRow {
    pub name: &'static str,
    /// What a bare number counts.
    pub unit: &'static str,
    pub range: String,
    pub default: &'static str,
    pub meaning: &'static str,
}

/// Every variable the process reads, in the order of the settings.
pub fn variables() -> Vec<VariableRow> {
    let mut rows = Vec::new();
    for setting in SETTINGS {
        let own_unit = if matches!(setting.kind, Kind::Time(..)) { Unit::Seconds } else { Unit::One };
        for (name, unit) in setting.ours.map(|name| (name, own_unit)).into_iter().chain(setting.team.iter().copied()) {
            let range = setting.kind.range(unit);
            rows.push(VariableRow {
                name,
                unit: unit.word(),
                range,
                default: setting.default,
                meaning: setting.meaning,
            });
        }
    }
    rows
}
