//! The word that was probably meant.

/// Longest list of possible words that a help line spells out.
const MAX_LISTED: usize = 12;

/// The nearest of the known words, when it is near enough to be a slip of the hand.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let most = (word.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|candidate| (strsim::osa_distance(&word, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, candidate)| candidate)
}

/// A help line for an unknown word: the nearest one, else the list of all.
pub fn help(word: &str, known: &[&str], kind: &str) -> String {
    if let Some(near) = nearest(word, known.iter().copied()) {
        return format!("did you mean `{near}`?");
    }
    match known.len() {
        0 => format!("no {kind} are known here"),
        count if count <= MAX_LISTED => format!("the {kind} are {}", listed(known)),
        count => {
            format!("there are {count} {kind}, see docs/jobs-toml.md; among them {}", listed(&known[..MAX_LISTED]))
        }
    }
}

/// The words in backquotes, with commas.
pub fn listed(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}
