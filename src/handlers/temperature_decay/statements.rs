//! What happens to leads, as one statement each, for both databases. A column of a team may be a `timestamp` without
//! zone, which PostgreSQL reads in the zone of the session; the driver opens every session in UTC.

use chrono::{DateTime, Utc};
use sqlx::{Postgres, Sqlite, postgres::PgArguments, query::Query, sqlite::SqliteArguments};

use crate::{
    domain::run::Failure,
    handlers::{
        AppTx, Dialect, Statement,
        team::words::{self, Words},
        transaction::failure,
    },
};

/// Words that the statements write or look for.
pub(super) const WORDS: [Words; 3] = [
    ("doctor_state", "permission_state", &["active", "cooling_off", "opted_out"]),
    ("doctor_state", "temperature_trend", &["cooling"]),
    ("doctor_state", "lifecycle_stage", &["churned"]),
];

/// A change of all leads for which it is due; `$1` is the instant that decides, bound by `apply`.
pub(super) enum Change {
    /// Whole days of silence since the last answer or the last cooling cost temperature. The mark moves by exactly
    /// these days, so that the hours left over count next time and the sum does not depend on how often this runs.
    Cool { cents_per_day: i64 },
    /// The time in which a lead wanted to be left alone is over.
    Reactivate,
    /// Nothing was heard since `$1`.
    Churn,
    /// The week's count of contacts begins anew, for leads not talked to since `$1`, when the week began. It needs no
    /// mark of its own: the first contact of a week comes after the first run of that week, and when it does not, the
    /// count stays too high rather than too low.
    ResetContacts,
}

/// Counts in `double precision`, which is exact for whole hundredths and for days, and many times faster than `numeric`.
const COOL_POSTGRES: &str = "\
    update doctor_state
    set temperature = greatest(
          round(temperature::numeric, 2)
            - 0.01 * ($2 * date_part('day', $1 - greatest(last_decay_at, last_inbound_at))::integer),
          0
        ),
        temperature_trend = 'cooling',
        last_decay_at = greatest(last_decay_at, last_inbound_at)
          + date_part('day', $1 - greatest(last_decay_at, last_inbound_at)) * interval '24 hours'
    where permission_state is distinct from 'opted_out'
      and 0 < temperature
      and greatest(last_decay_at, last_inbound_at) <= $1 - interval '24 hours'";

const REACTIVATE_POSTGRES: &str = "\
    update doctor_state
    set permission_state = 'active'
    where permission_state = 'cooling_off'
      and cooling_off_until <= $1";

const CHURN_POSTGRES: &str = "\
    update doctor_state
    set lifecycle_stage = 'churned'
    where last_inbound_at <= $1
      and lifecycle_stage is distinct from 'churned'";

const RESET_CONTACTS_POSTGRES: &str = "\
    update doctor_state
    set contact_count_7d = 0
    where 0 < contact_count_7d
      and last_outbound_at < $1";

/// Unix milliseconds of a column that holds text in any form that SQLite reads as an instant; null for any other.
macro_rules! ms {
    ($column:literal) => {
        concat!("cast(round(unixepoch(", $column, ", 'subsec') * 1000) as integer)")
    };
}

/// The later of the last cooling and the last answer, when there is one of them, in Unix milliseconds.
macro_rules! silent_since {
    () => {
        concat!(
            "max(coalesce(",
            ms!("last_decay_at"),
            ", ",
            ms!("last_inbound_at"),
            "), ",
            "coalesce(",
            ms!("last_inbound_at"),
            ", ",
            ms!("last_decay_at"),
            "))"
        )
    };
}

