//! How the pilot group fares: its messages of a window, counted.

use chrono::{DateTime, Utc};

use crate::{
    domain::run::Failure,
    handlers::{
        AppTx,
        team::{self, Adopted, Param, TeamColumn, TeamTable},
    },
};

/// Shares are compared with less precision than binary fractions err by: 3 of 30 is not above 0.1.
const PRECISION: f64 = 1e-9;

/// When a client wrote last, in a table that is only looked at when it exists.
static LAST_INBOUND: TeamTable = TeamTable {
    name: "doctor_state",
    postgres: "",
    sqlite: "",
    columns: &[
        TeamColumn::optional("cliente_id", "text", "text"),
        TeamColumn::optional("last_inbound_at", "timestamptz", "text"),
    ],
};

/// Whose messages are counted, and from when to when: from `since` to before `until`.
pub(super) struct Group {
    /// A checked name; the column of `clientes` that is true for them.
    pub column: String,
    pub since: DateTime<Utc>,
    pub until: DateTime<Utc>,
}

/// The counts of a window.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Figures {
    /// Clients in the group.
    pub group: u64,
    /// Messages sent.
    pub sent: u64,
    /// Those among them after which their client wrote; `None` = nobody writes down when clients write.
    pub answered: Option<u64>,
    /// Messages that were given up.
    pub failed: u64,
}

impl Figures {
    /// Messages that came to an end.
    pub fn ended(&self) -> u64 {
        self.sent.saturating_add(self.failed)
    }

    /// `None` = nothing came to an end, which says nothing.
    pub fn failure_rate(&self) -> Option<f64> {
        // Counts of messages are far below the 2^53 up to which this is exact.
        (0 < self.ended()).then(|| self.failed as f64 / self.ended() as f64)
    }

    pub fn is_above(&self, share: f64) -> bool {
        self.failure_rate().is_some_and(|rate| share + PRECISION < rate)
    }
}

impl Group {
    pub async fn figures(&self, tx: &mut AppTx, adopted: &Adopted) -> Result<Figures, Failure> {
        let of_group = self.condition();
        let group = format!("select count(*) from clientes c where {of_group}");
        Ok(Figures {
            group: adopted.count(tx, &group, &[]).await?,
            sent: adopted.count(tx, &self.counting(&self.sent()), &self.window()).await?,
            failed: adopted.count(tx, &self.counting(&failed()), &self.window()).await?,
            answered: self.answered(tx, adopted).await?,
        })
    }

    async fn answered(&self, tx: &mut AppTx, adopted: &Adopted) -> Result<Option<u64>, Failure> {
        let Some(states) = team::look_at(tx, &LAST_INBOUND).await? else { return Ok(None) };
        if LAST_INBOUND.columns.iter().any(|column| !states.has(LAST_INBOUND.name, column.name)) {
            return Ok(None);
        }
        let wrote_after = "exists (select 1 from doctor_state d \
             where cast(d.cliente_id as text) = cast(m.cliente_id as text) \
               and @instant(m.enviada_em) < @instant(d.last_inbound_at))";
        let statement = self.counting(&format!("{} and {wrote_after}", self.sent()));
        adopted.count(tx, &statement, &self.window()).await.map(Some)
    }

    /// Whether a client is of the group; a flag may be a boolean or a number.
    fn condition(&self) -> String {
        format!("coalesce(cast(c.\"{}\" as text), 'false') in ('true', '1')", self.column)
    }

    fn counting(&self, which: &str) -> String {
        let of_group = self.condition();
        format!(
            "select count(*) from fila_mensagens m \
             join clientes c on m.cliente_id = @type(fila_mensagens.cliente_id, c.id) \
             where {of_group} and {which}"
        )
    }

    fn sent(&self) -> String {
        format!("cast(m.status as text) = 'enviada' and {}", within("m.enviada_em"))
    }

    fn window(&self) -> [Param; 2] {
        [self.since.into(), self.until.into()]
    }
}

/// Given up, or never sent because it had become too old. What the rules held back has not failed.
fn failed() -> String {
    format!(
        "(cast(m.status as text) = 'erro' \
           or (cast(m.status as text) = 'cancelada' and cast(m.outcome as text) = 'FAILED_EXPIRED')) \
         and {}",
        within("m.outcome_at")
    )
}

fn within(instant: &str) -> String {
    format!("@instant($1) <= @instant({instant}) and @instant({instant}) < @instant($2)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_above_a_share_only_when_something_ended() {
        for (sent, failed, share, is_above) in [
            (0, 0, 0.1, false),
            (0, 0, 0.0, false),
            (9, 1, 0.1, false),
            (27, 3, 0.1, false),
            (8, 1, 0.1, true),
            (0, 1, 0.1, true),
            (0, 1, 1.0, false),
            (99, 1, 0.0, true),
        ] {
            let figures = Figures { group: 5, sent, answered: None, failed };

            assert_eq!(figures.is_above(share), is_above, "{failed} failed beside {sent}, share {share}");
        }
    }
}
