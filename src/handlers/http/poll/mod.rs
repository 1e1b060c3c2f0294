//! 202 with `Location`: the work goes on elsewhere, and later attempts look at it there until it has ended.

mod progress;

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::Url;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Judge, Settings,
    call::{self, Address},
    ending, judge, send,
};
use crate::{
    domain::{
        clean,
        duration::Length,
        run::{Failure, FailureKind, Report},
    },
    handlers::{Context, Done, Ending},
    outbound::call::{Answer, Call, Content, Heard, Unheard},
};
use progress::{Progress, Said};

/// Between two looks, unless told otherwise.
const EVERY: Length = Length(Duration::from_secs(5));
/// The shortest time between two looks: each is a claim and a settlement.
const SHORTEST_EVERY: Duration = Duration::from_millis(100);
/// From the acceptance to the end, unless told otherwise.
const WITHIN: Length = Length(Duration::from_secs(30 * 60));
/// Bound of one look, unless the call or its target has a shorter one.
const LOOK_LIMIT: Duration = Duration::from_secs(30);
/// Longest address that is kept, in bytes.
const MAX_URL_BYTES: usize = 2_048;
/// Most that is kept of what was last heard, in characters.
const MAX_HEARD_CHARS: usize = 300;
/// The form of what is kept; another number is another release's.
const FORM: u8 = 1;

/// How work that was accepted is followed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Poll {
    /// Between two looks, unless `Retry-After` says otherwise; 5 s.
    pub every: Length,
    /// From the acceptance to the end, instead of the job's `timeout`; 30 min.
    pub within: Length,
}

/// What later attempts go on from: kept with the run, so it holds no header and no credentials.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Accepted {
    form: u8,
    url: String,
    at: DateTime<Utc>,
    /// What was last heard of the work.
    heard: String,
}

/// What a look found.
enum Found {
    GoesOn { heard: String },
    Ended(Result<Report, Failure>),
}

impl Poll {
    pub(super) fn check(&self) -> Option<String> {
        if self.every.0 < SHORTEST_EVERY {
            return Some(format!("poll: every is {}, and must be {} or more", self.every, Length(SHORTEST_EVERY)));
        }
        (self.within < self.every)
            .then(|| format!("poll: within ({}) is shorter than every ({})", self.within, self.every))
    }
}

impl Default for Poll {
    fn default() -> Self {
        Self { every: EVERY, within: WITHIN }
    }
}

/// The end of an attempt whose call was accepted: to be looked at later. `None` = the answer is the end itself. 202
/// without `Location` is a good answer like any other, because there is nowhere to look.
pub(super) fn accepted(settings: &Settings, call: &Call, heard: &Heard) -> Option<Failure> {
    let Heard { answer, at } = heard;
    let location = answer.location.as_ref().filter(|_| answer.status == 202)?;
    Some(match followed(location.as_bytes(), &call.url) {
        Ok(url) => {
            let accepted = Accepted { form: FORM, url: url.into(), at: *at, heard: "accepted".into() };
            accepted
                .pending(answer.retry_after.unwrap_or(settings.poll.every.0), settings, *at)
                .with_code(answer.status)
        }
        Err(fault) => {
            ending::dressed(Failure::permanent(format!("answered 202 with a location {fault}")), answer, &call.shown())
        }
    })
}

/// Where the work can be looked at: an address of the same origin, because the headers of the call are sent there.
fn followed(location: &[u8], called: &Url) -> Result<Url, String> {
    let text = std::str::from_utf8(location).ok().map(str::trim).filter(|text| !text.is_empty());
    let mut url = text.and_then(|text| called.join(text).ok()).ok_or("that is no address")?;
    if url.origin() != called.origin() {
        return Err(format!("of another origin ({}), which is not followed", url.origin().ascii_serialization()));
    }
    url.set_fragment(None);
    // Both cannot fail: a URL of the web has a host.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    if MAX_URL_BYTES < url.as_str().len() {
        return Err(format!("of more than {MAX_URL_BYTES} bytes"));
    }
    Ok(url)
}

