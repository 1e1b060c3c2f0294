//! Splits a text into statements and finds their parameters, with a tokenizer, so that quotes, `$$`, comments and
//! `::casts` are what they are.

use sqlparser::{
    dialect::{PostgreSqlDialect, SQLiteDialect},
    tokenizer::{Location, Token, TokenWithSpan, Tokenizer},
};

use crate::handlers::Dialect;

/// What a statement may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parameter {
    RunId,
    ScheduledFor,
    Now,
    Payload,
}

impl Parameter {
    const ALL: [(&str, Self); 4] = [
        ("run_id", Self::RunId),
        ("scheduled_for", Self::ScheduledFor),
        ("now", Self::Now),
        ("payload", Self::Payload),
    ];

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, parameter)| parameter)
    }
}

/// One statement, ready to be prepared.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Prepared {
    /// Parameters are `$1`, `$2`, ...
    pub text: String,
    /// What `$1`, `$2`, ... stand for.
    pub parameters: Vec<Parameter>,
    /// Where it begins, from 1.
    pub line: u64,
    /// It reads (`select`, `with`, `values`): the number in the first column of its first row counts its items.
    pub is_query: bool,
    /// It has a word that changes rows (`insert`, `update`, `delete`, `merge`, `replace`).
    pub changes: bool,
}

/// Splits and binds; or one message per mistake, each with its line.
pub(super) fn compile(source: &str, dialect: Dialect) -> Result<Vec<Prepared>, Vec<String>> {
    let tokens = tokens(source, dialect).map_err(|error| vec![error])?;
    let mut statements = Vec::new();
    let mut errors = Vec::new();
    let mut cursor = Cursor::new(source);
    for piece in tokens.split(|token| token.token == Token::SemiColon) {
        let is_meant = |token: &&TokenWithSpan| !matches!(token.token, Token::Whitespace(_) | Token::EOF);
        let Some(first) = piece.iter().find(is_meant) else { continue };
        let last = piece.iter().rfind(is_meant).expect("a piece with a first token has a last one");
        match refusal(piece) {
            Some(reason) => errors.push(format!("line {}: {reason}", first.span.start.line)),
            None => match bind(piece, &mut cursor, (first.span.start, last.span.end)) {
                Ok(prepared) => statements.push(prepared),
                Err(error) => errors.push(error),
            },
        }
    }
    if statements.is_empty() && errors.is_empty() {
        errors.push("no statement".into());
    }
    if errors.is_empty() { Ok(statements) } else { Err(errors) }
}

/// The tokens of a text, white space and comments included; the error names its line.
pub(in crate::handlers) fn tokens(source: &str, dialect: Dialect) -> Result<Vec<TokenWithSpan>, String> {
    let tokens = match dialect {
        Dialect::Postgres => Tokenizer::new(&PostgreSqlDialect {}, source).tokenize_with_location(),
        Dialect::Sqlite => Tokenizer::new(&SQLiteDialect {}, source).tokenize_with_location(),
    };
    tokens.map_err(|error| format!("line {}: {}", error.location.line, error.message.to_lowercase()))
}

/// Why a statement cannot run inside the transaction that it shares with the settlement of its run.
fn refusal(piece: &[TokenWithSpan]) -> Option<String> {
    let words: Vec<String> = piece.iter().filter_map(|token| bare_word(&token.token)).collect();
    let first = words.first().map_or("", String::as_str);
    let second = words.get(1).map_or("", String::as_str);
    match (first, second) {
        ("begin" | "start" | "commit" | "end" | "rollback" | "abort" | "savepoint" | "release", _)
        | ("prepare" | "set", "transaction") => {
            Some(format!("{first:?} is refused: the statements run in one transaction, which the daemon commits"))
        }
        ("vacuum" | "attach" | "detach", _) => Some(format!("{first:?} is refused: it cannot run in a transaction")),
        ("set", second) if second != "local" => {
            Some("\"set\" is refused: it would outlive the run in a shared connection; write \"set local\"".into())
        }
        ("copy", _) if words.iter().any(|word| word == "stdin" || word == "stdout") => {
            Some("\"copy\" from or to the client is refused: there is none".into())
        }
        _ if words.iter().any(|word| word == "concurrently") => {
            Some("\"concurrently\" is refused: it cannot run in a transaction".into())
        }
        _ => piece.iter().find_map(|token| match &token.token {
            Token::Placeholder(text) => {
                Some(format!("the parameter {text:?} is unknown; there are :run_id, :scheduled_for, :now and :payload"))
            }
            _ => None,
        }),
    }
}

