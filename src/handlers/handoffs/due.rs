//! Which handoffs are due: to expire, or to be followed up.

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    Attempt, Way,
    recruiter::{Recruiter, is_reachable},
};
use crate::{
    domain::run::Failure,
    handlers::{
        AppTx, Dialect,
        team::{Adopted, Param, Row},
    },
};

/// A handoff ends so long after it was made, unless it says when itself (spec 6).
pub(super) const EXPIRES_AFTER: TimeDelta = TimeDelta::hours(48);
/// Follow-ups are due so long after a handoff was made, in hours (spec 6).
const FOLLOW_UPS_AFTER: [i64; 3] = [2, 24, 36];
/// Between two follow-ups of one handoff, also when the earlier one came late: nobody is written to twice in a row.
const BETWEEN_FOLLOW_UPS: TimeDelta = TimeDelta::hours(1);

/// A row of `external_handoffs` as it was read.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Handoff {
    pub id: String,
    pub vaga_id: Option<String>,
    pub cliente_id: Option<String>,
    pub divulgador_nome: Option<String>,
    pub divulgador_telefone: Option<String>,
    /// When it ends, or has ended.
    pub until: Option<DateTime<Utc>>,
    /// The newest follow-up that is due: 1 to 3; 0 = none.
    pub stage: i64,
    /// What is known of its recruiter, when it is to be followed up.
    pub recruiter: Recruiter,
}

/// What is due, the oldest first; as much as a run takes.
#[derive(Debug, Default)]
pub(super) struct Due {
    pub expiring: Vec<Handoff>,
    pub to_follow_up: Vec<Handoff>,
    /// All that is due, beyond what a run takes.
    pub total: u64,
    /// Open, and nobody knows since when or until when: they never end by themselves.
    pub undated: u64,
    /// To be followed up, and the recruiter wants to be left alone, or has no number: they wait for nobody.
    pub opted_out: u64,
    pub without_number: u64,
}

const IS_OPEN: &str = "status in ('pending', 'contacted')";

/// `$1` is now, `$2` the moment since which a handoff without an end of its own must have been made.
const HAS_ENDED: &str =
    "coalesce(@instant(reserved_until) <= @instant($1), @instant(created_at) <= @instant($2), 1 = 0)";

/// The newest follow-up whose time has come; `$3`, `$4` and `$5` are the moments since which the handoff is old enough.
const STAGE: &str = "\
    case
      when @instant(created_at) <= @instant($5) then 3
      when @instant(created_at) <= @instant($4) then 2
      when @instant(created_at) <= @instant($3) then 1
      else 0
    end";

const COLUMNS: &str = "\
    id, vaga_id, cliente_id, divulgador_nome, divulgador_telefone, @instant(reserved_until) as reserved_until,
    @instant(created_at) as created_at";

/// Handoffs that have ended.
fn ended() -> String {
    format!("{IS_OPEN} and {HAS_ENDED}")
}

/// Handoffs to follow up; `$6` is the moment before which the last follow-up must have been. A follow-up that is late
/// takes the number that is due now, and earlier ones never come: after an absence one message goes, not three.
fn to_follow_up() -> String {
    format!(
        "{IS_OPEN} and not {HAS_ENDED} and 0 < {STAGE} and coalesce(followup_count, 0) < {STAGE}
        and coalesce(@instant(last_followup_at) <= @instant($6), 1 = 1)"
    )
}

/// Makes one handoff expire, if it still must; `$3` is its id.
pub(super) fn expire(set: &str) -> String {
    format!(
        "update external_handoffs set status = 'expired', expired_at = $1{set}
        where id = @type(external_handoffs.id, $3) and {}",
        ended()
    )
}

/// Counts one follow-up, if it is still to be made; `$1` is now, `$2` its number, `$3` the id.
pub(super) fn claim(set: &str) -> String {
    format!(
        "update external_handoffs set status = 'contacted', followup_count = $2, last_followup_at = $1{set}
        where id = @type(external_handoffs.id, $3) and {IS_OPEN} and coalesce(followup_count, 0) < $2"
    )
}

