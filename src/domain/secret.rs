//! What looks like a secret: names of keys and variables, and addresses with a password in them.

mod masked;

pub use masked::Masking;

/// What stands for a hidden value in every output.
pub const MASK: &str = "***";

/// Whether values under a key or variable of this name must not be shown.
pub fn is_name_of_secret(name: &str) -> bool {
    const PARTS: [&str; 12] = [
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
    ];
    let name = name.to_ascii_lowercase();
    PARTS.iter().any(|part| name.contains(part)) || name == "key" || name.ends_with("_key") || name.ends_with("-key")
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
