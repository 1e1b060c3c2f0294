//! A source file as text, tokens and tree, and the ones of the house.

use std::{fs, path::Path};

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};
use syn::{Attribute, spanned::Spanned, visit::Visit};

/// `path:line: what is wrong`.
pub type Finding = String;

/// One token, groups opened up.
#[derive(Debug)]
pub struct Token {
    pub text: String,
    pub line: usize,
    /// Inside `#[...]`, where doc comments are too.
    pub in_attribute: bool,
}

pub struct Source {
    /// From the root of the repository, with `/`.
    pub path: String,
    pub text: String,
    pub tokens: Vec<Token>,
    pub tree: syn::File,
    /// First and last line of each item that only tests see.
    test_lines: Vec<(usize, usize)>,
    /// First and last line of each `mod x { ... }`.
    inline_modules: Vec<(usize, usize)>,
}

impl Source {
    pub fn new(path: &str, text: &str) -> syn::Result<Self> {
        let tree = syn::parse_file(text)?;
        let mut tokens = Vec::new();
        flatten(text.parse()?, false, &mut tokens);
        let mut marks = Marks::default();
        marks.visit_file(&tree);
        let Marks { test_lines, inline_modules } = marks;
        Ok(Self { path: path.to_owned(), text: text.to_owned(), tokens, tree, test_lines, inline_modules })
    }

    /// `src/engine/runner.rs` and `src/engine/mod.rs` are in `engine`, `src/clock.rs` in `clock`.
    pub fn room(&self) -> &str {
        let inside = self.path.strip_prefix("src/").unwrap_or(&self.path);
        inside.split('/').next().unwrap_or(inside).trim_end_matches(".rs")
    }

    /// The folder it lies in.
    pub fn folder(&self) -> &str {
        self.path.rsplit_once('/').map_or("", |(folder, _)| folder)
    }

    /// The file's name without `.rs`.
    pub fn stem(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path).trim_end_matches(".rs")
    }

    /// How many `super` lead from this line to the crate root.
    pub fn depth(&self, line: usize) -> usize {
        let files = self.path.strip_prefix("src/").unwrap_or(&self.path).split('/').count();
        let file = if self.stem() == "mod" { files - 1 } else { files };
        file + self.inline_modules.iter().filter(|(first, last)| (first..=last).contains(&&line)).count()
    }

    /// Whether only tests see this line: in `tests/`, `benches/`, a `tests.rs` or `tests/` of a room, or a test's item.
    pub fn is_test(&self, line: usize) -> bool {
        let is_test_file = !self.path.starts_with("src/") || self.stem() == "tests" || self.path.contains("/tests/");
        is_test_file || self.test_lines.iter().any(|(first, last)| (first..=last).contains(&&line))
    }

    pub fn finding(&self, line: usize, what: impl std::fmt::Display) -> Finding {
        format!("{}:{line}: {what}", self.path)
    }

    /// Where these tokens follow one another; the index of the first.
    pub fn find(&self, wanted: &[&str]) -> Vec<usize> {
        let windows = self.tokens.windows(wanted.len()).enumerate();
        let is_it = |window: &[Token]| window.iter().zip(wanted).all(|(token, text)| token.text == *text);
        windows.filter(|(_, window)| is_it(window)).map(|(index, _)| index).collect()
    }

    /// The names at the top of what follows a `path::`: one, or those of a `{...}`, with their lines.
    pub fn names_after(&self, index: usize) -> Vec<(&str, usize)> {
        match self.tokens.get(index) {
            Some(token) if token.text == "{" => self.names_of_group(index + 1),
            Some(token) => vec![(&token.text, token.line)],
            None => Vec::new(),
        }
    }

    fn names_of_group(&self, first: usize) -> Vec<(&str, usize)> {
        let (mut names, mut depth, mut begins) = (Vec::new(), 0_usize, true);
        for token in &self.tokens[first..] {
            match token.text.as_str() {
                "{" => depth += 1,
                "}" if depth == 0 => break,
                "}" => depth -= 1,
                "," if depth == 0 => begins = true,
                text if begins => {
                    names.push((text, token.line));
                    begins = false;
                }
                _ => {}
            }
        }
        names
    }
}

/// All Rust files under a folder of the repository, sorted; a file that does not parse is a finding of its own.
pub fn house(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    rust_files(&root.join(folder), &mut files);
    files.sort();
    let relative = |path: &str| path[root.as_os_str().len() + 1..].to_owned();
    let read = |path: &String| {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        Source::new(&relative(path), &text).unwrap_or_else(|error| panic!("{path}: {error}"))
    };
    files.iter().map(read).collect()
}

fn rust_files(folder: &Path, files: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("the repository can be read").path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path.to_str().expect("our names are ASCII").to_owned());
        }
    }
}

fn flatten(stream: TokenStream, in_attribute: bool, tokens: &mut Vec<Token>) {
    let mut half_path = false;
    for tree in stream {
        let line = tree.span().start().line;
        let mut push = |text: String| tokens.push(Token { text, line, in_attribute });
        match tree {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                push(open.to_owned());
                let is_attribute = open == "[" && begins_attribute(tokens);
                flatten(group.stream(), in_attribute || is_attribute, tokens);
                let line = group.span_close().start().line;
                tokens.push(Token { text: close.to_owned(), line, in_attribute });
            }
            TokenTree::Punct(punct) if punct.as_char() == ':' => match (half_path, punct.spacing()) {
                (true, _) => half_path = false,
                (false, Spacing::Joint) => {
                    push("::".to_owned());
                    half_path = true;
                }
                (false, Spacing::Alone) => push(":".to_owned()),
            },
            other => push(other.to_string()),
        }
    }
}

/// Whether the `[` just pushed follows `#` or `#!`.
fn begins_attribute(tokens: &[Token]) -> bool {
    let before = |back: usize| tokens.len().checked_sub(back).map_or("", |i| tokens[i].text.as_str());
    before(2) == "#" || (before(2) == "!" && before(3) == "#")
}

#[derive(Default)]
struct Marks {
    test_lines: Vec<(usize, usize)>,
    inline_modules: Vec<(usize, usize)>,
}

impl Marks {
    fn mark_test(&mut self, attributes: &[Attribute], item: &impl Spanned) {
        if attributes.iter().any(is_for_tests) {
            let span = item.span();
            self.test_lines.push((span.start().line, span.end().line));
        }
    }
}

/// `#[cfg(test)]`, `#[test]`, `#[tokio::test]`.
fn is_for_tests(attribute: &Attribute) -> bool {
    let path = attribute.path();
    let is_cfg_test =
        path.is_ident("cfg") && matches!(&attribute.meta, syn::Meta::List(list) if list.tokens.to_string() == "test");
    is_cfg_test || path.segments.last().is_some_and(|last| last.ident == "test")
}

impl<'ast> Visit<'ast> for Marks {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.mark_test(&item.attrs, item);
        if let Some((brace, _)) = &item.content {
            let span = brace.span;
            self.inline_modules.push((span.open().start().line, span.close().end().line));
        }
        syn::visit::visit_item_mod(self, item);
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.mark_test(&item.attrs, item);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        self.mark_test(&item.attrs, item);
        syn::visit::visit_item_impl(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.mark_test(&item.attrs, item);
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.mark_test(&item.attrs, item);
    }
}
