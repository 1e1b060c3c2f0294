//! The one place where a message for a person is queued: a row of `fila_mensagens`, which `fila` sends.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::{Adopted, Param, tables::FILA_MENSAGENS};
use crate::{
    domain::run::Failure,
    handlers::{AppTx, Dialect},
};

/// A message to be queued, in the transaction that makes it due: then it is queued exactly once.
#[derive(Debug, Clone, PartialEq)]
pub struct Outgoing {
    /// The client it is for, as text whatever the type of the id; its number is the client's unless `telefone` says
    /// another.
    pub cliente_id: Option<String>,
    pub conversa_id: Option<String>,
    /// A number that is no client's, or not this client's. It needs the optional column of that name.
    pub telefone: Option<String>,
    pub conteudo: String,
    /// Its kind in the team's words: it decides about limits and quiet hours.
    pub tipo: &'static str,
    /// From 0 to 10, higher first; `PRIORIDADE` unless there is a reason.
    pub prioridade: i32,
    /// Not before this moment.
    pub agendar_para: DateTime<Utc>,
    /// An object that says where the message came from.
    pub metadata: Value,
}

impl Outgoing {
    /// The priority of messages that have no other (spec 6, `fila`).
    pub const PRIORIDADE: i32 = 5;

    /// Adds the row. `adopted` must hold `FILA_MENSAGENS`. A message for a number in a table without `telefone` fails
    /// for good, with the statement that adds the column; nothing is ever queued for somebody else instead.
    pub async fn queue(&self, tx: &mut AppTx, adopted: &Adopted, now: DateTime<Utc>) -> Result<(), Failure> {
        let mut columns = vec![
            ("cliente_id", Param::from(self.cliente_id.clone())),
            ("conversa_id", self.conversa_id.clone().into()),
            ("conteudo", self.conteudo.as_str().into()),
            ("tipo", self.tipo.into()),
            ("prioridade", self.prioridade.into()),
            ("status", "pendente".into()),
            ("agendar_para", self.agendar_para.into()),
            ("metadata", self.metadata.clone().into()),
            ("created_at", now.into()),
        ];
        match &self.telefone {
            Some(_) if !adopted.has(FILA_MENSAGENS.name, "telefone") => return Err(lacks_numbers(adopted)),
            Some(number) => columns.push(("telefone", number.as_str().into())),
            None => {}
        }
        adopted.insert(tx, FILA_MENSAGENS.name, columns).await
    }
}

fn lacks_numbers(adopted: &Adopted) -> Failure {
    let telefone = FILA_MENSAGENS.columns.iter().find(|column| column.name == "telefone");
    let telefone = telefone.expect("the queue's columns have telefone");
    let (table, addition) = (FILA_MENSAGENS.name, FILA_MENSAGENS.addition(telefone, adopted.dialect()));
    Failure::permanent(format!("table {table} lacks telefone; add with: {addition}"))
}

impl Adopted {
    /// Adds one row, each value in the type of its column; the table must be among the adopted. A text that is too long
    /// for its column is refused, never cut.
    pub async fn insert(
        &self,
        tx: &mut AppTx,
        table: &str,
        columns: Vec<(&'static str, Param)>,
    ) -> Result<(), Failure> {
        let (statement, params) = self.insertion(table, columns);
        self.change(tx, &statement, &params).await.map(drop)
    }

    /// As `insert`, with the id of the new row, as text.
    pub async fn insert_for_id(
        &self,
        tx: &mut AppTx,
        table: &str,
        columns: Vec<(&'static str, Param)>,
    ) -> Result<String, Failure> {
        let (statement, params) = self.insertion(table, columns);
        let rows = self.rows(tx, &format!("{statement} returning cast(id as text) as id"), &params).await?;
        let id = rows.first().and_then(|row| row.text("id"));
        id.ok_or_else(|| Failure::permanent(format!("the new row of {table} has no id")))
    }

    fn insertion(&self, table: &str, columns: Vec<(&'static str, Param)>) -> (String, Vec<Param>) {
        let (names, params): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
        let values: Vec<_> = names.iter().enumerate().map(|(at, name)| self.value(table, name, at + 1)).collect();
        (format!("insert into {table} ({}) values ({})", names.join(", "), values.join(", ")), params)
    }

    /// Fails, naming the column and its size, when a text is too long for it. Only PostgreSQL has sizes that count.
    pub fn must_fit(&self, table: &str, column: &str, text: &str) -> Result<(), Failure> {
        let kind = self.column(table, column).map_or("", |found| found.kind.as_str());
        let size =
            kind.strip_prefix("character").and_then(|rest| rest.split_once('(')?.1.split_once(')')?.0.parse().ok());
        let (most, length) = (size.unwrap_or(usize::MAX), text.chars().count());
        if self.dialect() == Dialect::Sqlite || length <= most {
            return Ok(());
        }
        Err(Failure::permanent(format!("column {table}.{column} takes {most} characters, and its text has {length}")))
    }

    /// A parameter as a column takes it. PostgreSQL cuts what is cast to a `varchar(n)`, and refuses what is assigned.
    pub fn value(&self, table: &str, column: &str, at: usize) -> String {
        match self.column(table, column) {
            Some(found) if found.kind.starts_with("character") => format!("${at}"),
            _ => format!("@type({table}.{column}, ${at})"),
        }
    }
}
