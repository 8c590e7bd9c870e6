//! Which file of a crate imports which: reads every path in its sources, inside functions and macros too, and finds cycles.
//!
//! A path is an import of the file that defines the item. It is followed through re-exports: a file that names
//! `super::Item` does not import its parent where the parent only re-exports `Item`. Comments, attributes and items under
//! `#[cfg(test)]` do not count, nor does the declaration `mod name;`.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMod, ItemUse, Meta, UseTree, Visibility};

/// The sources of a crate.
pub(crate) struct Sources {
    files: Vec<File>,
    /// The modules, by their path from the root of the crate.
    modules: HashMap<ModulePath, Module>,
    /// The files of the macros that the crate exports.
    exported_macros: HashMap<String, usize>,
}

struct File {
    /// The path from the folder of the crate's root.
    name: String,
    imports: Vec<Import>,
}

struct Import {
    path: ModulePath,
    line: usize,
    /// The file that defines the item.
    to: usize,
}

/// Segments of a path.
type ModulePath = Vec<String>;

struct Module {
    file: usize,
    names: HashMap<String, Vec<Definition>>,
    /// The paths of its glob imports.
    globs: Vec<ModulePath>,
    items: Vec<Item>,
}

#[derive(Debug, Clone, PartialEq)]
enum Definition {
    Item,
    Child,
    /// The path of a `use`.
    Alias(ModulePath),
}

/// Files that import each other in a circle.
#[derive(Debug)]
pub(crate) struct Cycle(Vec<String>);

impl fmt::Display for Cycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

/// Returns the text of a file, or `None` where there is no such file.
type Read<'a> = &'a dyn Fn(&Path) -> Option<String>;

impl Sources {
    /// Reads the crate whose root (`lib.rs` or `main.rs`) is this file.
    pub(crate) fn read(root: &Path) -> Self {
        let folder = root.parent().expect("the root is in a folder");
        let name = root.file_name().expect("the root is a file");
        Self::parse(Path::new(name), &|path| {
            std::fs::read_to_string(folder.join(path)).ok()
        })
    }

    fn parse(root: &Path, read: Read<'_>) -> Self {
        let mut sources = Self {
            files: Vec::new(),
            modules: HashMap::new(),
            exported_macros: HashMap::new(),
        };
        let root = Place {
            path: root.to_owned(),
            folder: PathBuf::new(),
            module: Vec::new(),
        };
        sources.load(read, &root);
        for (path, module) in &sources.modules {
            let mut reader = PathReader {
                module: path.clone(),
                found: Vec::new(),
            };
            for item in &module.items {
                reader.visit_item(item);
            }
            for (module_path, path, line) in reader.found {
                let Some(to) = sources.resolve(&module_path, &path, 0) else {
                    continue;
                };
                if to != module.file {
                    let import = Import { path, line, to };
                    sources.files[module.file].imports.push(import);
                }
            }
        }
        for file in &mut sources.files {
            file.imports.sort_by_key(|import| (import.line, import.to));
        }
        sources
    }

