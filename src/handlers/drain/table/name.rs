//! Names of a team's table and columns: read once, and always written in quotes.

use sqlparser::tokenizer::{Token, Word};

use crate::handlers::{Dialect, sql::script::tokens};

/// PostgreSQL cuts longer names; so they cannot be what a table is called.
const MAX_NAME_BYTES: usize = 63;

/// A table, perhaps with its schema.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::handlers::drain) struct Table {
    pub schema: Option<String>,
    pub name: String,
}

impl Table {
    /// Reads `name`, `schema.name`, or either in double quotes.
    pub fn read(text: &str) -> Result<Self, String> {
        match parts(text)?.as_slice() {
            [name] => Ok(Self { schema: None, name: name.clone() }),
            [schema, name] => Ok(Self { schema: Some(schema.clone()), name: name.clone() }),
            _ => Err(format!("{text:?} is not the name of a table: write table, or schema.table")),
        }
    }

    /// As statements name it.
    pub fn quoted(&self) -> String {
        let schema = self.schema.as_ref().map(|schema| format!("{}.", quoted(schema))).unwrap_or_default();
        format!("{schema}{}", quoted(&self.name))
    }
}

/// Reads the name of one column.
pub(in crate::handlers::drain) fn column(text: &str) -> Result<String, String> {
    match parts(text)?.as_slice() {
        [name] => Ok(name.clone()),
        _ => Err(format!("{text:?} is not the name of a column")),
    }
}

/// A name in double quotes, which both databases take for a name and nothing else.
pub(in crate::handlers::drain) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The name that a word in SQL stands for: PostgreSQL folds what is not quoted.
pub(in crate::handlers::drain) fn as_known(word: &Word, dialect: Dialect) -> String {
    match (dialect, word.quote_style) {
        (Dialect::Postgres, None) => word.value.to_lowercase(),
        _ => word.value.clone(),
    }
}

/// The parts of a dotted name, as they are called in the database. Unlike in SQL nothing is folded: a setting names what
/// is there.
fn parts(text: &str) -> Result<Vec<String>, String> {
    let wrong = || format!("{text:?} is not a name: letters, digits and _, or anything in double quotes");
    let tokens = tokens(text, Dialect::Postgres).map_err(|_| wrong())?;
    let mut parts = Vec::new();
    for (index, token) in tokens.iter().filter(|token| token.token != Token::EOF).enumerate() {
        match (&token.token, index % 2) {
            (Token::Word(word), 0) => parts.push(word.value.replace("\"\"", "\"")),
            (Token::Period, 1) => {}
            _ => return Err(wrong()),
        }
    }
    let is_wrong = |part: &String| part.is_empty() || MAX_NAME_BYTES < part.len() || part.contains('\0');
    let dots = tokens.iter().filter(|token| token.token == Token::Period).count();
    if parts.is_empty() || parts.len() != dots + 1 || parts.iter().any(is_wrong) {
        return Err(wrong());
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_quoted() {
        for (text, quoted) in [
            ("queue_profile", "\"queue_profile\""),
            ("public.queue_profile", "\"public\".\"queue_profile\""),
            ("order", "\"order\""),
            ("\"Fila de Espera\"", "\"Fila de Espera\""),
            ("\"a.b\".\"c\"\"d\"", "\"a.b\".\"c\"\"d\""),
            ("ação", "\"ação\""),
        ] {
            assert_eq!(Table::read(text).map(|table| table.quoted()).as_deref(), Ok(quoted), "{text}");
        }
        for text in ["", " ", "a b", "a;drop table b", "a.b.c", ".a", "a.", "a--b", "'a'", "1a", "\"\"", "a)", "a\0b"] {
            assert!(Table::read(text).is_err(), "{text}");
        }
        assert!(Table::read(&"x".repeat(64)).is_err());
        assert_eq!(column("select").as_deref(), Ok("select"));
        assert!(column("a.b").is_err());
    }
}
