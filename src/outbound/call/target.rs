//! `[targets.*]`: a place that jobs call over HTTP.

use std::{collections::BTreeMap, fmt};

use reqwest::Url;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    plain::checked_headers,
    reach::{Network, within_reach},
    signature::Secret,
    traffic::{BreakerSettings, Rate},
};
use crate::domain::{
    duration::Length,
    secret::{MASK, password_of},
};

/// The target of a job that names none.
pub const DEFAULT_TARGET: &str = "default";

/// The `[targets.*]` of a job table, by name. The job table adds `default` from `APP_URL` when the file has none.
pub type Targets = BTreeMap<String, Target>;

/// Settings of `[targets.<name>]`.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    /// Signs each call as Standard Webhooks says: base64 of 24 to 64 bytes, `whsec_` before it or not; several, separated
    /// by spaces, sign in parallel.
    pub secret: Secret,
    /// Most calls in a second (`50/s`), minute (`600/min`) or hour (`20/h`), polls included, of this process.
    pub rate: Option<Rate>,
    /// Leaves the target alone after failures in a row; never unless given.
    pub breaker: Option<BreakerSettings>,
    /// `public` refuses loopback, private and all other addresses that are not of the internet; `any` reaches them.
    /// Cloud metadata and link-local addresses are refused in both.
    pub network: Network,
}

impl Target {
    /// A target without headers, as `APP_URL` makes it.
    pub fn at(base_url: impl Into<String>) -> Self {
        Self { base_url: base_url.into(), ..Self::default() }
    }

    /// The same for a hash: with the names of its headers, and with that it has a secret.
    pub(crate) fn without_secrets(&self) -> Self {
        let mut target = Self { base_url: without_password(&self.base_url), ..self.clone() };
        hide(target.headers.values_mut());
        target.secret = self.secret.hidden();
        target
    }

    /// What is wrong with the settings, one message per mistake. The messages do not name the target.
    pub fn check(&self) -> Vec<String> {
        let mut errors: Vec<String> =
            self.url("").and_then(|url| within_reach(&url, self.network)).err().into_iter().collect();
        errors.extend(checked_headers(&self.headers).err().unwrap_or_default());
        errors.extend(self.secret.check().err());
        errors.extend(self.breaker.as_ref().and_then(BreakerSettings::check));
        errors
    }

    /// The URL of a path below this target; the path is empty or begins with `/`.
    pub(crate) fn url(&self, path: &str) -> Result<Url, String> {
        if self.base_url.is_empty() {
            return Err("base_url is empty".into());
        }
        if self.base_url.contains(['?', '#']) {
            return Err("base_url has a query or a fragment; a call adds its own with `query`".into());
        }
        web_url(&format!("{}{path}", self.base_url.trim_end_matches('/')))
    }
}

/// Nothing of it: URL, headers and secret hold what nobody may read.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").finish_non_exhaustive()
    }
}

/// Puts a mask in the place of each value.
pub(crate) fn hide<'a>(values: impl Iterator<Item = &'a mut String>) {
    values.for_each(|value| *value = MASK.into());
}

/// An address with a mask for its password.
pub(crate) fn without_password(address: &str) -> String {
    let password = password_of(address).filter(|password| !password.is_empty());
    password.map_or_else(|| address.to_owned(), |password| address.replacen(&format!(":{password}@"), ":***@", 1))
}

/// A URL of the web. The error does not quote it, because a URL may hold a password.
pub(crate) fn web_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("not a URL: {error}"))?;
    if !["http", "https"].contains(&url.scheme()) {
        return Err(format!("the URL begins with {:?}, and must begin with http:// or https://", url.scheme()));
    }
    Ok(url)
}