/// A keyword or an unquoted name, in lower case.
pub(in crate::handlers) fn bare_word(token: &Token) -> Option<String> {
    match token {
        Token::Word(word) if word.quote_style.is_none() => Some(word.value.to_ascii_lowercase()),
        _ => None,
    }
}

/// Copies a statement and puts `$n` in the place of each `:name`.
fn bind(piece: &[TokenWithSpan], cursor: &mut Cursor<'_>, span: (Location, Location)) -> Result<Prepared, String> {
    let (start, end) = span;
    cursor.skip_to(start);
    let mut text = String::new();
    let mut parameters: Vec<Parameter> = Vec::new();
    let mut brackets = 0_u32;
    for pair in piece.windows(2) {
        match &pair[0].token {
            Token::LBracket => brackets += 1,
            Token::RBracket => brackets = brackets.saturating_sub(1),
            Token::Colon => {
                let Some(name) = bare_word(&pair[1].token) else { continue };
                let Some(parameter) = Parameter::named(&name) else {
                    // `numbers[low:high]` is a slice.
                    if 0 < brackets {
                        continue;
                    }
                    return Err(unknown(&name, pair[0].span.start.line));
                };
                let known = parameters.iter().position(|known| *known == parameter);
                let index = known.unwrap_or_else(|| {
                    parameters.push(parameter);
                    parameters.len() - 1
                });
                text.push_str(cursor.skip_to(pair[0].span.start));
                text.push_str(&format!("${}", index + 1));
                cursor.skip_to(pair[1].span.end);
            }
            _ => {}
        }
    }
    text.push_str(cursor.skip_to(end));
    let words: Vec<String> = piece.iter().filter_map(|token| bare_word(&token.token)).collect();
    let is_query = words.first().is_some_and(|word| ["select", "with", "values"].contains(&word.as_str()));
    let changes = words.iter().any(|word| ["insert", "update", "delete", "merge", "replace"].contains(&word.as_str()));
    Ok(Prepared { text, parameters, line: start.line, is_query, changes })
}

fn unknown(name: &str, line: u64) -> String {
    let near = Parameter::ALL.iter().map(|(known, _)| (strsim::damerau_levenshtein(name, known), known));
    let hint = match near.min() {
        Some((distance, known)) if distance <= 2 => format!("; did you mean :{known}?"),
        _ => "; there are :run_id, :scheduled_for, :now and :payload".into(),
    };
    format!("line {line}: the parameter :{name} is unknown{hint}")
}

/// Turns the tokenizer's lines and columns, which count characters, into places in the text.
pub(in crate::handlers) struct Cursor<'a> {
    source: &'a str,
    offset: usize,
    at: Location,
}

impl<'a> Cursor<'a> {
    pub fn new(source: &'a str) -> Self {
        Self { source, offset: 0, at: Location::new(1, 1) }
    }

    /// Moves on to a place and gives back the text on the way.
    pub fn skip_to(&mut self, place: Location) -> &'a str {
        let start = self.offset;
        for c in self.source[start..].chars() {
            if place <= self.at {
                break;
            }
            self.offset += c.len_utf8();
            self.at = if c == '\n' {
                Location::new(self.at.line + 1, 1)
            } else {
                Location::new(self.at.line, self.at.column + 1)
            };
        }
        &self.source[start..self.offset]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiled(source: &str, dialect: Dialect) -> Vec<(String, Vec<Parameter>)> {
        let statements = compile(source, dialect).expect(source);
        statements.into_iter().map(|statement| (statement.text, statement.parameters)).collect()
    }

