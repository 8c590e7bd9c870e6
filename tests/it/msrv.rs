//! The `rust-version` that the published crates declare: no dependency may ask for a newer one. Clippy's
//! `incompatible_msrv` checks the code of the workspace itself.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

#[test]
fn no_dependency_of_a_published_crate_needs_a_newer_rust() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--format-version", "1"])
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo metadata failed: {error}");
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = by_id(&metadata["packages"]);
    let dependencies = by_id(&metadata["resolve"]["nodes"]);

    let published: Vec<&str> = strings(&metadata["workspace_members"])
        .filter(|id| packages[id]["publish"].is_null())
        .collect();
    assert!(
        published.len() >= 6,
        "few crates are published: {published:?}"
    );

    let mut too_new = BTreeSet::new();
    for member in published {
        let ours = rust_version(packages[member]).expect("a published crate declares one");
        for id in reachable(member, &dependencies) {
            let package = packages[id];
            if rust_version(package).is_some_and(|theirs| theirs > ours) {
                let (name, version) = (text(&package["name"]), text(&package["version"]));
                let theirs = text(&package["rust_version"]);
                let member = text(&packages[member]["name"]);
                too_new.insert(format!(
                    "{member} uses {name} {version}, which needs Rust {theirs}"
                ));
            }
        }
    }
    assert!(
        too_new.is_empty(),
        "raise rust-version in Cargo.toml, or take an older version: {too_new:#?}"
    );
}

/// The normal and build dependencies of a package, direct and indirect, on every platform.
fn reachable<'a>(root: &'a str, nodes: &BTreeMap<&'a str, &'a Value>) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut unvisited = vec![root];
    while let Some(id) = unvisited.pop() {
        for dependency in nodes[id]["deps"].as_array().unwrap() {
            let kinds = dependency["dep_kinds"].as_array().unwrap();
            let is_for_tests = kinds.iter().all(|kind| kind["kind"] == "dev");
            let id = text(&dependency["pkg"]);
            if !is_for_tests && reached.insert(id) {
                unvisited.push(id);
            }
        }
    }
    reached
}

/// `1.89` and `1.89.0` are the same version.
fn rust_version(package: &Value) -> Option<[u32; 3]> {
    let mut version = [0; 3];
    let parts = package["rust_version"].as_str()?.split('.');
    for (number, part) in version.iter_mut().zip(parts) {
        *number = part.parse().unwrap();
    }
    Some(version)
}

fn by_id(list: &Value) -> BTreeMap<&str, &Value> {
    let list = list.as_array().unwrap().iter();
    list.map(|item| (text(&item["id"]), item)).collect()
}

fn strings(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().unwrap().iter().map(text)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}
