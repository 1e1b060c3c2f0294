//! One call, put together from the settings, the target and the run.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use reqwest::{
    Method, Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use serde_json::Value;

use super::{Settings, deliver::Parcel};
use crate::{
    handlers::{Context, Targets},
    outbound::call::{Call, DEFAULT_TARGET, Target, checked_headers, connect_limit, web_url},
};

/// The call of the settings. Everything that can be wrong was found by `check`, unless a target changed since.
pub(super) fn first(settings: &Settings, ctx: &Context) -> Result<Call, String> {
    let address = Address::find(settings, &ctx.tools.targets)?;
    let body = body(settings, &address.method, ctx.payload());
    let body = body.map(|body| serde_json::to_vec(&body).expect("a JSON value can be written"));
    assemble(address, body, settings, ctx)
}

/// Asks at `url`, which is of the origin of the settings' own, how the work goes that an earlier call began: with
/// the same headers, so that who may begin it may look at it.
pub(super) fn look(url: Url, settings: &Settings, ctx: &Context) -> Result<Call, String> {
    let address = Address { method: Method::GET, url, ..Address::find(settings, &ctx.tools.targets)? };
    assemble(address, None, settings, ctx)
}

/// One of many calls of a run: what it carries, and not the run, is known by its key.
pub(super) fn carrying(parcel: Parcel, settings: &Settings, ctx: &Context) -> Result<Call, String> {
    let address = Address::find(settings, &ctx.tools.targets)?;
    let target = address.target.map(|(_, target)| target);
    let signed = target.map(|target| signature(target, &parcel.body, (&parcel.key, parcel.now))).transpose()?;
    let mut call = assemble(address, Some(parcel.body), settings, ctx)?;
    let key = HeaderValue::try_from(&parcel.key).map_err(|_| "the key of a call is no plain text".to_owned())?;
    call.headers.insert("idempotency-key", key.clone());
    call.headers.insert("webhook-id", key);
    call.headers.insert("workers-attempt", HeaderValue::from(parcel.attempt));
    call.headers.extend(signed.unwrap_or_default());
    Ok(call)
}

fn assemble(address: Address<'_>, body: Option<Vec<u8>>, settings: &Settings, ctx: &Context) -> Result<Call, String> {
    let target = address.target.map(|(_, target)| target);
    let mut headers = HeaderMap::new();
    if body.is_some() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    if let Some(target) = target {
        headers.extend(checked_headers(&target.headers).map_err(|errors| errors.join("; "))?);
    }
    headers.extend(checked_headers(&settings.headers).map_err(|errors| errors.join("; "))?);
    headers.extend(headers_of_run(ctx));
    if let Some(target) = target {
        let id = ctx.run.id.to_string();
        headers.extend(signature(target, body.as_deref().unwrap_or_default(), (&id, ctx.now))?);
    }
    let timeout = settings.timeout.or(target.and_then(|target| target.timeout));
    let connect_timeout = settings.connect_timeout.or(target.and_then(|target| target.connect_timeout));
    Ok(Call {
        method: address.method,
        url: address.url,
        known_as: None,
        has_secret_path: settings.has_secret_path,
        headers,
        body,
        target: address.target.map(|(name, _)| name.to_owned()),
        network: target.map(|target| target.network).unwrap_or_default(),
        connect_timeout: connect_limit(connect_timeout.map(|length| length.0), timeout.map(|length| length.0)),
        timeout: timeout.map(|length| length.0),
    })
}

/// Whether an address begins with that of a variable, path included: as a webhook does, whose path lets in whoever knows it.
pub(super) fn has_secret_path(place: &str, variables: &BTreeMap<String, String>) -> bool {
    let has_path = |value: &&String| web_url(value).is_ok_and(|url| url.path() != "/");
    place.contains("://") && variables.values().filter(has_path).any(|value| place.starts_with(value.as_str()))
}

/// Where a call goes.
#[derive(Debug)]
pub(super) struct Address<'a> {
    pub method: Method,
    pub url: Url,
    /// Its name and its settings; `None` for a full URL.
    pub target: Option<(&'a str, &'a Target)>,
}

