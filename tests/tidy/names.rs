//! Names that say nothing: a thing is named after what it is, not after the fact that it does something.

use syn::{Ident, visit::Visit};

use super::source::{Finding, Source};

const EMPTY_WORDS: [&str; 9] =
    ["manager", "service", "helper", "helpers", "util", "utils", "data", "info", "repository"];

/// Types, traits, modules and files with an empty word in their name.
pub fn empty_names(source: &Source) -> Vec<Finding> {
    let mut names = Names { source, findings: Vec::new() };
    names.judge(source.stem(), 1);
    names.visit_file(&source.tree);
    names.findings
}

struct Names<'a> {
    source: &'a Source,
    findings: Vec<Finding>,
}

impl Names<'_> {
    fn judge(&mut self, name: &str, line: usize) {
        if let Some(word) = words(name).into_iter().find(|word| EMPTY_WORDS.contains(&word.as_str())) {
            self.findings.push(self.source.finding(line, format!("{name}: {word:?} says nothing")));
        }
    }

    fn judge_ident(&mut self, ident: &Ident) {
        self.judge(&ident.to_string(), ident.span().start().line);
    }
}

/// `JobManager` and `job_manager` are both job, manager.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for letter in name.chars() {
        if letter == '_' || letter.is_uppercase() {
            words.push(String::new());
        }
        let word = words.last_mut().expect("begins with one");
        word.extend(letter.to_lowercase().filter(|c| *c != '_'));
    }
    words
}

impl<'ast> Visit<'ast> for Names<'_> {
    fn visit_item_struct(&mut self, node: &'ast syn::ItemStruct) {
        self.judge_ident(&node.ident);
    }

    fn visit_item_enum(&mut self, node: &'ast syn::ItemEnum) {
        self.judge_ident(&node.ident);
    }

    fn visit_item_trait(&mut self, node: &'ast syn::ItemTrait) {
        self.judge_ident(&node.ident);
        syn::visit::visit_item_trait(self, node);
    }

    fn visit_item_type(&mut self, node: &'ast syn::ItemType) {
        self.judge_ident(&node.ident);
    }

    fn visit_item_mod(&mut self, node: &'ast syn::ItemMod) {
        self.judge_ident(&node.ident);
        syn::visit::visit_item_mod(self, node);
    }
}
