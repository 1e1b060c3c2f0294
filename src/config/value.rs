//! The kinds of values that settings take, and how their texts are read.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// What a setting takes. Lengths of time are kept in milliseconds, whatever unit a variable counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    /// Masked wherever it is shown.
    Secret,
    /// An address of a database; its password is masked.
    Url,
    /// An address of the web; only its scheme and host are shown.
    Web,
    Address,
    Boolean,
    /// True or false in the words that the team uses; in the file too.
    Flag,
    Choice(&'static [&'static str]),
    LogLevel,
    Identifier,
    Whole(u64, u64),
    /// Least and most, in milliseconds.
    Time(u64, u64),
}

/// What the bare number of a variable counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    One,
    Seconds,
    Milliseconds,
}

impl Unit {
    pub fn word(self) -> &'static str {
        match self {
            Self::One => "",
            Self::Seconds => "s",
            Self::Milliseconds => "ms",
        }
    }
}

impl Kind {
    /// The text in the one form that is compared and shown, or what is wrong with it.
    pub fn read(self, text: &str, unit: Unit) -> Result<String, String> {
        let text = text.trim();
        match self {
            Self::Text | Self::Secret => Ok(text.into()),
            Self::Url => url(text),
            Self::Web => web(text),
            Self::Address => address(text).map(|address| address.to_string()),
            Self::Boolean => boolean(text),
            Self::Flag => flag(text),
            Self::Choice(words) => choice(&text.to_ascii_lowercase(), words),
            Self::LogLevel => log_level(text),
            Self::Identifier => identifier(text),
            Self::Whole(least, most) => whole(text, least, most).map(|number| number.to_string()),
            Self::Time(least, most) => time(text, unit, (least, most)),
        }
    }

    /// The possible values in words, counted in `unit`.
    pub fn range(self, unit: Unit) -> String {
        match self {
            Self::Text | Self::Secret => String::new(),
            Self::Url => "postgres://... or sqlite:...".into(),
            Self::Web => "http://... or https://...".into(),
            Self::Address => "address:port".into(),
            Self::Boolean => "true, false".into(),
            Self::Flag => "true, false, on, off, sim, não".into(),
            Self::Choice(words) => words.join(", "),
            Self::LogLevel => "trace, debug, info, warn, error".into(),
            Self::Identifier => "[a-z_][a-z0-9_]{0,62}".into(),
            Self::Whole(least, most) => format!("{least}-{most}"),
            Self::Time(least, most) => {
                let divisor = if unit == Unit::Milliseconds { 1 } else { 1_000 };
                format!("{}-{}", least.div_ceil(divisor), most / divisor)
            }
        }
    }

    /// The value as it may be shown.
    pub fn shown(self, value: &str) -> String {
        match self {
            Self::Secret if !value.is_empty() => "***".into(),
            Self::Url => without_password(value),
            Self::Web => host_only(value),
            Self::Time(..) => format!("{value}ms"),
            _ => value.into(),
        }
    }
}

/// The URL with its password, and secret-looking parts of its query, replaced by `***`.
pub fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.into() };
    let (place, query) = rest.split_once('?').map_or((rest, None), |(place, query)| (place, Some(query)));
    // The last @ before the path ends the user part: passwords may hold an @ of their own.
    let host_end = place.rfind('@').map_or(0, |at| place[at..].find('/').map_or(place.len(), |slash| at + slash));
    let (authority, path) = if host_end == 0 { (place, "") } else { place.split_at(host_end) };
    let authority = match authority.rsplit_once('@') {
        Some((user, host)) => match user.split_once(':') {
            Some((name, _)) => format!("{name}:***@{host}"),
            None => format!("{user}@{host}"),
        },
        None => authority.into(),
    };
    let hide = |pair: &str| match pair.split_once('=') {
        Some((key, _)) if key.to_ascii_lowercase().contains("password") => format!("{key}=***"),
        _ => pair.to_string(),
    };
    let query = query.map(|query| query.split('&').map(hide).collect::<Vec<_>>().join("&"));
    format!("{scheme}://{authority}{path}{}", query.map(|query| format!("?{query}")).unwrap_or_default())
}

