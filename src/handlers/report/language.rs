//! How numbers, dates and lengths of time are written for people.

use chrono::{Datelike, NaiveDate};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The language of what people read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Language {
    #[default]
    #[serde(rename = "pt-BR")]
    Portuguese,
    #[serde(rename = "en")]
    English,
}

const DAYS_PORTUGUESE: [&str; 7] =
    ["segunda-feira", "terça-feira", "quarta-feira", "quinta-feira", "sexta-feira", "sábado", "domingo"];
const DAYS_ENGLISH: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

impl Language {
    /// The one of two texts that is in this language.
    pub fn either<'a>(self, portuguese: &'a str, english: &'a str) -> &'a str {
        match self {
            Self::Portuguese => portuguese,
            Self::English => english,
        }
    }

    /// A whole number in groups of three.
    pub fn number(self, number: u64) -> String {
        let digits = number.to_string();
        let separator = self.either(".", ",");
        let mut text = String::with_capacity(digits.len() + digits.len() / 3);
        for (index, digit) in digits.chars().enumerate() {
            if 0 < index && (digits.len() - index).is_multiple_of(3) {
                text.push_str(separator);
            }
            text.push(digit);
        }
        text
    }

    /// A day as people say it: `terça-feira, 07/01/2025`, `Tuesday, 2025-01-07`.
    pub fn day(self, day: NaiveDate) -> String {
        let names = match self {
            Self::Portuguese => DAYS_PORTUGUESE,
            Self::English => DAYS_ENGLISH,
        };
        let name = names[day.weekday().num_days_from_monday() as usize];
        format!("{name}, {}", self.date(day))
    }

    pub fn date(self, day: NaiveDate) -> String {
        day.format(self.either("%d/%m/%Y", "%Y-%m-%d")).to_string()
    }

    /// A length of time, coarser the longer it is: `850 ms`, `41,2 s`, `3 min 20 s`, `1 h 05 min`.
    pub fn length(self, ms: u64) -> String {
        let seconds = ms / 1_000;
        match seconds {
            0 => format!("{ms} ms"),
            1..60 => format!("{seconds}{}{} s", self.either(",", "."), ms % 1_000 / 100),
            60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
            _ => format!("{} h {:02} min", self.number(seconds / 3_600), seconds / 60 % 60),
        }
    }

    /// A word of a status column as people say it, of several things; a word of the team's own stays as it is.
    pub fn status(self, word: &str) -> &str {
        match word {
            "enviada" => self.either("enviadas", "sent"),
            "erro" => self.either("com erro", "failed"),
            "bloqueada" => self.either("bloqueadas", "blocked"),
            "cancelada" => self.either("canceladas", "cancelled"),
            "pendente" => self.either("pendentes", "waiting"),
            "processando" => self.either("em envio", "being sent"),
            "pending" => self.either("aguardando contato", "pending"),
            "contacted" => self.either("contatados", "contacted"),
            "confirmed" => self.either("confirmados", "confirmed"),
            "not_confirmed" => self.either("não confirmados", "not confirmed"),
            "expired" => self.either("expirados", "expired"),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_days_and_lengths_are_written_as_in_each_language() {
        let (portuguese, english) = (Language::Portuguese, Language::English);
        for (number, in_portuguese, in_english) in
            [(0, "0", "0"), (999, "999", "999"), (1_000, "1.000", "1,000"), (1_234_567, "1.234.567", "1,234,567")]
        {
            assert_eq!((portuguese.number(number), english.number(number)), (in_portuguese.into(), in_english.into()));
        }
        for (ms, in_portuguese, in_english) in [
            (0, "0 ms", "0 ms"),
            (999, "999 ms", "999 ms"),
            (41_250, "41,2 s", "41.2 s"),
            (200_999, "3 min 20 s", "3 min 20 s"),
            (3_900_000, "1 h 05 min", "1 h 05 min"),
            (3_600_000_000, "1.000 h 00 min", "1,000 h 00 min"),
        ] {
            assert_eq!((portuguese.length(ms), english.length(ms)), (in_portuguese.into(), in_english.into()));
        }
        let day = NaiveDate::from_ymd_opt(2025, 1, 7).expect("a date");
        assert_eq!(
            (portuguese.day(day), english.day(day)),
            ("terça-feira, 07/01/2025".into(), "Tuesday, 2025-01-07".into())
        );
    }
}
