//! Statements as text with markers, and what the two databases must say differently.

use std::{collections::HashMap, sync::Arc};

use sqlx::AssertSqlSafe;

/// The kinds of database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Postgres,
    Sqlite,
}

impl Kind {
    pub fn word(self) -> &'static str {
        match self {
            Self::Postgres => "postgresql",
            Self::Sqlite => "sqlite",
        }
    }
}

/// What a column of a bulk statement holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    Text,
    Int,
    Bool,
    Instant,
    Uuid,
    Json,
}

impl Of {
    fn array(self) -> &'static str {
        match self {
            Self::Text => "text[]",
            Self::Int => "bigint[]",
            Self::Bool => "boolean[]",
            Self::Instant => "timestamptz[]",
            Self::Uuid => "uuid[]",
            Self::Json => "jsonb[]",
        }
    }
}

/// One statement. `{runs}` and its like are table names; see `expand` for the other markers.
#[derive(Debug, Clone, Copy)]
pub struct Sql {
    pub(super) name: &'static str,
    postgres: Option<&'static str>,
    sqlite: Option<&'static str>,
    /// Columns of the rows given to a bulk statement: `$1` to `$n`, read as `given_<column>` from `{given}`.
    pub(super) given: &'static [(&'static str, Of)],
}

impl Sql {
    /// Common ground.
    pub(super) const fn both(text: &'static str) -> Self {
        Self { name: "", postgres: Some(text), sqlite: Some(text), given: &[] }
    }

    /// Common ground over many rows: an array per column on PostgreSQL, one JSON array of rows in `$1` on SQLite.
    pub(super) const fn bulk(given: &'static [(&'static str, Of)], text: &'static str) -> Self {
        Self { name: "", postgres: Some(text), sqlite: Some(text), given }
    }

    /// Where the two must differ.
    pub(super) const fn each(postgres: &'static str, sqlite: &'static str) -> Self {
        Self { name: "", postgres: Some(postgres), sqlite: Some(sqlite), given: &[] }
    }

    pub(super) const fn postgres(text: &'static str) -> Self {
        Self { name: "", postgres: Some(text), sqlite: None, given: &[] }
    }

    pub(super) const fn sqlite(text: &'static str) -> Self {
        Self { name: "", postgres: None, sqlite: Some(text), given: &[] }
    }

    pub(super) const fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    pub(super) const fn given(self, given: &'static [(&'static str, Of)]) -> Self {
        Self { given, ..self }
    }
}

