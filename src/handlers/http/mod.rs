//! `http`: calls an endpoint of the team's application and judges its answer by content.

mod call;
mod deliver;
mod ending;
mod expect;
pub(super) mod judge;
mod poll;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use reqwest::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub(super) use deliver::{Parcel, Undelivered, deliver};
pub use expect::{Expect, Statuses};
pub use poll::Poll;

use super::{Context, Done, Ending, Handler, Scope};
pub use crate::outbound::call::{
    BreakerSettings, DEFAULT_TARGET, HttpClients, Network, OpenFor, Rate, Secret, Target, Traffic,
};
use crate::{
    domain::{
        duration::Length,
        run::{Failure, Run, RunId},
        secret::{MASK, is_name_of_secret},
    },
    outbound::call::{
        self as outside, Answer, Call, Caller, Heard, Unheard, checked_headers, hide, within_reach, without_password,
    },
};
use call::{Address, has_secret_path};

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
    /// How work is followed that was accepted with 202 and a `Location`.
    pub poll: Poll,
    /// The target as it was when the settings were checked: it decides what the call does as much as they do.
    #[serde(skip_deserializing)]
    #[schemars(skip)]
    resolved: Option<Target>,
    /// The path of the full URL came from a variable; set by `check`.
    #[serde(skip)]
    #[schemars(skip)]
    has_secret_path: bool,
}

/// Sends a call of this run when what it calls may be called.
async fn send(call: &Call, ctx: &Context) -> Result<Heard, Unheard> {
    let lane = ctx.tools.traffic.lane(call.target.as_deref(), &call.url);
    let (clients, cancelled) = (&ctx.tools.http, &ctx.cancelled);
    outside::send(call, &Caller { clients, lane: &lane, run: ctx.run.id, now: ctx.now, cancelled }).await
}

/// Statuses that are about what was sent; every other 4xx is about the endpoint.
const OF_WHAT_WAS_SENT: [u16; 5] = [400, 408, 409, 413, 422];

/// Whether a status would meet whatever is sent there alike: a redirect, a wrong address, method or token. Those that ask
/// to come another time (425, 429, 5xx) are about neither.
pub(super) fn is_about_endpoint(status: u16) -> bool {
    let is_passing = matches!(status, 425 | 429);
    matches!(status, 100..=199 | 300..=499) && !is_passing && !OF_WHAT_WAS_SENT.contains(&status)
}

/// An answer that nobody has judged yet.
pub(super) struct Told {
    pub answer: Answer,
    /// The call as people see it.
    pub shown: String,
}

/// One call of several within an attempt, about one thing. Its ids are made of `key`, the same for the same key, so that
/// the other side knows a repeat; everything else is as in a call of `run.http`.
pub(super) async fn ask(settings: &Settings, ctx: &Context, key: &str) -> Result<Told, Unheard> {
    let run = Run { id: id_of(key), ..Run::clone(&ctx.run) };
    let ctx = Context { run: Arc::new(run), ..ctx.clone() };
    let call = call::first(settings, &ctx);
    let call = call.map_err(|error| Unheard::Failed(Failure::permanent(error).before_effect()))?;
    let answer = send(&call, &ctx).await?.answer;
    Ok(Told { answer, shown: call.shown() })
}

