//! `fila`: messages to people wait in a queue, so that none is lost and none is sent twice.

pub mod dead;
pub mod figures;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Context, Dialect, Done, Ending, Handler, QueueLook, Statement, TeamTable,
    team::tables::{CLIENTES, FILA_MENSAGENS, FILA_MENSAGENS_DLQ},
};
use crate::domain::{
    health::QueueFigures,
    run::{Failure, Report},
};

/// Settings of `run.fila`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {}

impl Handler for Settings {
    async fn run(&self, ctx: Context) -> Ending {
        let may_create = ctx.tools.create_team_tables;
        super::transaction::apart(&ctx, move |tx| {
            Box::pin(async move {
                super::team::adopt(tx, &[&FILA_MENSAGENS, &CLIENTES, &FILA_MENSAGENS_DLQ], may_create).await.map(drop)
            })
        })
        .await?;
        Ok(Done::Report(Report::items(0)))
    }

    async fn look(&self, look: QueueLook) -> Option<Result<QueueFigures, Failure>> {
        Some(figures::look(look).await)
    }

    fn statements(&self, _: Dialect) -> Vec<Statement> {
        Vec::new()
    }

    fn team_tables(&self) -> Vec<&'static TeamTable> {
        vec![&FILA_MENSAGENS, &CLIENTES, &FILA_MENSAGENS_DLQ]
    }
}
