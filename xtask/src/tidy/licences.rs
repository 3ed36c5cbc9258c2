//! What we build on may be used by anybody who uses us: every dependency offers a permissive licence.
//!
//! The expressions are those of SPDX, as crates give them (<https://spdx.github.io/spdx-spec/v2.3/SPDX-license-expressions/>);
//! an old `/` means `OR`.

use std::process::Command;

use super::assert_clean;

/// Licences that ask for no more than to be named.
const PERMISSIVE: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    // For data: the root certificates of TLS.
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Whether the expression lets one choose permissive licences alone.
fn is_permissive(expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    either(&mut words) && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

/// `both OR both ...`; reads to the end of it whatever it finds.
fn either(words: &mut Words<'_>) -> bool {
    let mut permissive = both(words);
    while words.next_if_eq(&"OR").is_some() {
        permissive |= both(words);
    }
    permissive
}

/// `one AND one ...`
fn both(words: &mut Words<'_>) -> bool {
    let mut permissive = one(words);
    while words.next_if_eq(&"AND").is_some() {
        permissive &= one(words);
    }
    permissive
}

/// A licence, perhaps `WITH` an exception (which only ever permits more), or parentheses.
fn one(words: &mut Words<'_>) -> bool {
    let Some(word) = words.next() else { return false };
    if word == "(" {
        return either(words) & (words.next() == Some(")"));
    }
    if words.next_if_eq(&"WITH").is_some() {
        words.next();
    }
    PERMISSIVE.contains(&word)
}

/// Complaints about packages given as name and licence.
fn complaints<'a>(packages: impl Iterator<Item = (&'a str, Option<&'a str>)>) -> Vec<String> {
    let refused = packages.filter(|(_, licence)| !licence.is_some_and(is_permissive));
    refused
        .map(|(name, licence)| format!("{name}: licence {licence:?} is not permissive"))
        .collect()
}

#[test]
fn every_dependency_is_permissive() {
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--all-features"])
        .current_dir(crate::root())
        .output()
        .expect("cargo runs");
    assert!(metadata.status.success(), "{}", String::from_utf8_lossy(&metadata.stderr));
    let metadata: serde_json::Value =
        serde_json::from_slice(&metadata.stdout).expect("cargo writes JSON");
    let packages = metadata["packages"].as_array().expect("cargo lists packages");
    assert_clean(&complaints(packages.iter().map(|package| {
        (package["name"].as_str().expect("a package has a name"), package["license"].as_str())
    })));
}

#[track_caller]
fn check(expression: &str, want: bool) {
    assert_eq!(is_permissive(expression), want, "{expression}");
    assert_eq!(complaints([("x", Some(expression))].into_iter()).is_empty(), want);
}

#[test]
fn one_permissive_choice_is_enough() {
    check("MIT", true);
    check("GPL-3.0-only", false);
    check("Apache-2.0 OR GPL-2.0-only", true);
    check("LGPL-2.1-or-later OR MIT", true);
    check("Apache-2.0 WITH LLVM-exception OR AGPL-3.0", true);
    check("MIT/Apache-2.0", true);
}

#[test]
fn where_both_apply_both_must_be_permissive() {
    check("MIT AND BSD-3-Clause", true);
    check("MIT AND GPL-3.0-only", false);
    check("(MIT OR Apache-2.0) AND Unicode-3.0", true);
    check("(GPL-2.0-only OR MIT) AND AGPL-3.0", false);
}

#[test]
fn what_is_not_an_expression_is_not_permissive() {
    check("", false);
    check("(MIT", false);
    check("MIT Apache-2.0", false);
    assert_eq!(complaints([("x", None)].into_iter()).len(), 1);
}
