//! `http`: calls an endpoint of the team's application and judges its answer by content.

mod client;
mod target;

use std::{collections::BTreeMap, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use client::HttpClients;
pub use target::Target;

use super::{Context, Ending, Handler, Scope, not_supported_yet};
use crate::domain::{duration::Length, run::Failure};

/// Longest wait for a connection, name look-up and TLS included, unless told otherwise.
const CONNECT_TIMEOUT: Length = Length(Duration::from_secs(5));

/// Settings of `run.http`. Exactly one of `get`, `post`, `put`, `patch`, `delete` says where to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// A table under `[targets]`; `default` unless the call names a full URL.
    pub target: Option<String>,
    /// A path below the target's base URL, or a full URL.
    pub get: Option<String>,
    /// A path below the target's base URL, or a full URL.
    pub post: Option<String>,
    /// A path below the target's base URL, or a full URL.
    pub put: Option<String>,
    /// A path below the target's base URL, or a full URL.
    pub patch: Option<String>,
    /// A path below the target's base URL, or a full URL.
    pub delete: Option<String>,
    /// The JSON body; without it the payload of the run, when there is one.
    pub json: Option<Value>,
    /// Headers added to those of the target; the same name replaces.
    pub headers: BTreeMap<String, String>,
    /// Added to the query of the URL.
    pub query: BTreeMap<String, Value>,
    /// What a good answer looks like, beyond the rules of `judge`.
    pub expect: Expect,
    /// Bound of the whole call; the job's own `timeout` bounds it too.
    pub timeout: Option<Length>,
    /// Bound of name look-up, connection and TLS; 5 s.
    pub connect_timeout: Option<Length>,
    /// Where the number of items stands in the answer: a dotted path, such as `ciclo.processados`.
    pub items: Option<String>,
    /// `content` reads the answer; `status` trusts the status code.
    pub judge: Judge,
    #[serde(deserialize_with = "not_supported_yet", skip_serializing)]
    #[schemars(skip)]
    poll: (),
}

/// What decides whether a call went well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Judge {
    /// The status code and the words of the answer.
    #[default]
    Content,
    /// The status code alone.
    Status,
}

/// What a good answer looks like.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// A code (`200`) or a class (`"2xx"`); any 2xx unless given.
    pub status: Option<String>,
    /// Fields that must stand in the answer with these values; other fields may stand beside them.
    pub json: Option<Value>,
}

impl Handler for Settings {
    fn check(&mut self, _: &Scope<'_>) -> Vec<String> {
        let _ = CONNECT_TIMEOUT;
        Vec::new()
    }

    async fn run(&self, ctx: Context) -> Ending {
        drop(ctx);
        Err(Failure::permanent("not built yet"))
    }
}
