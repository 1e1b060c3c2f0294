//! `Retry-After`: how long a server asks to be left alone (RFC 9110, 10.2.3).

use std::time::Duration;

use chrono::{DateTime, Utc};

/// The longest wait that a server may ask for.
const LONGEST: Duration = Duration::from_secs(3_600);
/// The shortest: a server that says 0 is not asked again in a tight circle.
const SHORTEST: Duration = Duration::from_secs(1);

/// The wait that is granted to a server that asks for this one.
pub(crate) fn bounded(asked: Duration) -> Duration {
    asked.clamp(SHORTEST, LONGEST)
}

/// The wait that a header asks for: seconds, or an HTTP date measured from `now`. A date in the past is no wait at all;
/// `None` = it is neither.
pub(crate) fn parse(header: &str, now: DateTime<Utc>) -> Option<Duration> {
    let header = header.trim();
    if !header.is_empty() && header.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit ask for longer than anyone waits.
        return Some(Duration::from_secs(header.parse().unwrap_or(u64::MAX)));
    }
    Some((http_date(header)? - now).to_std().unwrap_or_default())
}

/// The three forms that RFC 9110, 5.6.7 makes a recipient accept.
pub(crate) fn http_date(text: &str) -> Option<DateTime<Utc>> {
    if let Ok(date) = DateTime::parse_from_rfc2822(text) {
        return Some(date.to_utc());
    }
    // The two old forms name no offset that can be read, and mean UTC.
    let text = format!("{text} +0000");
    let forms = ["%A, %d-%b-%y %H:%M:%S GMT %z", "%a %b %e %H:%M:%S %Y %z"];
    forms.iter().find_map(|form| DateTime::parse_from_str(&text, form).ok()).map(|date| date.to_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_given_in_seconds_or_as_a_date() {
        let now = http_date("Sun, 06 Nov 1994 08:49:37 GMT").expect("the date of the standard");
        for (header, seconds) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sunday, 06-Nov-94 08:50:37 GMT", Some(60)),
            ("Sun Nov  6 08:50:37 1994", Some(60)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("-5", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(parse(header, now), seconds.map(Duration::from_secs), "{header:?}");
        }
    }
}
