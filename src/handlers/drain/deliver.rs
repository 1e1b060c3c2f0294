//! Delivers one row by one call, and says what that makes of the row.

use std::{fmt::Write as _, time::Duration};

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};

use super::{
    Settings,
    table::cell::{MAX_ROW_CHARS, Taken},
    tally::Stop,
};
use crate::{
    domain::run::{Failure, FailureKind},
    handlers::{
        Context,
        http::{self, Parcel, Undelivered},
    },
};

/// Longer keys are hashed: some receivers keep no more.
const MAX_KEY_CHARS: usize = 200;

/// What the application made of a row that it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taking {
    Whole,
    /// It said that some of the row went wrong.
    InPart,
    /// It said that there was nothing to do.
    Skipped,
}

/// What the call makes of the row.
pub(super) enum Delivered {
    /// The application has it.
    Taken(Taking),
    /// It may go well another time.
    TryAgain(String),
    /// It will not.
    GiveUp(String),
    /// Nothing was wrong with the row: it goes back as it was. `None` = the run was told to stop.
    NotBegun(Option<Stop>),
}

/// One call. `attempt` is the row's own, from 1.
pub(super) async fn deliver(
    settings: &Settings,
    ctx: &Context,
    (row, attempt, now, limit): (&Taken, u32, DateTime<Utc>, Duration),
) -> Delivered {
    if MAX_ROW_CHARS < row.json.chars().count() {
        return Delivered::GiveUp(format!("the row has more than {MAX_ROW_CHARS} characters as JSON"));
    }
    let parcel = Parcel {
        body: row.json.clone().into_bytes(),
        key: key(ctx.job.name.as_str(), &row.id.shown()),
        attempt,
        now,
        limit,
    };
    match http::deliver(&settings.deliver, ctx, parcel).await {
        Ok(report) if 0 < report.items_failed => Delivered::Taken(Taking::InPart),
        Ok(_) => Delivered::Taken(Taking::Whole),
        Err(Undelivered::LeftAlone { after, message }) => Delivered::NotBegun(Some(Stop::LeftAlone { after, message })),
        Err(Undelivered::Stopped) => Delivered::NotBegun(None),
        Err(Undelivered::Failed(failure)) => judged(failure),
    }
}

fn judged(failure: Failure) -> Delivered {
    match failure.kind {
        FailureKind::Skipped(_) => Delivered::Taken(Taking::Skipped),
        FailureKind::Snooze(after) => Delivered::NotBegun(Some(Stop::LeftAlone { after, message: failure.message })),
        FailureKind::Pause => Delivered::NotBegun(Some(Stop::Failed(without_report(failure)))),
        FailureKind::Permanent if failure.response_code.is_some_and(http::is_about_endpoint) => {
            Delivered::NotBegun(Some(Stop::Failed(without_report(failure))))
        }
        // The settings are wrong, or the address is out of reach, for each row alike.
        FailureKind::Permanent if failure.before_effect => {
            Delivered::NotBegun(Some(Stop::Failed(without_report(failure))))
        }
        FailureKind::Permanent => Delivered::GiveUp(failure.message),
        FailureKind::Retry | FailureKind::RetryAfter(_) | FailureKind::Pending(_) => {
            Delivered::TryAgain(failure.message)
        }
    }
}

fn without_report(failure: Failure) -> Failure {
    Failure { report: None, ..failure }
}

/// The same on each attempt of a row: `job:id`, or a hash of the id where a header cannot carry it.
fn key(job: &str, id: &str) -> String {
    let is_plain = id.bytes().all(|byte| byte.is_ascii_graphic()) && id.len() <= MAX_KEY_CHARS;
    if is_plain {
        return format!("{job}:{id}");
    }
    let hash = Sha256::digest(id.as_bytes());
    hash.iter().fold(format!("{job}:"), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string grows");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_fits_a_header() {
        assert_eq!(key("fila", "42"), "fila:42");
        assert_eq!(key("fila", "6f1e0c6e-1111"), "fila:6f1e0c6e-1111");
        for id in ["a b", "ação", "", "x\ny", &"x".repeat(201)] {
            let key = key("fila", id);
            assert!(key.is_ascii() && key.len() <= 5 + 64, "{key}");
        }
        assert_ne!(key("fila", "a b"), key("fila", "a c"));
    }
}
