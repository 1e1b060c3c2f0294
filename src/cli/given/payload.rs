//! Payloads as people give them: JSON, `@FILE`, or `-` for standard input.

use std::{
    fs::File,
    io::{self, Read},
};

use serde_json::Value;

use crate::cli::exit::{Exit, Stop};

/// Largest payload, in bytes: what the service takes over HTTP.
const MOST_BYTES: u64 = 1024 * 1024;

/// Reads a payload.
pub fn read(given: &str) -> Result<Value, Stop> {
    let (name, text) = match given.strip_prefix('@') {
        Some(file) => (file, all(File::open(file), file)?),
        None if given == "-" => ("standard input", all(Ok(io::stdin().lock()), "standard input")?),
        None => ("--payload", given.as_bytes().to_vec()),
    };
    serde_json::from_slice(&text).map_err(|error| {
        let message =
            format!("{name} is not JSON: {error}; give JSON such as '{{\"id\": 7}}', @FILE, or - for standard input");
        Stop::new(Exit::Usage, message)
    })
}

fn all(source: io::Result<impl Read>, name: &str) -> Result<Vec<u8>, Stop> {
    let refused = |reason: String| Stop::new(Exit::Usage, format!("cannot take the payload from {name}: {reason}"));
    let mut bytes = Vec::new();
    let source = source.map_err(|error| refused(error.to_string()))?;
    source.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(|error| refused(error.to_string()))?;
    if MOST_BYTES < bytes.len() as u64 {
        return Err(refused(format!("it has more than {MOST_BYTES} bytes")));
    }
    Ok(bytes)
}
