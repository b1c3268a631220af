//! Which module imports which: parsed, so that grouped, renamed and re-exported names count, and paths inside
//! expressions and macros. Tests are left out: they may look anywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

/// A path, segment by segment.
type Segments = Vec<String>;

/// One source file.
pub struct Source {
    /// `["bounds", "fused"]`; `mod.rs` stands for its folder.
    module: Segments,
    /// Path of the file, `src/bounds/fused.rs`.
    path: String,
    /// Is it a `mod.rs`, or the root?
    root: bool,
    /// Everything that it names: from `crate` on, or as written.
    named: Vec<Segments>,
    /// Names that a `use` gives: where they come from.
    names: BTreeMap<String, Segments>,
}

/// All sources of a crate.
pub struct Crate {
    sources: BTreeMap<Segments, Source>,
}

impl Crate {
    /// Parses every file under `src`.
    pub fn read(src: &Path) -> Self {
        let mut texts = Vec::new();
        walk(src, &mut Vec::new(), &mut texts);
        let texts = texts
            .iter()
            .map(|(path, text)| (path.as_str(), text.as_str()));
        Self::parse(texts)
    }

    /// Parses `(path below src, text)`.
    pub fn parse<'a>(texts: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut sources = BTreeMap::new();
        for (path, text) in texts {
            let source = Source::parse(path, text);
            sources.insert(source.module.clone(), source);
        }
        Self { sources }
    }

    /// All modules, `` for the root.
    pub fn modules(&self) -> impl Iterator<Item = String> {
        self.sources.keys().map(|m| m.join("::"))
    }

    /// The file of a module, `src/bounds/fused.rs`.
    pub fn path(&self, module: &str) -> &str {
        &self.source(module).path
    }

    fn source(&self, module: &str) -> &Source {
        let mut sources = self.sources.values();
        let found = sources.find(|s| s.module.join("::") == module);
        found.unwrap_or_else(|| panic!("{module} is no file of the crate"))
    }

    /// `(module, imported module)` as `a::b`, once each; a re-export counts as what it leads to.
    pub fn imports(&self) -> BTreeSet<(String, String)> {
        let mut found = BTreeSet::new();
        for source in self.sources.values() {
            for path in &source.named {
                if let Some(target) = self.target(source, path)
                    && target.module != source.module
                {
                    found.insert((source.module.join("::"), target.module.join("::")));
                }
            }
        }
        found
    }

    /// What a module names as itself or by a `use`: `crate::tensor::Shape`, `std::fs::read`.
    pub fn named(&self, module: &str) -> BTreeSet<String> {
        let source = self.source(module);
        let paths = source.named.iter();
        paths.map(|path| source.expand(path).join("::")).collect()
    }

    /// Files outside `mod.rs` that import each other in a circle, one list for each circle.
    pub fn circles(&self) -> Vec<Vec<String>> {
        let roots: BTreeSet<String> = self
            .sources
            .values()
            .filter(|s| s.root)
            .map(|s| s.module.join("::"))
            .collect();
        let mut next: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (from, to) in self.imports() {
            if !roots.contains(&from) && !roots.contains(&to) {
                next.entry(from).or_default().insert(to);
            }
        }
        let reached: BTreeMap<&String, BTreeSet<&String>> = next
            .keys()
            .map(|start| (start, reach(&next, start)))
            .collect();
        let mut circles: Vec<Vec<String>> = Vec::new();
        for (from, all) in &reached {
            if !all.contains(from) || circles.iter().flatten().any(|m| m == *from) {
                continue;
            }
            let back = |m: &&&String| reached.get(**m).is_some_and(|r| r.contains(from));
            circles.push(all.iter().filter(back).map(|m| m.to_string()).collect());
        }
        circles
    }

    /// The source in which what the path names stands.
    fn target(&self, source: &Source, path: &[String]) -> Option<&Source> {
        let mut path = self.within(source, path)?;
        // A chain of re-exports is shorter than this.
        for _ in 0..16 {
            let known = |n: &usize| self.sources.contains_key(&path[..*n]);
            let length = (0..=path.len()).rev().find(known)?;
            let found = &self.sources[&path[..length]];
            let name = path.get(length).and_then(|name| found.names.get(name));
            let Some(whence) = name.and_then(|whence| self.within(found, whence)) else {
                return Some(found);
            };
            path = [&whence[..], &path[length + 1..]].concat();
        }
        None
    }

    /// The modules and names of a path below the crate; `None` for one that leads out of it.
    fn within(&self, source: &Source, path: &[String]) -> Option<Segments> {
        let child = [&source.module[..], &path[..1]].concat();
        if self.sources.contains_key(&child) {
            return Some([&source.module[..], path].concat());
        }
        let path = source.expand(path);
        let (first, rest) = path.split_first()?;
        (first == "crate").then(|| rest.to_vec())
    }
}

fn reach<'a>(next: &'a BTreeMap<String, BTreeSet<String>>, start: &str) -> BTreeSet<&'a String> {
    let mut seen = BTreeSet::new();
    let mut open: Vec<&String> = next.get(start).into_iter().flatten().collect();
    while let Some(module) = open.pop() {
        if seen.insert(module) {
            open.extend(next.get(module).into_iter().flatten());
        }
    }
    seen
}

