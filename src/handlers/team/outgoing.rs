//! The one place where a message for a person is queued: a row of `fila_mensagens`, which `fila` sends.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::{Adopted, Param, tables::FILA_MENSAGENS};
use crate::{domain::run::Failure, handlers::AppTx};

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
        let (names, params): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
        let values: Vec<_> = names.iter().enumerate().map(|(at, name)| self.value(table, name, at + 1)).collect();
        let statement = format!("insert into {table} ({}) values ({})", names.join(", "), values.join(", "));
        self.change(tx, &statement, &params).await.map(drop)
    }

    /// A parameter as a column takes it. PostgreSQL cuts what is cast to a `varchar(n)`, and refuses what is assigned.
    fn value(&self, table: &str, column: &str, at: usize) -> String {
        match self.column(table, column) {
            Some(found) if found.kind.starts_with("character") => format!("${at}"),
            _ => format!("@type({table}.{column}, ${at})"),
        }
    }
}
