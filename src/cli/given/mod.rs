//! How commands read what people give: instants, lengths of time, payloads.

pub mod moment;
pub mod payload;