/// A UUID (v8) made of a text.
fn id_of(key: &str) -> RunId {
    let hash = Sha256::digest(key.as_bytes());
    let bytes = hash[..16].try_into().expect("SHA-256 has 32 bytes");
    RunId(uuid::Builder::from_custom_bytes(bytes).into_uuid())
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

impl Settings {
    /// Whether anything depends on what an answer says.
    fn reads_answers(&self) -> bool {
        self.judge == Judge::Content || self.expect.json.is_some()
    }

    /// The one method that is given, and its path or URL.
    fn method_and_place(&self) -> Result<(Method, &str), String> {
        let methods = [
            (Method::GET, &self.get),
            (Method::POST, &self.post),
            (Method::PUT, &self.put),
            (Method::PATCH, &self.patch),
            (Method::DELETE, &self.delete),
        ];
        let mut given = methods.into_iter().filter_map(|(method, place)| Some((method, place.as_deref()?)));
        match (given.next(), given.next()) {
            (Some(one), None) => Ok(one),
            (None, _) => Err("no address: give one of get, post, put, patch, delete".into()),
            (Some((first, _)), Some((second, _))) => Err(format!(
                "two addresses: {} and {}; a call has one",
                first.as_str().to_ascii_lowercase(),
                second.as_str().to_ascii_lowercase()
            )),
        }
    }
}

/// Makes a call for another handler, which reads the answer by itself: one with 2xx, or with 304 when the call names what
/// the caller has. Any other is judged here, as that of a job is.
pub(super) async fn fetch(settings: &Settings, ctx: &Context) -> Result<Told, Failure> {
    let mut call = call::first(settings, ctx).map_err(|error| Failure::permanent(error).before_effect())?;
    let shown = call.shown();
    // What is fetched is kept as it is, also where it names its own address; only what people are told must not.
    let secret_path = call.has_secret_path.then(|| call.url.path().to_owned());
    (call.has_secret_path, call.known_as) = (false, Some(shown.clone()));
    let answer = send(&call, ctx).await.map_err(unheard)?.answer;
    match ending::by_status(&answer) {
        Err(failure) if answer.status != 304 => Err(refused(failure, &answer, &shown, secret_path.as_deref())),
        _ => Ok(Told { answer, shown }),
    }
}

/// The failure that an answer is, without a path that nobody may read and without the answer that may quote it.
fn refused(failure: Failure, answer: &Answer, shown: &str, secret_path: Option<&str>) -> Failure {
    let failure = ending::dressed(failure, answer, shown);
    match secret_path {
        None => failure,
        Some(path) => Failure { message: failure.message.replace(path, "/..."), report: None, ..failure },
    }
}

fn unheard(unheard: Unheard) -> Failure {
    match unheard {
        Unheard::LeftAlone { after, message } => Failure::snooze(after, message).before_effect(),
        Unheard::Stopped => Failure::retry("told to stop before the call was sent").before_effect(),
        Unheard::Failed(failure) => failure,
    }
}

impl Handler for Settings {
    fn check(&mut self, scope: &Scope<'_>) -> Vec<String> {
        let address = Address::find(self, scope.targets);
        let target = address.as_ref().ok().and_then(|address| address.target).map(|(_, target)| target.clone());
        let found = address.and_then(|address| match address.target {
            // What its base URL may reach was told when the target was checked.
            Some(_) => Ok(()),
            None => within_reach(&address.url, Network::default()),
        });
        let mut errors: Vec<String> = found.err().into_iter().collect();
        self.resolved = target;
        let place = self.method_and_place().map_or("", |(_, place)| place);
        self.has_secret_path = has_secret_path(place, scope.variables);
        errors.extend(checked_headers(&self.headers).err().unwrap_or_default());
        if self.get.is_some() && self.json.is_some() {
            errors.push("get takes no json".into());
        }
        errors.extend(self.poll.check());
        errors.extend(judge::wrong_path(self.items.as_deref()));
        errors
    }

    fn resumes(&self) -> bool {
        true
    }

    fn follows_for(&self) -> Duration {
        self.poll.within.0
    }

    /// Names of headers, and that there is a secret: values belong to the host and not to the job. A rotated token is no
    /// edit, and a short one cannot be guessed from a hash in the ledger.
    fn canonical(&self) -> Value {
        let mut settings = Self { resolved: self.resolved.as_ref().map(Target::without_secrets), ..self.clone() };
        hide(settings.headers.values_mut());
        let query = settings.query.iter_mut().filter(|(name, _)| is_name_of_secret(name));
        query.for_each(|(_, value)| *value = MASK.into());
        let places =
            [&mut settings.get, &mut settings.post, &mut settings.put, &mut settings.patch, &mut settings.delete];
        places.into_iter().flatten().for_each(|place| *place = without_password(place));
        json!(settings)
    }

    async fn run(&self, ctx: Context) -> Ending {
        if let Some(resume) = &ctx.run.resume {
            return poll::look(self, &ctx, resume).await;
        }
        let call = call::first(self, &ctx).map_err(|error| Failure::permanent(error).before_effect())?;
        // Cancellation is not looked at once the call is sent: an answer that comes before the attempt is aborted saves
        // the work from being in doubt, and the other side goes on working anyway.
        let heard = send(&call, &ctx).await.map_err(unheard)?;
        match poll::accepted(self, &call, &heard) {
            Some(goes_on) => Err(goes_on),
            None => ending::ending(self, &heard.answer, &call.shown()).map(Done::Report),
        }
    }
}
