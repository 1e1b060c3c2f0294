//! The writer of SQLite: one task that gathers what is asked meanwhile into one transaction.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures_util::{FutureExt, future::BoxFuture};
use sqlx::{AssertSqlSafe, SqliteConnection};
use tokio::{
    sync::{Mutex, mpsc, oneshot},
    time::timeout,
};

use super::sqlite::roll_back_left_open;
use crate::store::{
    Result, StoreError,
    dialect::Book,
    session::{Body, Limits, Session},
};

/// Commands of one transaction.
const GROUP: usize = 64;
/// Commands that may wait; whoever asks more waits outside.
const WAITING: usize = 1_024;

/// The way to the writing task, which ends with the last of these.
pub(super) struct Writer {
    commands: mpsc::Sender<Box<dyn Command>>,
}

impl Writer {
    pub fn start(connection: Arc<Mutex<SqliteConnection>>, book: Arc<Book>) -> Self {
        let (commands, asked) = mpsc::channel(WAITING);
        tokio::spawn(write_all(asked, connection, book));
        Self { commands }
    }

    /// Runs a body in the next transaction. It is not run any more once the caller has gone.
    pub async fn ask<T: Send + 'static>(&self, limits: Limits, body: impl Body<T>) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let command = Box::new(Asked { body, done: None, reply });
        let answered = timeout(limits.client, async {
            self.commands.send(command).await.map_err(|_| gone())?;
            answer.await.unwrap_or_else(|_| Err(gone()))
        });
        answered.await.unwrap_or_else(|_| {
            Err(StoreError::Unreachable(format!("the database file was busy for {} s", limits.client.as_secs())))
        })
    }
}

fn gone() -> StoreError {
    StoreError::Unreachable("the writer of the database file has stopped".into())
}

trait Command: Send {
    /// Whether somebody still waits for the answer.
    fn is_wanted(&self) -> bool;
    /// Does the work and keeps its answer; `false` = its changes must go.
    fn run<'s>(&'s mut self, session: &'s mut Session<'_>) -> BoxFuture<'s, bool>;
    /// Answers, after the transaction's end.
    fn answer(self: Box<Self>, committed: Result<()>);
}

struct Asked<T, F> {
    body: F,
    done: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
}

impl<T: Send, F: Body<T>> Command for Asked<T, F> {
    fn is_wanted(&self) -> bool {
        !self.reply.is_closed()
    }

    fn run<'s>(&'s mut self, session: &'s mut Session<'_>) -> BoxFuture<'s, bool> {
        async move {
            let body = AssertUnwindSafe(async { (self.body)(session).await }).catch_unwind();
            let done = body.await.unwrap_or_else(|_| Err(StoreError::Other("a statement of ours panicked".into())));
            let keep = done.is_ok();
            self.done = Some(done);
            keep
        }
        .boxed()
    }

    fn answer(self: Box<Self>, committed: Result<()>) {
        let Self { body, done, reply } = *self;
        // What the body holds belongs to the asker again before the answer comes.
        drop(body);
        let answer = match (done, committed) {
            (Some(Err(error)), _) | (_, Err(error)) => Err(error),
            (Some(Ok(value)), Ok(())) => Ok(value),
            (None, Ok(())) => Err(gone()),
        };
        // Nobody waits any more: nothing to tell.
        let _ = reply.send(answer);
    }
}

async fn write_all(
    mut asked: mpsc::Receiver<Box<dyn Command>>,
    connection: Arc<Mutex<SqliteConnection>>,
    book: Arc<Book>,
) {
    while let Some(first) = asked.recv().await {
        let mut connection = connection.lock().await;
        let mut group = vec![first];
        while group.len() < GROUP {
            let Ok(next) = asked.try_recv() else { break };
            group.push(next);
        }
        group.retain(|command| command.is_wanted());
        roll_back_left_open(&mut connection).await;
        let committed = write_group(&mut connection, &mut group, &book).await;
        if committed.is_err() {
            roll_back_left_open(&mut connection).await;
        }
        drop(connection);
        for command in group {
            command.answer(committed.clone());
        }
    }
}

async fn write_group(connection: &mut SqliteConnection, group: &mut [Box<dyn Command>], book: &Book) -> Result<()> {
    send(connection, "begin immediate").await?;
    for command in group {
        send(connection, "savepoint command").await?;
        let keep = command.run(&mut Session::sqlite(connection, book)).await;
        let end = if keep { "release command" } else { "rollback to command; release command" };
        send(connection, end).await?;
    }
    send(connection, "commit").await
}

async fn send(connection: &mut SqliteConnection, text: &'static str) -> Result<()> {
    sqlx::raw_sql(AssertSqlSafe(text)).execute(connection).await?;
    Ok(())
}
