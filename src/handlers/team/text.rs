//! Writes a statement as one database takes it.

use super::Adopted;
use crate::handlers::Dialect;

/// Resolves the marks of a statement. Marks are looked for everywhere, so no literal of a statement may hold one.
pub(super) fn expand(adopted: &Adopted, statement: &str) -> Result<String, String> {
    let mut text = String::with_capacity(statement.len());
    let mut rest = statement;
    while let Some(at) = rest.find('@') {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        rest = mark(adopted, rest, &mut text)?;
    }
    text.push_str(rest);
    Ok(text)
}

/// Writes the mark that `rest` begins with; returns what follows it.
fn mark<'a>(adopted: &Adopted, rest: &'a str, text: &mut String) -> Result<&'a str, String> {
    if let Some(rest) = rest.strip_prefix("@locked") {
        if adopted.dialect == Dialect::Postgres {
            text.push_str("for update skip locked");
        }
        return Ok(rest);
    }
    if let Some(rest) = rest.strip_prefix("@instant(") {
        let (inner, rest) = inside(rest)?;
        let inner = expand(adopted, inner)?;
        text.push_str(&match adopted.dialect {
            Dialect::Postgres => format!("({inner})::timestamptz"),
            Dialect::Sqlite => format!("cast(round(unixepoch({inner}, 'subsec') * 1000) as integer)"),
        });
        return Ok(rest);
    }
    if let Some(rest) = rest.strip_prefix("@optional(") {
        let (inner, rest) = inside(rest)?;
        let (table, column) =
            inner.trim().split_once('.').ok_or_else(|| format!("@optional({inner}) has no column"))?;
        text.push_str(if adopted.has(table, column) { column } else { "null" });
        return Ok(rest);
    }
    if let Some(rest) = rest.strip_prefix("@type(") {
        let (inner, rest) = inside(rest)?;
        let (place, value) = inner.split_once(',').ok_or_else(|| format!("@type({inner}) has no value"))?;
        let value = expand(adopted, value.trim())?;
        let (table, column) = place.trim().split_once('.').ok_or_else(|| format!("@type({inner}) has no column"))?;
        let found = adopted.column(table, column).ok_or_else(|| format!("column {table}.{column} was not found"))?;
        text.push_str(&match adopted.dialect {
            Dialect::Postgres => format!("({value})::{}", found.kind),
            Dialect::Sqlite => value,
        });
        return Ok(rest);
    }
    if let Some(rest) = rest.strip_prefix("@word(") {
        let (inner, rest) = inside(rest)?;
        let (place, word) = inner.split_once(',').ok_or_else(|| format!("@word({inner}) has no word"))?;
        let (table, column) = place.trim().split_once('.').ok_or_else(|| format!("@word({inner}) has no column"))?;
        let word = word.trim();
        adopted.must_know(table, column, &[word]).map_err(|failure| failure.message)?;
        text.push_str(&format!("'{word}'"));
        return Ok(rest);
    }
    // An operator such as `@>`.
    text.push('@');
    Ok(&rest[1..])
}

/// Splits what follows an opening parenthesis at the one that closes it.
fn inside(rest: &str) -> Result<(&str, &str), String> {
    let mut depth = 1;
    for (at, character) in rest.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Ok((&rest[..at], &rest[at + 1..]));
        }
    }
    Err(format!("a mark is not closed: {rest}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::handlers::team::FoundColumn;

    fn adopted(dialect: Dialect) -> Adopted {
        let id = FoundColumn { kind: "uuid".into(), ..FoundColumn::default() };
        Adopted { dialect, tables: BTreeMap::from([("vagas", BTreeMap::from([("id".into(), id)]))]) }
    }

    #[test]
    fn marks_are_written_for_each_database() {
        for (statement, postgres, sqlite) in [
            ("select 1", "select 1", "select 1"),
            ("where id = @type(vagas.id, $1)", "where id = ($1)::uuid", "where id = $1"),
            ("select id @locked", "select id for update skip locked", "select id "),
            ("a @> b", "a @> b", "a @> b"),
            ("set status = @word(vagas.status, aberta)", "set status = 'aberta'", "set status = 'aberta'"),
            ("@optional(vagas.id), @optional(vagas.nome)", "id, null", "id, null"),
            (
                "@instant(coalesce(a, b)) <= @instant($1)",
                "(coalesce(a, b))::timestamptz <= ($1)::timestamptz",
                "cast(round(unixepoch(coalesce(a, b), 'subsec') * 1000) as integer) \
                 <= cast(round(unixepoch($1, 'subsec') * 1000) as integer)",
            ),
        ] {
            assert_eq!(expand(&adopted(Dialect::Postgres), statement).as_deref(), Ok(postgres));
            assert_eq!(expand(&adopted(Dialect::Sqlite), statement).as_deref(), Ok(sqlite));
        }
    }

    #[test]
    fn a_mark_that_cannot_be_resolved_is_told() {
        for (statement, problem) in [
            ("@type(vagas.nome, $1)", "column vagas.nome was not found"),
            ("@type(vagas.id)", "@type(vagas.id) has no value"),
            ("@optional(nome)", "@optional(nome) has no column"),
            ("@instant(a", "a mark is not closed: a"),
        ] {
            assert_eq!(expand(&adopted(Dialect::Sqlite), statement), Err(problem.to_owned()));
        }
    }
}
