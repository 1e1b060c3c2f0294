//! Puts the team's fragments into whole statements, each for one database, each guarded by the state that it leaves.
//!
//! A claimed row is known by its id and by what stands in the columns that `claim` sets: they are read back with the claim,
//! and every later change of the row demands that they still hold the same. A row that somebody else settled, rescued or
//! claimed again since is left alone.

use super::{
    cell::{MAX_ROW_CHARS, SqliteRowShape},
    columns::Column,
    fragment::{Fragment, Parameter, Piece},
    name::{Table, quoted},
    time::Time,
};
use crate::handlers::Dialect;

/// Waiting rows beyond these are not counted.
pub(in crate::handlers::drain) const MOST_COUNTED: u64 = 100_000;
/// Rows that are tried one by one, for each that a batch may claim: the first may all be refused.
const TRIED_PER_ROW: u32 = 10;
/// Values of a column that are looked at for their form.
const SAMPLED: u32 = 20;

/// What a parameter of a statement stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::handlers::drain) enum Slot {
    Parameter(Parameter),
    Id,
    /// What stood in this column that `claim` sets, when the row was read.
    Claimed(usize),
    /// What stood there before the claim.
    Before(usize),
}

/// A statement as the database takes it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::handlers::drain) struct Statement {
    pub text: String,
    /// What `$1`, `$2`, ... stand for.
    pub slots: Vec<Slot>,
    /// On SQLite: how its rows are read.
    pub shape: SqliteRowShape,
}

impl Statement {
    /// Whether it writes down what went wrong.
    pub fn tells_error(&self) -> bool {
        self.slots.contains(&Slot::Parameter(Parameter::Error))
    }
}

/// The fragments of the settings.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::handlers::drain) struct Fragments {
    pub condition: Fragment,
    pub order: Option<Fragment>,
    pub claim: Fragment,
    pub done: Fragment,
    pub retry: Fragment,
    pub dead: Fragment,
    pub release: Option<Fragment>,
    pub stuck: Option<Fragment>,
}

/// A table with everything that decides how its statements look.
#[derive(Debug, Clone)]
pub(in crate::handlers::drain) struct Shape {
    pub dialect: Dialect,
    pub time: Time,
    pub table: Table,
    pub columns: Vec<Column>,
    pub id: Column,
    /// The columns that `claim` sets.
    pub claimed: Vec<Column>,
    pub attempts: Option<String>,
    pub most: Option<String>,
    pub batch: u32,
}

/// A statement in the making.
struct Draft<'a> {
    of: &'a Shape,
    statement: Statement,
}

impl Draft<'_> {
    fn sql(mut self, text: &str) -> Self {
        self.statement.text.push_str(text);
        self
    }

    fn slot(mut self, slot: Slot) -> Self {
        let slots = &mut self.statement.slots;
        let number = slots.iter().position(|known| *known == slot).unwrap_or_else(|| {
            slots.push(slot);
            slots.len() - 1
        });
        let text = match self.of.dialect {
            // The type is told, so that one parameter may stand beside columns of several.
            Dialect::Postgres => format!("(${}){}", number + 1, self.of.cast(slot)),
            Dialect::Sqlite => format!("${}", number + 1),
        };
        self.sql(&text)
    }

    fn fragment(self, fragment: &Fragment) -> Self {
        fragment.pieces.iter().fold(self, |draft, piece| match piece {
            Piece::Text(text) => draft.sql(text),
            Piece::Parameter(parameter) => draft.slot(Slot::Parameter(*parameter)),
        })
    }

    /// `where` the row is the one that was read, and stands as it was read.
    fn where_unchanged(self) -> Self {
        let shape = self.of;
        let draft = self.sql(&format!("\nwhere {} = ", quoted(&shape.id.name))).slot(Slot::Id);
        shape.claimed.iter().enumerate().fold(draft, |draft, (index, column)| {
            let same = match shape.dialect {
                Dialect::Postgres => format!("\n  and {}::text is not distinct from ", quoted(&column.name)),
                Dialect::Sqlite => format!("\n  and {} is ", quoted(&column.name)),
            };
            draft.sql(&same).slot(Slot::Claimed(index))
        })
    }
}

