//! A call as plain data: what is sent, where to, and within which limits.

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use percent_encoding::percent_decode_str;
use reqwest::{
    Method, Url,
    header::{HeaderMap, HeaderName, HeaderValue},
};

use super::reach::Network;
use crate::domain::secret::{can_be_hidden, is_name_of_secret};

/// Headers that every call carries with the daemon's own value, or that belong to the connection.
const OUR_HEADERS: [&str; 12] = [
    "idempotency-key",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "workers-job",
    "workers-attempt",
    "workers-scheduled-for",
    "traceparent",
    "connection",
    "content-length",
    "host",
    "transfer-encoding",
];

/// Longest wait for a connection, name look-up and TLS included, unless told otherwise.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// The bound of a connection inside a call's own: the connector gives up first, because it knows that nothing was sent,
/// and whoever ends the whole call does not.
pub(crate) fn connect_limit(given: Option<Duration>, whole: Option<Duration>) -> Duration {
    let given = given.unwrap_or(CONNECT_LIMIT);
    whole.map_or(given, |whole| given.min(whole - whole / 10))
}

/// A request that is ready to be sent, and its limits.
pub(crate) struct Call {
    pub method: Method,
    pub url: Url,
    /// How people see the call, instead of method and address; `None` = those are shown.
    pub known_as: Option<String>,
    /// Its path came from a variable, and is shown to nobody.
    pub has_secret_path: bool,
    pub headers: HeaderMap,
    /// The bytes that are signed and sent.
    pub body: Option<Vec<u8>>,
    /// The target's name; `None` for a full URL.
    pub target: Option<String>,
    pub network: Network,
    pub connect_timeout: Duration,
    /// `None` = the attempt's own limit is the only one.
    pub timeout: Option<Duration>,
}

impl Call {
    /// The call as people see it: without user, password, query and headers, where secrets live, and without a path that
    /// is one.
    pub fn shown(&self) -> String {
        if let Some(name) = &self.known_as {
            return name.clone();
        }
        let host = self.url.host_str().unwrap_or_default();
        let port = self.url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let path = if self.has_secret_path { "/..." } else { self.url.path() };
        format!("{} {}://{host}{port}{path}", self.method, self.url.scheme())
    }

    /// What it sends of the team's secrets, the longest first: an answer may quote its request, and is kept and logged.
    pub fn secrets(&self) -> Vec<String> {
        let is_of_team =
            |name: &HeaderName, value: &HeaderValue| value.is_sensitive() && is_name_of_secret(name.as_str());
        let of_team = self.headers.iter().filter(|(name, value)| is_of_team(name, value));
        let headers: Vec<&str> = of_team.filter_map(|(_, value)| value.to_str().ok()).collect();
        // `Bearer` is no secret, and the token after it may be quoted alone.
        let tokens = headers.iter().filter_map(|value| Some(value.rsplit_once(' ')?.1));
        let query = self.url.query_pairs().filter(|(name, _)| is_name_of_secret(name));
        let path = self.has_secret_path.then(|| self.url.path().to_owned());
        let mut secrets: Vec<String> = headers.iter().copied().chain(tokens).map(str::to_owned).collect();
        secrets.extend(query.map(|(_, value)| value.into_owned()).chain(path).chain(credentials(&self.url)));
        secrets.retain(|secret| can_be_hidden(secret));
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets
    }
}

/// The password of an address as it is written, as it is meant, and as the header that carries it. Some services take a
/// key as the user, and no password.
fn credentials(url: &Url) -> Vec<String> {
    let user = url.username();
    if user.is_empty() && url.password().is_none() {
        return Vec::new();
    }
    let meant = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let written = url.password().unwrap_or(user);
    let header = STANDARD.encode(format!("{}:{}", meant(user), meant(url.password().unwrap_or_default())));
    vec![written.to_owned(), meant(written), header]
}

/// The headers of a setting, or one message per mistake. Values are never quoted: they hold tokens.
pub(crate) fn checked_headers(headers: &BTreeMap<String, String>) -> Result<HeaderMap, Vec<String>> {
    let mut checked = HeaderMap::new();
    let mut errors = Vec::new();
    for (name, value) in headers {
        let ours = OUR_HEADERS.contains(&name.to_ascii_lowercase().as_str());
        match (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            _ if ours => errors.push(format!("header {name:?} is set by the daemon")),
            (Ok(name), Ok(mut value)) => {
                value.set_sensitive(true);
                checked.insert(name, value);
            }
            (Err(_), _) => errors.push(format!("header {name:?} is not a name that HTTP allows")),
            (_, Err(_)) => errors.push(format!("header {name:?} has a value with a line break or a control character")),
        }
    }
    if errors.is_empty() { Ok(checked) } else { Err(errors) }
}
