//! The SQL that a team writes for its own table: one clause each, with named parameters, and nothing that leaves the clause.

use sqlparser::tokenizer::{Token, TokenWithSpan, Whitespace};

use super::name;
use crate::handlers::{
    Dialect,
    sql::script::{Cursor, bare_word, tokens},
};

/// What a fragment may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::handlers::drain) enum Parameter {
    /// The instant of the statement.
    Now,
    /// Who has claimed: one per process.
    Replica,
    /// When a row may be tried again.
    RetryAt,
    /// What went wrong, in words.
    Error,
    /// What was claimed before is stuck.
    StuckBefore,
}

impl Parameter {
    const ALL: [(&str, Self); 5] = [
        ("now", Self::Now),
        ("replica", Self::Replica),
        ("retry_at", Self::RetryAt),
        ("error", Self::Error),
        ("stuck_before", Self::StuckBefore),
    ];

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, parameter)| parameter)
    }

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, parameter)| *parameter == self).map_or("", |(name, _)| name)
    }

    /// It stands for an instant.
    pub fn is_time(self) -> bool {
        matches!(self, Self::Now | Self::RetryAt | Self::StuckBefore)
    }
}

/// Which clause a fragment fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::handlers::drain) enum Clause {
    /// A condition; it is put between parentheses.
    Where,
    /// `column = value, ...`
    Set,
    /// What `order by` sorts by.
    Order,
}

impl Clause {
    /// Words that would end the clause, outside of parentheses. A condition stands between parentheses and has none.
    fn ended_by(self) -> &'static [&'static str] {
        match self {
            Self::Where => &[],
            Self::Set => &["where", "returning", "from", "order", "limit", "set"],
            Self::Order => &["limit", "offset", "fetch", "for", "returning", "where", "union", "except", "intersect"],
        }
    }
}

/// A fragment that was read.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::handlers::drain) struct Fragment {
    pub pieces: Vec<Piece>,
    /// The columns that a `Set` assigns, each once, as the database knows them.
    pub assigned: Vec<String>,
    /// Columns that are compared with or set to a parameter that is an instant.
    pub timed: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub(in crate::handlers::drain) enum Piece {
    Text(String),
    Parameter(Parameter),
}

impl Fragment {
    pub fn asks_for(&self, parameter: Parameter) -> bool {
        self.pieces.contains(&Piece::Parameter(parameter))
    }

    pub fn assigns(&self, column: &str) -> bool {
        self.assigned.iter().any(|assigned| assigned.eq_ignore_ascii_case(column))
    }
}

/// Reads a fragment that may ask for `allowed`. The error says what is wrong with it, and not where it stands.
pub(in crate::handlers::drain) fn read(
    source: &str,
    dialect: Dialect,
    clause: Clause,
    allowed: &[Parameter],
) -> Result<Fragment, String> {
    let tokens = tokens(source, dialect)?;
    closes_itself(&tokens, clause)?;
    let meant: Vec<&TokenWithSpan> = tokens.iter().filter(|token| is_meant(&token.token)).collect();
    let (Some(first), Some(last)) = (meant.first(), meant.last()) else {
        return Err("is empty".into());
    };
    let mut cursor = Cursor::new(source);
    cursor.skip_to(first.span.start);
    let mut pieces = Vec::new();
    let mut brackets = 0_u32;
    for pair in meant.windows(2) {
        match &pair[0].token {
            Token::LBracket => brackets += 1,
            Token::RBracket => brackets = brackets.saturating_sub(1),
            Token::Colon => {
                let Some(name) = bare_word(&pair[1].token) else { continue };
                let parameter = match Parameter::named(&name) {
                    Some(parameter) => parameter,
                    // `numbers[low:high]` is a slice.
                    None if 0 < brackets => continue,
                    None => return Err(unknown(&name, allowed)),
                };
                if !allowed.contains(&parameter) {
                    return Err(format!("the parameter :{name} has no value here; there are {}", listed(allowed)));
                }
                pieces.push(Piece::Text(cursor.skip_to(pair[0].span.start).to_owned()));
                pieces.push(Piece::Parameter(parameter));
                cursor.skip_to(pair[1].span.end);
            }
            _ => {}
        }
    }
    pieces.push(Piece::Text(cursor.skip_to(last.span.end).to_owned()));
    let assigned = if clause == Clause::Set { assigned(&meant, dialect)? } else { Vec::new() };
    Ok(Fragment { pieces, assigned, timed: timed(&meant, dialect) })
}

fn is_meant(token: &Token) -> bool {
    !matches!(token, Token::Whitespace(_) | Token::EOF)
}

