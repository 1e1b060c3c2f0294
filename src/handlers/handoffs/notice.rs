//! What the team is told in Slack of handoffs that expired: after the commit, and again by the next run until it went.

use chrono::TimeDelta;

use super::{Attempt, NOTICE, vaga};
use crate::{
    domain::run::Failure,
    handlers::{AppTx, events, people::Notice, team::Param},
};

/// A notice that could not go for so long is given up.
const GIVEN_UP_AFTER: TimeDelta = TimeDelta::days(7);
/// Handoffs that expired so long ago are not looked at for what is to be given up.
const LOOKED_AT_FOR: TimeDelta = TimeDelta::days(90);
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

/// Forgets what was given up. Found from the handoffs, as events are looked for by their keys.
const GIVE_UP: &str = "\
    delete from business_events
    where dedupe_key in (
      select $1 || cast(id as text) from external_handoffs
      where @instant(expired_at) < @instant($2) and @instant($3) <= @instant(expired_at)
    )";

impl Attempt {
    /// Forgets notices that nobody took in time.
    async fn give_up(&self, tx: &mut AppTx) -> Result<(), Failure> {
        // Without Slack none is waited for.
        let until = if self.settings.resolved.slack.is_some() { self.now - GIVEN_UP_AFTER } else { self.now };
        let params = [format!("{NOTICE}:").into(), until.into(), Param::from(self.now - LOOKED_AT_FOR)];
        self.adopted.change(tx, GIVE_UP, &params).await.map(drop)
    }

    /// What Slack was not told yet; `None` = nothing.
    pub async fn untold(&self, tx: &mut AppTx) -> Result<Option<Untold>, Failure> {
        self.give_up(tx).await?;
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
