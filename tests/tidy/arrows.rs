//! Who imports whom: `crate::x`, `emponto::x` and `super::...::x` anywhere, also in nested trees and inside macros.

use super::source::{Finding, Source};

/// The imports of this file that no arrow allows.
pub fn wrong_imports(source: &Source, arrows: &[(&str, &[&str])]) -> Vec<Finding> {
    // The map in prose declares every room and belongs to none.
    if source.path == "src/lib.rs" {
        return Vec::new();
    }
    let room = source.room();
    let Some((_, allowed)) = arrows.iter().find(|(from, _)| *from == room) else {
        return vec![
            source.finding(1, format!("room {room:?} has no arrows: say in tests/tidy.rs whom it may import")),
        ];
    };
    let imports = [imports_by_name(source), imports_by_super(source)].concat();
    imports.into_iter().filter_map(|(target, line)| judge(source, allowed, target, line)).collect()
}

fn judge(source: &Source, allowed: &[&str], target: &str, line: usize) -> Option<Finding> {
    let room = source.room();
    if matches!(target, "self" | "as" | "*") {
        return Some(source.finding(line, format!("{room} imports the whole crate: name the room it needs")));
    }
    let is_allowed = target == room || allowed.contains(&target);
    let targets = if allowed.is_empty() { "nothing of ours".to_owned() } else { allowed.join(", ") };
    (!is_allowed).then(|| source.finding(line, format!("{room} imports {target}, and may import only: {targets}")))
}

/// `crate::x` and `emponto::x`, one name or a tree of them, and a bare `use crate as x`.
fn imports_by_name(source: &Source) -> Vec<(&str, usize)> {
    let paths = ["crate", "emponto"]
        .into_iter()
        .flat_map(|root| source.find(&[root, "::"]).into_iter().flat_map(|index| source.names_after(index + 2)));
    let renamed = source.find(&["crate", "as"]).into_iter().map(|index| ("as", source.tokens[index].line));
    paths.chain(renamed).collect()
}

/// `super::super::x` that climbs to the crate root.
fn imports_by_super(source: &Source) -> Vec<(&str, usize)> {
    let mut imports = Vec::new();
    let mut climbed = 0;
    for (index, pair) in source.tokens.windows(2).enumerate() {
        if pair[0].text == "super" && pair[1].text == "::" {
            climbed += 1;
            let goes_on = source.tokens.get(index + 2).is_some_and(|next| next.text == "super");
            if !goes_on && source.depth(pair[0].line) <= climbed {
                imports.extend(source.names_after(index + 2));
            }
        } else if pair[0].text != "::" {
            climbed = 0;
        }
    }
    imports
}
