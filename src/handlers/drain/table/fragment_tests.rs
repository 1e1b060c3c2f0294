//! Fragments as teams write them, and those that would change the statement around them.

use super::{Parameter::*, *};

const ALL: [Parameter; 5] = [Now, Replica, RetryAt, Error, StuckBefore];
const BOTH: [Dialect; 2] = [Dialect::Postgres, Dialect::Sqlite];

fn shown(fragment: &Fragment) -> String {
    let pieces = fragment.pieces.iter().map(|piece| match piece {
        Piece::Text(text) => text.clone(),
        Piece::Parameter(parameter) => format!("<{}>", parameter.name()),
    });
    pieces.collect()
}

#[test]
fn parameters_are_found_where_they_are_parameters() {
    for (source, expected) in [
        ("status = 'queued' and available_at <= :now", "status = 'queued' and available_at <= <now>"),
        ("a = ':now' and \":now\" = 1", "a = ':now' and \":now\" = 1"),
        ("a = :NOW /* :error */ and b = 'it''s'", "a = <now> /* :error */ and b = 'it''s'"),
        ("a = ';' -- :error ;\n and b < :now\n-- the end\n", "a = ';' -- :error ;\n and b < <now>"),
        ("(a = 1 or b = ')')", "(a = 1 or b = ')')"),
        ("ação = 'é' and x < :now", "ação = 'é' and x < <now>"),
    ] {
        for dialect in BOTH {
            let fragment = read(source, dialect, Clause::Where, &ALL).expect(source);
            assert_eq!(shown(&fragment), expected, "{dialect:?}");
        }
    }
    let casts = "a < :now::date and v[1:2] = '{}' and x = $$ ; :now ) $$";
    let fragment = read(casts, Dialect::Postgres, Clause::Where, &ALL).expect("casts");
    assert_eq!(shown(&fragment), "a < <now>::date and v[1:2] = '{}' and x = $$ ; :now ) $$");
}

#[test]
fn what_leaves_its_clause_is_refused() {
    for (source, clause, reason) in [
        ("a = 1; drop table b", Clause::Where, "has a semicolon, which ends the statement"),
        ("a = 1) or (b = 2", Clause::Where, "closes a parenthesis too many"),
        ("(a = 1", Clause::Where, "does not close a parenthesis"),
        ("a = (1]", Clause::Where, "closes a bracket too many"),
        ("a = 1 -- and", Clause::Where, "ends in a comment, which would hide the rest of the statement"),
        ("a = 1 /* and", Clause::Where, "line 1: unexpected eof while in a multi-line comment"),
        ("a = 'x", Clause::Where, "line 1: unterminated string literal"),
        ("a = $1", Clause::Where, "has the placeholder \"$1\"; parameters have names"),
        ("", Clause::Where, "is empty"),
        ("  -- nothing\n", Clause::Where, "is empty"),
        ("a = :nwo", Clause::Where, "the parameter :nwo is unknown; did you mean :now?"),
        ("a = :id", Clause::Where, "the parameter :id is unknown; there are :now"),
        (
            "a = 1 where b = 2",
            Clause::Set,
            "has the word \"where\", which begins another clause; put it in parentheses",
        ),
        ("a = 1 from b", Clause::Set, "has the word \"from\", which begins another clause; put it in parentheses"),
        (
            "a = 1 RETURNING *",
            Clause::Set,
            "has the word \"returning\", which begins another clause; put it in parentheses",
        ),
        ("(a, b) = (1, 2)", Clause::Set, "has ( where a column should be: write column = value, ..."),
        ("a = 1,", Clause::Set, "is no list of column = value, ..."),
        ("a", Clause::Set, "is no list of column = value, ..."),
        ("'a' = 1", Clause::Set, "has 'a' where a column should be: write column = value, ..."),
        ("id limit 1", Clause::Order, "has the word \"limit\", which begins another clause; put it in parentheses"),
        ("id for update", Clause::Order, "has the word \"for\", which begins another clause; put it in parentheses"),
    ] {
        for dialect in BOTH {
            let error = read(source, dialect, clause, &ALL).expect_err(source);
            assert!(error.to_lowercase().starts_with(&reason.to_lowercase()), "{source}: {error}");
        }
    }
    let error = read("a = :error", Dialect::Sqlite, Clause::Set, &[Now, Replica]).expect_err("not bound there");
    assert_eq!(error, "the parameter :error has no value here; there are :now, :replica");
}

#[test]
fn the_columns_that_are_set_are_known() {
    let source =
        "Status = 'x, y', \"order\" = coalesce(n, 1), at = :now, n = case when a is distinct from b then 1 end";
    for (dialect, first) in [(Dialect::Postgres, "status"), (Dialect::Sqlite, "Status")] {
        let fragment = read(source, dialect, Clause::Set, &ALL).expect("assignments");

        assert_eq!(fragment.assigned, [first, "order", "at", "n"]);
        assert!(
            fragment.assigns("AT") && !fragment.assigns("a") && fragment.asks_for(Now) && !fragment.asks_for(Error)
        );
    }
}

#[test]
fn columns_beside_an_instant_are_known() {
    for (source, columns) in [
        ("a <= :now and :now > b and c = 1", vec!["a", "b"]),
        ("unixepoch(a) <= unixepoch(:now)", vec![]),
        ("status = 'x' and locked_at < :stuck_before", vec!["locked_at"]),
        ("who = :replica", vec![]),
    ] {
        let fragment = read(source, Dialect::Sqlite, Clause::Where, &ALL).expect(source);

        assert_eq!(fragment.timed, columns, "{source}");
    }
}
