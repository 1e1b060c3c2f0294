//! What recruiters and doctors are told: templates with a few places to fill in.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Places that a template may have.
const PLACES: [&str; 3] = ["nome", "vaga", "prazo"];
/// Longest template, in characters: what messengers carry in one message.
const MOST_CHARS: usize = 4_096;
/// Longest name or title that is filled in, in characters.
const MOST_CHARS_FILLED_IN: usize = 100;

/// `texts` of `run.handoffs`. Each may hold `{nome}`, `{vaga}` and `{prazo}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Texts {
    /// The recruiter, 2 h after the handoff was made.
    pub followup_1: String,
    /// The recruiter, after 24 h.
    pub followup_2: String,
    /// The recruiter, after 36 h.
    pub followup_3: String,
    /// The doctor, when the reservation has ended without an answer.
    pub expired: String,
}

impl Default for Texts {
    fn default() -> Self {
        Self {
            followup_1: "Olá, {nome}! Tudo bem? Consegue confirmar a vaga de {vaga}? A reserva vale até {prazo}."
                .into(),
            followup_2:
                "Olá, {nome}! Passando para saber da vaga de {vaga}: está confirmada? A reserva vale até {prazo}."
                    .into(),
            followup_3: "Olá, {nome}! Última mensagem sobre a vaga de {vaga}: sem confirmação até {prazo}, a reserva \
                         será desfeita."
                .into(),
            expired: "Olá, {nome}! A vaga de {vaga} não foi confirmada a tempo e a reserva foi desfeita. Se ainda \
                      houver interesse, é só responder esta mensagem."
                .into(),
        }
    }
}

/// What stands in the places.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Filling {
    pub nome: String,
    pub vaga: String,
    pub prazo: String,
}

impl Texts {
    /// What is wrong with them, one message per mistake.
    pub fn check(&self) -> Vec<String> {
        let named = [
            ("followup_1", &self.followup_1),
            ("followup_2", &self.followup_2),
            ("followup_3", &self.followup_3),
            ("expired", &self.expired),
        ];
        named.into_iter().filter_map(|(name, text)| Some(format!("texts.{name} {}", mistake(text)?))).collect()
    }

    /// The text of the follow-up with this number.
    pub(super) fn followup(&self, number: i64) -> &str {
        match number {
            1 => &self.followup_1,
            2 => &self.followup_2,
            _ => &self.followup_3,
        }
    }
}

impl Filling {
    /// The template with its places filled in. What is filled in is never read as a template.
    pub fn filled_into(&self, template: &str) -> String {
        let mut text = String::with_capacity(template.len());
        let mut rest = template;
        while let Some((before, place, after)) = next_place(rest) {
            text.push_str(before);
            match place {
                "nome" => text.push_str(&shortened(&self.nome)),
                "vaga" => text.push_str(&shortened(&self.vaga)),
                _ => text.push_str(&self.prazo),
            }
            rest = after;
        }
        text.push_str(rest);
        text
    }
}

/// What stands before the next place, its name, and what follows it.
fn next_place(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once('{')?;
    let (place, after) = rest.split_once('}')?;
    Some((before, place, after))
}

fn mistake(template: &str) -> Option<String> {
    if template.trim().is_empty() {
        return Some("is empty".into());
    }
    let length = template.chars().count();
    if MOST_CHARS < length {
        return Some(format!("has {length} characters, and {MOST_CHARS} are the most"));
    }
    let mut rest = template;
    while let Some((before, place, after)) = next_place(rest) {
        if before.contains('}') {
            break;
        }
        if !PLACES.contains(&place) {
            return Some(format!("has the unknown place {{{place}}}; there are {{nome}}, {{vaga}} and {{prazo}}"));
        }
        rest = after;
    }
    rest.contains(['{', '}']).then(|| "has a brace without its other half".into())
}

fn shortened(text: &str) -> String {
    text.trim().chars().take(MOST_CHARS_FILLED_IN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_filled_in_once() {
        let filling = Filling { nome: " {vaga} ".into(), vaga: "x".repeat(200), prazo: "23/11 às 14:00".into() };

        assert_eq!(filling.filled_into("{nome}, {prazo}: {nome}!"), "{vaga}, 23/11 às 14:00: {vaga}!");
        assert_eq!(filling.filled_into("{vaga}").len(), MOST_CHARS_FILLED_IN);
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(Texts::default().check(), Vec::<String>::new());
        for (text, words) in [
            (" ".to_owned(), "is empty"),
            ("x".repeat(4_097), "has 4097 characters, and 4096 are the most"),
            ("{nome} {hospital}".to_owned(), "has the unknown place {hospital}; there are {nome}, {vaga} and {prazo}"),
            ("{nome".to_owned(), "has a brace without its other half"),
            ("nome} {vaga}".to_owned(), "has a brace without its other half"),
            ("{nome}}".to_owned(), "has a brace without its other half"),
            ("{{nome}}".to_owned(), "has the unknown place {{nome}; there are {nome}, {vaga} and {prazo}"),
        ] {
            let texts = Texts { followup_2: text, ..Texts::default() };
            assert_eq!(texts.check(), [format!("texts.followup_2 {words}")]);
        }
    }
}
