//! What a browser must not be talked into: on a listener that asks for no token, any page a person opens could otherwise
//! operate the daemon, by a foreign form or under a name that points at this machine (DNS rebinding).

use std::net::IpAddr;

use axum::http::{
    HeaderMap, Method, Uri,
    header::{HOST, HeaderName, ORIGIN},
};

/// Whether this request was meant for us, on an open listener with this port. The error is for people.
pub fn check(method: &Method, uri: &Uri, headers: &HeaderMap, port: u16) -> Result<(), String> {
    let host = only(headers, &HOST).map_err(|()| "more than one Host header".to_owned())?.unwrap_or_default();
    let named = uri.authority().map_or(host, |authority| authority.as_str());
    if !is_ours(host, port) || !is_ours(named, port) {
        return Err(format!(
            "the Host header does not name this listener: without a token only localhost:{port}, 127.0.0.1:{port} and \
             [::1]:{port} are answered"
        ));
    }
    if method.is_safe() {
        return Ok(());
    }
    let origin = only(headers, &ORIGIN).map_err(|()| "more than one Origin header".to_owned())?;
    match origin {
        Some(origin) if !is_same(origin, host) => {
            Err("a page of another origin may not do this: configure WORKERS_TOKEN and send it instead".into())
        }
        _ => Ok(()),
    }
}

/// The header when it is there once; what is not plain text counts as an empty value, which names nobody.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, ()> {
    let mut values = headers.get_all(name).iter();
    let value = values.next();
    if values.next().is_some() {
        return Err(());
    }
    Ok(value.map(|value| value.to_str().unwrap_or_default()))
}

/// `localhost` or a literal loopback address, with our port: names that no foreign name server answers for.
fn is_ours(host: &str, port: u16) -> bool {
    // Port 80 is what a client leaves out.
    let (name, given) = match host.rsplit_once(':') {
        Some((name, digits)) if !digits.ends_with(']') => (name, digits.parse().ok()),
        _ => (host, Some(80)),
    };
    let literal = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    let is_loopback = literal.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback());
    given == Some(port) && (is_loopback || name.eq_ignore_ascii_case("localhost"))
}

fn is_same(origin: &str, host: &str) -> bool {
    origin.strip_prefix("http://").is_some_and(|named| named.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderValue, Method};

    use super::check;

    fn verdict(method: &str, uri: &str, hosts: &[&str], origin: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append("host", HeaderValue::from_str(host).unwrap());
        }
        if let Some(origin) = origin {
            headers.append("origin", HeaderValue::from_str(origin).unwrap());
        }
        check(&Method::from_bytes(method.as_bytes()).unwrap(), &uri.parse().unwrap(), &headers, 8000).is_ok()
    }

    #[test]
    fn only_names_that_nobody_else_can_point_at_us_are_answered() {
        for good in ["localhost:8000", "LOCALHOST:8000", "127.0.0.1:8000", "127.9.9.9:8000", "[::1]:8000"] {
            assert!(verdict("POST", "/", &[good], None), "{good}");
        }
        for bad in [
            "",
            "localhost",
            "127.0.0.1",
            "[::1]",
            "localhost:80",
            "localhost:8001",
            "evil.example:8000",
            "localhost.evil:8000",
            "127.0.0.1.nip.io:8000",
            "192.168.0.1:8000",
            "0.0.0.0:8000",
            "localhost:8000:8000",
            "localhost:+8000x",
            "user@localhost:8000",
        ] {
            assert!(!verdict("POST", "/", &[bad], None), "{bad}");
            assert!(!verdict("GET", "/", &[bad], None), "{bad}");
        }
        assert!(!verdict("POST", "/", &[], None));
        assert!(!verdict("POST", "/", &["localhost:8000", "localhost:8000"], None));
        assert!(!verdict("GET", "http://evil.example:8000/", &["localhost:8000"], None));
    }

    #[test]
    fn a_page_of_another_origin_changes_nothing() {
        let host = &["localhost:8000"];

        assert!(verdict("POST", "/", host, Some("http://localhost:8000")));
        for bad in [
            "null",
            "",
            "http://evil.example",
            "https://localhost:8000",
            "http://localhost:3000",
            "http://127.0.0.1:8000",
        ] {
            assert!(!verdict("POST", "/", host, Some(bad)), "{bad}");
            assert!(!verdict("DELETE", "/", host, Some(bad)), "{bad}");
            assert!(verdict("GET", "/", host, Some(bad)), "{bad}: it cannot read the answer");
        }
    }
}
