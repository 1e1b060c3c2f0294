//! What is due: jobs, cursors, epochs, and the rows that their instants become.

mod activate;
mod audit;
mod epochs;
mod jobs;
mod pause;
mod plan;
mod record;
mod rewind;
mod standing;

pub use activate::{ActivateRequest, Activation};
pub(super) use audit::account;
pub use audit::{Audit, AuditWindow};
pub use plan::PlanRequest;
pub use rewind::Rewound;

use super::dialect::Sql;

pub(super) const STATEMENTS: &[&[Sql]] = &[
    activate::STATEMENTS,
    audit::STATEMENTS,
    epochs::STATEMENTS,
    jobs::STATEMENTS,
    pause::STATEMENTS,
    plan::STATEMENTS,
    record::STATEMENTS,
    rewind::STATEMENTS,
    standing::STATEMENTS,
];
