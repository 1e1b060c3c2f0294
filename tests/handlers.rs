//! The handlers, each against the real thing: HTTP servers, SQLite files and PostgreSQL. No engine.

mod support;

#[path = "handlers/attempt.rs"]
mod attempt;
#[path = "handlers/briefing.rs"]
mod briefing;
#[path = "handlers/command.rs"]
mod command;
#[path = "handlers/documents.rs"]
mod documents;
#[path = "handlers/drain.rs"]
mod drain;
#[path = "handlers/drain_schemas.rs"]
mod drain_schemas;
#[path = "handlers/drain_troubles.rs"]
mod drain_troubles;
#[path = "handlers/fila.rs"]
mod fila;
#[path = "handlers/fila_adopted.rs"]
mod fila_adopted;
#[path = "handlers/fila_crash.rs"]
mod fila_crash;
#[path = "handlers/gate.rs"]
mod gate;
#[path = "handlers/grupos.rs"]
mod grupos;
#[path = "handlers/handoffs.rs"]
mod handoffs;
#[path = "handlers/http.rs"]
mod http;
#[path = "handlers/http_answers.rs"]
mod http_answers;
#[path = "handlers/http_poll.rs"]
mod http_poll;
#[path = "handlers/http_script.rs"]
mod http_script;
#[path = "handlers/http_signature.rs"]
mod http_signature;
#[path = "handlers/http_traffic.rs"]
mod http_traffic;
#[path = "handlers/noop.rs"]
mod noop;
#[path = "handlers/pilot.rs"]
mod pilot;
#[path = "handlers/report.rs"]
mod report;
#[path = "handlers/retomada.rs"]
mod retomada;
#[path = "handlers/retomada_adopted.rs"]
mod retomada_adopted;
#[path = "handlers/retomada_endpoint.rs"]
mod retomada_endpoint;
#[path = "handlers/server.rs"]
mod server;
#[path = "handlers/shifts.rs"]
mod shifts;
#[path = "handlers/sql.rs"]
mod sql;
#[path = "handlers/team.rs"]
mod team;
#[path = "handlers/temperature_decay.rs"]
mod temperature_decay;