    /// The paths of the files from the folder of the root.
    pub(crate) fn files(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|file| &*file.name)
    }

    /// Every import: the importing file, the imported file, and where the path is.
    pub(crate) fn imports(&self) -> impl Iterator<Item = (&str, &str, String)> {
        self.files.iter().flat_map(move |file| {
            file.imports.iter().map(move |import| {
                let to = &*self.files[import.to].name;
                (&*file.name, to, self.describe(file, import))
            })
        })
    }

    fn describe(&self, file: &File, Import { path, line, to }: &Import) -> String {
        let (from, to, path) = (&file.name, &self.files[*to].name, path.join("::"));
        format!("{from}:{line} imports {to} by {path}")
    }

    /// The cycles: for each file that is in one, the shortest.
    pub(crate) fn cycles(&self) -> Vec<Cycle> {
        let mut known = BTreeSet::new();
        let mut cycles = Vec::new();
        for start in 0..self.files.len() {
            let Some(cycle) = self.shortest_cycle(start) else {
                continue;
            };
            let mut files = cycle.clone();
            files.sort_unstable();
            if !known.insert(files) {
                continue;
            }
            let next = cycle.iter().cycle().skip(1);
            let steps = cycle.iter().zip(next).map(|(from, to)| {
                let file = &self.files[*from];
                let import = file.imports.iter().find(|import| import.to == *to);
                self.describe(file, import.expect("each step is an import"))
            });
            cycles.push(Cycle(steps.collect()));
        }
        cycles
    }

    /// The files of the shortest cycle through a file, beginning with that file.
    fn shortest_cycle(&self, start: usize) -> Option<Vec<usize>> {
        let mut came_from = HashMap::new();
        let mut queue = VecDeque::from([start]);
        while let Some(file) = queue.pop_front() {
            for import in &self.files[file].imports {
                if import.to == start {
                    let mut cycle = vec![file];
                    while let Some(before) = came_from.get(&cycle[cycle.len() - 1]) {
                        cycle.push(*before);
                    }
                    cycle.reverse();
                    return Some(cycle);
                }
                came_from.entry(import.to).or_insert_with(|| {
                    queue.push_back(import.to);
                    file
                });
            }
        }
        None
    }

    /// The file that defines what a path in a module names; `None` for what another crate defines.
    fn resolve(&self, module: &[String], path: &[String], depth: usize) -> Option<usize> {
        assert!(depth < 32, "{path:?} is re-exported in a circle");
        let path = self.absolute(module, path)?;
        let mut module = self.modules.get(&Vec::new())?;
        for (at, name) in path.iter().enumerate() {
            let definitions = module.names.get(name).map_or(&[][..], Vec::as_slice);
            if definitions.contains(&Definition::Child) {
                module = self.modules.get(&path[..=at])?;
                continue;
            }
            if definitions.contains(&Definition::Item) {
                return Some(module.file);
            }
            let through = definitions.iter().find_map(|definition| match definition {
                Definition::Alias(target) => {
                    let target = [target, &path[at + 1..]].concat();
                    self.resolve(&path[..at], &target, depth + 1)
                }
                Definition::Item | Definition::Child => None,
            });
            let exported = self.exported_macros.get(name).filter(|_| at == 0).copied();
            let by_glob = || self.resolve_glob(&path, at, depth);
            // An item of another crate, or of a macro, counts as defined here.
            return through.or(exported).or_else(by_glob).or(Some(module.file));
        }
        Some(module.file)
    }

    /// Looks for the segment of a path among the glob imports of the module before it.
    fn resolve_glob(&self, path: &[String], at: usize, depth: usize) -> Option<usize> {
        let module = self.modules.get(&path[..at])?;
        module.globs.iter().find_map(|glob| {
            let target = self.absolute(&path[..at], glob)?;
            let names = &self.modules.get(&target)?.names;
            names.get(&path[at])?;
            let path = [&["crate".to_owned()], &target[..], &path[at..]].concat();
            self.resolve(&[], &path, depth + 1)
        })
    }

    /// The path from the root of the crate; `None` for a path that begins with another crate or with a local name.
    fn absolute(&self, module: &[String], path: &[String]) -> Option<ModulePath> {
        let first = path.first()?;
        let keywords = ["crate", "self", "super"];
        if !keywords.contains(&first.as_str()) {
            let definitions = self.modules.get(module)?.names.get(first)?;
            let inside = definitions.iter().any(|definition| match definition {
                Definition::Item | Definition::Child => true,
                // `use async_trait::async_trait;` is no alias of itself.
                Definition::Alias(target) => target.first() != Some(first),
            });
            return inside.then(|| [module, path].concat());
        }
        let mut absolute = module.to_vec();
        for (at, segment) in path.iter().enumerate() {
            match segment.as_str() {
                "crate" => absolute.clear(),
                "self" => {}
                "super" => drop(absolute.pop()?),
                _ => {
                    absolute.extend_from_slice(&path[at..]);
                    break;
                }
            }
        }
        Some(absolute)
    }

    /// Loads the file of a module, and the modules below it.
    fn load(&mut self, read: Read<'_>, place: &Place) {
        let name = place.path.display().to_string();
        let text = read(&place.path).unwrap_or_else(|| panic!("{name}: no such file"));
        let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let (file, imports) = (self.files.len(), Vec::new());
        self.files.push(File { name, imports });
        self.add(read, file, place, parsed.items);
    }

    /// Adds a module that has these items in a file, and the modules below it.
    fn add(&mut self, read: Read<'_>, file: usize, place: &Place, items: Vec<Item>) {
        let mut module = Module {
            file,
            names: HashMap::new(),
            globs: Vec::new(),
            items: Vec::new(),
        };
        let mut children = Vec::new();
        for item in items.into_iter().filter(|item| !is_test(attributes(item))) {
            if is_exported_macro(&item)
                && let Some(name) = name_of(&item)
            {
                self.exported_macros.insert(name, file);
            }
            module.define(&item);
            match item {
                Item::Mod(child) => children.push(child),
                item => module.items.push(item),
            }
        }
        self.modules.insert(place.module.clone(), module);
        for child in children {
            let below = place.below(read, &child);
            match child.content {
                Some((_, items)) => self.add(read, file, &below, items),
                None => self.load(read, &below),
            }
        }
    }
}