/// Refuses what would change the statement around the fragment.
fn closes_itself(tokens: &[TokenWithSpan], clause: Clause) -> Result<(), String> {
    let mut open: Vec<&Token> = Vec::new();
    let mut before = String::new();
    for token in tokens {
        match &token.token {
            Token::SemiColon => return Err("has a semicolon, which ends the statement".into()),
            Token::Placeholder(text) => return Err(format!("has the placeholder {text:?}; parameters have names")),
            token @ (Token::LParen | Token::LBracket | Token::LBrace) => open.push(token),
            Token::RParen if open.pop() != Some(&Token::LParen) => return Err("closes a parenthesis too many".into()),
            Token::RBracket if open.pop() != Some(&Token::LBracket) => return Err("closes a bracket too many".into()),
            Token::RBrace if open.pop() != Some(&Token::LBrace) => return Err("closes a brace too many".into()),
            token => {
                let Some(word) = bare_word(token) else { continue };
                let ends = open.is_empty() && clause.ended_by().contains(&word.as_str());
                // `is distinct from` compares.
                if ends && !(word == "from" && before == "distinct") {
                    return Err(format!("has the word {word:?}, which begins another clause; put it in parentheses"));
                }
                before = word;
            }
        }
    }
    if !open.is_empty() {
        return Err("does not close a parenthesis".into());
    }
    match tokens.iter().rfind(|token| token.token != Token::EOF).map(|token| &token.token) {
        Some(Token::Whitespace(Whitespace::SingleLineComment { comment, .. })) if !comment.ends_with('\n') => {
            Err("ends in a comment, which would hide the rest of the statement".into())
        }
        _ => Ok(()),
    }
}

/// The columns on the left of each `=`.
fn assigned(meant: &[&TokenWithSpan], dialect: Dialect) -> Result<Vec<String>, String> {
    let mut columns: Vec<String> = Vec::new();
    let mut depth = 0_u32;
    let mut is_first = true;
    for token in meant {
        match &token.token {
            Token::LParen | Token::LBracket if !is_first => depth += 1,
            Token::RParen | Token::RBracket if !is_first => depth = depth.saturating_sub(1),
            Token::Comma if depth == 0 => {
                is_first = true;
                continue;
            }
            Token::Word(word) if is_first => {
                let column = name::as_known(word, dialect);
                if !columns.contains(&column) {
                    columns.push(column);
                }
            }
            other if is_first => {
                return Err(format!("has {other} where a column should be: write column = value, ..."));
            }
            _ => {}
        }
        is_first = false;
    }
    let assignments = meant.iter().filter(|token| token.token == Token::Eq).count();
    if is_first || assignments < columns.len() {
        return Err("is no list of column = value, ...".into());
    }
    Ok(columns)
}

/// Columns that stand beside a parameter that is an instant: `column <= :now`, `:now < column`, `column = :retry_at`.
fn timed(meant: &[&TokenWithSpan], dialect: Dialect) -> Vec<String> {
    let is_comparison =
        |token: &Token| matches!(token, Token::Eq | Token::Lt | Token::LtEq | Token::Gt | Token::GtEq | Token::Neq);
    let is_time = |colon: &Token, name: &Token| {
        *colon == Token::Colon
            && bare_word(name).and_then(|name| Parameter::named(&name)).is_some_and(Parameter::is_time)
    };
    let column = |token: &Token| match token {
        Token::Word(word) => Some(name::as_known(word, dialect)),
        _ => None,
    };
    let mut columns: Vec<String> = Vec::new();
    for four in meant.windows(4) {
        let [a, b, c, d] = [&four[0].token, &four[1].token, &four[2].token, &four[3].token];
        let found = match (is_comparison(b) && is_time(c, d), is_time(a, b) && is_comparison(c)) {
            (true, _) => column(a),
            (_, true) => column(d),
            _ => None,
        };
        columns.extend(found.filter(|column| !columns.contains(column)));
    }
    columns
}

fn unknown(name: &str, allowed: &[Parameter]) -> String {
    let near = allowed.iter().map(|known| (strsim::damerau_levenshtein(name, known.name()), known.name()));
    match near.min() {
        Some((distance, known)) if distance <= 2 => {
            format!("the parameter :{name} is unknown; did you mean :{known}?")
        }
        _ => format!("the parameter :{name} is unknown; there are {}", listed(allowed)),
    }
}

fn listed(allowed: &[Parameter]) -> String {
    let names: Vec<String> = allowed.iter().map(|parameter| format!(":{}", parameter.name())).collect();
    names.join(", ")
}

#[cfg(test)]
#[path = "fragment_tests.rs"]
mod tests;