/// The scheme and the host of a web address, with its port; what stands before and behind them is `***`.
fn host_only(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return "***".into() };
    let (authority, behind) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let user = if host.len() < authority.len() { "***@" } else { "" };
    let behind = if behind.len() < 2 { behind } else { "/***" };
    format!("{scheme}://{user}{host}{behind}")
}

fn url(text: &str) -> Result<String, String> {
    let known = ["postgres://", "postgresql://", "sqlite:"].iter().any(|scheme| text.starts_with(scheme));
    if known { Ok(text.into()) } else { Err("begins with neither postgres:// nor sqlite:".into()) }
}

fn web(text: &str) -> Result<String, String> {
    let known = ["http://", "https://"].iter().any(|scheme| text.starts_with(scheme));
    if known { Ok(text.into()) } else { Err("begins with neither http:// nor https://".into()) }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let refused = || format!("{text:?} is not an address and port, such as 127.0.0.1:8000 or [::]:8000");
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(refused)?;
    let port: u16 = port.parse().map_err(|_| refused())?;
    match host {
        "" | "*" => Ok((Ipv6Addr::UNSPECIFIED, port).into()),
        "localhost" => Ok((Ipv4Addr::LOCALHOST, port).into()),
        _ => Err(refused()),
    }
}

fn boolean(text: &str) -> Result<String, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" => Ok("true".into()),
        "false" | "0" => Ok("false".into()),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

/// As `run.pilot` reads its switches.
fn flag(text: &str) -> Result<String, String> {
    match text.to_lowercase().as_str() {
        "true" | "1" | "yes" | "on" | "sim" => Ok("true".into()),
        "false" | "0" | "no" | "off" | "não" | "nao" => Ok("false".into()),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

fn choice(text: &str, words: &[&str]) -> Result<String, String> {
    match words.contains(&text) {
        true => Ok(text.into()),
        false => Err(format!("{text:?} is none of {}", words.join(", "))),
    }
}

/// Python and syslog have names of their own for two of the levels.
fn log_level(text: &str) -> Result<String, String> {
    let level = match text.to_ascii_lowercase().as_str() {
        "warning" => "warn".into(),
        "critical" | "fatal" => "error".into(),
        other => other.to_string(),
    };
    choice(&level, &["trace", "debug", "info", "warn", "error"])
}

fn identifier(text: &str) -> Result<String, String> {
    let starts_well = text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    let goes_on_well = text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    match starts_well && goes_on_well && text.len() <= 63 {
        true => Ok(text.into()),
        false => Err(format!("{text:?} is not made of a-z, 0-9 and _, at most 63 of them")),
    }
}

fn whole(text: &str, least: u64, most: u64) -> Result<u64, String> {
    match text.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(format!("{text:?} is not a whole number from {least} to {most}")),
    }
}

/// A bare number in the variable's unit, or a number with its own: `1500ms`, `8s`.
fn time(text: &str, unit: Unit, (least, most): (u64, u64)) -> Result<String, String> {
    let (digits, factor) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(digits), _) => (digits, 1),
        (None, Some(digits)) => (digits, 1_000),
        (None, None) if unit == Unit::Milliseconds => (text, 1),
        (None, None) => (text, 1_000),
    };
    let ms = digits.trim().parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    match ms {
        Some(ms) if (least..=most).contains(&ms) => Ok(ms.to_string()),
        _ => Err(format!(
            "{text:?} is not a whole number of {} from {}",
            unit_words(unit),
            Kind::Time(least, most).range(unit).replace('-', " to ")
        )),
    }
}

fn unit_words(unit: Unit) -> &'static str {
    if unit == Unit::Milliseconds { "milliseconds" } else { "seconds" }
}
