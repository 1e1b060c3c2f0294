//! A schedule in words, and what people should be warned of.

use std::time::Duration;

use super::{Rule, Schedule, Text, every};

impl Schedule {
    /// The schedule in words: `every 30 seconds`, `at 08:00 on Monday to Friday (America/Sao_Paulo)`.
    pub fn words(&self) -> String {
        match &self.rule {
            Rule::Every(rule) => {
                let words = |ms| every::words_of(Duration::from_millis(ms as u64));
                match rule.offset_ms {
                    0 => format!("every {}", words(rule.interval_ms)),
                    offset => format!("every {}, {} late", words(rule.interval_ms), words(offset)),
                }
            }
            Rule::Local(local) => {
                let words = match &local.text {
                    Text::Cron(cron) => cron.describe(),
                    Text::At(at) => at.words(),
                };
                format!("{words} ({})", local.zone.name())
            }
        }
    }
}