/// Where a module is.
struct Place {
    /// Its file.
    path: PathBuf,
    /// The folder of its children's files.
    folder: PathBuf,
    module: ModulePath,
}

impl Place {
    fn below(&self, read: Read<'_>, child: &ItemMod) -> Self {
        let name = child.ident.to_string();
        let folder = self.folder.join(&name);
        let flat = self.folder.join(format!("{name}.rs"));
        let path = match path_attribute(&child.attrs) {
            _ if child.content.is_some() => self.path.clone(),
            Some(path) => self.path.with_file_name(path),
            None if read(&flat).is_some() => flat,
            None => folder.join("mod.rs"),
        };
        Self {
            path,
            folder,
            module: [&self.module[..], &[name]].concat(),
        }
    }
}

impl Module {
    fn define(&mut self, item: &Item) {
        if let Item::Use(item) = item {
            // `use ::name` is another crate's.
            if item.leading_colon.is_none() {
                self.define_aliases(&item.tree, &mut Vec::new());
            }
            return;
        }
        let definition = match item {
            Item::Mod(_) => Definition::Child,
            _ => Definition::Item,
        };
        if let Some(name) = name_of(item) {
            self.names.entry(name).or_default().push(definition);
        }
    }

    fn define_aliases(&mut self, tree: &UseTree, path: &mut ModulePath) {
        let mut leaves = Vec::new();
        expand(tree, path, &mut leaves);
        for (name, path) in leaves {
            match name {
                Some(name) => {
                    let definitions = self.names.entry(name).or_default();
                    definitions.push(Definition::Alias(path));
                }
                None => self.globs.push(path),
            }
        }
    }
}

/// The paths in a `use` tree, with the name that each gets; a glob has none.
fn expand(tree: &UseTree, prefix: &mut ModulePath, leaves: &mut Vec<(Option<String>, ModulePath)>) {
    let mut leaf = |name: Option<String>, last: Option<String>| {
        let mut path = prefix.clone();
        path.extend(last.filter(|last| last != "self"));
        leaves.push((name, path));
    };
    match tree {
        UseTree::Path(tree) => {
            prefix.push(tree.ident.to_string());
            expand(&tree.tree, prefix, leaves);
            prefix.pop();
        }
        UseTree::Name(tree) if tree.ident == "self" => leaf(prefix.last().cloned(), None),
        UseTree::Name(tree) => leaf(Some(tree.ident.to_string()), Some(tree.ident.to_string())),
        UseTree::Rename(tree) => {
            leaf(Some(tree.rename.to_string()), Some(tree.ident.to_string()));
        }
        UseTree::Glob(_) => leaf(None, None),
        UseTree::Group(tree) => {
            for tree in &tree.items {
                expand(tree, prefix, leaves);
            }
        }
    }
}

/// Collects the paths in the items of a module.
struct PathReader {
    module: ModulePath,
    /// The module in which a path is, the path, and its line.
    found: Vec<(ModulePath, ModulePath, usize)>,
}

impl PathReader {
    fn add(&mut self, path: ModulePath, line: usize) {
        self.found.push((self.module.clone(), path, line));
    }

