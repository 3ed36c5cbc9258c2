//! What the written pages keep to: every crate is on the map, and every link leads to a file.

use std::path::Path;

use super::{Page, assert_clean, assert_complains, pages};

/// Crates that `map` does not name as code, and so do not appear in its table.
fn not_on_the_map(map: &Page, crates: &[&str]) -> Vec<String> {
    let rows: Vec<&str> =
        map.text.lines().filter(|line| line.trim_start().starts_with('|')).collect();
    let missing =
        crates.iter().filter(|name| !rows.iter().any(|row| row.contains(&format!("`{name}`"))));
    missing
        .map(|name| format!("{}: give `{name}` a row in the table of crates", map.path))
        .collect()
}

/// Links of Markdown pages, and paths below `docs/` named in sources, that lead nowhere.
fn dead_links(pages: &[Page], exists: impl Fn(&str) -> bool) -> Vec<String> {
    let mut complaints = Vec::new();
    for page in pages {
        for (number, line) in page.text.lines().enumerate() {
            let links = if page.path.ends_with(".md") { links(line) } else { named_pages(line) };
            for link in links {
                let target = if page.path.ends_with(".md") {
                    beside(&page.path, link)
                } else {
                    link.to_owned()
                };
                if !exists(&target) {
                    complaints.push(format!("{}:{}: {link} leads nowhere", page.path, number + 1));
                }
            }
        }
    }
    complaints
}

/// Targets of `[text](target)` that are files here, without their `#part`.
fn links(line: &str) -> Vec<&str> {
    let targets = line.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
    let files = targets.filter(|target| !target.contains("://") && !target.starts_with("mailto:"));
    files
        .filter_map(|target| target.split('#').next())
        .filter(|target| !target.is_empty())
        .collect()
}

/// Paths such as `docs/formats/journal.md` in a line of code.
fn named_pages(line: &str) -> Vec<&str> {
    let starts = line.match_indices("docs/").map(|(at, _)| &line[at..]);
    let paths = starts.filter_map(|rest| rest.split_inclusive(".md").next());
    paths
        .filter(|path| path.ends_with(".md"))
        .filter(|path| path.chars().all(|c| c.is_ascii_alphanumeric() || "/-_.".contains(c)))
        .collect()
}

/// Where a link in `page` leads, seen from the root.
fn beside(page: &str, link: &str) -> String {
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => _ = parts.pop(),
            name => parts.push(name),
        }
    }
    parts.join("/")
}

fn exists(path: &str) -> bool {
    crate::root().join(path).exists()
}

#[test]
fn every_crate_is_on_the_map() {
    let manifests = pages("Cargo.toml");
    let folders =
        manifests.iter().filter_map(|page| page.path.strip_prefix("crates/")?.split('/').next());
    let map = pages("ARCHITECTURE.md").remove(0);
    assert_clean(&not_on_the_map(&map, &folders.collect::<Vec<_>>()));
}

#[test]
fn every_link_leads_somewhere() {
    assert_clean(&dead_links(&pages(".md"), exists));
    let mut sources = pages(".rs");
    // This file names pages that do not exist, as samples.
    sources.retain(|page| !Path::new(&page.path).ends_with("tidy/pages.rs"));
    assert_clean(&dead_links(&sources, exists));
}

#[test]
fn a_crate_off_the_map_is_found() {
    let map = Page::new("ARCHITECTURE.md", "Talks of `kafka`.\n\n| `host` | the machine |\n");
    assert_complains(&not_on_the_map(&map, &["host", "kafka"]), &["give `kafka` a row"]);
}

#[test]
fn a_dead_link_is_found() {
    let page = Page::new(
        "docs/a.md",
        "[b](b.md), [c](../c.md#part) and [d](d/e.md)\n[web](https://x.y) [here](#here)\n",
    );
    let exists = |path: &str| ["docs/b.md", "c.md"].contains(&path);
    assert_complains(&dead_links(&[page], exists), &["docs/a.md:1: d/e.md leads nowhere"]);
}

#[test]
fn a_page_that_a_source_names_must_exist() {
    let page =
        Page::new("crates/a/src/b.rs", "//! See `docs/formats/a.md` and `docs/formats/b.md`.\n");
    let exists = |path: &str| path == "docs/formats/a.md";
    assert_complains(
        &dead_links(&[page], exists),
        &["crates/a/src/b.rs:1: docs/formats/b.md leads nowhere"],
    );
}
