//! Habits of this repository that a test checks, so that reviewers need not.
//!
//! Each check takes the files as text and returns complaints of the form `file:line: what to do`; none is
//! clean. Beside the run over the repository each check is made to fail on a small sample, so that it is
//! known to bite.
//!
//! - [`arrows`]: which crate may use which, and which know nothing of tokio.
//! - [`licences`]: what we build on may be used by anybody.
//! - [`source`]: headers, leftovers, wire modules without I/O, the length of functions.
//! - [`pages`]: every crate is on the map, every link leads somewhere.

mod arrows;
mod licences;
mod pages;
mod source;

use std::fs;
use std::path::Path;

/// A text file of the repository.
struct Page {
    /// Path from the root, with `/`.
    path: String,
    text: String,
}

impl Page {
    fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }
}

/// All text files below the root whose name ends with `suffix`, without build output and hidden folders.
fn pages(suffix: &str) -> Vec<Page> {
    let root = crate::root();
    let mut found = Vec::new();
    walk(&root, &root, suffix, &mut found);
    assert!(!found.is_empty(), "no {suffix} file in {}", root.display());
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn walk(root: &Path, dir: &Path, suffix: &str, found: &mut Vec<Page>) {
    for entry in fs::read_dir(dir).expect("the repository can be listed") {
        let entry = entry.expect("the repository can be listed");
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if path.is_dir() {
            if !name.starts_with('.') && !["target", "strandline-data"].contains(&name.as_str()) {
                walk(root, &path, suffix, found);
            }
        } else if name.ends_with(suffix) {
            let text = fs::read_to_string(&path).expect("a source file is readable text");
            let path = path.strip_prefix(root).expect("found below the root");
            found.push(Page { path: path.to_string_lossy().into_owned(), text });
        }
    }
}

#[track_caller]
fn assert_clean(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// Each of `wanted` is part of one complaint, in order, and there are no others.
#[track_caller]
fn assert_complains(complaints: &[String], wanted: &[&str]) {
    assert_eq!(complaints.len(), wanted.len(), "{complaints:#?}");
    for (complaint, wanted) in complaints.iter().zip(wanted) {
        assert!(complaint.contains(wanted), "{complaint:?} does not say {wanted:?}");
    }
}
