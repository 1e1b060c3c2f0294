//! What is stored of the briefing: a log of its changes, and the newest text of each section.

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    Gone,
    document::{Document, Section},
};
use crate::{
    domain::run::Failure,
    handlers::{
        AppTx, Dialect, TeamTable,
        team::{
            self, Adopted, Param,
            tables::{BRIEFING_SYNC_LOG, DIRETRIZES},
        },
    },
};

/// What the handler works on.
pub const TABLES: [&TeamTable; 2] = [&BRIEFING_SYNC_LOG, &DIRETRIZES];
/// Statements that name every column which the tables must have, for a database to prepare in advance.
pub const ALWAYS: [&str; 2] = [
    "insert into briefing_sync_log (doc_hash, conteudo_raw, created_at) values ($1, $2, $3) returning id",
    "select 1 from diretrizes where tipo = @type(diretrizes.tipo, $1) and conteudo = @type(diretrizes.conteudo, $2)",
];
/// A notice that an attempt has taken on is its own for so long: Slack has 10 s to answer, and a crashed attempt must
/// not silence the next.
const NOTICE_TAKES: TimeDelta = TimeDelta::minutes(5);
/// Instants in the log differ at least by so much, so that one is the last.
const APART: TimeDelta = TimeDelta::milliseconds(1);
/// Sections that left the document and are named.
const MOST_GONE: u32 = 20;

/// The document as it was stored last.
#[derive(Debug, Clone, PartialEq)]
pub struct Last {
    pub id: String,
    pub hash: String,
    pub title: Option<String>,
    /// What its server called this state of it; `None` as well when the address was another one.
    pub etag: Option<String>,
    at: Option<DateTime<Utc>>,
    /// The team was not told yet, and nobody is telling it now.
    pub owes_notice: bool,
}

/// A document and where it came from.
#[derive(Debug, Clone)]
pub struct Fetched {
    pub document: Document,
    pub etag: Option<String>,
    /// A hash of its address.
    pub origin: String,
}

/// What became of a changed document.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    Stored(Change),
    /// Somebody else has stored one since the last was read; ours may be the older.
    Overtaken,
}

/// What a stored document changed. Sections by their keys.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Change {
    /// The row in the log.
    pub id: String,
    pub new: Vec<String>,
    pub changed: Vec<String>,
    pub unchanged: u64,
    /// Left the document: now, or earlier and still kept. The first of them.
    pub gone: Vec<String>,
    pub deleted: u64,
}

/// The document that was stored last; `origin` is a hash of the address that is asked now.
/// The conditions on parameters tell PostgreSQL their types where a column is not there.
pub async fn last(
    tx: &mut AppTx,
    adopted: &Adopted,
    origin: &str,
    now: DateTime<Utc>,
) -> Result<Option<Last>, Failure> {
    let has = |column| adopted.has(BRIEFING_SYNC_LOG.name, column);
    let text = |column: &'static str| if has(column) { column } else { "null" };
    // Another address has another document: what was stored of that one is not the last of this one.
    let of_origin = if has("origem_hash") { "origem_hash = $1" } else { "cast($1 as text) <> ''" };
    let etag = if has("etag") && has("origem_hash") { "case when origem_hash = $1 then etag end" } else { "null" };
    let owes = if has("avisar_em") { "case when @instant(avisar_em) <= @instant($2) then 1 end" } else { "null" };
    let statement = format!(
        "select cast(id as text) as id, doc_hash, {} as doc_title, {etag} as etag, {owes} as owes_notice,
            @instant(created_at) as stored_at
        from briefing_sync_log
        where created_at is not null and {of_origin} and @instant($2) is not null
        order by @instant(created_at) desc
        limit 1",
        text("doc_title"),
    );
    let rows = adopted.rows(tx, &statement, &[origin.into(), now.into()]).await?;
    Ok(rows.first().map(|row| Last {
        id: row.text("id").unwrap_or_default(),
        hash: row.text("doc_hash").unwrap_or_default(),
        title: row.text("doc_title"),
        etag: row.text("etag"),
        at: row.instant("stored_at"),
        owes_notice: row.whole("owes_notice") == Some(1),
    }))
}

/// Stores a document that differs from `expected`, which was the last when its server was asked. The notice belongs to
/// the caller from here on.
pub async fn store(
    tx: &mut AppTx,
    fetched: &Fetched,
    expected: Option<&Last>,
    rules: &Rules,
) -> Result<Outcome, Failure> {
    let adopted = team::adopt(tx, &TABLES, rules.may_create).await?;
    alone(tx, &adopted).await?;
    let last = last(tx, &adopted, &fetched.origin, rules.now).await?;
    if last.as_ref().map(|last| &last.id) != expected.map(|last| &last.id) {
        return Ok(Outcome::Overtaken);
    }
    fits(&adopted, fetched)?;
    // The clock of another replica may have been ahead.
    let after = last.and_then(|last| last.at).map_or(rules.now, |at| at + APART);
    let id = insert(tx, &adopted, fetched, after.max(rules.now)).await?;
    let mut pass = Pass { adopted, fetched, rules, change: Change { id, ..Change::default() } };
    for section in &fetched.document.sections {
        pass.keep(tx, section).await?;
    }
    pass.leave(tx).await?;
    Ok(Outcome::Stored(pass.change))
}

