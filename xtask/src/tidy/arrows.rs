//! Which of our crates each crate may use: the arrows of `ARCHITECTURE.md`, strictly downward.
//!
//! Only what goes into the product is checked; tests may use what they like (`dev-dependencies`).

use super::{Page, assert_clean, assert_complains, pages};

/// A new arrow is a change to this list, seen in review.
const MAY_USE: &[(&str, &[&str])] = &[
    ("host", &[]),
    ("durable-log", &["host"]),
    ("block-cache", &["host"]),
    ("block-store", &["host"]),
    ("meta-store", &[]),
    ("file-tree", &[]),
    ("strands", &["host", "durable-log", "block-cache", "block-store", "meta-store"]),
    ("broker", &["host", "strands"]),
    ("volume", &["host", "strands", "file-tree"]),
    ("remote", &["host", "file-tree"]),
    ("kafka", &["host", "broker"]),
    ("mount", &["host", "file-tree"]),
    (
        "strandline",
        &[
            "host",
            "durable-log",
            "block-store",
            "meta-store",
            "file-tree",
            "strands",
            "broker",
            "volume",
            "remote",
            "kafka",
            "mount",
        ],
    ),
    ("testbed", &[]),
    ("xtask", &["testbed"]),
];

/// Crates whose functions never wait for a runtime.
const WITHOUT_TOKIO: &[&str] =
    &["host", "durable-log", "block-cache", "meta-store", "file-tree", "testbed", "xtask"];

fn complaints(manifests: &[Page]) -> Vec<String> {
    let mut complaints = Vec::new();
    for manifest in manifests {
        let table: toml::Table = manifest.text.parse().expect("cargo reads it too");
        let Some(name) = table.get("package").and_then(|package| package.get("name")?.as_str())
        else {
            continue;
        };
        let Some((_, may_use)) = MAY_USE.iter().find(|(known, _)| *known == name) else {
            complaints.push(format!(
                "{}: `{name}` is not in MAY_USE (xtask/src/tidy/arrows.rs)",
                manifest.path
            ));
            continue;
        };
        for used in dependencies(&table) {
            let ours = MAY_USE.iter().any(|(known, _)| *known == used);
            if (ours && !may_use.contains(&used.as_str()))
                || (used == "tokio" && WITHOUT_TOKIO.contains(&name))
            {
                complaints.push(format!("{}: `{name}` may not use `{used}`", manifest.path));
            }
        }
    }
    complaints
}

/// Real names of what goes into the crate itself: its own and its platform's dependencies, and those of
/// its build script.
fn dependencies(table: &toml::Table) -> Vec<String> {
    let platforms = table.get("target").and_then(toml::Value::as_table);
    let platforms =
        platforms.into_iter().flat_map(toml::Table::values).filter_map(toml::Value::as_table);
    [table]
        .into_iter()
        .chain(platforms)
        .flat_map(|table| [table.get("dependencies"), table.get("build-dependencies")])
        .filter_map(|dependencies| dependencies?.as_table())
        .flatten()
        .map(|(name, how)| {
            how.get("package").and_then(toml::Value::as_str).unwrap_or(name).to_owned()
        })
        .collect()
}

fn manifests() -> Vec<Page> {
    let mut manifests = pages("Cargo.toml");
    // What measures or fuzzes the product may use all of it.
    manifests.retain(|page| !page.path.starts_with("bench/") && !page.path.contains("/fuzz/"));
    manifests
}

#[test]
fn the_arrows_are_the_agreed_ones() {
    assert_clean(&complaints(&manifests()));
}

#[test]
fn every_crate_of_the_list_exists() {
    let manifests = manifests();
    for (name, _) in MAY_USE {
        let named = format!("name = \"{name}\"");
        assert!(
            manifests.iter().any(|page| page.text.contains(&named)),
            "MAY_USE names {name}, which is gone"
        );
    }
}

#[test]
fn the_arrows_point_downward() {
    for (place, (name, may_use)) in MAY_USE.iter().enumerate() {
        for used in *may_use {
            let below = MAY_USE.iter().position(|(known, _)| known == used);
            assert!(
                below.is_some_and(|below| below < place),
                "{name} uses {used}, which is not above it here"
            );
        }
    }
}

#[track_caller]
fn check(manifest: &str, wanted: &[&str]) {
    assert_complains(&complaints(&[Page::new("crates/x/Cargo.toml", manifest)]), wanted);
}

#[test]
fn an_arrow_upward_is_found() {
    check(
        "[package]\nname = \"kafka\"\n[dependencies]\nbroker.workspace = true\nstrands.workspace = true\nbytes = \"1\"",
        &["`kafka` may not use `strands`"],
    );
}

#[test]
fn a_renamed_or_conditional_arrow_is_found() {
    check(
        "[package]\nname = \"host\"\n[target.'cfg(unix)'.dependencies]\nx = { package = \"strands\", path = \"\" }",
        &["`host` may not use `strands`"],
    );
}

#[test]
fn tokio_in_the_core_is_found() {
    check(
        "[package]\nname = \"durable-log\"\n[build-dependencies]\ntokio = \"1\"",
        &["`durable-log` may not use `tokio`"],
    );
}

#[test]
fn tests_may_use_more() {
    check("[package]\nname = \"file-tree\"\n[dev-dependencies]\ntokio = \"1\"\nhost = \"1\"", &[]);
}

#[test]
fn a_crate_without_a_place_is_found() {
    check("[package]\nname = \"utils\"", &["`utils` is not in MAY_USE"]);
}
