//! The report as people read it, and as JSON.

use chrono::SecondsFormat;
use serde_json::{Value, json};

use super::{
    counts::{Counts, Tally},
    language::Language,
    period::{Period, Span},
};
use crate::{
    domain::{clean, ledger::JobPeriod, schedule::Zone},
    handlers::people::Notice,
};

/// Jobs that a list names at most.
const MOST_FAILING: usize = 10;
const MOST_SLOW: usize = 5;
/// Slack refuses a section of more than 3,000 characters, and a header of more than 150.
const MOST_SECTION_CHARS: usize = 2_900;

/// Everything that a report says.
#[derive(Debug)]
pub struct Page {
    pub period: Period,
    pub span: Span,
    pub zone: Zone,
    pub counts: Counts,
    pub jobs: Vec<JobPeriod>,
}

/// What stands under one heading.
struct Section {
    title: &'static str,
    lines: Vec<String>,
}

impl Page {
    /// The report for people. What the team's tables and jobs call things is shown as they call it.
    pub fn notice(&self, language: Language) -> Notice {
        let title = self.title(language);
        let sections = [self.messages(language), self.handoffs(language), self.of_jobs(language)];
        let text = |section: &Section| format!("*{}*\n{}", section.title, section.lines.join("\n"));
        let texts: Vec<String> = sections.iter().map(text).map(|text| clean::text(&text, MOST_SECTION_CHARS)).collect();
        let header = json!({ "type": "header", "text": { "type": "plain_text", "text": title } });
        let section = |text: &String| json!({ "type": "section", "text": { "type": "mrkdwn", "text": text } });
        let blocks = std::iter::once(header).chain(texts.iter().map(section)).collect();
        Notice { text: format!("*{title}*\n\n{}", texts.join("\n\n")), blocks }
    }

    /// The counts, for who reads them by program. A table that is not there is null.
    pub fn counts(&self) -> Value {
        let Self { period, span, zone, counts, .. } = self;
        let instant = |at: chrono::DateTime<chrono::Utc>| at.to_rfc3339_opts(SecondsFormat::AutoSi, true);
        json!({
            "period": {
                "name": period.word(), "first_day": span.first, "last_day": span.last,
                "from": instant(span.from), "until": instant(span.until), "timezone": zone.name(),
            },
            "messages": counts.messages,
            "conversations": counts.conversations,
            "handoffs": counts.handoffs,
            "jobs": {
                "runs": self.sum(|job| job.runs),
                "failures": self.sum(|job| job.failures),
                "unexplained": self.sum(|job| job.unexplained),
                "failing": self.failing().map(|job| json!({
                    "job": job.job, "runs": job.runs, "failures": job.failures, "timeouts": job.timeouts,
                })).collect::<Vec<_>>(),
                "slowest": self.slowest().map(|job| json!({
                    "job": job.job, "p95_duration_ms": job.p95_duration_ms, "max_duration_ms": job.max_duration_ms,
                })).collect::<Vec<_>>(),
            },
        })
    }

    fn title(&self, language: Language) -> String {
        let Span { first, last, .. } = self.span;
        if first == last {
            return format!("{} {}", language.either("Relatório de", "Report of"), language.day(first));
        }
        let (of, to) = (language.either("Relatório de", "Report from"), language.either("a", "to"));
        format!("{of} {} {to} {}", language.day(first), language.day(last))
    }

    fn messages(&self, language: Language) -> Section {
        let title = language.either("Mensagens", "Messages");
        let Some(tally) = &self.counts.messages else { return missing(title, "fila_mensagens", language) };
        let mut lines = tallied(tally, &["enviada", "erro", "bloqueada", "cancelada"], language);
        if let Some(conversations) = self.counts.conversations {
            let word = language.either("Conversas com movimento", "Conversations with messages");
            lines.push(format!("{word}: {}", language.number(conversations)));
        }
        Section { title, lines }
    }

    fn handoffs(&self, language: Language) -> Section {
        let Some(tally) = &self.counts.handoffs else { return missing("Handoffs", "external_handoffs", language) };
        Section { title: "Handoffs", lines: tallied(tally, &["confirmed", "not_confirmed", "expired"], language) }
    }

