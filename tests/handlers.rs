//! The handlers, each against the real thing: HTTP servers, SQLite files and PostgreSQL. No engine.

mod support;

#[path = "handlers/attempt.rs"]
mod attempt;
#[path = "handlers/command.rs"]
mod command;
#[path = "handlers/documents.rs"]
mod documents;
#[path = "handlers/gate.rs"]
mod gate;
#[path = "handlers/http.rs"]
mod http;
#[path = "handlers/noop.rs"]
mod noop;
#[path = "handlers/server.rs"]
mod server;
#[path = "handlers/sql.rs"]
mod sql;
#[path = "handlers/temperature_decay.rs"]
mod temperature_decay;
