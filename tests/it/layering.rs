//! Which crate may depend on which, which file may import which, and how long files and functions may be.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use syn::visit::{self, Visit};

use crate::imports::Sources;

/// The folders and files of the core, from the bottom up: each may import itself and those before it.
const LAYERS: [&str; 16] = [
    "fault",
    "metrics",
    "model",
    "schema",
    "write",
    "store",
    "broker",
    "error",
    "live",
    "engine",
    "protocol",
    "http",
    "websocket",
    "conformance",
    "fuzzing",
    "lib",
];

/// The most lines that a file may have, without the unit tests at its foot.
const MAX_FILE_LINES: usize = 450;
/// The most lines that a function may have, without its attributes and doc comment.
const MAX_FUNCTION_LINES: usize = 80;

/// The crates of this workspace that a crate may depend on; `None` for one that may depend on all.
fn allowed_dependencies(name: &str) -> Option<&'static [&'static str]> {
    Some(match name {
        "fieldsync" => &[],
        "fieldsync-actix" | "fieldsync-axum" | "fieldsync-redis" | "fieldsync-sql" => {
            &["fieldsync"]
        }
        "fieldsync-postgres" | "fieldsync-sqlite" => &["fieldsync", "fieldsync-sql"],
        "fieldsync-bench" | "fieldsync-cli" | "fieldsync-examples" | "fieldsync-tests" => {
            return None;
        }
        other => panic!("add {other} to allowed_dependencies"),
    })
}

/// Web frameworks and database drivers, which the core does not depend on.
const FOREIGN_TO_THE_CORE: [&str; 6] = [
    "actix-web",
    "axum",
    "hyper",
    "redis",
    "rusqlite",
    "tokio-postgres",
];

/// The description of the workspace by cargo.
fn workspace() -> Value {
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .output()
        .unwrap();
    serde_json::from_slice(&metadata.stdout).unwrap()
}

#[test]
fn crates_depend_on_the_core_and_their_own_library() {
    for package in workspace()["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let Some(allowed) = allowed_dependencies(name) else {
            continue;
        };
        for dependency in package["dependencies"].as_array().unwrap() {
            let on = dependency["name"].as_str().unwrap();
            let is_ours = on.starts_with("fieldsync") && dependency["kind"] != "dev";
            let is_foreign = name == "fieldsync" && FOREIGN_TO_THE_CORE.contains(&on);
            assert!(
                !is_foreign && (!is_ours || allowed.contains(&on)),
                "{name} must not depend on {on}"
            );
        }
    }
}

/// The root files of the libraries and programs in `crates/`, with the names of their packages.
fn roots() -> Vec<(String, PathBuf)> {
    let workspace = workspace();
    let crates = Path::new(workspace["workspace_root"].as_str().unwrap()).join("crates");
    let mut roots = Vec::new();
    for package in workspace["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        for target in package["targets"].as_array().unwrap() {
            let root = PathBuf::from(target["src_path"].as_str().unwrap());
            let is_shipped = ["lib", "bin"].map(Value::from).contains(&target["kind"][0]);
            if is_shipped && root.starts_with(&crates) {
                roots.push((name.to_owned(), root));
            }
        }
    }
    assert!(roots.len() >= 7, "{roots:?}");
    roots
}

/// The Rust files in a folder and in those below it.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let files = entries.flat_map(|entry| {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => rust_files(&path),
            false => vec![path],
        }
    });
    let is_rust = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "rs");
    files.filter(is_rust).collect()
}

#[test]
fn no_two_files_of_a_crate_import_each_other() {
    let mut report = String::new();
    for (name, root) in roots() {
        for cycle in Sources::read(&root).cycles() {
            report += &format!("{name}: {cycle}\n");
        }
    }
    assert!(
        report.is_empty(),
        "these files import each other:\n{report}"
    );
}

#[test]
fn the_import_check_reads_every_file() {
    for (name, root) in roots() {
        let folder = root.parent().unwrap();
        let sources = Sources::read(&root);
        let read: BTreeSet<PathBuf> = sources.files().map(|file| folder.join(file)).collect();
        for file in rust_files(folder) {
            if is_test_only(&file) {
                continue;
            }
            assert!(read.contains(&file), "{name}: {} is unread", file.display());
        }
    }
}

