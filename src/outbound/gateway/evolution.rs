//! The gateway `evolution`: the Evolution API, which carries messages to WhatsApp.

use std::time::Duration;

use reqwest::{
    Method, Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use serde_json::json;

use crate::outbound::{
    Evolution, Message,
    call::{Call, Network, connect_limit},
    settings::digits,
};

/// Carries the key of the account.
const KEY: HeaderName = HeaderName::from_static("apikey");

/// `POST {url}/message/sendText/{instance}`. The error names neither address nor key.
pub(super) fn call(evolution: &Evolution, message: &Message, timeout: Duration) -> Result<Call, String> {
    let url = address(evolution).ok_or("the address of the gateway evolution is not a URL")?;
    let mut key = HeaderValue::try_from(evolution.key.reveal()).map_err(|_| "evolution.key fits into no header")?;
    key.set_sensitive(true);
    let body = json!({ "number": digits(&message.number), "text": message.text });
    Ok(Call {
        method: Method::POST,
        url,
        known_as: Some("the gateway evolution".into()),
        has_secret_path: true,
        headers: HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json")), (KEY, key)]),
        body: Some(body.to_string().into_bytes()),
        target: None,
        network: Network::Any,
        connect_timeout: connect_limit(None, Some(timeout)),
        timeout: Some(timeout),
    })
}

fn address(evolution: &Evolution) -> Option<Url> {
    let mut url = Url::parse(evolution.url.reveal()).ok()?;
    // The name of an instance may hold any sign.
    url.path_segments_mut().ok()?.pop_if_empty().extend(["message", "sendText", &evolution.instance]);
    Some(url)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbound::Confidential;

    #[test]
    fn the_instance_stands_at_the_end_of_the_address_whatever_its_name() {
        for (url, instance, address) in [
            ("http://zap:8080", "escala", "http://zap:8080/message/sendText/escala"),
            ("http://zap:8080/", "escala", "http://zap:8080/message/sendText/escala"),
            ("https://h/evo/", "a b/ç", "https://h/evo/message/sendText/a%20b%2F%C3%A7"),
        ] {
            let evolution =
                Evolution { url: Confidential::new(url), instance: instance.into(), key: Confidential::default() };

            assert_eq!(super::address(&evolution).map(String::from).as_deref(), Some(address));
        }
    }
}
