//! What the team's tables say of a period. A table that is not there is `None`, never 0.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::period::Span;
use crate::{
    domain::run::Failure,
    handlers::{
        AppTx, Context, TeamTable,
        team::{self, Adopted, Param, Row, TeamColumn},
        transaction,
    },
};

/// Words of a status column at most: an enumeration of a team has a handful.
const MOST_WORDS: i64 = 100;
/// What waits or is under way; all other words are ends.
const WAITING: [&str; 2] = ["pendente", "processando"];
const OPEN: [&str; 2] = ["pending", "contacted"];

/// As `team::tables::FILA_MENSAGENS`, with what a report cannot do without: who sends is not asked.
pub(super) static MESSAGES: TeamTable = TeamTable {
    name: "fila_mensagens",
    postgres: "",
    sqlite: "",
    columns: &[
        TeamColumn::new("status", "text not null default 'pendente'", "text not null default 'pendente'"),
        TeamColumn::new("created_at", "timestamptz not null default now()", "text"),
        TeamColumn::optional("enviada_em", "timestamptz", "text"),
        TeamColumn::optional("outcome_at", "timestamptz", "text"),
        TeamColumn::optional("conversa_id", "uuid", "text"),
    ],
};

/// As `team::tables::EXTERNAL_HANDOFFS`, with what a report cannot do without.
pub(super) static HANDOFFS: TeamTable = TeamTable {
    name: "external_handoffs",
    postgres: "",
    sqlite: "",
    columns: &[
        TeamColumn::new("status", "text not null default 'pending'", "text not null default 'pending'"),
        TeamColumn::optional("expired_at", "timestamptz", "text"),
        TeamColumn::optional("updated_at", "timestamptz", "text"),
        TeamColumn::optional("created_at", "timestamptz not null default now()", "text"),
    ],
};

/// Rows of a table by the words of its status.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Tally {
    /// Made within the period; `None` = the table does not say when.
    pub created: Option<u64>,
    /// By the word they ended with within the period; `None` = the table does not say when.
    pub ended: Option<BTreeMap<String, u64>>,
    /// Not ended yet, as it stands now.
    pub open: BTreeMap<String, u64>,
}

/// What the tables say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Counts {
    pub messages: Option<Tally>,
    /// Conversations with a message that was made or ended within the period.
    pub conversations: Option<u64>,
    pub handoffs: Option<Tally>,
}

impl Counts {
    /// Asks the tables that are there, each in a transaction of its own that only reads.
    pub async fn of(ctx: &Context, span: &Span) -> Result<Self, Failure> {
        let (from, until) = (span.from, span.until);
        let messages = transaction::reading(ctx, move |tx| Box::pin(messages(tx, from, until))).await;
        let (messages, conversations) = messages.map_err(|failure| of_table(&MESSAGES, failure))?;
        let handoffs = transaction::reading(ctx, move |tx| Box::pin(handoffs(tx, from, until))).await;
        let handoffs = handoffs.map_err(|failure| of_table(&HANDOFFS, failure))?;
        Ok(Self { messages, conversations, handoffs })
    }
}

/// The failure with the table that was counted, unless its own words name it.
fn of_table(table: &TeamTable, failure: Failure) -> Failure {
    if failure.message.contains(table.name) {
        return failure;
    }
    Failure { message: format!("counting {}: {}", table.name, failure.message), ..failure }
}

