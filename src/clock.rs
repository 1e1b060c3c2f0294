//! The only asker of the time.
