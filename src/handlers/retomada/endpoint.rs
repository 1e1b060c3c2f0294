//! Asks the application for the answer to one message, and tells its own trouble from that of the message.

use std::time::Duration;

use super::{
    answer::understood,
    inbox::{Answer, Waiting},
};
use crate::{
    domain::{duration::Length, run::Failure},
    handlers::{Context, http},
    outbound::call::{Content, Unheard},
};

/// The endpoint as one attempt calls it.
pub(super) struct Endpoint<'a> {
    pub ctx: &'a Context,
    pub call: &'a http::Settings,
    /// Where the text stands in an answer.
    pub field: Option<&'a str>,
    pub limit: Duration,
}

/// Why there is no answer to a message.
pub(super) enum Trouble {
    /// It counts as a try of this message, and the next one may fare better.
    OfMessage(String),
    /// Nobody can be answered now: no try is counted, and nothing more is asked.
    OfEndpoint(Failure),
}

impl Endpoint<'_> {
    pub async fn ask(&self, message: &Waiting) -> Result<Answer, Trouble> {
        let mut call = self.call.clone();
        call.json = Some(message.as_json());
        call.timeout = Some(Length(self.limit));
        let http::Told { answer, shown } = http::ask(&call, self.ctx, &message.key()).await.map_err(unheard)?;
        let status = answer.status;
        let of_message = |words: String| Trouble::OfMessage(format!("{shown} {words}"));
        match status {
            200..=299 => {}
            429 | 503 if answer.retry_after.is_some() => {
                let wait = answer.retry_after.unwrap_or_default();
                let message = format!("{shown} answered {status} and asked to wait");
                return Err(Trouble::OfEndpoint(Failure::snooze(wait, message).with_code(status)));
            }
            429 => return Err(of_endpoint(Failure::retry(format!("{shown} answered 429")), status)),
            425 => return Err(of_endpoint(Failure::permanent(format!("{shown} answered 425")), status)),
            400..=599 if !http::is_about_endpoint(status) => return Err(of_message(format!("answered {status}"))),
            _ => return Err(of_endpoint(Failure::permanent(format!("{shown} answered {status}")), status)),
        }
        match &answer.content {
            Content::Json(said) => understood(said, self.field).map_err(of_message),
            Content::Broken(_) => Err(of_message("answered with JSON that cannot be read".into())),
            Content::Cut { .. } => Err(of_message("answered with more than is read".into())),
            Content::Encoded(_) => Err(of_message("answered with packed content, which was not asked for".into())),
            Content::Text(_) => Err(of_message("answered with no JSON object".into())),
        }
    }
}

fn of_endpoint(failure: Failure, status: u16) -> Trouble {
    Trouble::OfEndpoint(failure.with_code(status))
}

/// What was surely not sent says nothing of the message; a time-out may well be its own doing.
fn unheard(unheard: Unheard) -> Trouble {
    match unheard {
        Unheard::LeftAlone { after, message } => Trouble::OfEndpoint(Failure::snooze(after, message)),
        Unheard::Stopped => {
            Trouble::OfEndpoint(Failure::retry("told to stop before all were answered").before_effect())
        }
        Unheard::Failed(failure) if failure.before_effect => Trouble::OfEndpoint(failure),
        Unheard::Failed(failure) => Trouble::OfMessage(failure.message),
    }
}