fn walk(dir: &Path, below: &mut Segments, texts: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        below.push(path.file_name().unwrap().to_string_lossy().into_owned());
        if path.is_dir() {
            walk(&path, below, texts);
        } else if path.extension().is_some_and(|e| e == "rs") {
            texts.push((below.join("/"), fs::read_to_string(&path).unwrap()));
        }
        below.pop();
    }
}

impl Source {
    /// A path with the name that it begins with replaced by what a `use` says of it.
    fn expand(&self, path: &[String]) -> Segments {
        let whence = path.first().and_then(|first| self.names.get(first));
        match whence {
            Some(whence) => [whence, &path[1..]].concat(),
            None => path.to_vec(),
        }
    }

    fn parse(path: &str, text: &str) -> Self {
        let mut module: Segments = path
            .trim_end_matches(".rs")
            .split('/')
            .map(str::to_string)
            .collect();
        let root = module
            .last()
            .is_some_and(|l| ["mod", "lib", "main"].contains(&l.as_str()));
        if root && path != "main.rs" {
            module.pop();
        }
        let file = syn::parse_file(text).unwrap_or_else(|e| panic!("{path}: {e}"));
        let mut reader = Reader {
            inline: 0,
            source: Self {
                module,
                path: format!("src/{path}"),
                root,
                named: Vec::new(),
                names: BTreeMap::new(),
            },
        };
        reader.visit_file(&file);
        reader.source
    }
}

/// Collects the names of one file.
struct Reader {
    source: Source,
    /// Depth of modules written out in the file.
    inline: usize,
}

impl Reader {
    /// The path from `crate` on if it begins with `crate`, `self` or `super`, else as written. `None` for a name of
    /// a module that is written out in the file.
    fn absolute(&self, path: &[String]) -> Option<Segments> {
        let ups = path.iter().take_while(|s| *s == "super").count();
        let start = match path.first()?.as_str() {
            "super" => ups,
            "self" => 1,
            _ => return Some(path.to_vec()),
        };
        let kept = self
            .source
            .module
            .len()
            .checked_sub(ups.checked_sub(self.inline)?)?;
        let mut absolute = vec!["crate".to_string()];
        absolute.extend_from_slice(&self.source.module[..kept]);
        absolute.extend_from_slice(&path[start..]);
        Some(absolute)
    }

    fn name(&mut self, path: &[String]) {
        if let Some(path) = self.absolute(path) {
            self.source.named.push(path);
        }
    }

    fn import(&mut self, before: &Segments, tree: &syn::UseTree) {
        let with = |ident: &syn::Ident| [&before[..], &[ident.to_string()]].concat();
        let (path, name) = match tree {
            syn::UseTree::Path(p) => return self.import(&with(&p.ident), &p.tree),
            syn::UseTree::Group(g) => {
                return g.items.iter().for_each(|item| self.import(before, item));
            }
            syn::UseTree::Glob(_) => return self.name(before),
            syn::UseTree::Name(n) if n.ident == "self" => (before.clone(), before.last().cloned()),
            syn::UseTree::Name(n) => (with(&n.ident), Some(n.ident.to_string())),
            syn::UseTree::Rename(r) if r.ident == "self" => {
                (before.clone(), Some(r.rename.to_string()))
            }
            syn::UseTree::Rename(r) => (with(&r.ident), Some(r.rename.to_string())),
        };
        self.name(&path);
        if let (Some(path), Some(name)) = (self.absolute(&path), name)
            && path != [name.clone()]
        {
            self.source.names.insert(name, path);
        }
    }

    /// Paths in the text of a macro.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path = Segments::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(i) => {
                    if colons != 2 {
                        self.name(&std::mem::take(&mut path));
                    }
                    path.push(i.to_string());
                    colons = 0;
                }
                TokenTree::Punct(p) if p.as_char() == ':' => colons += 1,
                other => {
                    self.name(&std::mem::take(&mut path));
                    colons = 0;
                    if let TokenTree::Group(g) = other {
                        self.tokens(g.stream());
                    }
                }
            }
        }
        self.name(&path);
    }
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    let test = |a: &syn::Attribute| {
        a.path().is_ident("cfg") && a.parse_args::<syn::Ident>().is_ok_and(|i| i == "test")
    };
    attributes.iter().any(test)
}

impl Visit<'_> for Reader {
    fn visit_item_mod(&mut self, item: &syn::ItemMod) {
        if !is_test(&item.attrs) {
            self.inline += 1;
            visit::visit_item_mod(self, item);
            self.inline -= 1;
        }
    }

    fn visit_item_use(&mut self, item: &syn::ItemUse) {
        if !is_test(&item.attrs) {
            self.import(&Vec::new(), &item.tree);
        }
    }

    fn visit_item_fn(&mut self, item: &syn::ItemFn) {
        if !is_test(&item.attrs) {
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_item_impl(&mut self, item: &syn::ItemImpl) {
        if !is_test(&item.attrs) {
            visit::visit_item_impl(self, item);
        }
    }

    fn visit_path(&mut self, path: &syn::Path) {
        let segments: Segments = path.segments.iter().map(|s| s.ident.to_string()).collect();
        self.name(&segments);
        visit::visit_path(self, path);
    }

    /// `pub(super)` imports nothing.
    fn visit_vis_restricted(&mut self, _: &syn::VisRestricted) {}

    fn visit_macro(&mut self, m: &syn::Macro) {
        self.tokens(m.tokens.clone());
        visit::visit_macro(self, m);
    }
}