async fn messages(
    tx: &mut AppTx,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<(Option<Tally>, Option<u64>), Failure> {
    let Some(adopted) = team::look_at(tx, &MESSAGES).await? else { return Ok((None, None)) };
    let ended = first_of(&adopted, &MESSAGES, &["enviada_em", "outcome_at", "created_at"]);
    let columns = Moments { created: Some("created_at"), ended: ended.as_deref() };
    let rows = adopted.rows(tx, &by_status(&MESSAGES, &columns), &params(from, until)).await?;
    let tally = Tally::read(&rows, &columns, &WAITING)?;
    if !adopted.has(MESSAGES.name, "conversa_id") {
        return Ok((Some(tally), None));
    }
    let ended = ended.expect("created_at is always there");
    let conversations = format!(
        "select count(distinct conversa_id) as conversations
        from fila_mensagens
        where {} or (cast(status as text) not in ('pendente', 'processando') and {})",
        within("created_at"),
        within(&ended),
    );
    let conversations = adopted.count(tx, &conversations, &params(from, until)).await?;
    Ok((Some(tally), Some(conversations)))
}

async fn handoffs(tx: &mut AppTx, from: DateTime<Utc>, until: DateTime<Utc>) -> Result<Option<Tally>, Failure> {
    let Some(adopted) = team::look_at(tx, &HANDOFFS).await? else { return Ok(None) };
    let has = |column| adopted.has(HANDOFFS.name, column);
    let created = has("created_at").then_some("created_at");
    // Where nothing but `expired_at` says when, the other ends would all count 0.
    let says_when = has("updated_at") || has("created_at");
    let ended = first_of(&adopted, &HANDOFFS, &["expired_at", "updated_at", "created_at"]).filter(|_| says_when);
    let columns = Moments { created, ended: ended.as_deref() };
    let rows = adopted.rows(tx, &by_status(&HANDOFFS, &columns), &params(from, until)).await?;
    Tally::read(&rows, &columns, &OPEN).map(Some)
}

/// The first of these columns that holds something, of those that the table has.
fn first_of(adopted: &Adopted, table: &TeamTable, columns: &[&str]) -> Option<String> {
    let there: Vec<&str> = columns.iter().copied().filter(|column| adopted.has(table.name, column)).collect();
    match there.as_slice() {
        [] => None,
        // Some databases want two arguments at least.
        [one] => Some((*one).to_owned()),
        several => Some(format!("coalesce({})", several.join(", "))),
    }
}

fn within(instant: &str) -> String {
    format!("(@instant($1) <= @instant({instant}) and @instant({instant}) < @instant($2))")
}

/// Where a table says when its rows were made and when they ended, as expressions.
struct Moments<'a> {
    created: Option<&'a str>,
    ended: Option<&'a str>,
}

/// One pass over a table. The condition is always true: it tells PostgreSQL the types of parameters that are not used.
fn by_status(table: &TeamTable, moments: &Moments<'_>) -> String {
    let counted = |instant: Option<&str>| {
        instant.map_or_else(|| "null".to_owned(), |instant| format!("count(case when {} then 1 end)", within(instant)))
    };
    format!(
        "select coalesce(cast(status as text), '?') as status,
            count(*) as there,
            {} as created,
            {} as ended
        from {}
        where @instant($1) <= @instant($2)
        group by 1
        order by 1
        limit {}",
        counted(moments.created),
        counted(moments.ended),
        table.name,
        MOST_WORDS + 1,
    )
}

fn params(from: DateTime<Utc>, until: DateTime<Utc>) -> [Param; 2] {
    [from.into(), until.into()]
}

impl Tally {
    fn read(rows: &[Row], moments: &Moments<'_>, open: &[&str]) -> Result<Self, Failure> {
        if usize::try_from(MOST_WORDS).unwrap_or_default() < rows.len() {
            return Err(Failure::permanent(format!("status has more than {MOST_WORDS} different words")));
        }
        let number = |row: &Row, column| row.whole(column).and_then(|number| u64::try_from(number).ok()).unwrap_or(0);
        let mut tally = Self {
            created: moments.created.map(|_| rows.iter().map(|row| number(row, "created")).sum()),
            ended: moments.ended.map(|_| BTreeMap::new()),
            open: open.iter().map(|word| ((*word).to_owned(), 0)).collect(),
        };
        for row in rows {
            let word = row.text("status").unwrap_or_default();
            if open.contains(&word.as_str()) {
                tally.open.insert(word, number(row, "there"));
            } else if let Some(ended) = &mut tally.ended {
                ended.insert(word, number(row, "ended"));
            }
        }
        Ok(tally)
    }
}
