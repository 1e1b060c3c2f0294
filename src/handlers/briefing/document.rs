//! A briefing as text: what counts as the same text, and the sections that it falls into.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

/// Characters of the text that the log keeps (spec 6); the hash is over all of it.
pub const KEPT_CHARS: usize = 5_000;
/// Sections of one document at most.
pub const MOST_SECTIONS: usize = 100;
/// Characters of one section at most. A rule that is cut may say the opposite, so nothing is cut.
pub const MOST_SECTION_CHARS: usize = 20_000;
/// Characters of a key at most.
const MOST_KEY_CHARS: usize = 80;
/// Characters of a title that are kept.
const MOST_TITLE_CHARS: usize = 200;
/// The key of what stands before the first heading, and of a document without any.
const UNTITLED: &str = "briefing";
/// Headings of this level and above begin a section; deeper ones belong to its text.
const DEEPEST_HEADING: usize = 2;

/// A document that may be stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// The first heading.
    pub title: Option<String>,
    /// SHA-256 of the whole text, as hexadecimal digits.
    pub hash: String,
    /// The beginning of the text.
    pub kept: String,
    /// In the order of the document.
    pub sections: Vec<Section>,
}

/// A part of a document that is kept by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Section {
    pub key: String,
    pub text: String,
}

/// Why a text cannot be stored.
#[derive(Debug, Clone, PartialEq)]
pub enum Unfit {
    Empty,
    /// What it is or has, after "the document".
    Not(String),
}

impl Document {
    /// Reads a text. `keys` gives headings a key of the team's; others get one from their words.
    pub fn read(text: &str, keys: &BTreeMap<String, String>) -> Result<Self, Unfit> {
        let text = normalised(text);
        if text.is_empty() {
            return Err(Unfit::Empty);
        }
        let (title, sections) = sections(&text, keys);
        if MOST_SECTIONS < sections.len() {
            return Err(Unfit::Not(format!("has {} sections, more than {MOST_SECTIONS}", sections.len())));
        }
        for Section { key, text } in &sections {
            let length = text.chars().count();
            if MOST_SECTION_CHARS < length {
                let too_long = format!("has {length} characters in section {key:?}, more than {MOST_SECTION_CHARS}");
                return Err(Unfit::Not(too_long));
            }
        }
        if sections.is_empty() {
            return Err(Unfit::Not("has headings and no text".into()));
        }
        let hash = hash(&text);
        Ok(Self { title, hash, kept: text.chars().take(KEPT_CHARS).collect(), sections })
    }
}

