//! What the faces show of a queue in the team's own tables, on both databases and with the real daemon: health, metrics, and the
//! commands that see to dead letters.

mod support;

mod queues {
    pub mod place;

    mod alone;
    mod health;
    mod letters;
}