    /// Reads the paths among the tokens of a macro, each of which continues `prefix`.
    fn read_tokens(&mut self, tokens: TokenStream, prefix: &[String]) {
        let mut path = prefix.to_vec();
        let mut line = 0;
        let mut tokens = tokens.into_iter().peekable();
        while let Some(token) = tokens.next() {
            match token {
                TokenTree::Ident(name) => {
                    line = name.span().start().line;
                    path.push(name.to_string());
                    if !takes_double_colon(&mut tokens) {
                        self.end_path(&mut path, prefix, line);
                    }
                }
                TokenTree::Group(group) => {
                    let continued = path.len() > prefix.len();
                    let is_tree = continued && group.delimiter() == Delimiter::Brace;
                    let before = if is_tree {
                        std::mem::take(&mut path)
                    } else {
                        Vec::new()
                    };
                    self.end_path(&mut path, prefix, line);
                    self.read_tokens(group.stream(), &before);
                    path = prefix.to_vec();
                }
                // The rest of this path is a variable of the macro: it could be in any file.
                TokenTree::Punct(punct) if punct.as_char() == '$' => path = prefix.to_vec(),
                TokenTree::Punct(_) | TokenTree::Literal(_) => {
                    self.end_path(&mut path, prefix, line);
                }
            }
        }
        self.end_path(&mut path, prefix, line);
    }

    /// Adds a path that is over, and begins the next one.
    fn end_path(&mut self, path: &mut ModulePath, prefix: &[String], line: usize) {
        let over = std::mem::replace(path, prefix.to_vec());
        if over.len() > 1 && over.len() > prefix.len() {
            self.add(over, line);
        }
    }
}

/// Takes `::` from the tokens, where that comes next.
fn takes_double_colon(
    tokens: &mut std::iter::Peekable<proc_macro2::token_stream::IntoIter>,
) -> bool {
    let mut ahead = tokens.clone();
    let mut is_colon = |is_joint: bool| match ahead.next() {
        Some(TokenTree::Punct(punct)) if punct.as_char() == ':' => {
            !is_joint || punct.spacing() == Spacing::Joint
        }
        _ => false,
    };
    let found = is_colon(true) && is_colon(false);
    if found {
        tokens.nth(1);
    }
    found
}

impl Visit<'_> for PathReader {
    fn visit_item(&mut self, item: &Item) {
        if !is_test(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &syn::ImplItemFn) {
        if !is_test(&item.attrs) {
            visit::visit_impl_item_fn(self, item);
        }
    }

    /// A module inside a function.
    fn visit_item_mod(&mut self, item: &ItemMod) {
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &ItemUse) {
        if item.leading_colon.is_some() {
            return;
        }
        let line = item.use_token.span.start().line;
        let mut leaves = Vec::new();
        expand(&item.tree, &mut Vec::new(), &mut leaves);
        for (_, path) in leaves {
            self.add(path, line);
        }
    }

    fn visit_path(&mut self, path: &syn::Path) {
        if path.leading_colon.is_none() && path.segments.len() > 1 {
            let segments = path
                .segments
                .iter()
                .map(|segment| segment.ident.to_string());
            let line = path.segments[0].ident.span().start().line;
            self.add(segments.collect(), line);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &syn::Macro) {
        self.visit_path(&item.path);
        self.read_tokens(item.tokens.clone(), &[]);
    }

    /// `pub(in crate::name)` imports nothing.
    fn visit_visibility(&mut self, _: &Visibility) {}

    /// Doc comments are attributes.
    fn visit_attribute(&mut self, _: &Attribute) {}
}

/// Whether an item is compiled for tests alone.
fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(list) if list.path.is_ident("cfg") => {
            let condition = list.tokens.to_string();
            let all = condition.starts_with("all") && !condition.contains("not");
            condition == "test" || all && condition.contains("test")
        }
        Meta::List(_) | Meta::NameValue(_) => false,
    })
}

fn is_exported_macro(item: &Item) -> bool {
    let mut attributes = attributes(item).iter();
    attributes.any(|attribute| attribute.path().is_ident("macro_export"))
}

