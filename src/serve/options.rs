//! From settings to everything the house is made of.

use std::{fs, num::NonZero, sync::Arc, thread};

use crate::{
    config::Config,
    engine::{Scope, Settings},
    handlers::Tools,
    http::{Access, Tokens},
    job_table::JobTable,
    store::DatabaseConfig,
};

use super::{Options, Reader, banner, volume};

/// The kernel's name for this machine; in a container, the container's.
const HOST_FILE: &str = "/proc/sys/kernel/hostname";

impl Options {
    /// A process that works on this part of the table.
    pub fn new(config: &Config, table: Arc<JobTable>, scope: Scope, reader: Reader) -> Self {
        let mut tools = Tools::new(table.targets.clone());
        tools.create_team_tables = config.create_team_tables;
        let database = database(config);
        let lasting = volume::look(config, &database);
        let notice = banner::Notice::new(config, &table, lasting);
        Self {
            database,
            settings: Settings {
                scope,
                scheduled_slots: config.scheduled,
                queue_slots: config.concurrency,
                command_slots: 2 * thread::available_parallelism().map_or(1, NonZero::get),
                shutdown_grace: config.shutdown_grace,
                log_success: config.log_success.parse().expect("the setting takes these words only"),
                host: fs::read_to_string(HOST_FILE).map(|name| name.trim().to_owned()).unwrap_or_default(),
                version: env!("CARGO_PKG_VERSION").into(),
            },
            lasting,
            listen: Some(config.listen),
            once: None,
            reader: Arc::new(reader),
            access: Arc::new(access(config)),
            tools,
            revision: option_env!("WORKERS_REVISION").unwrap_or_default(),
            banner: Box::new(move |engine, listen| notice.print(engine, listen)),
            table,
        }
    }
}

/// Where the ledger lives, by these settings.
pub fn database(config: &Config) -> DatabaseConfig {
    DatabaseConfig {
        url: config.database_url.clone(),
        direct_url: config.direct_url.clone(),
        schema: config.schema.clone(),
        max_connections: config.pool_max,
        min_connections: config.pool_min,
        data_dir: config.data_dir.clone(),
        application_name: "workers".into(),
    }
}

fn access(config: &Config) -> Access {
    let tokens = Tokens { operate: &config.tokens, read: &config.read_tokens };
    Access::new(config.listen, config.metrics_public, tokens)
}