impl<'a> Address<'a> {
    pub fn find(settings: &Settings, targets: &'a Targets) -> Result<Self, String> {
        let (method, place) = settings.method_and_place()?;
        let (mut url, target) = if place.starts_with('/') {
            let name = settings.target.as_deref().unwrap_or(DEFAULT_TARGET);
            let (name, target) = targets.get_key_value(name).ok_or_else(|| no_target(name, targets))?;
            let url = target.url(place).map_err(|error| format!("target {name:?}: {error}"))?;
            (url, Some((name.as_str(), target)))
        } else if !place.contains("://") {
            return Err(format!("{place:?} begins neither with / nor with http:// or https://"));
        } else if let Some(name) = &settings.target {
            return Err(format!("a full URL takes no target, and {name:?} is given"));
        } else {
            (web_url(place)?, None)
        };
        add_query(&mut url, &settings.query)?;
        Ok(Self { method, url, target })
    }
}

fn no_target(name: &str, targets: &Targets) -> String {
    if name == DEFAULT_TARGET {
        return "no target: set APP_URL, add [targets.default], name a target, or give a full URL".into();
    }
    let known: Vec<_> = targets.keys().map(String::as_str).collect();
    format!("unknown target {name:?}; known are: {}", known.join(", "))
}

fn add_query(url: &mut Url, query: &BTreeMap<String, Value>) -> Result<(), String> {
    for (name, value) in query {
        let values = match value {
            Value::Array(values) => values.as_slice(),
            one => std::slice::from_ref(one),
        };
        for value in values {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Number(_) | Value::Bool(_) => value.to_string(),
                _ => return Err(format!("query {name:?} is neither text nor a number nor true or false")),
            };
            url.query_pairs_mut().append_pair(name, &text);
        }
    }
    Ok(())
}

/// The same on each attempt, but for `Workers-Attempt` and the span of `traceparent`.
fn headers_of_run(ctx: &Context) -> HeaderMap {
    let run = &ctx.run;
    let trace = run.id.0;
    // W3C trace context: the run is the trace, and each attempt a span of it; the lowest bit keeps it from being zero.
    let span = (trace.as_u64_pair().1 ^ (u64::from(ctx.attempt) << 1)) | 1;
    let mut headers = vec![
        ("idempotency-key", trace.to_string()),
        ("webhook-id", trace.to_string()),
        ("workers-job", run.job.to_string()),
        ("workers-attempt", ctx.attempt.to_string()),
        ("traceparent", format!("00-{}-{span:016x}-01", trace.simple())),
    ];
    if let Some(instant) = run.scheduled_for {
        headers.push(("workers-scheduled-for", instant.to_rfc3339_opts(SecondsFormat::AutoSi, true)));
    }
    let value = |text: String| HeaderValue::try_from(text).expect("ids, job names and instants are plain ASCII");
    headers.into_iter().map(|(name, text)| (HeaderName::from_static(name), value(text))).collect()
}

/// What a target with a secret can know its caller by. The id is that of `webhook-id`.
fn signature(target: &Target, body: &[u8], (id, now): (&str, DateTime<Utc>)) -> Result<HeaderMap, String> {
    let timestamp = now.timestamp();
    let Some(signature) = target.secret.sign(id, timestamp, body)? else {
        return Ok(HeaderMap::new());
    };
    let signature = HeaderValue::try_from(signature).expect("base64 is plain ASCII");
    Ok(HeaderMap::from_iter([
        (HeaderName::from_static("webhook-timestamp"), HeaderValue::from(timestamp)),
        (HeaderName::from_static("webhook-signature"), signature),
    ]))
}

fn body(settings: &Settings, method: &Method, payload: &Value) -> Option<Value> {
    if settings.json.is_some() {
        return settings.json.clone();
    }
    let takes_payload = [Method::POST, Method::PUT, Method::PATCH].contains(method);
    (takes_payload && !payload.is_null()).then(|| payload.clone())
}
