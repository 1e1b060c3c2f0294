//! Whether a team's own enumerations have the words that a handler writes.

use super::Adopted;
use crate::domain::run::Failure;

/// Words that a handler writes: table, column, words.
pub type Words = (&'static str, &'static str, &'static [&'static str]);

/// A statement that is refused, with the remedy, where an enumeration lacks one of these words; for `workers check`.
pub fn as_statement(words: &[Words]) -> String {
    let marks = words
        .iter()
        .flat_map(|(table, column, words)| words.iter().map(move |word| format!("@word({table}.{column}, {word})")));
    format!("select {}", marks.collect::<Vec<_>>().join(", "))
}

impl Adopted {
    /// As `must_know`, for all words of a handler.
    pub fn must_know_all(&self, words: &[Words]) -> Result<(), Failure> {
        words.iter().try_for_each(|(table, column, words)| self.must_know(table, column, words))
    }

    /// Fails, naming the statements that add them, when a column is an enumeration without some of these words. A column
    /// of another type, and one that is not there, takes any word.
    pub fn must_know(&self, table: &str, column: &str, words: &[&str]) -> Result<(), Failure> {
        let Some(found) = self.column(table, column).filter(|found| !found.labels.is_empty()) else { return Ok(()) };
        let missing: Vec<_> = words.iter().filter(|word| !found.labels.iter().any(|label| label == *word)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let kind = &found.kind;
        let additions: Vec<_> = missing.iter().map(|word| format!("alter type {kind} add value '{word}'")).collect();
        let names: Vec<_> = missing.iter().map(|word| format!("{word:?}")).collect();
        let (names, additions) = (names.join(", "), additions.join("; "));
        Err(Failure::permanent(format!("column {table}.{column} does not know {names}; add with: {additions}")))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::handlers::{Dialect, team::FoundColumn};

    fn adopted(labels: &[&str]) -> Adopted {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        let status = FoundColumn { kind: "vaga_status".into(), labels, ..FoundColumn::default() };
        let vagas = BTreeMap::from([("status".into(), status)]);
        Adopted { dialect: Dialect::Postgres, tables: BTreeMap::from([("vagas", vagas)]) }
    }

    #[test]
    fn words_that_an_enumeration_lacks_are_told_with_the_statements_that_add_them() {
        let words = ["aberta", "reservada", "paga"];
        for known in [adopted(&[]), adopted(&["aberta", "paga", "reservada", "outra"])] {
            assert_eq!(known.must_know("vagas", "status", &words), Ok(()));
            assert_eq!(known.must_know("vagas", "tipo", &words), Ok(()));
        }
        assert_eq!(
            adopted(&["aberta"]).must_know("vagas", "status", &words).map_err(|failure| failure.message),
            Err("column vagas.status does not know \"reservada\", \"paga\"; add with: alter type vaga_status add value \
                 'reservada'; alter type vaga_status add value 'paga'"
                .to_owned())
        );
    }
}