impl Shape {
    fn draft(&self, text: &str) -> Draft<'_> {
        Draft { of: self, statement: Statement { text: text.into(), ..Statement::default() } }
    }

    fn cast(&self, slot: Slot) -> String {
        match slot {
            Slot::Parameter(parameter) if parameter.is_time() => match self.time {
                Time::Text | Time::Rfc3339 => "::timestamptz".into(),
                Time::Unix | Time::UnixMs => "::bigint".into(),
            },
            Slot::Parameter(_) | Slot::Claimed(_) => "::text".into(),
            Slot::Id => format!("::text::{}", self.id.kind),
            Slot::Before(index) => format!("::text::{}", self.claimed[index].kind),
        }
    }

    fn table(&self) -> String {
        self.table.quoted()
    }

    /// A name that a statement on several tables may use.
    fn of_table(&self, column: &str) -> String {
        format!("{}.{}", self.table(), quoted(column))
    }

    fn attempts_and_most(&self) -> [String; 2] {
        [&self.attempts, &self.most].map(|column| {
            column.as_ref().map_or("null".into(), |column| match self.dialect {
                Dialect::Postgres => format!("{}::text", self.of_table(column)),
                Dialect::Sqlite => quoted(column),
            })
        })
    }

    /// `array[a::text, ...]` of the columns that `claim` sets.
    fn claimed_as_array(&self) -> String {
        let texts: Vec<_> =
            self.claimed.iter().map(|column| format!("{}::text", self.of_table(&column.name))).collect();
        format!("array[{}]", texts.join(", "))
    }

    /// PostgreSQL: claims a batch and reads it, in one statement.
    pub fn claim(&self, fragments: &Fragments) -> Statement {
        let (table, id) = (self.table(), self.of_table(&self.id.name));
        let [attempts, most] = self.attempts_and_most();
        let claimed = self.claimed_as_array();
        let draft = self.draft(&format!(
            "with picked as materialized (\n  select {id} as workers_id, {claimed} as workers_before\n  from {table}\n  where ("
        ));
        let draft = self.ordered(draft.fragment(&fragments.condition).sql(&self.and_has_id()), fragments);
        let draft = draft.sql(&format!(
            "\n  limit {}\n  for update skip locked\n), numbered as materialized (\n  select *, row_number() over () as workers_at from picked\n)\nupdate {table}\nset ",
            self.batch
        ));
        let draft = draft.fragment(&fragments.claim).sql(&format!(
            "\nfrom numbered\nwhere {id} = numbered.workers_id\nreturning {id}::text, {claimed}, numbered.workers_before, {attempts}, {most}, \
             left(to_jsonb({table}.*)::text, {}), numbered.workers_at",
            MAX_ROW_CHARS + 1
        ));
        draft.statement
    }

    /// The rows that may be claimed one by one, in order. Until the end of the transaction nobody else claims them.
    pub fn pick(&self, fragments: &Fragments) -> Statement {
        let draft = self.draft(&format!("select {}\nfrom {}\nwhere (", self.heads_alone(), self.table()));
        let draft = self.ordered(draft.fragment(&fragments.condition).sql(&self.and_has_id()), fragments);
        let locked = match self.dialect {
            Dialect::Postgres => "\nfor update skip locked",
            Dialect::Sqlite => "",
        };
        let tried = self.batch.saturating_mul(TRIED_PER_ROW);
        self.read_by_sqlite(draft.sql(&format!("\nlimit {tried}{locked}")).statement)
    }

    /// Claims one row that was picked, and reads it whole.
    pub fn take(&self, fragments: &Fragments) -> Statement {
        let row = match self.dialect {
            Dialect::Postgres => {
                format!("left(to_jsonb({}.*)::text, {}), 0::bigint", self.table(), MAX_ROW_CHARS + 1)
            }
            Dialect::Sqlite => {
                let all: Vec<_> = self.columns.iter().map(|column| quoted(&column.name)).collect();
                all.join(", ")
            }
        };
        let draft = self.draft(&format!("update {}\nset ", self.table())).fragment(&fragments.claim).where_unchanged();
        let draft = draft.sql("\n  and (").fragment(&fragments.condition).sql(")");
        self.read_by_sqlite(draft.sql(&format!("\nreturning {}, {row}", self.heads())).statement)
    }

    /// Closes a condition: a row without an id could be claimed, and never be told from another.
    fn and_has_id(&self) -> String {
        format!(")\n  and {} is not null", self.of_table(&self.id.name))
    }

    fn ordered<'a>(&self, draft: Draft<'a>, fragments: &Fragments) -> Draft<'a> {
        let draft = draft.sql("\n  order by ");
        match &fragments.order {
            Some(order) => draft.fragment(order),
            None => draft.sql(&quoted(&self.id.name)),
        }
    }

    /// The columns of a row before the row itself, as `cell::of_postgres` and `cell::of_sqlite` read them.
    fn heads(&self) -> String {
        let [attempts, most] = self.attempts_and_most();
        match self.dialect {
            Dialect::Postgres => {
                let (id, claimed) = (self.of_table(&self.id.name), self.claimed_as_array());
                format!("{id}::text, {claimed}, array[]::text[], {attempts}, {most}")
            }
            Dialect::Sqlite => {
                let claimed: String = self.claimed.iter().map(|column| format!(", {}", quoted(&column.name))).collect();
                format!("{}, {attempts}, {most}{claimed}", quoted(&self.id.name))
            }
        }
    }

    /// `heads` of a row that is not read whole.
    fn heads_alone(&self) -> String {
        match self.dialect {
            Dialect::Postgres => format!("{}, ''::text, 0::bigint", self.heads()),
            Dialect::Sqlite => self.heads(),
        }
    }

    fn read_by_sqlite(&self, statement: Statement) -> Statement {
        let of_json = self.columns.iter().filter(|column| column.kind.to_ascii_lowercase().starts_with("json"));
        let of_json = of_json.map(|column| column.name.clone()).collect();
        Statement { shape: SqliteRowShape { claimed: self.claimed.len(), of_json }, ..statement }
    }

    /// Changes one row that stands as it was read; `still` must hold too.
    pub fn change(&self, set: &Fragment, still: Option<&Fragment>) -> Statement {
        let draft = self.draft(&format!("update {}\nset ", self.table())).fragment(set).where_unchanged();
        match still {
            Some(still) => draft.sql("\n  and (").fragment(still).sql(")").statement,
            None => draft.statement,
        }
    }

    /// Puts back what stood in a claimed row before its claim.
    pub fn restore(&self) -> Statement {
        let draft = self.draft(&format!("update {}\nset ", self.table()));
        let draft = self.claimed.iter().enumerate().fold(draft, |draft, (index, column)| {
            let comma = if index == 0 { "" } else { ", " };
            draft.sql(&format!("{comma}{} = ", quoted(&column.name))).slot(Slot::Before(index))
        });
        draft.where_unchanged().statement
    }

    /// Rows that were claimed and forgotten, `most_rows` at once.
    pub fn stuck(&self, condition: &Fragment, most_rows: u32) -> Statement {
        let columns = self.heads_alone();
        let draft = self.draft(&format!("select {columns}\nfrom {}\nwhere (", self.table())).fragment(condition);
        let draft = draft.sql(&self.and_has_id());
        self.read_by_sqlite(draft.sql(&format!("\nlimit {most_rows}")).statement)
    }

    /// How many rows are as the condition says, up to `MOST_COUNTED`.
    pub fn count(&self, condition: &Fragment) -> Statement {
        let count = match self.dialect {
            Dialect::Postgres => "count(*)::text",
            Dialect::Sqlite => "count(*)",
        };
        let draft = self.draft(&format!("select {count}\nfrom (select 1 as one from {} where (", self.table()));
        draft.fragment(condition).sql(&format!(") limit {MOST_COUNTED}) as waiting")).statement
    }

    /// Since when the oldest of the rows that `count` counts has been due, in milliseconds or as the column holds it;
    /// `None` = no column tells.
    pub fn oldest(&self, condition: &Fragment) -> Option<Statement> {
        let column = condition.timed.first()?;
        let column = self.columns.iter().find(|known| known.name.eq_ignore_ascii_case(column))?;
        let oldest = match self.dialect {
            Dialect::Postgres if column.kind.starts_with("timestamp") => {
                // `-infinity` is due, and since no instant.
                "(extract(epoch from min(one) filter (where isfinite(one))) * 1000)::bigint::text"
            }
            Dialect::Postgres => "min(one)::text",
            Dialect::Sqlite => "min(one)",
        };
        let (table, column) = (self.table(), quoted(&column.name));
        let draft = self.draft(&format!("select {oldest}\nfrom (select {column} as one from {table} where ("));
        Some(draft.fragment(condition).sql(&format!(") limit {MOST_COUNTED}) as waiting")).statement)
    }

    /// A few values of a column.
    pub fn sample(&self, column: &str) -> Statement {
        let (table, column) = (self.table(), quoted(column));
        self.draft(&format!("select {column} from {table} where {column} is not null limit {SAMPLED}")).statement
    }

    /// A fragment alone, so that what is wrong with it is not said of another.
    pub fn condition_alone(&self, condition: &Fragment) -> Statement {
        self.draft(&format!("select 1 from {} where (", self.table())).fragment(condition).sql(")").statement
    }

    /// A fragment alone.
    pub fn set_alone(&self, set: &Fragment) -> Statement {
        self.draft(&format!("update {} set ", self.table())).fragment(set).statement
    }

    /// A fragment alone.
    pub fn order_alone(&self, order: &Fragment) -> Statement {
        self.draft(&format!("select 1 from {} order by ", self.table())).fragment(order).statement
    }
}
