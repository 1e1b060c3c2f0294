//! Cron expressions: croner reads them and knows their days; the wrapper says what we refuse and why.

mod field;
mod words;

use std::sync::LazyLock;

use croner::parser::{CronParser, Seconds, Year};

use super::{ScheduleError, calendar::Calendar};
use field::{FIELDS, Field};

/// Far above any expression that people write.
const LONGEST: usize = 1024;

/// The names for whole expressions.
const NAMED: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

/// Day-of-month or day-of-week, where only a bare `*` means any: croner's rule, which is also the POSIX rule.
static PARSER: LazyLock<CronParser> =
    LazyLock::new(|| CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build());

/// A sound cron expression.
#[derive(Debug, Clone, PartialEq)]
pub struct CronText {
    /// As written, with single spaces.
    text: String,
    /// The six fields, seconds first.
    fields: [String; 6],
}

impl CronText {
    /// Reads an expression of five or six fields, or a name such as `@hourly`.
    pub fn parse(text: &str) -> Result<(Self, Calendar), ScheduleError> {
        if LONGEST < text.len() {
            return Err(ScheduleError::new(format!("a cron expression has at most {LONGEST} bytes")));
        }
        let words = text.split_whitespace().collect::<Vec<_>>();
        let expression = if text.contains('@') { named(text)? } else { text };
        let fields = fields_of(expression)?;
        let cron = PARSER.parse(&fields.join(" ")).map_err(|error| refused_by_croner(&error))?;
        let calendar = Calendar::from_cron(&cron.pattern);
        if !calendar.ever_matches() {
            let message = format!("never fires: no year has a day {} in month {}", fields[3], fields[4]);
            return Err(ScheduleError::new(message));
        }
        Ok((Self { text: words.join(" "), fields }, calendar))
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Name and text of each field, seconds first.
    pub fn fields(&self) -> impl Iterator<Item = (&'static str, &str)> {
        FIELDS.iter().map(|field| field.name).zip(self.fields.iter().map(String::as_str))
    }

    /// Whether the hour field begins with `*`: then hours are elapsed time, which knows no clock change.
    pub fn counts_elapsed_time(&self) -> bool {
        self.fields[2].starts_with('*')
    }

    /// The expression in words: `at 08:00 on Monday to Friday`.
    pub fn words(&self) -> String {
        words::words(&self.fields)
    }

    /// Whether both day fields are restricted and one of them begins with `*`, which other crons read as "both".
    pub fn has_ambiguous_days(&self) -> bool {
        let any = |field: &str| field == "*" || field == "?";
        let [_, _, _, of_month, _, of_week] = &self.fields;
        !any(of_month) && !any(of_week) && (of_month.starts_with('*') || of_week.starts_with('*'))
    }
}

/// The expression that a name stands for.
fn named(text: &str) -> Result<&'static str, ScheduleError> {
    let name = text.trim().to_ascii_lowercase();
    if let Some((_, expression)) = NAMED.iter().find(|(known, _)| *known == name) {
        return Ok(expression);
    }
    let start = text.len() - text.trim_start().len();
    let error = ScheduleError::new(format!("unknown name {:?}", text.trim())).at(start..text.trim_end().len());
    if let Some(interval) = name.strip_prefix("@every") {
        return Err(error.with_help(format!("use `every = \"{}\"`", interval.trim())));
    }
    let near = NAMED.iter().map(|(known, _)| known).find(|known| 0.85 < strsim::jaro_winkler(known, &name));
    Err(match near {
        Some(near) => error.with_help(format!("did you mean `{near}`?")),
        None => error.with_help("names are @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually"),
    })
}

/// The six fields of an expression, each checked.
fn fields_of(text: &str) -> Result<[String; 6], ScheduleError> {
    let words = text.split_whitespace().collect::<Vec<_>>();
    let error = |message: String| ScheduleError::new(message);
    let (known, words): (&[Field], _) = match words.len() {
        5 => (&FIELDS[1..], words),
        6 => (&FIELDS[..], words),
        7 => return Err(error("has 7 fields: a year field is not supported".into())),
        count => {
            let help = "five fields are minute, hour, day-of-month, month, day-of-week; a sixth, seconds, goes first";
            return Err(error(format!("has {count} fields, not 5 or 6")).with_help(help));
        }
    };
    for (field, word) in known.iter().zip(&words) {
        field.check(word, word.as_ptr() as usize - text.as_ptr() as usize)?;
    }
    let mut fields = ["0"; 6];
    fields[6 - words.len()..].copy_from_slice(&words);
    Ok(fields.map(str::to_ascii_uppercase))
}

fn refused_by_croner(error: &croner::errors::CronError) -> ScheduleError {
    let text = error.to_string();
    let mut letters = text.trim_end_matches('.').chars();
    let first = letters.next().map(|first| first.to_lowercase().to_string()).unwrap_or_default();
    ScheduleError::new(first + letters.as_str())
}
