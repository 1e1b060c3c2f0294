//! What the team is told in Slack of handoffs that expired: after the commit, and again by the next run until it went.

use chrono::TimeDelta;

use super::{Attempt, NOTICE, vaga};
use crate::{
    domain::run::Failure,
    handlers::{AppTx, events, people::Notice, team::Param},
};

/// A notice that could not go for so long is given up.
const GIVEN_UP_AFTER: TimeDelta = TimeDelta::days(7);
/// Handoffs that one notice stands for, and those of them that it names.
const MOST_HANDOFFS: i64 = 200;
const MOST_NAMED: usize = 20;

/// Notices that are still to go, as one.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Untold {
    pub notice: Notice,
    handoffs: Vec<String>,
}

pub(super) const QUERY: &str = "\
    select external_handoffs.id as id, external_handoffs.vaga_id as vaga_id, divulgador_nome
    from external_handoffs
    join business_events on business_events.dedupe_key = $1 || cast(external_handoffs.id as text)
    where external_handoffs.status = 'expired'
      and @instant($2) <= @instant(expired_at)
    order by @instant(expired_at)
    limit $3";

impl Attempt {
    /// What Slack was not told yet; `None` = nothing.
    pub async fn untold(&self, tx: &mut AppTx) -> Result<Option<Untold>, Failure> {
        let params = [format!("{NOTICE}:").into(), (self.now - GIVEN_UP_AFTER).into(), Param::from(MOST_HANDOFFS)];
        let rows = self.adopted.rows(tx, QUERY, &params).await?;
        if rows.is_empty() {
            return Ok(None);
        }
        let mut lines = vec![match rows.len() {
            1 => "Um handoff expirou sem confirmação:".to_owned(),
            several => format!("{several} handoffs expiraram sem confirmação:"),
        }];
        for row in rows.iter().take(MOST_NAMED) {
            let vaga = vaga::words(tx, &self.adopted, row.text("vaga_id").as_deref()).await?;
            let by = row.text("divulgador_nome").map(|name| format!(", com {}", name.trim())).unwrap_or_default();
            lines.push(format!("- {vaga}{by}"));
        }
        if MOST_NAMED < rows.len() {
            lines.push(format!("- e mais {}", rows.len() - MOST_NAMED));
        }
        let handoffs = rows.iter().filter_map(|row| row.text("id")).collect();
        Ok(Some(Untold { notice: Notice { text: lines.join("\n"), blocks: Vec::new() }, handoffs }))
    }

    /// Slack knows them now, or there is no Slack to tell.
    pub async fn was_told(&self, tx: &mut AppTx, untold: &Untold) -> Result<(), Failure> {
        for handoff in &untold.handoffs {
            events::forget(tx, &self.adopted, format!("{NOTICE}:{handoff}")).await?;
        }
        Ok(())
    }
}
