//! Who may import whom: between crates, and between the modules of the core.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// What each crate may depend on, of ours.
fn allowed(name: &str) -> Option<&'static [&'static str]> {
    Some(match name {
        "fieldsync" => &[],
        "fieldsync-actix" | "fieldsync-axum" | "fieldsync-redis" | "fieldsync-sql" => {
            &["fieldsync"]
        }
        "fieldsync-postgres" | "fieldsync-sqlite" => &["fieldsync", "fieldsync-sql"],
        // Examples, tests and measurements see all.
        "fieldsync-bench" | "fieldsync-examples" | "fieldsync-tests" => return None,
        other => panic!("say in this test what {other} may depend on"),
    })
}

#[test]
fn crates_see_the_core_and_their_own_library() {
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&metadata.stdout).unwrap();
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let Some(allowed) = allowed(name) else {
            continue;
        };
        for dependency in package["dependencies"].as_array().unwrap() {
            let on = dependency["name"].as_str().unwrap();
            let foreign = name == "fieldsync"
                && [
                    "axum",
                    "actix-web",
                    "hyper",
                    "rusqlite",
                    "tokio-postgres",
                    "redis",
                ]
                .contains(&on);
            let ours = on.starts_with("fieldsync") && dependency["kind"] != "dev";
            assert!(
                !foreign && (!ours || allowed.contains(&on)),
                "{name} must not depend on {on}"
            );
        }
    }
}

/// The modules of the core, from the leaves up. A module may use those above its own line, and those on it.
const FLOORS: [&[&str]; 6] = [
    // Leaves. The traits are declared by what they carry, and `batch` is what a store calls.
    &[
        "fault",
        "record",
        "time",
        "json",
        "merge_patch",
        "schema",
        "collection",
        "authorize",
        "cursor",
        "log_bounds",
        "change",
        "edit",
        "entity_tag",
        "batch",
        "decide",
        "topic",
        "broker",
        "store",
    ],
    &["hub"],
    &["hubs", "notices", "subscription", "memory", "conformance"],
    &["commit", "feed"],
    &["settings", "engine", "builder"],
    &[
        "problem",
        "conditional",
        "http",
        "protocol",
        "handshake",
        "outlet",
        "events",
        "progress",
        "connection",
    ],
];

#[test]
fn arrows_between_modules_never_turn_round() {
    let floor_of: BTreeMap<&str, usize> = FLOORS
        .iter()
        .enumerate()
        .flat_map(|(floor, modules)| modules.iter().map(move |module| (*module, floor)))
        .collect();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/fieldsync/src");
    for file in std::fs::read_dir(source).unwrap() {
        let path = file.unwrap().path();
        let module = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if module == "lib" || path.is_dir() {
            continue;
        }
        let floor = *floor_of
            .get(&*module)
            .unwrap_or_else(|| panic!("say in this test where the module {module} lies"));
        let text = std::fs::read_to_string(&path).unwrap();
        for line in text
            .lines()
            .take_while(|line| !line.starts_with("mod tests"))
        {
            let Some(used) = line.trim().strip_prefix("use crate::") else {
                continue;
            };
            let used = used.split([':', ';', ' ']).next().unwrap();
            let below = floor_of.get(used).is_none_or(|used| *used <= floor);
            assert!(below, "{module} must not use {used}");
        }
    }
}
