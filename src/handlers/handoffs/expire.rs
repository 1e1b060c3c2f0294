//! The end of a handoff that nobody answered: it expires, its shift opens again and its doctor is told, in one
//! transaction.

use serde_json::json;

use super::{Attempt, EXPIRED, Handoff, NOTICE, due, texts::Filling, vaga};
use crate::{
    domain::run::Failure,
    handlers::{
        AppTx,
        events::Event,
        team::{Outgoing, Param},
    },
};

/// What a doctor without a name is called.
const NAMELESS: &str = "doutor(a)";

/// What became of one handoff.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expiry {
    Expired {
        has_reopened: bool,
        /// Why its doctor could not be told.
        untold: Option<Failure>,
    },
    /// Somebody answered or expired it since it was looked for.
    Gone,
}

impl Attempt {
    pub async fn expire(&self, tx: &mut AppTx, handoff: &Handoff) -> Result<Expiry, Failure> {
        let mut params = self.until();
        params.push(Param::from(handoff.id.as_str()));
        let statement = due::expire(&self.touched("$1"));
        if self.adopted.change(tx, &statement, &params).await? == 0 {
            return Ok(Expiry::Gone);
        }
        let has_reopened = vaga::reopen(tx, &self.adopted, handoff, self.now).await?;
        let event = Self::event(EXPIRED, handoff, json!({ "vaga_reaberta": has_reopened }));
        // A handoff that was opened again by hand may expire again; people are told of it once.
        let mut untold = None;
        if event.record(tx, &self.adopted, self.now).await? {
            untold = self.try_to_tell_doctor(tx, handoff).await?;
            if self.settings.resolved.slack.is_some() {
                // Slack is told after the commit. Until it was, this stands for the notice that is still to go.
                Self::event(NOTICE, handoff, json!({})).record(tx, &self.adopted, self.now).await?;
            }
        }
        Ok(Expiry::Expired { has_reopened, untold })
    }

    /// A message that the queue refuses is taken back alone: the shift is for others now, whoever knows of it.
    async fn try_to_tell_doctor(&self, tx: &mut AppTx, handoff: &Handoff) -> Result<Option<Failure>, Failure> {
        self.adopted.change(tx, "savepoint doctor", &[]).await?;
        let told = self.tell_doctor(tx, handoff).await;
        if told.is_err() {
            self.adopted.change(tx, "rollback to savepoint doctor", &[]).await?;
        }
        self.adopted.change(tx, "release savepoint doctor", &[]).await?;
        Ok(told.err())
    }

    pub fn event(kind: &'static str, handoff: &Handoff, props: serde_json::Value) -> Event {
        Event {
            kind,
            about: handoff.id.clone(),
            cliente_id: handoff.cliente_id.clone(),
            vaga_id: handoff.vaga_id.clone(),
            props,
        }
    }

    async fn tell_doctor(&self, tx: &mut AppTx, handoff: &Handoff) -> Result<(), Failure> {
        let Some(cliente_id) = &handoff.cliente_id else { return Ok(()) };
        let vaga = vaga::words(tx, &self.adopted, handoff.vaga_id.as_deref()).await?;
        let nome = self.name_of(tx, cliente_id).await?.unwrap_or_else(|| NAMELESS.into());
        let filling = Filling { nome, vaga, prazo: self.deadline_words(handoff) };
        let message = Outgoing {
            cliente_id: Some(cliente_id.clone()),
            conversa_id: None,
            telefone: None,
            conteudo: filling.filled_into(&self.settings.texts.expired),
            tipo: "sistema",
            prioridade: Outgoing::PRIORIDADE,
            // Nobody is woken up by the end of a reservation.
            agendar_para: self.next_open(),
            metadata: json!({ "job": self.job, "handoff_id": handoff.id }),
        };
        message.queue(tx, &self.adopted, self.now).await
    }

    async fn name_of(&self, tx: &mut AppTx, cliente_id: &str) -> Result<Option<String>, Failure> {
        let Ok(Some(clients)) = &self.clients else { return Ok(None) };
        if !clients.has("clientes", "primeiro_nome") || !clients.fits("clientes", "id", cliente_id) {
            return Ok(None);
        }
        let query = "select primeiro_nome from clientes where id = @type(clientes.id, $1) limit 1";
        let rows = clients.rows(tx, query, &[cliente_id.into()]).await?;
        let name = rows.first().and_then(|row| row.text("primeiro_nome"));
        Ok(name.filter(|name| !name.trim().is_empty()))
    }
}
