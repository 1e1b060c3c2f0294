//! The command line as people and programs meet it: words, data, exit codes; the real binary throughout.

mod support;

mod cli {
    pub mod saying;
    pub mod seeded;

    mod commands;
    mod health;
    mod outage;
    mod runs;
    mod trigger;
    mod troubles;
    mod words;
}
