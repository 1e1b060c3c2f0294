//! How big things may grow: files, functions, parameters, nesting, rooms.

use std::collections::BTreeMap;

use proc_macro2::{TokenStream, TokenTree};
use syn::{FnArg, Signature, spanned::Spanned, visit::Visit};

use super::source::{Finding, Source};

const MOST_LINES_OF_A_FILE: usize = 400;
const MOST_LINES_OF_A_FUNCTION: usize = 70;
const MOST_PARAMETERS: usize = 4;
const MOST_NESTING: usize = 3;
const MOST_FILES_OF_A_ROOM: usize = 10;
/// One file per kind of work is the point of this room.
const ROOMS_OF_MANY: [&str; 1] = ["src/handlers"];

/// What of this file is over its budget.
pub fn too_big(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let lines = source.text.lines().count();
    if MOST_LINES_OF_A_FILE < lines {
        findings
            .push(source.finding(1, format!("{lines} lines, at most {MOST_LINES_OF_A_FILE}: a second room wants out")));
    }
    let mut functions = Functions { source, findings, nesting: Vec::new() };
    functions.visit_file(&source.tree);
    functions.findings
}

/// Folders with too many files.
pub fn crowded_rooms(sources: &[Source]) -> Vec<Finding> {
    let mut rooms: BTreeMap<&str, usize> = BTreeMap::new();
    for source in sources {
        *rooms.entry(source.folder()).or_default() += 1;
    }
    let crowded = |(room, files): (&str, usize)| {
        let is_crowded = MOST_FILES_OF_A_ROOM < files && !ROOMS_OF_MANY.contains(&room);
        is_crowded.then(|| format!("{room} has {files} files, at most {MOST_FILES_OF_A_ROOM}"))
    };
    rooms.into_iter().filter_map(crowded).collect()
}

struct Functions<'a> {
    source: &'a Source,
    findings: Vec<Finding>,
    /// Per function around this point: how deep it is now, and how deep it went.
    nesting: Vec<(usize, usize)>,
}

impl Functions<'_> {
    /// `visit` walks the body.
    fn function(&mut self, signature: &Signature, whole: &impl Spanned, visit: impl FnOnce(&mut Self)) {
        let (name, first) = (&signature.ident, signature.span().start().line);
        let lines = whole.span().end().line + 1 - first;
        let parameters = signature.inputs.iter().filter(|input| matches!(input, FnArg::Typed(_))).count();
        self.nesting.push((0, 0));
        visit(self);
        let (_, deepest) = self.nesting.pop().expect("pushed above");

        let budgets = [
            (MOST_LINES_OF_A_FUNCTION < lines, format!("has {lines} lines, at most {MOST_LINES_OF_A_FUNCTION}")),
            (
                MOST_PARAMETERS < parameters,
                format!("has {parameters} parameters, at most {MOST_PARAMETERS}: a struct wants out"),
            ),
            (MOST_NESTING < deepest, format!("nests {deepest} deep, at most {MOST_NESTING}")),
        ];
        for (_, what) in budgets.into_iter().filter(|(over, _)| *over) {
            self.findings.push(self.source.finding(first, format!("function {name} {what}")));
        }
    }

    fn deeper(&mut self, visit: impl FnOnce(&mut Self)) {
        if let Some((now, most)) = self.nesting.last_mut() {
            *now += 1;
            *most = (*most).max(*now);
        }
        visit(self);
        if let Some((now, _)) = self.nesting.last_mut() {
            *now -= 1;
        }
    }

    /// An `else if` goes on where its `if` stands.
    fn branches(&mut self, node: &syn::ExprIf) {
        self.visit_expr(&node.cond);
        self.visit_block(&node.then_branch);
        match node.else_branch.as_ref().map(|(_, branch)| branch.as_ref()) {
            Some(syn::Expr::If(next)) => self.branches(next),
            Some(other) => self.visit_expr(other),
            None => {}
        }
    }
}

impl<'ast> Visit<'ast> for Functions<'_> {
    fn visit_item_fn(&mut self, node: &'ast syn::ItemFn) {
        self.function(&node.sig, node, |functions| functions.visit_block(&node.block));
    }

    fn visit_impl_item_fn(&mut self, node: &'ast syn::ImplItemFn) {
        self.function(&node.sig, node, |functions| functions.visit_block(&node.block));
    }

    fn visit_trait_item_fn(&mut self, node: &'ast syn::TraitItemFn) {
        self.function(&node.sig, node, |functions| {
            if let Some(block) = &node.default {
                functions.visit_block(block);
            }
        });
    }

    fn visit_expr_if(&mut self, node: &'ast syn::ExprIf) {
        self.deeper(|functions| functions.branches(node));
    }

    fn visit_expr_match(&mut self, node: &'ast syn::ExprMatch) {
        self.deeper(|functions| syn::visit::visit_expr_match(functions, node));
    }

    fn visit_expr_while(&mut self, node: &'ast syn::ExprWhile) {
        self.deeper(|functions| syn::visit::visit_expr_while(functions, node));
    }

    fn visit_expr_for_loop(&mut self, node: &'ast syn::ExprForLoop) {
        self.deeper(|functions| syn::visit::visit_expr_for_loop(functions, node));
    }

    fn visit_expr_loop(&mut self, node: &'ast syn::ExprLoop) {
        self.deeper(|functions| syn::visit::visit_expr_loop(functions, node));
    }

    fn visit_macro(&mut self, node: &'ast syn::Macro) {
        let bodies =
            if node.path.is_ident("macro_rules") { rule_bodies(&node.tokens) } else { vec![node.tokens.clone()] };
        for file in bodies.into_iter().filter_map(|body| syn::parse2::<syn::File>(body).ok()) {
            self.visit_file(&file);
        }
    }
}

/// The right sides of a `macro_rules!`, with `$name` read as `name`, so that most parse as Rust.
fn rule_bodies(tokens: &TokenStream) -> Vec<TokenStream> {
    let mut bodies = Vec::new();
    let mut after_arrow = false;
    for tree in tokens.clone() {
        match tree {
            TokenTree::Punct(punct) => after_arrow = punct.as_char() == '>',
            TokenTree::Group(group) if after_arrow => bodies.push(without_dollars(group.stream())),
            _ => after_arrow = false,
        }
    }
    bodies
}

fn without_dollars(stream: TokenStream) -> TokenStream {
    let plain = |tree| match tree {
        TokenTree::Punct(punct) if punct.as_char() == '$' => None,
        TokenTree::Group(group) => {
            let mut inner = proc_macro2::Group::new(group.delimiter(), without_dollars(group.stream()));
            inner.set_span(group.span());
            Some(TokenTree::Group(inner))
        }
        other => Some(other),
    };
    stream.into_iter().filter_map(plain).collect()
}
