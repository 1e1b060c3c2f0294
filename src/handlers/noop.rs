//! `noop`: does nothing, for drills, benches, tests and jobs whose real work comes later.
