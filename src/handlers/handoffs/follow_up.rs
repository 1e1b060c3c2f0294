//! A follow-up: the recruiter is asked again, once for each number, unless they want to be left alone.

use serde_json::json;

use super::{Attempt, FOLLOWED_UP, Handoff, due, recruiter, texts::Filling, vaga};
use crate::{
    domain::run::Failure,
    handlers::{
        AppTx,
        events::Event,
        team::{Outgoing, Param},
    },
};

/// What a recruiter without a name is called.
const NAMELESS: &str = "colega";

/// What became of one handoff.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum FollowUp {
    Queued,
    /// It had been queued before, whatever the row says.
    Known,
    /// Somebody answered or followed up since it was looked for.
    Gone,
    OptedOut,
    /// There is no number to write to.
    WithoutNumber,
}

impl Attempt {
    pub async fn follow_up(&self, tx: &mut AppTx, handoff: &Handoff) -> Result<FollowUp, Failure> {
        // Where it cannot be told who wants to be left alone, nobody is written to.
        self.clients.as_ref().and(self.permissions.as_ref()).map_err(Failure::clone)?;
        let number = recruiter::digits(handoff.divulgador_telefone.as_deref());
        if number.is_empty() {
            return Ok(FollowUp::WithoutNumber);
        }
        if handoff.recruiter.has_opted_out {
            return Ok(FollowUp::OptedOut);
        }
        let params = [self.now.into(), handoff.stage.into(), Param::from(handoff.id.as_str())];
        if self.adopted.change(tx, &due::claim(&self.touched("$1")), &params).await? == 0 {
            return Ok(FollowUp::Gone);
        }
        let event = Event {
            about: format!("{}:{}", handoff.id, handoff.stage),
            ..Self::event(FOLLOWED_UP, handoff, json!({ "followup": handoff.stage }))
        };
        // The row is not asked again, and the message does not go again.
        if !event.record(tx, &self.adopted, self.now).await? {
            return Ok(FollowUp::Known);
        }
        self.message(tx, handoff, number).await?.queue(tx, &self.adopted, self.now).await?;
        Ok(FollowUp::Queued)
    }

    /// The row of the queue. Its client is the recruiter, when a client has that number: the doctor is not written to.
    async fn message(&self, tx: &mut AppTx, handoff: &Handoff, number: String) -> Result<Outgoing, Failure> {
        let named = handoff.divulgador_nome.clone().filter(|name| !name.trim().is_empty());
        let filling = Filling {
            nome: named.unwrap_or_else(|| NAMELESS.into()),
            vaga: vaga::words(tx, &self.adopted, handoff.vaga_id.as_deref()).await?,
            prazo: self.deadline_words(handoff),
        };
        Ok(Outgoing {
            cliente_id: handoff.recruiter.cliente_id.clone(),
            conversa_id: None,
            telefone: Some(number),
            conteudo: filling.filled_into(self.settings.texts.followup(handoff.stage)),
            tipo: "followup",
            prioridade: Outgoing::PRIORIDADE,
            agendar_para: self.now,
            metadata: json!({ "job": self.job, "handoff_id": handoff.id, "followup": handoff.stage }),
        })
    }
}