    #[test]
    fn parameters_are_found_where_they_are_parameters() {
        use Parameter::{Now, Payload, RunId, ScheduledFor};
        for (source, text, parameters) in [
            ("select 1", "select 1", vec![]),
            ("select :now", "select $1", vec![Now]),
            ("select :NOW, :run_id, :now", "select $1, $2, $1", vec![Now, RunId]),
            ("select :payload::jsonb->>'a'", "select $1::jsonb->>'a'", vec![Payload]),
            ("select '2025-01-01'::date", "select '2025-01-01'::date", vec![]),
            ("select ':now', \":now\"", "select ':now', \":now\"", vec![]),
            ("select 'it''s :now', :now", "select 'it''s :now', $1", vec![Now]),
            ("select /* :now ; */ 1 -- :now ;", "select /* :now ; */ 1", vec![]),
            ("-- a: b\nselect :scheduled_for", "select $1", vec![ScheduledFor]),
            ("select 'ação', :now, 'é'", "select 'ação', $1, 'é'", vec![Now]),
            ("select\r\n:now\r\n,2", "select\r\n$1\r\n,2", vec![Now]),
            ("select(:now)", "select($1)", vec![Now]),
        ] {
            for dialect in [Dialect::Postgres, Dialect::Sqlite] {
                assert_eq!(compiled(source, dialect), [(text.to_owned(), parameters.clone())], "{source} {dialect:?}");
            }
        }
        for (source, text, parameters) in [
            ("do $$ begin x := 1; perform ':now'; end $$", "do $$ begin x := 1; perform ':now'; end $$", vec![]),
            ("select $a$ :now; $a$, :now", "select $a$ :now; $a$, $1", vec![Now]),
            ("select e'\\':now', :now", "select e'\\':now', $1", vec![Now]),
            ("select v[1:2], v[low:high], array[:now]", "select v[1:2], v[low:high], array[$1]", vec![Now]),
            ("select j ? 'a', j @> :payload", "select j ? 'a', j @> $1", vec![Payload]),
            ("select /* a /* nested */ :now */ 1", "select /* a /* nested */ :now */ 1", vec![]),
        ] {
            assert_eq!(compiled(source, Dialect::Postgres), [(text.to_owned(), parameters)], "{source}");
        }
    }

    #[test]
    fn statements_are_split_and_know_their_line() {
        let source = "select 1;\n\n;-- nothing; here\nupdate t\n set a = ';' where b < :now ;\n";

        let statements = compile(source, Dialect::Postgres).expect("two statements");

        let found: Vec<_> = statements.iter().map(|it| (it.line, it.is_query, it.text.as_str())).collect();
        assert_eq!(found, [(1, true, "select 1"), (4, false, "update t\n set a = ';' where b < $1")]);
    }

    #[test]
    fn what_cannot_share_a_transaction_is_refused() {
        for (source, message) in [
            (
                "BEGIN; select 1",
                "line 1: \"begin\" is refused: the statements run in one transaction, which the daemon commits",
            ),
            ("start transaction", "line 1: \"start\" is refused"),
            ("select 1;\ncommit", "line 2: \"commit\" is refused"),
            ("end", "line 1: \"end\" is refused"),
            ("rollback to x", "line 1: \"rollback\" is refused"),
            ("savepoint x", "line 1: \"savepoint\" is refused"),
            ("set transaction read only", "line 1: \"set\" is refused"),
            ("prepare transaction 'x'", "line 1: \"prepare\" is refused"),
            ("set search_path = x", "line 1: \"set\" is refused: it would outlive the run"),
            ("/* tidy */ vacuum full t", "line 1: \"vacuum\" is refused"),
            ("create index concurrently i on t (a)", "line 1: \"concurrently\" is refused"),
            ("copy t from stdin", "line 1: \"copy\" from or to the client is refused"),
            ("select $1", "line 1: the parameter \"$1\" is unknown"),
            ("select\n:nwo", "line 2: the parameter :nwo is unknown; did you mean :now?"),
            ("select :tenant", "line 1: the parameter :tenant is unknown; there are :run_id"),
            ("select 'open", "line 1: unterminated string literal"),
            (" ; -- nothing", "no statement"),
            ("", "no statement"),
        ] {
            let errors = compile(source, Dialect::Postgres).expect_err(source);

            assert!(errors.iter().any(|error| error.contains(message)), "{source}: {errors:?}");
        }
        let errors = compile("select ?", Dialect::Sqlite).expect_err("a bare placeholder");
        assert!(errors[0].contains("the parameter \"?\" is unknown"), "{errors:?}");
        for allowed in
            ["set local work_mem = '1MB'", "select \"begin\"", "update t set vacuum = 1", "select 'concurrently'"]
        {
            assert!(compile(allowed, Dialect::Postgres).is_ok(), "{allowed}");
        }
    }

    #[test]
    fn every_mistake_is_reported() {
        let errors = compile("begin;\nselect :x;\nvacuum", Dialect::Postgres).expect_err("three mistakes");

        assert_eq!(errors.len(), 3, "{errors:?}");
    }
}