/// What a document is stored by.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    pub may_create: bool,
    pub now: DateTime<Utc>,
    pub gone: Gone,
}

/// Two documents at once would both find the same last one. The second waits until the first is committed.
async fn alone(tx: &mut AppTx, adopted: &Adopted) -> Result<(), Failure> {
    if adopted.dialect() == Dialect::Postgres {
        let lock = "select cast(pg_advisory_xact_lock(hashtext('briefing_sync_log')) as text) as locked";
        adopted.rows(tx, lock, &[]).await?;
    }
    Ok(())
}

async fn insert(tx: &mut AppTx, adopted: &Adopted, fetched: &Fetched, at: DateTime<Utc>) -> Result<String, Failure> {
    let columns = columns(fetched, at).into_iter().filter(|(name, _)| adopted.has(BRIEFING_SYNC_LOG.name, name));
    adopted.insert_for_id(tx, BRIEFING_SYNC_LOG.name, columns.collect()).await
}

fn columns(fetched: &Fetched, at: DateTime<Utc>) -> [(&'static str, Param); 7] {
    let Fetched { document, etag, origin } = fetched;
    [
        ("doc_hash", document.hash.as_str().into()),
        ("conteudo_raw", document.kept.as_str().into()),
        ("created_at", at.into()),
        ("doc_title", document.title.clone().into()),
        ("etag", etag.clone().into()),
        ("origem_hash", origin.as_str().into()),
        ("avisar_em", (at + NOTICE_TAKES).into()),
    ]
}

/// Fails before anything is stored, with the column and what it does not take. A rule that is cut may say the opposite.
fn fits(adopted: &Adopted, fetched: &Fetched) -> Result<(), Failure> {
    let Fetched { document, etag, origin } = fetched;
    let keys: Vec<&str> = document.sections.iter().map(|section| section.key.as_str()).collect();
    adopted.must_know(DIRETRIZES.name, "tipo", &keys)?;
    for Section { key, text } in &document.sections {
        let of_section =
            |failure: Failure| Failure { message: format!("section {key:?}: {}", failure.message), ..failure };
        adopted.must_fit(DIRETRIZES.name, "tipo", key).map_err(of_section)?;
        adopted.must_fit(DIRETRIZES.name, "conteudo", text).map_err(of_section)?;
    }
    let (title, etag) = (document.title.as_deref().unwrap_or_default(), etag.as_deref().unwrap_or_default());
    let of_log = [
        ("doc_hash", document.hash.as_str()),
        ("conteudo_raw", &document.kept),
        ("doc_title", title),
        ("etag", etag),
        ("origem_hash", origin),
    ];
    of_log.into_iter().try_for_each(|(column, text)| adopted.must_fit(BRIEFING_SYNC_LOG.name, column, text))?;
    let of_rows = [("doc_hash", document.hash.as_str()), ("origem_hash", origin)];
    of_rows.into_iter().try_for_each(|(column, text)| adopted.must_fit(DIRETRIZES.name, column, text))
}

/// The sections of one document on their way into the table.
struct Pass<'a> {
    adopted: Adopted,
    fetched: &'a Fetched,
    rules: &'a Rules,
    change: Change,
}

