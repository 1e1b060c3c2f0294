//! The running service, asked over HTTP.

pub mod health;
pub mod status;

use std::{error::Error, time::Duration};

use anyhow::Context as _;
use clap::Args;
use reqwest::{Method, RequestBuilder, redirect};
use serde_json::Value;
use url::Url;

use super::exit::{Exit, Stop};
use crate::{config::Config, serve::written_address};

/// Longest time the service may take for an answer that it need not wait for.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// Largest answer: `/health/workers` of the largest job table, and some.
const MOST_BYTES: usize = 32 * 1024 * 1024;

/// Where the service answers.
#[derive(Debug, Clone, Args)]
pub struct At {
    /// Address of the service [default: where the settings let it listen]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
}

/// A way to ask the service.
pub struct Remote {
    base: Url,
    token: Option<String>,
    client: reqwest::Client,
}

/// What it answered.
pub struct Answer {
    pub code: u16,
    pub body: Value,
    /// Who answered, for messages.
    pub from: String,
}

impl Remote {
    /// As told, else where the settings let it listen; with the token that the settings name.
    pub fn find(at: &At, settings: Result<Config, Stop>) -> anyhow::Result<Self> {
        let (base, token) = match (&at.url, settings) {
            (Some(url), Ok(config)) => (parse(url)?, token(&config)),
            // Bad settings of this process say nothing about a service that was named.
            (Some(url), Err(_)) => (parse(url)?, None),
            (None, Ok(config)) => (parse(&local(config.listen))?, token(&config)),
            (None, Err(stop)) => return Err(stop.into()),
        };
        let client = reqwest::Client::builder().no_proxy().redirect(redirect::Policy::none()).build();
        Ok(Self { base, token, client: client.context("cannot make an HTTP client")? })
    }

    /// Where the daemon of our data_dir has written that it listens, if it has.
    pub fn written(config: &Config) -> anyhow::Result<Option<Self>> {
        let Some(address) = written_address(&config.data_dir) else { return Ok(None) };
        Self::find(&At { url: Some(local(address)) }, Ok(config.clone())).map(Some)
    }

    /// `GET path`, with an answer within `patience`.
    pub async fn get(&self, path: &str, patience: Duration) -> Result<Answer, Stop> {
        self.ask(self.request(Method::GET, path)?.timeout(patience)).await
    }

    /// `POST path` with a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Answer, Stop> {
        self.ask(self.request(Method::POST, path)?.json(body).timeout(PATIENCE)).await
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, Stop> {
        let base = self.base.as_str().trim_end_matches('/');
        let url = Url::parse(&format!("{base}{path}"))
            .map_err(|error| Stop::new(Exit::Usage, format!("--url {base:?}: {error}")))?;
        let request = self.client.request(method, url);
        Ok(match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        })
    }

    async fn ask(&self, request: RequestBuilder) -> Result<Answer, Stop> {
        let from = self.shown();
        let silent = |error: reqwest::Error| {
            let advice = "is the service running there? --url names another address";
            Stop::new(Exit::Unreachable, format!("no answer from {from}: {}; {advice}", cause(&error)))
        };
        let mut response = request.send().await.map_err(silent)?;
        let code = response.status().as_u16();
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(silent)? {
            bytes.extend_from_slice(&chunk);
            if MOST_BYTES < bytes.len() {
                let message = format!("{from} answered more than {MOST_BYTES} bytes: is this the workers service?");
                return Err(Stop::new(Exit::Unreachable, message));
            }
        }
        let body = serde_json::from_slice(&bytes).map_err(|_| {
            Stop::new(Exit::Unreachable, format!("{from} answered {code} and no JSON: is this the workers service?"))
        })?;
        Ok(Answer { code, body, from })
    }

    /// The address for messages: no user is in it, so it may be shown.
    pub fn shown(&self) -> String {
        self.base.as_str().trim_end_matches('/').to_owned()
    }
}

impl Answer {
    /// The error of an answer that is none of those a command expects.
    pub fn refusal(&self) -> Stop {
        let Self { code, from, .. } = self;
        let detail = self.body.get("detail").and_then(Value::as_str).unwrap_or("no reason given");
        let field = self.body.get("field").and_then(Value::as_str).map(|name| format!("{name}: ")).unwrap_or_default();
        let exit = match code {
            400 | 413 | 415 | 422 => Exit::Usage,
            401 | 403 => Exit::ConfigInvalid,
            404 => Exit::NotFound,
            409 => Exit::Conflict,
            502..=504 => Exit::Unreachable,
            _ => Exit::Failed,
        };
        let advice = if *code == 401 { "; set WORKERS_TOKEN to a token of the service" } else { "" };
        Stop::new(exit, format!("{from} answered {code}: {field}{detail}{advice}"))
    }
}

/// Whoever may do everything may also read.
fn token(config: &Config) -> Option<String> {
    config.tokens.iter().chain(&config.read_tokens).next().cloned()
}

/// The address at which a local listener can be reached.
fn local(mut listen: std::net::SocketAddr) -> String {
    if listen.ip().is_unspecified() {
        listen.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    format!("http://{listen}")
}

fn parse(text: &str) -> Result<Url, Stop> {
    let example = "write it like http://127.0.0.1:8000";
    match Url::parse(text) {
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            let advice = "the service asks for a token: set WORKERS_TOKEN, and leave the user out of the address";
            Err(Stop::new(Exit::Usage, format!("--url holds a user or a password: {advice}")))
        }
        Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(url),
        Ok(_) => Err(Stop::new(Exit::Usage, format!("--url begins with neither http:// nor https://: {example}"))),
        Err(error) => Err(Stop::new(Exit::Usage, format!("--url is not an address ({error}): {example}"))),
    }
}

/// The innermost cause: `connection refused` says more than `error sending request`.
fn cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "it took too long".into();
    }
    let mut cause: &dyn Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// A field as text; empty when it is null or absent.
pub fn text(value: &Value, name: &str) -> String {
    match value.get(name) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// The entries of a list; none when it is absent.
pub fn entries<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value.get(name).and_then(Value::as_array).into_iter().flatten()
}