/// SHA-256 as hexadecimal digits.
pub fn hash(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What an editor changes by itself is no change: byte order mark, line ends, blanks at the end of lines, blank lines at
/// both ends.
fn normalised(text: &str) -> String {
    let text = text.trim_start_matches('\u{feff}').replace("\r\n", "\n").replace('\r', "\n");
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n").trim_matches('\n').to_owned()
}

/// The title and the sections that have a text. Headings with the same key are one section.
fn sections(text: &str, keys: &BTreeMap<String, String>) -> (Option<String>, Vec<Section>) {
    let keys: BTreeMap<String, &String> = keys.iter().map(|(heading, key)| (slug(heading), key)).collect();
    let mut title = None;
    let mut sections: Vec<Section> = vec![Section { key: UNTITLED.into(), text: String::new() }];
    let mut current = 0;
    let mut fence = None;
    for line in text.lines() {
        fence = fence_after(fence, line);
        let heading = heading(line).filter(|(level, _)| fence.is_none() && *level <= DEEPEST_HEADING);
        let Some((_, words)) = heading else {
            let text = &mut sections[current].text;
            text.push_str(line);
            text.push('\n');
            continue;
        };
        title.get_or_insert_with(|| words.chars().take(MOST_TITLE_CHARS).collect::<String>());
        let slug = slug(words);
        let key = keys.get(&slug).map_or(slug, |key| (*key).clone());
        current = sections.iter().position(|section| section.key == key).unwrap_or_else(|| {
            sections.push(Section { key, text: String::new() });
            sections.len() - 1
        });
    }
    sections.iter_mut().for_each(|section| section.text = section.text.trim_matches('\n').to_owned());
    sections.retain(|section| !section.text.trim().is_empty());
    (title, sections)
}

/// The level and the words of an ATX heading (CommonMark 4.2), without marks of emphasis around the words.
fn heading(line: &str) -> Option<(usize, &str)> {
    let indent = line.len() - line.trim_start_matches(' ').len();
    let rest = &line[indent..];
    let level = rest.len() - rest.trim_start_matches('#').len();
    let words = &rest[level..];
    let is_heading = indent < 4 && (1..=6).contains(&level) && (words.is_empty() || words.starts_with([' ', '\t']));
    let words = words.trim().trim_end_matches('#').trim().trim_matches(['*', '_']).trim();
    (is_heading && !words.is_empty()).then_some((level, words))
}

/// The mark and length of the code fence that is open after a line (CommonMark 4.5): headings inside of it are text.
fn fence_after(open: Option<(char, usize)>, line: &str) -> Option<(char, usize)> {
    let line = line.trim();
    let mark = line.chars().next().filter(|mark| ['`', '~'].contains(mark));
    let length = mark.map_or(0, |mark| line.chars().take_while(|c| *c == mark).count());
    match (open, mark) {
        (None, Some(mark)) if 3 <= length => Some((mark, length)),
        (Some((mark, least)), Some(found)) if mark == found && least <= length && line.len() == length => None,
        _ => open,
    }
}

/// The key of a heading: its letters and digits in lower case and without accents, all else a single `_`.
fn slug(words: &str) -> String {
    let mut slug = String::new();
    for letter in words.chars().flat_map(char::to_lowercase).map(plain) {
        if letter.is_alphanumeric() {
            slug.push(letter);
        } else if !slug.is_empty() && !slug.ends_with('_') {
            slug.push('_');
        }
    }
    let slug: String = slug.chars().take(MOST_KEY_CHARS).collect();
    let slug = slug.trim_end_matches('_');
    if slug.is_empty() { UNTITLED.into() } else { slug.into() }
}

/// A lower-case letter of Portuguese or Spanish without its accent.
fn plain(letter: char) -> char {
    match letter {
        'á' | 'à' | 'â' | 'ã' | 'ä' => 'a',
        'é' | 'è' | 'ê' | 'ë' => 'e',
        'í' | 'ì' | 'î' | 'ï' => 'i',
        'ó' | 'ò' | 'ô' | 'õ' | 'ö' => 'o',
        'ú' | 'ù' | 'û' | 'ü' => 'u',
        'ç' => 'c',
        'ñ' => 'n',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Document {
        Document::read(text, &BTreeMap::new()).expect("a document")
    }

    fn keys_and_texts(text: &str) -> Vec<(String, String)> {
        read(text).sections.into_iter().map(|section| (section.key, section.text)).collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn a_document_falls_into_sections_at_its_upper_headings() {
        for (text, expected) in [
            ("no heading at all", &[("briefing", "no heading at all")][..]),
            (
                "# Briefing da semana\n\n## Foco\nPlantões\n\n## Tom de voz\nLeve",
                &[("foco", "Plantões"), ("tom_de_voz", "Leve")],
            ),
            ("before\n# Um\n1", &[("briefing", "before"), ("um", "1")]),
            ("# Um\nintro\n### Detalhe\nfundo\n## Dois\n2", &[("um", "intro\n### Detalhe\nfundo"), ("dois", "2")]),
            ("## Vazia\n\n## Cheia\nx", &[("cheia", "x")]),
            ("## A\n1\n## B\n2\n## A\n3", &[("a", "1\n3"), ("b", "2")]),
            ("## **Negrito** ##\nx", &[("negrito", "x")]),
            ("##Sem espaço\n#hashtag", &[("briefing", "##Sem espaço\n#hashtag")]),
            ("## A\n```\n## no heading\n```\n## B\ny", &[("a", "```\n## no heading\n```"), ("b", "y")]),
            ("## A\n~~~~\n```\n## no\n~~~~\n## B\ny", &[("a", "~~~~\n```\n## no\n~~~~"), ("b", "y")]),
            ("    # code\n## A\nx", &[("briefing", "    # code"), ("a", "x")]),
            ("## Vagas & Plantões: São Paulo!\nx", &[("vagas_plantoes_sao_paulo", "x")]),
            ("## 🎯\nx", &[("briefing", "x")]),
        ] {
            assert_eq!(keys_and_texts(text), pairs(expected), "{text:?}");
        }
    }

    #[test]
    fn a_heading_may_have_a_key_of_the_team() {
        let keys = BTreeMap::from([("Foco da Semana".to_owned(), "foco_semana".to_owned())]);

        let document = Document::read("## **FOCO DA SEMANA**\nx\n## Outro\ny", &keys).expect("a document");

        let found: Vec<_> = document.sections.iter().map(|section| section.key.as_str()).collect();
        assert_eq!(found, ["foco_semana", "outro"]);
    }

    #[test]
    fn the_first_heading_is_the_title_and_the_beginning_is_kept() {
        let text = format!("# Título\n{}", "á".repeat(6_000));

        let document = read(&text);

        assert_eq!(document.title.as_deref(), Some("Título"));
        assert_eq!(document.kept.chars().count(), KEPT_CHARS);
        assert_eq!(read("text").title, None);
    }

    #[test]
    fn what_an_editor_does_by_itself_changes_no_hash_and_every_word_does() {
        let hash = |text: &str| read(text).hash;
        let same = hash("# A\n\nb\nc");
        for text in
            ["\u{feff}# A\n\nb\nc", "# A\r\n\r\nb\r\nc\r\n", "# A  \n\t\nb \nc\n\n\n", "\n\n# A\n\nb\nc", "# A\r\rb\rc"]
        {
            assert_eq!(hash(text), same, "{text:?}");
        }
        for text in ["# a\n\nb\nc", "# A\n\nb\nc.", "# A\n\n b\nc", "# A\n\nb c", "# A\nb\nc"] {
            assert_ne!(hash(text), same, "{text:?}");
        }
        let long = "x".repeat(6_000);
        assert_ne!(hash(&long), hash(&format!("{long}y")), "the hash is over the whole");
        assert_eq!(super::hash("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn nothing_and_too_much_are_refused() {
        let many: String = (0..101).map(|n| format!("## s{n}\nx\n")).collect();
        let long = format!("## long\n{}", "x".repeat(20_001));
        for text in ["", "\u{feff} \r\n\t"] {
            assert_eq!(Document::read(text, &BTreeMap::new()), Err(Unfit::Empty));
        }
        for (text, why) in [
            ("# Only\n## headings", "has headings and no text"),
            (many.as_str(), "has 101 sections, more than 100"),
            (long.as_str(), "has 20001 characters in section \"long\", more than 20000"),
        ] {
            assert_eq!(Document::read(text, &BTreeMap::new()), Err(Unfit::Not(why.to_owned())));
        }
    }
}
