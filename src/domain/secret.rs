//! What looks like a secret: names of keys and variables, and addresses with a password in them.

mod masked;

pub use masked::Masking;

/// What stands for a hidden value in every output.
pub const MASK: &str = "***";

/// A shorter secret is left as it is in texts: hiding every `1` hides everything and protects nothing.
const SHORTEST_SECRET_CHARS: usize = 6;

/// Whether values under a key, variable, header or parameter of this name must not be shown.
pub fn is_name_of_secret(name: &str) -> bool {
    const PARTS: [&str; 17] = [
        "secret",
        "token",
        "password",
        "passwd",
        "senha",
        "authorization",
        "apikey",
        "api_key",
        "api-key",
        "credential",
        "cookie",
        "webhook",
        "authentic",
        "oauth",
        "session",
        "signature",
        "passphrase",
    ];
    // Too short to be looked for inside other words.
    const WORDS: [&str; 4] = ["key", "auth", "sig", "pwd"];
    // Keys of `[outbound]`: an address that lets in whoever knows it, and numbers of people.
    const NAMES: [&str; 2] = ["slack", "allowlist"];
    let name = name.to_ascii_lowercase();
    let mut words = name.split(|c: char| !c.is_ascii_alphanumeric());
    NAMES.contains(&name.as_str())
        || PARTS.iter().any(|part| name.contains(part))
        || words.any(|word| WORDS.contains(&word))
}

/// Whether a secret is long enough to be hidden wherever it stands in a text.
pub fn can_be_hidden(secret: &str) -> bool {
    SHORTEST_SECRET_CHARS <= secret.chars().count()
}

/// Whether a text is an address with a user and perhaps a password in it.
pub fn holds_password(text: &str) -> bool {
    text.split_once("://").is_some_and(|(_, rest)| rest.split('/').next().is_some_and(|host| host.contains('@')))
}

/// The password of an address, as it is written there.
pub fn password_of(address: &str) -> Option<&str> {
    let (_, rest) = address.split_once("://")?;
    let place = rest.split('?').next().unwrap_or(rest);
    // Passwords may hold an @ of their own, and those that were not escaped a / too.
    let (user, _) = place.rsplit_once('@')?;
    user.split_once(':').map(|(_, password)| password)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets_are_known_by_their_words() {
        for name in [
            "API_KEY",
            "key",
            "x-key",
            "X-Auth-User",
            "Authorization",
            "sig",
            "JSESSIONID",
            "MY_TOKEN",
            "senha",
            "slack",
        ] {
            assert!(is_name_of_secret(name), "{name}");
        }
        for name in ["monkey", "keyboard", "GIT_AUTHOR_NAME", "design", "page", "PATH", "source"] {
            assert!(!is_name_of_secret(name), "{name}");
        }
    }

    #[test]
    fn the_password_of_an_address_is_found() {
        for (address, password) in [
            ("postgres://ana:s3cret@db:5432/app", Some("s3cret")),
            ("postgres://ana:a@b@db/app", Some("a@b")),
            ("redis://:s3cret@cache", Some("s3cret")),
            ("postgres://ana:s3cret@db/app?options=a@b", Some("s3cret")),
            ("postgres://ana@db/app", None),
            ("postgres://db/app", None),
            ("s3cret", None),
        ] {
            assert_eq!(password_of(address), password, "{address}");
        }
    }
}
