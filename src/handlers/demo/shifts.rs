//! The invented shifts: over, running and to come, and the recruiters who were asked about them.

use chrono::{Days, NaiveDate, TimeDelta};
use serde_json::json;

use super::{
    invented,
    plan::{Plan, Value},
};
use crate::handlers::team::tables::{BUSINESS_EVENTS, EXTERNAL_HANDOFFS, VAGAS};

/// Day and night, as the local clock shows them.
const HOURS: [(&str, &str); 2] = [("07:00", "19:00"), ("19:00", "07:00")];
/// Shifts of the last two days that were taken, and wait to be confirmed.
const OVER: usize = 6;
/// Shifts of the next days that nobody has taken.
const OPEN: usize = 12;
/// Confirmed by a person some days ago.
const SETTLED: usize = 3;
/// How long a recruiter's shift is reserved (spec 6).
const RESERVED_FOR: TimeDelta = TimeDelta::hours(48);

/// Handoffs: how old each is, how often it was asked about, and what became of it.
const HANDOFFS: [(i64, u8, &str); 14] = [
    // Nothing to do yet.
    (30, 0, "pending"),
    (70, 0, "contacted"),
    // The first follow-up is due, then the second, then the third.
    (130, 0, "pending"),
    (155, 0, "contacted"),
    (200, 0, "pending"),
    (24 * 60 + 20, 1, "contacted"),
    (25 * 60, 1, "pending"),
    (36 * 60 + 30, 2, "contacted"),
    // Over: they expire, and their shifts open again.
    (48 * 60 + 5, 3, "contacted"),
    (49 * 60, 3, "pending"),
    (51 * 60, 2, "pending"),
    // Answered.
    (20 * 60, 1, "confirmed"),
    (30 * 60, 2, "confirmed"),
    (26 * 60, 1, "not_confirmed"),
];
/// After how many minutes each follow-up was sent (spec 6).
const FOLLOWUPS: [i64; 3] = [2 * 60, 24 * 60, 36 * 60];

pub(super) fn plan(plan: &mut Plan) {
    let today = plan.moment.zone.local(plan.moment.now).date();
    for index in 0..OVER {
        let day = today - Days::new(1 + index as u64 / 4);
        shift(plan, day, index, "reservada");
    }
    for index in 0..SETTLED {
        shift(plan, today - Days::new(4 + index as u64), index, "pendente_confirmacao");
    }
    for index in 0..OPEN {
        shift(plan, today + Days::new(1 + index as u64 / 2), index, "aberta");
    }
    for (index, handoff) in HANDOFFS.into_iter().enumerate() {
        let day = today + Days::new(3 + index as u64 / 3);
        let status = if handoff.2 == "not_confirmed" { "aberta" } else { "reservada" };
        let vaga = shift(plan, day, index, status);
        hand_over(plan, (index, vaga), handoff);
    }
}

fn shift(plan: &mut Plan, day: NaiveDate, index: usize, status: &'static str) -> usize {
    let (from, to) = HOURS[index % HOURS.len()];
    let mut values = vec![
        ("titulo", format!("Plantão de {}, {}", invented::specialty(index), invented::place(index)).into()),
        ("data", day.to_string().into()),
        ("hora_inicio", from.into()),
        ("hora_fim", to.into()),
        ("status", status.into()),
    ];
    if status != "aberta" {
        values.push(("cliente_id", Value::IdOf(index * 2)));
    }
    plan.add(&VAGAS, values)
}

fn hand_over(plan: &mut Plan, (index, vaga): (usize, usize), (age, followups, status): (i64, u8, &'static str)) {
    let created = plan.ago(TimeDelta::minutes(age));
    let sent = &FOLLOWUPS[..usize::from(followups)];
    let last = sent.last().map(|after| created + TimeDelta::minutes(*after));
    let (client, recruiter) = (index * 2, index + 30);
    let handoff = plan.add(
        &EXTERNAL_HANDOFFS,
        vec![
            ("vaga_id", Value::IdOf(vaga)),
            ("cliente_id", Value::IdOf(client)),
            ("divulgador_nome", format!("{} (recrutamento fictício)", invented::name(recruiter)).into()),
            ("divulgador_telefone", invented::number(900 + index).into()),
            ("status", status.into()),
            ("reserved_until", (created + RESERVED_FOR).into()),
            ("last_followup_at", last.into()),
            ("followup_count", u32::from(followups).into()),
            ("created_at", created.into()),
        ],
    );
    for (done, after) in sent.iter().enumerate() {
        plan.add(
            &BUSINESS_EVENTS,
            vec![
                ("event_type", "handoff_followup".into()),
                (
                    "dedupe_key",
                    Value::Naming { before: "handoff_followup:", row: handoff, after: format!(":{}", done + 1) },
                ),
                ("cliente_id", Value::IdOf(client)),
                ("vaga_id", Value::IdOf(vaga)),
                ("event_props", json!({ "demo": true }).into()),
                ("created_at", (created + TimeDelta::minutes(*after)).into()),
            ],
        );
    }
}