fn path_attribute(attributes: &[Attribute]) -> Option<String> {
    let mut values = attributes.iter().filter_map(|attribute| {
        let Meta::NameValue(meta) = &attribute.meta else {
            return None;
        };
        let syn::Expr::Lit(value) = &meta.value else {
            return None;
        };
        let syn::Lit::Str(value) = &value.lit else {
            return None;
        };
        meta.path.is_ident("path").then(|| value.value())
    });
    values.next()
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn name_of(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Mod(item) => &item.ident,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::TraitAlias(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(name.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks the cycles among these files, of which the first is the root.
    #[track_caller]
    fn check(files: &[(&str, &str)], expected: &[&str]) {
        let read = |path: &Path| {
            let mut files = files.iter().filter(|(name, _)| Path::new(name) == path);
            files.next().map(|(_, text)| (*text).to_owned())
        };
        let sources = Sources::parse(Path::new(files[0].0), &read);
        let cycles = sources.cycles();
        let cycles: Vec<String> = cycles.iter().map(ToString::to_string).collect();
        assert_eq!(cycles, expected);
    }

    const ROOT: (&str, &str) = ("lib.rs", "mod a;\nmod b;");
    const A: (&str, &str) = ("a.rs", "use crate::b::B;\npub(crate) struct A(B);");
    const CYCLE: &str = "a.rs:1 imports b.rs by crate::b::B, b.rs:2 imports a.rs by crate::a::A";

    #[test]
    fn files_that_import_in_one_direction_are_no_cycle() {
        check(&[ROOT, A, ("b.rs", "pub(crate) struct B;")], &[]);
    }

    #[test]
    fn a_cycle_is_found_inside_a_function_body() {
        let b = "pub(crate) struct B;\nfn f() { if true { let _ = crate::a::A::new(); } }";
        let found = CYCLE.replace("A::A", "A");
        check(&[ROOT, A, ("b.rs", b)], &[&format!("{found}::new")]);
    }

    #[test]
    fn a_cycle_is_found_in_a_use_inside_a_function_body() {
        let b = "pub(crate) struct B;\nfn f() { use crate::a::A; }";
        check(&[ROOT, A, ("b.rs", b)], &[CYCLE]);
    }

    #[test]
    fn a_cycle_is_found_in_a_type_and_in_a_trait_bound() {
        let b = "pub(crate) struct B;\nfn f(_: Vec<Option<crate::a::A>>) {}";
        check(&[ROOT, A, ("b.rs", b)], &[CYCLE]);
        let b = "pub(crate) struct B;\nimpl<T: crate::a::A> Clone for B<T> {}";
        check(&[ROOT, A, ("b.rs", b)], &[CYCLE]);
    }

    #[test]
    fn a_cycle_is_found_by_super() {
        let b = "pub(crate) struct B;\nuse super::a::A;";
        check(
            &[ROOT, A, ("b.rs", b)],
            &[&CYCLE.replace("crate::a", "super::a")],
        );
    }

    #[test]
    fn a_cycle_is_found_by_super_in_a_nested_folder() {
        check(
            &[
                ("lib.rs", "mod x;"),
                ("x/mod.rs", "mod y;\nmod z;"),
                ("x/y.rs", "fn f() { super::z::g() }"),
                ("x/z/mod.rs", "mod deep;\npub(crate) fn g() { deep::h() }"),
                ("x/z/deep.rs", "pub(crate) fn h() { super::super::y::f() }"),
            ],
            &["x/y.rs:1 imports x/z/mod.rs by super::z::g, \
               x/z/mod.rs:2 imports x/z/deep.rs by deep::h, \
               x/z/deep.rs:1 imports x/y.rs by super::super::y::f"],
        );
    }

    #[test]
    fn a_cycle_is_found_in_a_use_tree_of_several_lines() {
        let b =
            "pub(crate) struct B;\nuse crate::{\n    std::{fmt},\n    a::{self, A as Renamed},\n};";
        let found = CYCLE.replace("crate::a::A", "crate::a");
        check(&[ROOT, A, ("b.rs", b)], &[&found]);
    }

    #[test]
    fn a_cycle_is_found_by_self_and_by_the_name_of_a_child() {
        let child = "pub(crate) fn f() { super::g() }";
        for path in ["self::child::f", "child::f", "crate::child::f"] {
            let root = format!("mod child;\nfn g() {{ {path}() }}");
            let found = format!(
                "lib.rs:2 imports child.rs by {path}, child.rs:1 imports lib.rs by super::g"
            );
            check(&[("lib.rs", &root), ("child.rs", child)], &[&found]);
        }
    }

    #[test]
    fn a_cycle_is_found_by_the_name_of_an_imported_module() {
        let a = "use crate::b;\nfn f() { b::g() }";
        let b = "use crate::a;\npub(crate) fn g() { a::f() }";
        let found = "a.rs:1 imports b.rs by crate::b, b.rs:1 imports a.rs by crate::a";
        check(&[ROOT, ("a.rs", a), ("b.rs", b)], &[found]);
    }

    #[test]
    fn a_cycle_is_found_in_the_arguments_and_in_the_body_of_a_macro() {
        let b = "pub(crate) struct B;\nfn f() { println!(\"{}\", g(1, [crate::a::A])) }";
        check(&[ROOT, A, ("b.rs", b)], &[CYCLE]);
        let b = "pub(crate) struct B;\nmacro_rules! m { ($x:expr) => { $crate::a::A } }";
        check(&[ROOT, A, ("b.rs", b)], &[CYCLE]);
        let b = "pub(crate) struct B;\nmacro_rules! m { () => { use crate::{b::B, a::A}; } }";
        check(&[ROOT, A, ("b.rs", b)], &[CYCLE]);
    }

    #[test]
    fn a_cycle_is_found_through_an_exported_macro() {
        let root = "mod a;\nmod b;";
        let a = "#[macro_export] macro_rules! m { () => { $crate::b::f() } }";
        let b = "pub fn f() {}\nfn g() { crate::m!() }";
        let found = "a.rs:1 imports b.rs by crate::b::f, b.rs:2 imports a.rs by crate::m";
        check(&[("lib.rs", root), ("a.rs", a), ("b.rs", b)], &[found]);
    }

    #[test]
    fn a_cycle_of_three_files_is_reported_once() {
        let c = "use crate::a::A;";
        check(
            &[
                ("lib.rs", "mod a; mod b; mod c;"),
                ("a.rs", "use crate::b::B; pub struct A;"),
                ("b.rs", "use crate::c::C; pub struct B;"),
                ("c.rs", c),
            ],
            &[
                "a.rs:1 imports b.rs by crate::b::B, b.rs:1 imports c.rs by crate::c::C, \
               c.rs:1 imports a.rs by crate::a::A",
            ],
        );
    }

    #[test]
    fn a_reexport_stands_for_the_file_that_defines_the_item() {
        check(
            &[
                ("lib.rs", "mod x;\npub use x::Y;"),
                (
                    "x/mod.rs",
                    "mod y;\nmod z;\npub use y::Y;\npub use self::z::*;",
                ),
                ("x/y.rs", "pub struct Y;"),
                (
                    "x/z.rs",
                    "use super::Y;\nuse crate::Y as Same;\npub struct Z;",
                ),
            ],
            &[],
        );
    }

    #[test]
    fn a_reexport_hides_no_cycle() {
        check(
            &[
                ("lib.rs", "mod x;\npub use x::{Y, Z};"),
                ("x/mod.rs", "mod y;\nmod z;\npub use y::*;\npub use z::Z;"),
                ("x/y.rs", "use crate::Z;\npub struct Y;"),
                ("x/z.rs", "use super::Y;\npub struct Z;"),
            ],
            &["x/y.rs:1 imports x/z.rs by crate::Z, x/z.rs:1 imports x/y.rs by super::Y"],
        );
    }

    #[test]
    fn an_item_of_a_parent_that_names_its_child_is_a_cycle() {
        let root = "mod child;\npub use child::Child;\npub struct Parent;";
        let child = "pub struct Child(super::Parent);";
        let found =
            "lib.rs:2 imports child.rs by child::Child, child.rs:1 imports lib.rs by super::Parent";
        check(&[("lib.rs", root), ("child.rs", child)], &[found]);
    }

    #[test]
    fn comments_attributes_visibilities_and_tests_do_not_count() {
        let b = "//! See [`crate::a::A`].\npub(crate) struct B;\n/// Like [`A`](crate::a::A).\n\
                 #[doc = \"crate::a::A\"]\nfn f() { /* crate::a::A */ let _ = \"crate::a::A\"; }\n\
                 pub(in crate::a) fn g() {}\n\
                 #[cfg(test)]\nmod tests { use crate::a::A; }\n#[cfg(test)]\nfn h() { crate::a::A }";
        check(&[ROOT, A, ("b.rs", b)], &[]);
    }

    #[test]
    fn a_path_that_ends_with_a_variable_of_a_macro_does_not_count() {
        let b = "pub(crate) struct B;\nmacro_rules! m { ($x:ident) => { $crate::a::$x() } }";
        check(&[ROOT, A, ("b.rs", b)], &[]);
    }

    #[test]
    fn other_crates_and_local_names_do_not_count() {
        let b = "use async_trait::async_trait;\nuse ::a::A;\npub(crate) struct B;\n\
                 fn f<T: Iterator>(a: T::Item) { std::mem::drop(a); T::next() }";
        check(&[ROOT, A, ("b.rs", b)], &[]);
    }
}
