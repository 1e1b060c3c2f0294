//! Tells a row that the table does not take from a database that is in trouble.

use sqlx::error::{DatabaseError, ErrorKind};

/// Classes of PostgreSQL's errors that are about one row: what it holds (22), what constraints say of it (23, 44), and what
/// triggers raise (09, 27, P0).
const OF_ROW: [&str; 6] = ["09", "22", "23", "27", "44", "P0"];
/// PostgreSQL: a text is longer than its column.
const TOO_LONG: &str = "22001";
/// SQLite, the low byte of its codes: too big, a constraint or `raise(abort)` of a trigger, another type than the column's.
const OF_ROW_SQLITE: [i64; 3] = [18, 19, 20];

/// Why the table does not take a change of one row. Another row may fare better, and the same one would not.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::handlers::drain) struct Refusal {
    /// In the database's words.
    pub reason: String,
    /// Another row holds what only one may.
    pub is_of_unique_index: bool,
    /// A shorter text may be taken.
    pub may_be_too_long: bool,
}

impl Refusal {
    /// `None` = the database is in trouble, or the statement is wrong for all rows alike.
    pub fn of(error: &sqlx::Error) -> Option<Self> {
        let sqlx::Error::Database(error) = error else { return None };
        is_of_row(error.as_ref()).then(|| Self {
            reason: error.message().to_owned(),
            is_of_unique_index: error.kind() == ErrorKind::UniqueViolation,
            may_be_too_long: error.kind() == ErrorKind::CheckViolation || error.code().as_deref() == Some(TOO_LONG),
        })
    }
}

fn is_of_row(error: &dyn DatabaseError) -> bool {
    match error.code() {
        Some(code) if code.len() == 5 => OF_ROW.iter().any(|class| code.starts_with(class)),
        Some(code) => code.parse::<i64>().is_ok_and(|code| OF_ROW_SQLITE.contains(&(code & 0xff))),
        None => false,
    }
}