/// One look at work that an earlier attempt began. Never begins it again.
pub(super) async fn look(settings: &Settings, ctx: &Context, resume: &Value) -> Ending {
    let (accepted, url) = Accepted::read(settings, ctx, resume).map_err(Failure::permanent)?;
    let mut call = call::look(url, settings, ctx).map_err(Failure::permanent)?;
    call.timeout = Some(limit_of_look(&call, ctx));
    let looked = tokio::select! {
        looked = send(&call, ctx) => looked,
        // Nothing is lost by looking later.
        () = ctx.cancelled.cancelled() => return Err(accepted.pending(settings.poll.every.0, settings, ctx.now)),
    };
    let shown = call.shown();
    let (found, wait, at) = match looked {
        Ok(Heard { answer, at }) => (judged(settings, &answer, &shown), answer.retry_after, at),
        Err(Unheard::LeftAlone { after, message }) => (Found::GoesOn { heard: message }, Some(after), ctx.now),
        Err(Unheard::Stopped) => (Found::GoesOn { heard: accepted.heard.clone() }, None, ctx.now),
        Err(Unheard::Failed(failure)) if failure.kind == FailureKind::Permanent => return Err(failure),
        Err(Unheard::Failed(failure)) => (Found::GoesOn { heard: failure.message }, None, ctx.now),
    };
    match found {
        Found::Ended(ended) => ended.map(Done::Report),
        Found::GoesOn { heard } => {
            let accepted = Accepted { heard: clean::text(&heard, MAX_HEARD_CHARS), ..accepted };
            Err(accepted.goes_on(wait.unwrap_or(settings.poll.every.0), settings, at, &shown))
        }
    }
}

/// A look that hangs ends before its attempt does: it is no attempt that failed.
fn limit_of_look(call: &Call, ctx: &Context) -> Duration {
    let within_attempt = ctx.job.policy.timeout * 4 / 5;
    call.timeout.unwrap_or(LOOK_LIMIT).min(LOOK_LIMIT).min(within_attempt)
}

/// Words first, then the status; what is over is judged like any other answer.
fn judged(settings: &Settings, answer: &Answer, shown: &str) -> Found {
    let fields = match &answer.content {
        Content::Json(Value::Object(fields)) if settings.judge == Judge::Content => Some(fields),
        _ => None,
    };
    let said = fields.filter(|_| (200..300).contains(&answer.status)).and_then(progress::said);
    let job = said.as_ref().and_then(|said| said.job);
    let ended = match (answer.status, &said) {
        (_, Some(Said { progress: Progress::GoesOn, shown, .. })) => return Found::GoesOn { heard: shown.clone() },
        (_, Some(Said { progress: Progress::EndedBadly, shown, .. })) => Err(ended_badly(shown, fields, job)),
        (202 | 408 | 425 | 429 | 500..=599, _) => return Found::GoesOn { heard: ending::answered(answer) },
        // Another look may be readable.
        _ if matches!(answer.content, Content::Broken(_)) && settings.reads_answers() => {
            return Found::GoesOn { heard: format!("answered {} with JSON that cannot be read", answer.status) };
        }
        _ => ending::last_ending(settings, answer, job),
    };
    Found::Ended(ended.map_err(|failure| ending::dressed(failure, answer, shown)))
}

fn ended_badly(shown: &str, answer: Option<&Map<String, Value>>, job: Option<&Map<String, Value>>) -> Failure {
    let words = [job, answer].into_iter().flatten().find_map(judge::words);
    Failure::permanent(words.map_or_else(|| shown.to_owned(), |words| format!("{shown}: {words}")))
}

impl Accepted {
    /// What an earlier attempt kept, if it is this release's form and still of the origin that the settings name.
    fn read(settings: &Settings, ctx: &Context, resume: &Value) -> Result<(Self, Url), String> {
        let accepted = Self::deserialize(resume).ok().filter(|accepted| accepted.form == FORM);
        let address = accepted.and_then(|accepted| Url::parse(&accepted.url).ok().map(|url| (accepted, url)));
        let (accepted, url) =
            address.ok_or("what an earlier attempt left to go on from is not of this release's form")?;
        let origin = Address::find(settings, &ctx.tools.targets)?.url.origin();
        if url.origin() == origin {
            return Ok((accepted, url));
        }
        let (before, now) = (url.origin().ascii_serialization(), origin.ascii_serialization());
        Err(format!("the work was accepted by {before}, and its job now calls {now}: it is not followed there"))
    }

    /// Looks again later; once the time is over, says what was last heard.
    fn goes_on(&self, wait: Duration, settings: &Settings, now: DateTime<Utc>, shown: &str) -> Failure {
        if now < self.deadline(settings) {
            return self.pending(wait, settings, now);
        }
        let (within, heard) = (settings.poll.within, &self.heard);
        Failure::permanent(format!("{shown}: not ended within {within} of its acceptance; last heard: {heard}"))
    }

    /// The last look is at the deadline, not after it.
    fn pending(&self, wait: Duration, settings: &Settings, now: DateTime<Utc>) -> Failure {
        let left = (self.deadline(settings) - now).to_std().unwrap_or_default();
        let resume = serde_json::to_value(self).expect("texts, a number and an instant are JSON");
        Failure::pending(wait.min(left), resume)
    }

    fn deadline(&self, settings: &Settings) -> DateTime<Utc> {
        let within = TimeDelta::from_std(settings.poll.within.0).unwrap_or(TimeDelta::MAX);
        self.at.checked_add_signed(within).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }
}
