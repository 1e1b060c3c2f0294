//! The invented queue: what was sent, what is due, what comes, and what went wrong.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;

use super::{
    invented,
    plan::{COOLING_OFF, OPTED_OUT, Plan, Value},
};
use crate::handlers::team::tables::{FILA_MENSAGENS, FILA_MENSAGENS_DLQ};

/// Messages that are due at once, by kind. Replies go out at any hour; the shipped limits let 20 an hour through.
const DUE: [(&str, usize, i64); 5] =
    [("resposta", 14, 8), ("sistema", 3, 9), ("lembrete", 6, 6), ("followup", 8, 5), ("prospeccao", 6, 4)];
/// That become due in the next half hour, one after the other.
const SOON: usize = 12;
/// That wait for the next two days.
const LATER: usize = 60;
/// That went out in the last three days.
const SENT: usize = 90;
/// Of these, in the last hour.
const SENT_NOW: usize = 8;
/// That were given up, and lie among the dead letters.
const GIVEN_UP: usize = 5;
/// That nobody sent in time.
const OVERDUE: usize = 3;
/// Kinds in turn, for what is not due yet.
const KINDS: [&str; 6] = ["prospeccao", "followup", "lembrete", "campanha", "followup", "prospeccao"];

pub(super) fn plan(plan: &mut Plan) {
    due(plan);
    for index in 0..SOON {
        let at = plan.moment.now + TimeDelta::seconds(90 + 140 * index as i64);
        let tipo = if index % 2 == 0 { "resposta" } else { KINDS[index % KINDS.len()] };
        waiting(plan, tipo, 20 + index, at);
    }
    for index in 0..LATER {
        let at = plan.moment.now + TimeDelta::minutes(35 + plan.dice.i64(0..48 * 60));
        let client = index % OPTED_OUT.start;
        waiting(plan, KINDS[index % KINDS.len()], client, at);
    }
    sent(plan);
    troubles(plan);
}

/// A message that nobody has tried to send, with the columns that follow.
fn message(plan: &mut Plan, (tipo, client): (&'static str, usize), at: DateTime<Utc>) -> Vec<(&'static str, Value)> {
    let index = plan.rows.len();
    vec![
        ("cliente_id", Value::IdOf(client)),
        ("conteudo", invented::text(tipo, client, index).into()),
        ("tipo", tipo.into()),
        ("agendar_para", at.into()),
        ("metadata", json!({ "demo": true }).into()),
        ("created_at", (at.min(plan.moment.now) - TimeDelta::minutes(20)).into()),
    ]
}

fn waiting(plan: &mut Plan, tipo: &'static str, client: usize, at: DateTime<Utc>) {
    let values = message(plan, (tipo, client), at);
    plan.add(&FILA_MENSAGENS, values);
}

fn due(plan: &mut Plan) {
    let mut client = 0;
    for (tipo, count, priority) in DUE {
        for _ in 0..count {
            let at = plan.minutes_ago(1..50);
            let mut values = message(plan, (tipo, client % OPTED_OUT.start), at);
            values.push(("prioridade", priority.into()));
            plan.add(&FILA_MENSAGENS, values);
            client += 1;
        }
    }
    // Nobody may be written to who does not want it: one ends bloqueada, the other waits for its day.
    for client in [OPTED_OUT.start, OPTED_OUT.start + 1, COOLING_OFF.start, COOLING_OFF.start + 1] {
        let at = plan.minutes_ago(5..20);
        let mut values = message(plan, ("followup", client), at);
        values.push(("prioridade", 7.into()));
        plan.add(&FILA_MENSAGENS, values);
    }
}

fn sent(plan: &mut Plan) {
    for index in 0..SENT {
        let at = match index {
            _ if index < SENT_NOW => plan.minutes_ago(2..55),
            _ => plan.minutes_ago(90..3 * 24 * 60),
        };
        let mut values = message(plan, (KINDS[index % KINDS.len()], index % OPTED_OUT.start), at);
        values.extend([
            ("status", "enviada".into()),
            ("enviada_em", at.into()),
            ("tentativas", 1.into()),
            ("outcome", "SENT".into()),
            ("outcome_at", at.into()),
            ("provider_message_id", format!("demo-{index}").into()),
        ]);
        plan.add(&FILA_MENSAGENS, values);
    }
}

/// What the next run of the queue tidies up, and what waits for a person.
fn troubles(plan: &mut Plan) {
    for index in 0..GIVEN_UP {
        let at = plan.minutes_ago(120..30 * 60);
        given_up(plan, index, at);
    }
    for index in 0..OVERDUE {
        let at = plan.ago(TimeDelta::hours(27 + index as i64));
        waiting(plan, "campanha", 30 + index, at);
    }
    let cancelled = plan.minutes_ago(60..300);
    let mut values = message(plan, ("campanha", 40), cancelled);
    values.push(("status", "cancelada".into()));
    plan.add(&FILA_MENSAGENS, values);
    // Two that a crash left behind: one before its call, one in the middle of it, where nobody knows.
    for reason in [None, Some("sending")] {
        let since = plan.ago(TimeDelta::minutes(95));
        let mut values = message(plan, ("lembrete", 41), since);
        values.extend([
            ("status", "processando".into()),
            ("processando_desde", since.into()),
            ("outcome_reason_code", reason.into()),
            // It waits no longer once it is put back.
            ("prioridade", 10.into()),
        ]);
        plan.add(&FILA_MENSAGENS, values);
    }
}

fn given_up(plan: &mut Plan, index: usize, at: DateTime<Utc>) {
    let error = "o provedor de demonstração respondeu 500";
    let mut values = message(plan, ("prospeccao", 42 + index), at);
    values.extend([
        ("status", "erro".into()),
        ("tentativas", 3.into()),
        ("erro", error.into()),
        ("outcome", "FAILED_PROVIDER".into()),
        ("outcome_at", at.into()),
    ]);
    let row = plan.add(&FILA_MENSAGENS, values);
    plan.add(
        &FILA_MENSAGENS_DLQ,
        vec![
            ("mensagem_id", Value::IdOf(row)),
            ("motivo", "FAILED_PROVIDER".into()),
            ("erro", error.into()),
            ("tentativas", 3.into()),
            ("mensagem", json!({ "demo": true, "tipo": "prospeccao" }).into()),
            ("created_at", at.into()),
        ],
    );
}
