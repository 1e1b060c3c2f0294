//! Signs calls as the Standard Webhooks specification says, so that the application knows who called.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::domain::secret::MASK;

/// What marks a secret as one of the specification; it may be left out.
const PREFIX: &str = "whsec_";
/// The bounds that the specification gives for a secret, in bytes.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// Most secrets of one target: more than a rotation needs.
const MOST_SECRETS: usize = 5;

/// One or more secrets, separated by spaces, so that one can follow another without a gap. Empty = calls are not signed.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub struct Secret(String);

impl Secret {
    /// Stands for it in a hash.
    pub(crate) fn hidden(&self) -> Self {
        Self(if self.0.trim().is_empty() { String::new() } else { MASK.into() })
    }

    /// What is wrong with the secrets. The message never quotes them.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.keys().map(drop)
    }

    /// The value of `webhook-signature`: one signature per secret. `None` = calls are not signed.
    pub(crate) fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> Result<Option<String>, String> {
        let sign = |key: Vec<u8>| {
            let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("HMAC takes keys of any length");
            mac.update(format!("{id}.{timestamp}.").as_bytes());
            mac.update(body);
            format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
        };
        let signatures: Vec<_> = self.keys()?.into_iter().map(sign).collect();
        Ok((!signatures.is_empty()).then(|| signatures.join(" ")))
    }

    fn keys(&self) -> Result<Vec<Vec<u8>>, String> {
        let texts: Vec<_> = self.0.split_whitespace().collect();
        if MOST_SECRETS < texts.len() {
            return Err(format!("secret holds {} secrets, at most {MOST_SECRETS}", texts.len()));
        }
        texts.iter().map(|text| key(text)).collect()
    }
}

fn key(text: &str) -> Result<Vec<u8>, String> {
    let remedy = "`openssl rand -base64 32` makes one";
    let key = STANDARD
        .decode(text.strip_prefix(PREFIX).unwrap_or(text))
        .map_err(|_| format!("secret is not base64, as Standard Webhooks has it: {remedy}"))?;
    if SECRET_BYTES.contains(&key.len()) {
        return Ok(key);
    }
    let (least, most) = SECRET_BYTES.into_inner();
    Err(format!("secret is base64 of {} bytes, and must be of {least} to {most}: {remedy}", key.len()))
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use sha2::Digest;

    use super::*;

    fn secret(text: &str) -> Secret {
        Secret(text.to_owned())
    }

    #[test]
    fn the_vector_of_the_standard_is_met() {
        // From the tests of the specification's own libraries.
        let (key, id) = ("C2FVsBQIhrscChlQIMV+b5sSYspob7oD", "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk");
        let body = br#"{"email":"test@example.com","username":"test_user"}"#;
        let expected = "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=";

        for text in [key.to_owned(), format!("whsec_{key}"), format!("  whsec_{key}\n")] {
            let signature = secret(&text).sign(id, 1_649_367_553, body);

            assert_eq!(signature, Ok(Some(expected.to_owned())), "{text:?}");
        }
    }

    /// RFC 2104 by its words, over SHA-256, whose block is 64 bytes.
    fn hmac_by_hand(key: &[u8], message: &[u8]) -> Vec<u8> {
        let pad = |with: u8| -> Vec<u8> { (0..64).map(|at| key.get(at).copied().unwrap_or(0) ^ with).collect() };
        let inner = Sha256::digest([pad(0x36), message.to_vec()].concat());
        Sha256::digest([pad(0x5c), inner.to_vec()].concat()).to_vec()
    }

    #[test]
    fn each_secret_signs_and_an_independent_implementation_agrees() {
        let keys = [vec![7; 24], (0..64).collect::<Vec<u8>>()];
        let texts: Vec<_> = keys.iter().map(|key| format!("whsec_{}", STANDARD.encode(key))).collect();
        for body in [&b""[..], b"{}", "{\"nome\":\"ação\"}".as_bytes(), b"\xff\x00"] {
            let expected: Vec<_> = keys
                .iter()
                .map(|key| format!("v1,{}", STANDARD.encode(hmac_by_hand(key, &[b"id.5.", body].concat()))))
                .collect();

            assert_eq!(secret(&texts.join(" ")).sign("id", 5, body), Ok(Some(expected.join(" "))));
        }
    }

    #[test]
    fn a_bad_secret_is_told_and_never_quoted() {
        let of = |bytes: usize| STANDARD.encode(vec![1; bytes]);
        assert_eq!(secret("").sign("id", 5, b""), Ok(None));
        assert_eq!(secret(" ").sign("id", 5, b""), Ok(None));
        for (text, fault) in [
            ("c4nary-c4nary".to_owned(), "secret is not base64"),
            (format!("whsk_{}", of(32)), "secret is not base64"),
            (of(23), "secret is base64 of 23 bytes, and must be of 24 to 64"),
            (of(65), "secret is base64 of 65 bytes, and must be of 24 to 64"),
            ("whsec_".to_owned(), "secret is base64 of 0 bytes"),
            (format!("{} c4nary", of(32)), "secret is not base64"),
            ([of(32), of(32), of(32), of(32), of(32), of(32)].join(" "), "secret holds 6 secrets, at most 5"),
        ] {
            let error = secret(&text).check().expect_err("a bad secret");

            assert!(error.starts_with(fault), "{error}");
            assert!(!error.contains("c4nary"), "{error}");
            assert_eq!(format!("{:?}", secret(&text)), "Secret(..)");
        }
    }
}
