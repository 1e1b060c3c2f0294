//! What is due: jobs, cursors, epochs, and the rows that their instants become.

mod activate;
mod epochs;
mod plan;
mod record;
mod standing;

pub use activate::{ActivateRequest, Activation};
pub use plan::PlanRequest;

use super::dialect::Sql;

pub(super) const STATEMENTS: &[&[Sql]] =
    &[activate::STATEMENTS, epochs::STATEMENTS, plan::STATEMENTS, record::STATEMENTS, standing::STATEMENTS];
