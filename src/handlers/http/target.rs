//! `[targets.*]`: a place that jobs call over HTTP.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{domain::duration::Length, handlers::not_supported_yet};

/// Settings of `[targets.<name>]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Target {
    /// `http://` or `https://`, a host, and perhaps a path that all calls begin with.
    pub base_url: String,
    /// Sent with every call.
    pub headers: BTreeMap<String, String>,
    /// Bound of one call, unless the job gives one.
    pub timeout: Option<Length>,
    /// Bound of name look-up, connection and TLS, unless the job gives one; 5 s.
    pub connect_timeout: Option<Length>,
    #[serde(deserialize_with = "not_supported_yet", skip_serializing)]
    #[schemars(skip)]
    secret: (),
    #[serde(deserialize_with = "not_supported_yet", skip_serializing)]
    #[schemars(skip)]
    rate: (),
    #[serde(deserialize_with = "not_supported_yet", skip_serializing)]
    #[schemars(skip)]
    breaker: (),
    #[serde(deserialize_with = "not_supported_yet", skip_serializing)]
    #[schemars(skip)]
    network: (),
}

impl Target {
    /// A target without headers, as `APP_URL` makes it.
    pub fn at(base_url: impl Into<String>) -> Self {
        Self { base_url: base_url.into(), ..Self::default() }
    }

    /// What is wrong with the settings; empty = nothing. For the job table, which knows the target's name.
    pub fn check(&self) -> Vec<String> {
        Vec::new()
    }
}
