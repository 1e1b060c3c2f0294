//! What became of a call that got no answer, and whether it was surely not sent.

use std::{error::Error, io, iter};

use rustls::CertificateError;

use super::Refused;
use crate::domain::{clean, run::Failure};

/// Most of a cause that somebody else worded, in characters.
const MAX_CAUSE_CHARS: usize = 300;

/// The failure of a call without an answer. Only what failed before the request was written surely had no effect.
/// `shown` is the call as people see it.
pub(in crate::outbound) fn no_answer(shown: &str, error: &reqwest::Error) -> Failure {
    if let Some(refused) = causes(error).find_map(|cause| cause.downcast_ref()) {
        return out_of_reach(shown, refused);
    }
    if error.is_builder() {
        let cause = innermost(error);
        return Failure::permanent(format!("{shown}: the request cannot be built: {cause}")).before_effect();
    }
    if error.is_connect() {
        let cause = tls_words(error).unwrap_or_else(|| innermost(error));
        return Failure::retry(format!("{shown}: cannot connect: {cause}; nothing was sent")).before_effect();
    }
    let http = causes(error).find_map(|cause| cause.downcast_ref::<hyper::Error>());
    if http.is_some_and(hyper::Error::is_canceled) {
        let cause = innermost(error);
        return Failure::retry(format!("{shown}: the connection ended: {cause}; nothing was sent")).before_effect();
    }
    Failure::retry(format!("{shown}: no answer: {}", cause(error)))
}

/// The failure of a call to an address out of reach.
pub(in crate::outbound) fn out_of_reach(shown: &str, refused: &Refused) -> Failure {
    Failure::permanent(format!("{shown}: {refused}; nothing was sent")).before_effect()
}

/// Why an exchange that had begun came to no end, in words.
pub(in crate::outbound) fn cause(error: &reqwest::Error) -> String {
    let Some(http) = causes(error).find_map(|cause| cause.downcast_ref::<hyper::Error>()) else {
        return innermost(error);
    };
    if http.is_parse_too_large() {
        return "its head is larger than is read, or has more than 100 headers".into();
    }
    if http.is_parse() {
        return format!("what came is not HTTP: {}", innermost(error));
    }
    if http.is_incomplete_message() {
        return "the connection was closed before the end".into();
    }
    innermost(error)
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    iter::successors(Some(error), |&cause| cause.source())
}

/// The first cause, without the URL, which outer layers repeat with its query.
fn innermost(error: &reqwest::Error) -> String {
    match causes(error).skip(1).last() {
        Some(cause) => clean::text(&cause.to_string(), MAX_CAUSE_CHARS),
        None => "the request failed".into(),
    }
}

/// What TLS did not like; `None` = it was not TLS.
fn tls_words(error: &reqwest::Error) -> Option<String> {
    // An I/O error passes over what it wraps when it is asked for its source, and may wrap another one.
    let outer = causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>());
    let mut wrapped = outer.flat_map(|outer| {
        iter::successors(outer.get_ref(), |inner| inner.downcast_ref::<io::Error>().and_then(io::Error::get_ref))
    });
    let tls = wrapped.find_map(|inner| inner.downcast_ref::<rustls::Error>())?;
    Some(match tls {
        rustls::Error::InvalidCertificate(certificate) => certificate_words(certificate),
        rustls::Error::InvalidMessage(_) => format!("the other side does not speak TLS: {tls}"),
        other => format!("TLS failed: {}", clean::text(&other.to_string(), MAX_CAUSE_CHARS)),
    })
}

fn certificate_words(error: &CertificateError) -> String {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "its certificate has expired".into(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet".into()
        }
        // The error behind it belongs to a crate that is not ours to name; its text is that of its variant.
        CertificateError::Other(inner) if inner.to_string().contains("CaUsedAsEndEntity") => {
            "its certificate is that of an authority and not of a server, as self-signed ones often are".into()
        }
        CertificateError::UnknownIssuer => "its certificate is signed by nobody whom this machine trusts".into(),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate is for another host".into()
        }
        other => format!("its certificate is refused: {}", clean::text(&other.to_string(), MAX_CAUSE_CHARS)),
    }
}
