//! The HTTP clients of the process.

/// Keep-alive pools shared by all calls.
#[derive(Debug, Default)]
pub struct HttpClients {}