/// Hundredths are counted as whole numbers, because 0.55 - 0.05 is not 0.5 in binary.
const COOL_SQLITE: &str = concat!(
    "update doctor_state
    set temperature =
          max(round(round(temperature * 10000) / 100) - $2 * (($1 - ",
    silent_since!(),
    ") / 86400000), 0) / 100.0,
        temperature_trend = 'cooling',
        last_decay_at = strftime(
          '%Y-%m-%dT%H:%M:%fZ',
          (",
    silent_since!(),
    " + ($1 - ",
    silent_since!(),
    ") / 86400000 * 86400000) / 1000.0,
          'unixepoch'
        )
    where permission_state is distinct from 'opted_out'
      and 0 < temperature
      and ",
    silent_since!(),
    " <= $1 - 86400000"
);

const REACTIVATE_SQLITE: &str = concat!(
    "update doctor_state
    set permission_state = 'active'
    where permission_state = 'cooling_off'
      and ",
    ms!("cooling_off_until"),
    " <= $1"
);

const CHURN_SQLITE: &str = concat!(
    "update doctor_state
    set lifecycle_stage = 'churned'
    where ",
    ms!("last_inbound_at"),
    " <= $1
      and lifecycle_stage is distinct from 'churned'"
);

const RESET_CONTACTS_SQLITE: &str = concat!(
    "update doctor_state
    set contact_count_7d = 0
    where 0 < contact_count_7d
      and ",
    ms!("last_outbound_at"),
    " < $1"
);

/// The contacts of the last seven days, `($1, $2]`, for leads whose messages are recorded in the team's queue: those to
/// somebody who did not write first, as `fila` counts them. Only messages of these days are read. It reads the same on both
/// databases, and wears the marks of `Adopted`.
pub(super) const RECOUNT_CONTACTS: &str = "\
    update doctor_state
    set contact_count_7d = touched.contacts
    from (
      select cast(cliente_id as text) as touched_id,
             sum(case when coalesce(cast(@optional(fila_mensagens.tipo) as text), '') in ('resposta', 'sistema') then 0 else 1 end)
               as contacts
      from fila_mensagens
      where cast(status as text) = 'enviada'
        and cliente_id is not null
        and @instant($1) < @instant(enviada_em)
        and @instant(enviada_em) <= @instant($2)
      group by cast(cliente_id as text)
    ) as touched
    where cast(doctor_state.cliente_id as text) = touched.touched_id
      and contact_count_7d is distinct from touched.contacts";

/// As `Change::ResetContacts`, for leads of whom no message of the last seven days, `($2, $3]`, is recorded.
pub(super) const RESET_UNRECORDED: &str = "\
    update doctor_state
    set contact_count_7d = 0
    where 0 < contact_count_7d
      and @instant(last_outbound_at) < @instant($1)
      and cast(cliente_id as text) not in (
        select cast(cliente_id as text)
        from fila_mensagens
        where cast(status as text) = 'enviada'
          and cliente_id is not null
          and @instant($2) < @instant(enviada_em)
          and @instant(enviada_em) <= @instant($3)
      )";

/// The text of each change, for `workers check`.
pub(super) fn texts(own: Dialect) -> Vec<Statement> {
    let texts = match own {
        Dialect::Postgres => [COOL_POSTGRES, REACTIVATE_POSTGRES, CHURN_POSTGRES, RESET_CONTACTS_POSTGRES],
        Dialect::Sqlite => [COOL_SQLITE, REACTIVATE_SQLITE, CHURN_SQLITE, RESET_CONTACTS_SQLITE],
    };
    let words = words::as_statement(&WORDS);
    let texts = std::iter::once(words).chain(texts.map(str::to_owned));
    texts.map(|text| Statement { text, line: 1, database: None }).collect()
}

impl Change {
    /// Makes the change for all leads; how many it was due for.
    pub async fn apply(&self, tx: &mut AppTx, instant: DateTime<Utc>) -> Result<u64, Failure> {
        let changed = match tx {
            AppTx::Postgres(tx) => self.for_postgres(instant).execute(&mut **tx).await.map(|done| done.rows_affected()),
            AppTx::Sqlite(tx) => self.for_sqlite(instant).execute(&mut **tx).await.map(|done| done.rows_affected()),
        };
        changed.map_err(|error| failure(&error))
    }

    fn for_postgres(&self, instant: DateTime<Utc>) -> Query<'static, Postgres, PgArguments> {
        match self {
            Self::Cool { cents_per_day } => sqlx::query(COOL_POSTGRES).bind(instant).bind(*cents_per_day),
            Self::Reactivate => sqlx::query(REACTIVATE_POSTGRES).bind(instant),
            Self::Churn => sqlx::query(CHURN_POSTGRES).bind(instant),
            Self::ResetContacts => sqlx::query(RESET_CONTACTS_POSTGRES).bind(instant),
        }
    }

    fn for_sqlite(&self, instant: DateTime<Utc>) -> Query<'static, Sqlite, SqliteArguments> {
        let instant_ms = instant.timestamp_millis();
        match self {
            Self::Cool { cents_per_day } => sqlx::query(COOL_SQLITE).bind(instant_ms).bind(*cents_per_day),
            Self::Reactivate => sqlx::query(REACTIVATE_SQLITE).bind(instant_ms),
            Self::Churn => sqlx::query(CHURN_SQLITE).bind(instant_ms),
            Self::ResetContacts => sqlx::query(RESET_CONTACTS_SQLITE).bind(instant_ms),
        }
    }
}
