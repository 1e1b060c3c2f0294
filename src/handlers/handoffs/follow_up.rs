//! A follow-up: the recruiter is asked again, once for each number, unless they want to be left alone.

use serde_json::json;

use super::{Attempt, FOLLOWED_UP, Handoff, due, texts::Filling, vaga};
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
/// Clients with one number that are looked at.
const MOST_CLIENTS: i64 = 20;
/// Country code of Brazil, which a number may be written with or without.
const COUNTRY: &str = "55";

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
        let number: String =
            handoff.divulgador_telefone.iter().flat_map(|it| it.chars()).filter(char::is_ascii_digit).collect();
        if number.is_empty() {
            return Ok(FollowUp::WithoutNumber);
        }
        let clients = self.clients_with(tx, &number).await?;
        if self.has_opted_out(tx, &clients).await? {
            return Ok(FollowUp::OptedOut);
        }
        let params = [self.now.into(), handoff.stage.into(), Param::from(handoff.id.as_str())];
        if self.adopted.change(tx, &due::claim(&self.touched("$1")), &params).await? == 0 {
            return Ok(FollowUp::Gone);
        }
        let event = Event {
            about: format!("{}:{}", handoff.id, handoff.stage),
            ..self.event(FOLLOWED_UP, handoff, json!({ "followup": handoff.stage }))
        };
        // The row is not asked again, and the message does not go again.
        if !event.record(tx, &self.adopted, self.now).await? {
            return Ok(FollowUp::Known);
        }
        self.message(tx, handoff, number, clients.into_iter().next()).await?.queue(tx, &self.adopted, self.now).await?;
        Ok(FollowUp::Queued)
    }

    /// The row of the queue. Its client is the recruiter, when a client has that number: the doctor is not written to.
    async fn message(
        &self,
        tx: &mut AppTx,
        handoff: &Handoff,
        number: String,
        cliente_id: Option<String>,
    ) -> Result<Outgoing, Failure> {
        let named = handoff.divulgador_nome.clone().filter(|name| !name.trim().is_empty());
        let filling = Filling {
            nome: named.unwrap_or_else(|| NAMELESS.into()),
            vaga: vaga::words(tx, &self.adopted, handoff.vaga_id.as_deref()).await?,
            prazo: self.deadline_words(handoff),
        };
        Ok(Outgoing {
            cliente_id,
            conversa_id: None,
            telefone: Some(number),
            conteudo: filling.into_text(self.settings.texts.followup(handoff.stage)),
            tipo: "followup",
            prioridade: Outgoing::PRIORIDADE,
            agendar_para: self.now,
            metadata: json!({ "job": self.job, "handoff_id": handoff.id, "followup": handoff.stage }),
        })
    }

    /// The clients that a number belongs to.
    async fn clients_with(&self, tx: &mut AppTx, number: &str) -> Result<Vec<String>, Failure> {
        let Some(clients) = &self.clients else { return Ok(Vec::new()) };
        let digits = ["+", " ", "-", "(", ")", "."]
            .iter()
            .fold("cast(telefone as text)".to_owned(), |text, sign| format!("replace({text}, '{sign}', '')"));
        let query = format!("select id from clientes where {digits} in ($1, $2) order by id limit {MOST_CLIENTS}");
        let (long, short) = both_forms(number);
        let rows = clients.rows(tx, &query, &[long.into(), short.into()]).await?;
        Ok(rows.iter().filter_map(|row| row.text("id")).collect())
    }

    async fn has_opted_out(&self, tx: &mut AppTx, clients: &[String]) -> Result<bool, Failure> {
        let Some(permissions) = &self.permissions else { return Ok(false) };
        let query = "\
            select count(*) from doctor_state
            where cliente_id = @type(doctor_state.cliente_id, $1) and permission_state = 'opted_out'";
        for client in clients {
            if 0 < permissions.count(tx, query, &[client.as_str().into()]).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// A number with and without its country code: people write both.
fn both_forms(number: &str) -> (String, String) {
    // Area code and number have 10 or 11 digits.
    let short = number.strip_prefix(COUNTRY).filter(|rest| 10 <= rest.len()).unwrap_or(number);
    let is_national = (10..=11).contains(&short.len());
    (if is_national { format!("{COUNTRY}{short}") } else { number.to_owned() }, short.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_known_with_and_without_its_country_code() {
        for (number, long, short) in [
            ("5511987654321", "5511987654321", "11987654321"),
            ("11987654321", "5511987654321", "11987654321"),
            ("551134567890", "551134567890", "1134567890"),
            // An area code that looks like the country's.
            ("55987654321", "5555987654321", "55987654321"),
            ("12025550123", "5512025550123", "12025550123"),
            ("4915112345678", "4915112345678", "4915112345678"),
            ("190", "190", "190"),
        ] {
            assert_eq!(both_forms(number), (long.to_owned(), short.to_owned()), "{number}");
        }
    }
}