/// Declares the statements of a file and lists them as `STATEMENTS`, so that a test can prepare each of them.
macro_rules! statements {
    ($($(#[$about:meta])* $name:ident = $sql:expr;)+) => {
        $($(#[$about])* const $name: $crate::store::dialect::Sql =
            $sql.named(concat!(module_path!(), "::", stringify!($name)));)+

        /// Every statement of this file.
        pub(in $crate::store) const STATEMENTS: &[$crate::store::dialect::Sql] = &[$($name),+];
    };
}
pub(super) use statements;

const TABLES: [&str; 8] =
    ["jobs", "schedules", "runs", "replicas", "job_configs", "idempotency", "hourly", "migrations"];

/// Every statement with its markers expanded, once per store.
#[derive(Debug)]
pub(super) struct Book {
    pub kind: Kind,
    pub schema: String,
    texts: HashMap<&'static str, Arc<str>>,
}

impl Book {
    pub fn new(kind: Kind, schema: &str, statements: impl Iterator<Item = &'static Sql>) -> Self {
        let mut book = Self { kind, schema: schema.into(), texts: HashMap::new() };
        for sql in statements {
            let text = match kind {
                Kind::Postgres => sql.postgres,
                Kind::Sqlite => sql.sqlite,
            };
            if let Some(text) = text {
                let text = book.expand(text, sql.given);
                book.texts.insert(sql.name, text.into());
            }
        }
        book
    }

    /// The text to send. Safe for sqlx: only our own statements and a validated schema name are in it.
    pub fn text(&self, sql: &Sql) -> AssertSqlSafe<Arc<str>> {
        let text =
            self.texts.get(sql.name).expect("every file's STATEMENTS are in store::statements, for its databases");
        AssertSqlSafe(Arc::clone(text))
    }

    /// Name and text of every statement.
    pub fn texts(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.texts.iter().map(|(name, text)| (*name, text.as_ref()))
    }

    /// Replaces the markers of a text:
    /// - `{runs}` and the other tables, `{schema}`, `{prefix}`, and `{run_columns}` in the order `row::run` reads them;
    /// - `{for_update}`, `{for_update_of(t)}`, `{skip_locked}`: nothing on SQLite, whose writer is alone;
    /// - `{given}`: the rows of a bulk statement;
    /// - `{in($1)}`: membership in a list bound as one parameter;
    /// - `{ms(a, b)}`: `a - b` in milliseconds;
    /// - `{noted(errors, attempt, at, error)}`: the list of earlier errors with one more, the oldest leave;
    /// - `{still_running(state)}`: that it is, for rows found by id: PostgreSQL must not think of the indexes of what
    ///   runs, which it believes to be empty, and go through all of that for each id;
    /// - `{instant($1)}`, `{text($1)}`: a parameter whose type PostgreSQL could not tell from its place;
    /// - `{hour(at)}`: the start of its hour.
    pub fn expand(&self, text: &str, given: &[(&str, Of)]) -> String {
        let mut expanded = String::with_capacity(text.len() * 2);
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (marker, after) = after.split_once('}').expect("every marker of our own statements is closed");
            expanded.push_str(before);
            expanded.push_str(&self.marker(marker, given));
            rest = after;
        }
        expanded + rest
    }

    fn marker(&self, marker: &str, given: &[(&str, Of)]) -> String {
        if TABLES.contains(&marker) {
            return self.table(marker);
        }
        let (name, arguments) = marker.split_once('(').unwrap_or((marker, ""));
        let arguments: Vec<&str> = arguments.trim_end_matches(')').split(',').map(str::trim).collect();
        let postgres = self.kind == Kind::Postgres;
        match (name, arguments.as_slice()) {
            ("schema", _) => self.schema.clone(),
            ("prefix", _) => "workers_".into(),
            ("run_columns", _) => super::row::RUN_COLUMNS.into(),
            ("for_update", _) if postgres => "for update".into(),
            ("skip_locked", _) if postgres => "for update skip locked".into(),
            ("for_update_of", [table]) if postgres => format!("for update of {table}"),
            ("for_update" | "skip_locked" | "for_update_of", _) => String::new(),
            ("given", _) => self.given(given),
            ("in", [list]) if postgres => format!("= any({list})"),
            ("in", [list]) => format!("in (select value from json_each({list}))"),
            ("ms", [later, earlier]) if postgres => {
                format!("(extract(epoch from ({later} - {earlier})) * 1000)::bigint")
            }
            ("ms", [later, earlier]) => format!("({later} - {earlier})"),
            ("still_running", [state]) if postgres => format!("{state} is not distinct from 'running'"),
            ("still_running", [state]) => format!("{state} = 'running'"),
            ("instant", [value]) if postgres => format!("{value}::timestamptz"),
            ("text", [value]) if postgres => format!("{value}::text"),
            ("instant" | "text", [value]) => (*value).to_owned(),
            ("hour", [at]) if postgres => format!("date_trunc('hour', {at}, 'UTC')"),
            ("hour", [at]) => format!("({at} - {at} % 3600000)"),
            ("noted", [errors, attempt, at, error]) => self.noted([errors, attempt, at, error]),
            _ => unreachable!("unknown marker {marker:?} in a statement of ours"),
        }
    }

    fn table(&self, name: &str) -> String {
        match self.kind {
            Kind::Postgres => format!("{}.{name}", self.schema),
            Kind::Sqlite => format!("workers_{name}"),
        }
    }

    fn given(&self, columns: &[(&str, Of)]) -> String {
        let numbered = columns.iter().enumerate().map(|(index, column)| (index + 1, column));
        match self.kind {
            Kind::Postgres => {
                let arrays: Vec<String> = numbered.map(|(n, (_, of))| format!("${n}::{}", of.array())).collect();
                let names: Vec<String> = columns.iter().map(|(name, _)| format!("given_{name}")).collect();
                format!("unnest({}) as given({})", arrays.join(", "), names.join(", "))
            }
            Kind::Sqlite => {
                let value = |(n, (name, _)): (usize, &(&str, Of))| format!("value ->> {} as given_{name}", n - 1);
                let values: Vec<String> = numbered.map(value).collect();
                format!("(select {} from json_each($1)) as given", values.join(", "))
            }
        }
    }

    /// The errors with one more. When there are too many the second goes: the first says since when it has failed, and
    /// limits are counted from there.
    fn noted(&self, [errors, attempt, at, error]: [&str; 4]) -> String {
        let most = crate::domain::run::MAX_ERRORS;
        match self.kind {
            Kind::Postgres => format!(
                "(case when jsonb_array_length({errors}) < {most} then {errors} else {errors} - 1 end \
                 || jsonb_build_object('attempt', {attempt}, 'at', {at}::text, 'error', {error}::text))"
            ),
            Kind::Sqlite => format!(
                "json_insert(case when json_array_length({errors}) < {most} then {errors} \
                 else json_remove({errors}, '$[1]') end, '$[#]', \
                 json_object('attempt', {attempt}, 'at', {at}, 'error', {error}))"
            ),
        }
    }
}

/// A schema name we may put into a statement: `[a-z_][a-z0-9_]{0,62}`.
pub(super) fn is_schema_name(name: &str) -> bool {
    let mut letters = name.bytes();
    let starts_well = letters.next().is_some_and(|first| first == b'_' || first.is_ascii_lowercase());
    let goes_on_well = letters.all(|c| c == b'_' || c.is_ascii_lowercase() || c.is_ascii_digit());
    starts_well && goes_on_well && name.len() <= 63
}
