//! What every Rust file keeps to.
//!
//! The checks read text line by line and lean on `rustfmt`: a function ends at the first `}` that stands
//! as far left as its `fn`.

use super::{Page, assert_clean, assert_complains, pages};

/// Words that have no place in a finished file, with what to do instead. Written in halves so that this
/// list does not find itself.
const LEFTOVERS: &[(&str, &str)] = &[
    (concat!("FIX", "ME"), "fix it, or file an issue"),
    (concat!("TO", "DO"), "do it, or file an issue"),
    (concat!("XX", "X"), "say what is wrong, or file an issue"),
    (concat!("to", "do!"), "write the code"),
    (concat!("unimple", "mented!"), "write the code"),
    (concat!("db", "g!"), "use tracing"),
    (concat!("#[al", "low("), "use #[expect(lint, reason = \"...\")]"),
    (concat!("#![al", "low("), "use #![expect(lint, reason = \"...\")]"),
    (concat!("#[ig", "nore"), "a test that cannot run says `skipped: reason` (CONTRIBUTING.md)"),
];

/// What does I/O; a `wire` module turns bytes into messages and back, and nothing else.
const IO: &[&str] = &[
    "std::io",
    "std::net",
    "std::fs",
    "std::os",
    "std::thread",
    "std::process",
    "tokio",
    "host::",
];

/// Longest function in lines, its signature and braces included.
const FUNCTION_LINES_MAX: usize = 70;

/// Functions that may be longer, each with its reason. Make this list shorter, not longer.
const MAY_BE_LONGER: &[(&str, &str)] = &[];

fn headers(files: &[Page]) -> Vec<String> {
    let bare = files.iter().filter(|file| !file.text.starts_with("//!"));
    bare.map(|file| format!("{}:1: begin with a `//!` line that says what the file is", file.path))
        .collect()
}

fn leftovers(files: &[Page]) -> Vec<String> {
    let mut complaints = Vec::new();
    for (file, number, line) in lines(files) {
        for (word, instead) in LEFTOVERS.iter().filter(|(word, _)| contains_word(line, word)) {
            complaints.push(format!("{}:{number}: `{word}`: {instead}", file.path));
        }
    }
    complaints
}

fn io_in_wire(files: &[Page]) -> Vec<String> {
    let wire = |file: &&Page| file.path.ends_with("/wire.rs") || file.path.contains("/wire/");
    let mut complaints = Vec::new();
    for file in files.iter().filter(wire) {
        for (number, line) in file.text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            // `use std::{io, net};` names the same modules.
            let grouped = code
                .replace("std::{", "std::")
                .replace(", ", ", std::")
                .replace("use host", "host::");
            let named = if code.contains("std::{") { &grouped } else { code };
            for word in IO.iter().filter(|word| contains_word(named, word)) {
                let place = format!("{}:{}", file.path, number + 1);
                complaints.push(format!("{place}: `{word}` has no place in a wire module"));
            }
        }
    }
    complaints
}

fn long_functions(files: &[Page]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files {
        for function in functions(&file.text).filter(|function| function.lines > FUNCTION_LINES_MAX)
        {
            let place = format!("{}:{}", file.path, function.line);
            let known = format!("{}: {}", file.path, function.name);
            if !MAY_BE_LONGER.iter().any(|(name, _)| *name == known) {
                complaints.push(format!(
                    "{place}: `{}` has {} lines; {FUNCTION_LINES_MAX} are allowed: split it where a part has a name",
                    function.name, function.lines,
                ));
            }
        }
    }
    complaints
}

struct Function<'a> {
    name: &'a str,
    /// Line of the `fn`, from 1.
    line: usize,
    lines: usize,
}

fn functions(text: &str) -> impl Iterator<Item = Function<'_>> {
    let lines: Vec<&str> = text.lines().collect();
    (0..lines.len()).filter_map(move |at| {
        let name = function_name(lines[at])?;
        let indent = indent_of(lines[at]);
        if lines[at].ends_with([';', '}']) {
            return None;
        }
        let same_indent = (at + 1..lines.len())
            .filter(|&next| !lines[next].is_empty() && indent_of(lines[next]) == indent);
        let mut ends =
            same_indent.filter(|&next| lines[next] == end(indent) || lines[next].ends_with(';'));
        let last = ends.next()?;
        Some(Function { name, line: at + 1, lines: last - at + 1 })
    })
}

/// The closing brace of something that begins `indent` spaces in.
fn end(indent: usize) -> String {
    format!("{}}}", " ".repeat(indent))
}

