//! Which job table this process works by: the one it asks to make active, and the one a reload brings.

mod activation;
mod changes;
mod reload;

pub use activation::{activate, foreign_jobs, stay_active};
pub use reload::{Reader, Reloading, Watched, reload};
