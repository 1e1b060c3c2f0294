//! `assess`: what a snapshot of the jobs says about their health (spec 7, Health).