    fn of_jobs(&self, language: Language) -> Section {
        let number = |count: fn(&JobPeriod) -> u64| language.number(self.sum(count));
        let (runs, failures, unexplained) =
            (number(|job| job.runs), number(|job| job.failures), number(|job| job.unexplained));
        let mut lines = vec![
            format!("{}: {runs}", language.either("Execuções", "Runs")),
            format!("{}: {failures}", language.either("Falhas", "Failures")),
        ];
        lines.extend(self.failing().map(|job| failing(job, language)));
        let more = self.jobs.iter().filter(|job| 0 < job.failures).count().saturating_sub(MOST_FAILING);
        if 0 < more {
            lines.push(format!(
                "• {} {more} {}",
                language.either("e mais", "and"),
                language.either("jobs", "more jobs")
            ));
        }
        if self.slowest().next().is_some() {
            lines.push(language.either("Mais lentos:", "Slowest:").to_owned());
            lines.extend(self.slowest().map(|job| slow(job, language)));
        }
        let word =
            language.either("Horários sem explicação desde o início", "Unexplained instants since the beginning");
        lines.push(format!("{word}: {unexplained}"));
        Section { title: "Jobs", lines }
    }

    fn sum(&self, count: fn(&JobPeriod) -> u64) -> u64 {
        self.jobs.iter().map(count).sum()
    }

    /// The jobs that failed most often, the worst first.
    fn failing(&self) -> impl Iterator<Item = &JobPeriod> {
        let mut jobs: Vec<&JobPeriod> = self.jobs.iter().filter(|job| 0 < job.failures).collect();
        jobs.sort_by_key(|job| (std::cmp::Reverse(job.failures), &job.job));
        jobs.into_iter().take(MOST_FAILING)
    }

    /// The jobs whose runs take longest, the slowest first.
    fn slowest(&self) -> impl Iterator<Item = &JobPeriod> {
        let mut jobs: Vec<&JobPeriod> = self.jobs.iter().filter(|job| job.p95_duration_ms.is_some()).collect();
        jobs.sort_by_key(|job| (std::cmp::Reverse((job.p95_duration_ms, job.max_duration_ms)), &job.job));
        jobs.into_iter().take(MOST_SLOW)
    }
}

fn missing(title: &'static str, table: &str, language: Language) -> Section {
    let line = match language {
        Language::Portuguese => format!("a tabela {table} não existe neste banco"),
        Language::English => format!("there is no table {table} in this database"),
    };
    Section { title, lines: vec![line] }
}

/// What was made and ended in the period, then what is open now. `usual` words are told even when they are 0.
fn tallied(tally: &Tally, usual: &[&str], language: Language) -> Vec<String> {
    let unknown = || language.either("não se sabe", "not known").to_owned();
    let count = |word: &str, count: u64| format!("{} {}", shown(language.status(word)), language.number(count));
    let open: Vec<String> = tally.open.iter().map(|(word, rows)| count(word, *rows)).collect();
    let created = tally.created.map_or_else(unknown, |created| language.number(created));
    let ended = tally.ended.as_ref().map_or_else(unknown, |ended| {
        let usual_first = usual.iter().map(|word| (*word, ended.get(*word).copied().unwrap_or(0)));
        let others = ended.iter().filter(|(word, rows)| !usual.contains(&word.as_str()) && 0 < **rows);
        let all = usual_first.chain(others.map(|(word, rows)| (word.as_str(), *rows)));
        all.map(|(word, rows)| count(word, rows)).collect::<Vec<_>>().join(" · ")
    });
    vec![
        format!("{}: {created}", language.either("Novas no período", "New in the period")),
        format!("{}: {ended}", language.either("Encerradas no período", "Ended in the period")),
        format!("{}: {}", language.either("Em aberto agora", "Open now"), open.join(" · ")),
    ]
}

fn failing(job: &JobPeriod, language: Language) -> String {
    let (failures, runs) = (language.number(job.failures), language.number(job.runs));
    let of = format!("• {}: {failures} {} {runs}", job.job, language.either("de", "of"));
    match job.timeouts {
        0 => of,
        timeouts => {
            format!("{of} ({} {})", language.number(timeouts), language.either("por tempo esgotado", "timed out"))
        }
    }
}

fn slow(job: &JobPeriod, language: Language) -> String {
    let length = |ms: Option<u64>| language.length(ms.unwrap_or_default());
    let at_most = language.either("no máximo", "at most");
    format!("• {}: p95 {}, {at_most} {}", job.job, length(job.p95_duration_ms), length(job.max_duration_ms))
}

/// A word of the team's, as Slack must be given it.
fn shown(word: &str) -> String {
    word.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