/// The queries, for a database to prepare.
pub(super) fn queries(own: Dialect) -> Vec<String> {
    let (ended, to_follow_up) = (ended(), format!("{} and {}", to_follow_up(), is_reachable(own)));
    vec![
        format!("select {COLUMNS} from external_handoffs where {ended}"),
        format!("select {COLUMNS}, {STAGE} as stage from external_handoffs where {to_follow_up}"),
    ]
}

impl Attempt {
    /// What is due at the start of the run.
    pub async fn due(&self, tx: &mut AppTx) -> Result<Due, Failure> {
        let adopted = &self.adopted;
        let expiring = self.listed(tx, &ended(), ("0", self.until())).await?;
        let total = counted(tx, adopted, &ended(), &self.until()).await?;
        let mut due = Due { expiring, total, ..Due::default() };
        if self.way() == Way::Open {
            self.due_follow_ups(tx, &mut due).await?;
        }
        let undated = format!("{IS_OPEN} and coalesce(@instant(reserved_until), @instant(created_at)) is null");
        due.undated = counted(tx, adopted, &undated, &[]).await?;
        Ok(due)
    }

    /// Those who cannot or must not be written to are counted and not listed: they would keep the places of others.
    async fn due_follow_ups(&self, tx: &mut AppTx, due: &mut Due) -> Result<(), Failure> {
        let (adopted, stages) = (&self.adopted, self.stages());
        let (old_enough, reachable) = (to_follow_up(), is_reachable(adopted.dialect()));
        due.without_number = counted(tx, adopted, &format!("{old_enough} and not ({reachable})"), &stages).await?;
        let mut which = format!("{old_enough} and {reachable}");
        if let Some(opted_out) = self.has_opted_out() {
            due.opted_out = counted(tx, adopted, &format!("{which} and {opted_out}"), &stages).await?;
            which = format!("{which} and not ({opted_out})");
        }
        due.to_follow_up = self.listed(tx, &which, (STAGE, stages)).await?;
        due.total += counted(tx, adopted, &which, &self.stages()).await?;
        self.know_recruiters(tx, &mut due.to_follow_up).await
    }

    async fn listed(
        &self,
        tx: &mut AppTx,
        which: &str,
        (stage, mut params): (&str, Vec<Param>),
    ) -> Result<Vec<Handoff>, Failure> {
        params.push(self.settings.batch.into());
        let last = params.len();
        let query = format!(
            "select {COLUMNS}, {stage} as stage from external_handoffs where {which}
            order by coalesce(@instant(reserved_until), @instant(created_at)) limit ${last}"
        );
        let rows = self.adopted.rows(tx, &query, &params).await?;
        Ok(rows.iter().map(Handoff::read).collect())
    }

    /// The parameters of `ended`.
    pub fn until(&self) -> Vec<Param> {
        vec![self.now.into(), (self.now - EXPIRES_AFTER).into()]
    }

    /// The parameters of `to_follow_up`.
    fn stages(&self) -> Vec<Param> {
        let mut params = self.until();
        params.extend(FOLLOW_UPS_AFTER.map(|hours| Param::from(self.now - TimeDelta::hours(hours))));
        params.push((self.now - BETWEEN_FOLLOW_UPS).into());
        params
    }
}

async fn counted(tx: &mut AppTx, adopted: &Adopted, which: &str, params: &[Param]) -> Result<u64, Failure> {
    adopted.count(tx, &format!("select count(*) from external_handoffs where {which}"), params).await
}

impl Handoff {
    fn read(row: &Row) -> Self {
        let made = row.instant("created_at").map(|made| made + EXPIRES_AFTER);
        Self {
            id: row.text("id").unwrap_or_default(),
            vaga_id: row.text("vaga_id"),
            cliente_id: row.text("cliente_id"),
            divulgador_nome: row.text("divulgador_nome"),
            divulgador_telefone: row.text("divulgador_telefone"),
            until: row.instant("reserved_until").or(made),
            stage: row.whole("stage").unwrap_or_default(),
            recruiter: Recruiter::default(),
        }
    }
}
