//! What the parts of the engine share: the table they work by, what runs now, how the loops fare.

pub mod desk;
pub mod running;
pub mod status;