/// Whether a file is a module of the tests alone: `#[cfg(test)] mod name;`.
fn is_test_only(file: &Path) -> bool {
    let name = file.file_stem().unwrap().to_string_lossy();
    let declared = format!("#[cfg(test)]\nmod {name};");
    let parents = ["lib.rs", "mod.rs"].map(|parent| file.with_file_name(parent));
    let texts = parents
        .iter()
        .filter_map(|parent| std::fs::read_to_string(parent).ok());
    texts.into_iter().any(|text| text.contains(&declared))
}

/// The layer of a file of the core: the position of its folder, or of its own name, in `LAYERS`.
fn layer_of(file: &str) -> usize {
    let name = file.split('/').next().unwrap().trim_end_matches(".rs");
    let layer = LAYERS.iter().position(|layer| *layer == name);
    layer.unwrap_or_else(|| panic!("add {name}, of {file}, to LAYERS"))
}

#[test]
fn the_layers_of_the_core_import_only_those_below() {
    let (_, root) = roots()
        .into_iter()
        .find(|(name, _)| name == "fieldsync")
        .unwrap();
    let sources = Sources::read(&root);
    let wrong = sources.imports().filter_map(|(from, to, import)| {
        (layer_of(from) < layer_of(to)).then(|| format!("{import}\n"))
    });
    let report: String = wrong.collect();
    assert!(report.is_empty(), "these imports go up:\n{report}");
}

/// Finds the functions that are too long.
#[derive(Default)]
struct LongFunctions(Vec<String>);

impl LongFunctions {
    fn check(&mut self, signature: &syn::Signature, body: &syn::Block) {
        let end = body.brace_token.span.close().end().line;
        let lines = end + 1 - signature.fn_token.span.start().line;
        if lines > MAX_FUNCTION_LINES {
            self.0
                .push(format!("{} has {lines} lines", signature.ident));
        }
    }
}

impl Visit<'_> for LongFunctions {
    fn visit_item_fn(&mut self, function: &syn::ItemFn) {
        self.check(&function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &syn::ImplItemFn) {
        self.check(&function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.check(&function.sig, block);
        }
        visit::visit_trait_item_fn(self, function);
    }
}

/// What is too long in the text of a file.
fn too_long(text: &str) -> Vec<String> {
    let is_test = |line: &str| line.starts_with("#[cfg(test)]");
    let lines = text.lines().take_while(|line| !is_test(line)).count();
    let mut functions = LongFunctions::default();
    functions.visit_file(&syn::parse_file(text).unwrap());
    let mut found = functions.0;
    if lines > MAX_FILE_LINES {
        found.push(format!("it has {lines} lines"));
    }
    found
}

#[test]
fn no_file_and_no_function_is_too_long() {
    let mut report = String::new();
    for (name, root) in roots() {
        let folder = root.parent().unwrap();
        for file in rust_files(folder) {
            let text = std::fs::read_to_string(&file).unwrap();
            for problem in too_long(&text) {
                let file = file.strip_prefix(folder).unwrap().display();
                report += &format!("{name}: {file}: {problem}\n");
            }
        }
    }
    assert!(report.is_empty(), "split these:\n{report}");
}

#[test]
fn a_long_file_and_a_long_function_are_found() {
    let body = "    let _ = 1;\n";
    let function = |lines: usize| format!("async fn f() {{\n{}}}\n", body.repeat(lines - 2));
    assert_eq!(too_long(&function(80)), [""; 0]);
    assert_eq!(too_long(&function(81)), ["f has 81 lines"]);
    let method = format!(
        "impl T {{\n/// Documented.\n#[inline]\npub {}}}",
        function(81)
    );
    assert_eq!(too_long(&method), ["f has 81 lines"]);
    let tests = format!(
        "#[cfg(test)]\nmod tests {{\n{}}}\n",
        "fn f() {}\n".repeat(9)
    );
    let file = |lines: usize| format!("{}{tests}", "fn f() {}\n".repeat(lines));
    assert_eq!(too_long(&file(450)), [""; 0]);
    assert_eq!(too_long(&file(451)), ["it has 451 lines"]);
}