impl Pass<'_> {
    fn has(&self, column: &str) -> bool {
        self.adopted.has(DIRETRIZES.name, column)
    }

    /// Puts the text of a section in its place: changed where it is there, else new. The table's own key is not relied
    /// on, because a team's table may have another one.
    async fn keep(&mut self, tx: &mut AppTx, section: &Section) -> Result<(), Failure> {
        let mut params: Vec<Param> = vec![section.key.as_str().into(), section.text.as_str().into()];
        let (set, column, value) = match self.has("updated_at") {
            true => (", updated_at = $3", ", updated_at", ", $3"),
            false => ("", "", ""),
        };
        if self.has("updated_at") {
            params.push(self.rules.now.into());
        }
        // A cast to `varchar(n)` would cut a key or a rule.
        let (tipo, conteudo) =
            (self.adopted.value(DIRETRIZES.name, "tipo", 1), self.adopted.value(DIRETRIZES.name, "conteudo", 2));
        let update = format!(
            "update diretrizes set conteudo = {conteudo}{set}
            where tipo = {tipo} and conteudo is distinct from {conteudo}"
        );
        let insert = format!(
            "insert into diretrizes (tipo, conteudo{column})
            select {tipo}, {conteudo}{value}
            where not exists (select 1 from diretrizes where tipo = {tipo})"
        );
        if 0 < self.adopted.change(tx, &update, &params).await? {
            self.change.changed.push(section.key.clone());
        } else if 0 < self.adopted.change(tx, &insert, &params).await? {
            self.change.new.push(section.key.clone());
        } else {
            self.change.unchanged += 1;
        }
        self.mark(tx, section).await
    }

    /// Keeps which document a section came from, and from where.
    async fn mark(&self, tx: &mut AppTx, section: &Section) -> Result<(), Failure> {
        let tipo = self.adopted.value(DIRETRIZES.name, "tipo", 1);
        let marks = [("doc_hash", &self.fetched.document.hash), ("origem_hash", &self.fetched.origin)];
        for (column, mark) in marks.into_iter().filter(|(column, _)| self.has(column)) {
            let statement = format!("update diretrizes set {column} = $2 where tipo = {tipo}");
            self.adopted.change(tx, &statement, &[section.key.as_str().into(), mark.as_str().into()]).await?;
        }
        Ok(())
    }

    /// Sees to what came from this briefing and is no longer in it. What others wrote has no hash, what came from another
    /// briefing has another origin, and both are left alone.
    async fn leave(&mut self, tx: &mut AppTx) -> Result<(), Failure> {
        const GONE: &str = "diretrizes where doc_hash <> $1 and origem_hash = $2";
        if let Some(column) = ["doc_hash", "origem_hash"].into_iter().find(|column| !self.has(column)) {
            return self.rules.gone.without_mark(column, self.adopted.dialect());
        }
        let params: [Param; 2] = [self.fetched.document.hash.as_str().into(), self.fetched.origin.as_str().into()];
        let names = format!("select cast(tipo as text) as tipo from {GONE} order by 1 limit {MOST_GONE}");
        let rows = self.adopted.rows(tx, &names, &params).await?;
        self.change.gone = rows.iter().filter_map(|row| row.text("tipo")).collect();
        if self.rules.gone == Gone::Delete {
            self.change.deleted = self.adopted.change(tx, &format!("delete from {GONE}"), &params).await?;
        }
        Ok(())
    }
}

impl Gone {
    /// Nobody knows what came from this briefing: nothing is deleted, and who asked for it is told.
    fn without_mark(self, column: &str, dialect: Dialect) -> Result<(), Failure> {
        let column = DIRETRIZES.columns.iter().find(|known| known.name == column);
        let column = column.expect("the table names it");
        match self {
            Self::Keep => Ok(()),
            Self::Delete => Err(Failure::permanent(format!(
                "gone = \"delete\" needs the column diretrizes.{}; add with: {}",
                column.name,
                DIRETRIZES.addition(column, dialect)
            ))),
        }
    }
}

/// The same text under another name of its server: the next call asks by that one.
pub async fn rename(tx: &mut AppTx, last: &Last, etag: Option<String>, origin: &str) -> Result<(), Failure> {
    let Some(adopted) = team::look_at(tx, &BRIEFING_SYNC_LOG).await? else { return Ok(()) };
    if !(adopted.has(BRIEFING_SYNC_LOG.name, "etag") && adopted.has(BRIEFING_SYNC_LOG.name, "origem_hash")) {
        return Ok(());
    }
    let statement = "\
        update briefing_sync_log set etag = $2, origem_hash = $3
        where id = @type(briefing_sync_log.id, $1)";
    adopted.change(tx, statement, &[last.id.as_str().into(), etag.into(), origin.into()]).await.map(drop)
}

/// What happens to the notice that a stored document owes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Notice {
    /// The caller gives it. Only one can take it.
    Take,
    /// It could not be given: whoever comes next may.
    Return,
    /// It was given.
    Given,
}

/// Whether the step was the caller's to make.
pub async fn notice(tx: &mut AppTx, id: &str, step: Notice, now: DateTime<Utc>) -> Result<bool, Failure> {
    let Some(adopted) = team::look_at(tx, &BRIEFING_SYNC_LOG).await? else { return Ok(false) };
    if !adopted.has(BRIEFING_SYNC_LOG.name, "avisar_em") {
        return Ok(false);
    }
    let (statement, until) = match step {
        Notice::Take => ("@instant(avisar_em) <= @instant($3)", Some(now + NOTICE_TAKES)),
        Notice::Return => ("avisar_em is not null and @instant($3) is not null", Some(now)),
        Notice::Given => ("avisar_em is not null and @instant($3) is not null", None),
    };
    let statement = format!(
        "update briefing_sync_log set avisar_em = $2 where id = @type(briefing_sync_log.id, $1) and {statement}"
    );
    let params = [id.into(), Param::Instant(until), now.into()];
    Ok(0 < adopted.change(tx, &statement, &params).await?)
}