/// `read` for a line such as `    pub(crate) async fn read<T>(`.
fn function_name(line: &str) -> Option<&str> {
    let mut rest = line.trim_start();
    loop {
        if let Some(name) = rest.strip_prefix("fn ") {
            let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
            return Some(&name[..end]);
        }
        let (word, after) = rest.split_once(' ')?;
        let qualifier = ["pub", "const", "async", "unsafe", "extern", "\"C\"", "default"]
            .contains(&word)
            || word.starts_with("pub(");
        rest = if qualifier { after } else { return None };
    }
}

fn indent_of(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

fn lines(files: &[Page]) -> impl Iterator<Item = (&Page, usize, &str)> {
    files
        .iter()
        .flat_map(|file| file.text.lines().enumerate().map(move |(at, line)| (file, at + 1, line)))
}

/// Whether `word` stands in `line` with no letter, digit or `_` on either side of it.
fn contains_word(line: &str, word: &str) -> bool {
    let part_of_name = |c: char| c.is_alphanumeric() || c == '_';
    let open_start = !word.starts_with(part_of_name);
    let open_end = !word.ends_with(part_of_name);
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        (open_start || !before.is_some_and(part_of_name))
            && (open_end || !after.is_some_and(part_of_name))
    })
}

#[test]
fn every_file_says_what_it_is() {
    assert_clean(&headers(&pages(".rs")));
}

#[test]
fn nothing_is_left_over() {
    assert_clean(&leftovers(&pages(".rs")));
}

#[test]
fn wire_modules_do_no_io() {
    assert_clean(&io_in_wire(&pages(".rs")));
}

#[test]
fn functions_stay_short() {
    assert_clean(&long_functions(&pages(".rs")));
}

#[test]
fn functions_that_may_be_longer_are_still_longer() {
    let files = pages(".rs");
    for (known, _) in MAY_BE_LONGER {
        let longer = files.iter().any(|file| {
            functions(&file.text).any(|function| {
                function.lines > FUNCTION_LINES_MAX
                    && format!("{}: {}", file.path, function.name) == *known
            })
        });
        assert!(longer, "take {known} off MAY_BE_LONGER: it is short now, or gone");
    }
}

#[test]
fn a_file_without_a_header_is_found() {
    let files = [Page::new("a.rs", "//! Says.\n"), Page::new("b.rs", "use std::fmt;\n")];
    assert_complains(&headers(&files), &["b.rs:1: begin with"]);
}

#[test]
fn each_leftover_is_found() {
    for (word, instead) in LEFTOVERS {
        let text = format!("//! Says.\nfn a() {{ {word} }}\n");
        assert_complains(
            &leftovers(&[Page::new("a.rs", &text)]),
            &[&format!("a.rs:2: `{word}`: {instead}")],
        );
    }
}

#[test]
fn a_word_inside_a_name_is_no_leftover() {
    let text = "//! tempfile.XXXXXX, TODOS, mastodon!\n";
    assert_clean(&leftovers(&[Page::new("a.rs", text)]));
}

#[test]
fn io_in_a_wire_module_is_found() {
    let text = "//! Wire.\nuse std::io::Read; // std::net\nuse std::{fmt, net};\nuse tokio::io;\nlet a = b.host::c;\n";
    let wanted = [
        "wire.rs:2: `std::io`",
        "wire.rs:3: `std::net`",
        "wire.rs:4: `tokio`",
        "wire.rs:5: `host::`",
    ];
    assert_complains(&io_in_wire(&[Page::new("crates/kafka/src/wire.rs", text)]), &wanted);
    assert_eq!(io_in_wire(&[Page::new("crates/kafka/src/wire/codec.rs", text)]).len(), 4);
    assert_clean(&io_in_wire(&[Page::new("crates/kafka/src/server.rs", text)]));
}

#[test]
fn a_field_called_host_is_no_io() {
    assert_clean(&io_in_wire(&[Page::new(
        "crates/kafka/src/wire.rs",
        "pub host: String, // host::x\n",
    )]));
}

fn function_of(body_lines: usize) -> String {
    format!(
        "impl A {{\n    pub(crate) async fn long(\n        a: u8,\n    ) -> u8 {{\n{}    }}\n}}\n",
        "        a;\n".repeat(body_lines)
    )
}

#[test]
fn a_long_function_is_found() {
    let files = [Page::new("a.rs", &function_of(FUNCTION_LINES_MAX - 3))];
    assert_complains(&long_functions(&files), &["a.rs:2: `long` has 71 lines"]);
}

#[test]
fn a_function_of_just_the_limit_is_fine() {
    assert_clean(&long_functions(&[Page::new("a.rs", &function_of(FUNCTION_LINES_MAX - 4))]));
}

#[test]
fn a_function_without_a_body_has_no_length() {
    let text = format!(
        "trait A {{\n    fn a(\n        a: u8,\n    ) -> u8;\n{}}}\n",
        "    // x\n".repeat(80)
    );
    assert_clean(&long_functions(&[Page::new("a.rs", &text)]));
}
