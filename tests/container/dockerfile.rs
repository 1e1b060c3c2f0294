//! Reads a Dockerfile as its builder would: stages, instructions, and what the context leaves out.

use std::collections::BTreeMap;

/// One instruction, its continuation lines joined.
#[derive(Debug, Clone)]
pub struct Instruction {
    /// In capitals.
    pub keyword: String,
    pub rest: String,
}

/// From one `FROM` to the next.
#[derive(Debug)]
pub struct Stage {
    /// The image, its arguments replaced by their defaults.
    pub base: String,
    pub name: Option<String>,
    pub instructions: Vec<Instruction>,
}

/// A `COPY`.
#[derive(Debug)]
pub struct Copy {
    /// The stage it copies from; `None` = the context.
    pub from: Option<String>,
    pub owner: Option<String>,
    pub sources: Vec<String>,
    pub target: String,
}

pub struct Dockerfile {
    pub stages: Vec<Stage>,
}

impl Dockerfile {
    /// Panics on what this reader does not understand: the test then needs a better one.
    pub fn parse(text: &str) -> Self {
        let mut defaults = BTreeMap::new();
        let mut stages: Vec<Stage> = Vec::new();
        for instruction in instructions(text) {
            match (instruction.keyword.as_str(), stages.last_mut()) {
                ("FROM", _) => stages.push(stage(&instruction.rest, &defaults)),
                ("ARG", None) => {
                    let (name, value) = instruction.rest.split_once('=').expect("an argument of FROM has a default");
                    defaults.insert(name.to_owned(), value.to_owned());
                }
                (keyword, None) => panic!("{keyword} before the first FROM"),
                (_, Some(stage)) => stage.instructions.push(instruction),
            }
        }
        Self { stages }
    }

    pub fn stage(&self, name: &str) -> &Stage {
        let is_it = |stage: &&Stage| stage.name.as_deref() == Some(name);
        self.stages.iter().find(is_it).unwrap_or_else(|| panic!("no stage {name:?}"))
    }

    /// The stage that becomes the image.
    pub fn image(&self) -> &Stage {
        self.stages.last().expect("a Dockerfile has a stage")
    }
}

impl Stage {
    pub fn all(&self, keyword: &str) -> Vec<&str> {
        let wanted = self.instructions.iter().filter(|instruction| instruction.keyword == keyword);
        wanted.map(|instruction| instruction.rest.as_str()).collect()
    }

    /// The instruction that counts when there are several: the last.
    pub fn last(&self, keyword: &str) -> &str {
        self.all(keyword).pop().unwrap_or_else(|| panic!("no {keyword}"))
    }

    pub fn copies(&self) -> Vec<Copy> {
        self.all("COPY").into_iter().map(copy).collect()
    }

    /// `ENV`, or the labels, as pairs.
    pub fn pairs(&self, keyword: &str) -> BTreeMap<String, String> {
        self.all(keyword).into_iter().flat_map(pairs).collect()
    }
}

/// The words of an exec form; `None` = a shell would run it.
pub fn exec_form(text: &str) -> Option<Vec<String>> {
    serde_json::from_str(text).ok()
}

fn instructions(text: &str) -> Vec<Instruction> {
    let mut joined: Vec<String> = Vec::new();
    let mut goes_on = false;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (piece, more) = line.strip_suffix('\\').map_or((line, false), |piece| (piece.trim_end(), true));
        match joined.last_mut().filter(|_| goes_on) {
            Some(before) => *before = format!("{before} {piece}"),
            None => joined.push(piece.to_owned()),
        }
        goes_on = more;
    }
    let split = |line: String| {
        let (keyword, rest) = line.split_once(' ').expect("an instruction has arguments");
        Instruction { keyword: keyword.to_uppercase(), rest: rest.trim().to_owned() }
    };
    joined.into_iter().map(split).collect()
}

fn stage(rest: &str, defaults: &BTreeMap<String, String>) -> Stage {
    let mut words = rest.split_whitespace();
    let mut base = words.next().expect("FROM names an image").to_owned();
    for (name, value) in defaults {
        base = base.replace(&format!("${{{name}}}"), value);
    }
    let name = words.skip_while(|word| !word.eq_ignore_ascii_case("as")).nth(1).map(str::to_owned);
    Stage { base, name, instructions: Vec::new() }
}

fn copy(rest: &str) -> Copy {
    let (flags, mut paths): (Vec<&str>, Vec<&str>) = rest.split_whitespace().partition(|word| word.starts_with("--"));
    let flag = |name: &str| flags.iter().find_map(|flag| flag.strip_prefix(name)).map(str::to_owned);
    let target = paths.pop().expect("COPY has a target").to_owned();
    let sources = paths.into_iter().map(str::to_owned).collect();
    Copy { from: flag("--from="), owner: flag("--chown="), sources, target }
}

/// `A=b C="d e"`.
fn pairs(rest: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut rest = rest;
    while let Some((name, after)) = rest.split_once('=') {
        let (value, left) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').expect("a quote ends"),
            None => after.split_once(' ').unwrap_or((after, "")),
        };
        pairs.push((name.trim().to_owned(), value.to_owned()));
        rest = left.trim();
    }
    pairs
}

/// Whether `.dockerignore` keeps this path of the context from the builder: the last line that matches decides.
pub fn is_ignored(dockerignore: &str, path: &str) -> bool {
    let mut ignored = false;
    for line in dockerignore.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (pattern, keeps) = line.strip_prefix('!').map_or((line, false), |pattern| (pattern, true));
        assert!(pattern == "*" || !pattern.contains(['*', '?', '[']), "{pattern}: this test reads no such pattern");
        if pattern == "*" || path == pattern || path.starts_with(&format!("{pattern}/")) {
            ignored = !keeps;
        }
    }
    ignored
}
