//! `cargo xtask test`: every check and every test, and one line that sums them up.
//!
//! A test that cannot run prints `skipped: reason` and appends that line to the file that the
//! environment variable [`SKIPS_VARIABLE`] names; what that file holds at the end was skipped. Totals
//! come from the `test result:` lines of `cargo test`. Each check that is not a test (format, lints,
//! documentation, benches) counts as one.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::Context;

use crate::{process, setup};

/// Names the file that a test which cannot run appends its `skipped: reason` line to.
const SKIPS_VARIABLE: &str = "STRANDLINE_SKIPS";

/// What a skipped test means for the whole run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Skips {
    /// It is listed.
    Report,
    /// It is listed, and the run fails.
    Fail,
}

impl Skips {
    /// Skips fail where `CI` is set to anything but nothing, `0` or `false`.
    pub(crate) fn from_environment() -> Self {
        match env::var("CI").unwrap_or_default().as_str() {
            "" | "0" | "false" => Self::Report,
            _ => Self::Fail,
        }
    }
}

/// Installs what the tests need, runs everything, and prints the sum.
pub(crate) fn run(root: &Path, skips: Skips) -> anyhow::Result<ExitCode> {
    setup::prepare(root)?;
    let skips_file = root.join(".test-env/skipped");
    fs::write(&skips_file, "").context("empty .test-env/skipped")?;

    let mut sum = Sum::default();
    let mut complaints = Vec::new();
    for mut check in checks(root) {
        if process::run(&mut check.command)? {
            sum.passed += 1;
        } else {
            sum.failed += 1;
            complaints.push(format!("failed: {}", check.name));
        }
    }
    let tests = run_tests(root, &skips_file)?;
    complaints.extend(tests.failures());
    sum.add(tests.counted());

    let skipped = fs::read_to_string(&skips_file).context("read .test-env/skipped")?;
    let skipped: Vec<&str> = skipped.lines().filter(|line| !line.is_empty()).collect();
    sum.skipped += skipped.len();
    println!();
    for line in skipped.into_iter().chain(complaints.iter().map(String::as_str)) {
        println!("{line}");
    }
    if skips == Skips::Fail && sum.skipped > 0 {
        println!("failed: nothing may be skipped here");
    }
    println!("{sum}");
    Ok(sum.exit_code(skips))
}

/// A check that passes or fails as a whole.
struct Check {
    name: &'static str,
    command: Command,
}

fn checks(root: &Path) -> Vec<Check> {
    let bench = root.join("bench/Cargo.toml");
    let mut docs = cargo(root, &["doc", "--workspace", "--no-deps", "--quiet"]);
    docs.env("RUSTDOCFLAGS", "-D warnings");
    let lint_bench = ["clippy", "--all-targets", "--manifest-path"];
    let mut bench_clippy = cargo(root, &lint_bench);
    bench_clippy
        .arg(&bench)
        .arg("--target-dir")
        .arg(root.join("target"))
        .args(["--", "-D", "warnings"]);
    let mut bench_format = cargo(root, &["fmt", "--check", "--manifest-path"]);
    bench_format.arg(&bench);
    vec![
        Check { name: "format", command: cargo(root, &["fmt", "--all", "--check"]) },
        Check { name: "format of bench/", command: bench_format },
        Check {
            name: "lints",
            command: cargo(
                root,
                &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"],
            ),
        },
        Check { name: "lints of bench/", command: bench_clippy },
        Check { name: "documentation", command: docs },
    ]
}

fn cargo(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.args(arguments).current_dir(root);
    command
}

fn run_tests(root: &Path, skips_file: &Path) -> anyhow::Result<Tests> {
    let mut tests = Tests::default();
    let mut of_product = cargo(root, &["test", "--workspace", "--no-fail-fast"]);
    let mut of_bench =
        cargo(root, &["test", "--no-fail-fast", "--manifest-path", "bench/Cargo.toml"]);
    of_bench.arg("--target-dir").arg(root.join("target"));
    for command in [&mut of_product, &mut of_bench] {
        command.env(SKIPS_VARIABLE, skips_file);
        tests.succeeded &= process::run_seeing(command, |line| tests.see(line))?;
    }
    Ok(tests)
}

/// What the runs of `cargo test` said.
#[derive(Debug)]
struct Tests {
    sum: Sum,
    failed: Vec<String>,
    succeeded: bool,
}

impl Default for Tests {
    fn default() -> Self {
        Self { sum: Sum::default(), failed: Vec::new(), succeeded: true }
    }
}

impl Tests {
    /// Takes one line of output.
    fn see(&mut self, line: &str) {
        if let Some(sum) = Sum::of_result_line(line) {
            self.sum.add(sum);
        } else if let Some(name) =
            line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED"))
        {
            self.failed.push(name.to_owned());
        }
    }

    /// The sum; a run that failed without a failed test (a test that does not compile, a test binary
    /// that aborts) counts as one failure.
    fn counted(&self) -> Sum {
        let unexplained = usize::from(!self.succeeded && self.sum.failed == 0);
        Sum { failed: self.sum.failed + unexplained, ..self.sum }
    }

    fn failures(&self) -> Vec<String> {
        let mut lines: Vec<String> =
            self.failed.iter().map(|name| format!("failed: {name}")).collect();
        if !self.succeeded && lines.is_empty() {
            lines.push("failed: the tests did not build or did not end".to_owned());
        }
        lines
    }
}

/// How many checks and tests ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Sum {
    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    /// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; ...`; an ignored test was skipped.
    fn of_result_line(line: &str) -> Option<Self> {
        let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
        let count = |what: &str| {
            counts
                .split("; ")
                .find_map(|part| part.strip_suffix(what)?.trim().parse::<usize>().ok())
        };
        Some(Self {
            passed: count("passed")?,
            failed: count("failed")?,
            skipped: count("ignored")?,
        })
    }

    fn exit_code(self, skips: Skips) -> ExitCode {
        let failed = self.failed > 0 || (skips == Skips::Fail && self.skipped > 0);
        // A run that tested nothing has shown nothing.
        if failed || self.passed == 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}

impl std::fmt::Display for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

#[cfg(test)]
mod tests {
    //! Goal: nothing that failed or was skipped goes missing in the sum, and the exit code says so.

    use super::*;

    #[track_caller]
    fn check(lines: &[&str], succeeded: bool, want: Sum) {
        let mut tests = Tests { succeeded, ..Tests::default() };
        for line in lines {
            tests.see(line);
        }
        assert_eq!(tests.counted(), want);
        assert_eq!(tests.failures().is_empty(), want.failed == 0);
    }

    #[test]
    fn the_results_of_all_binaries_are_added_up() {
        check(
            &[
                "running 3 tests",
                "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
                "test a::b ... FAILED",
                "test result: FAILED. 12 passed; 1 failed; 2 ignored; 0 measured; 4 filtered out; finished in 1s",
            ],
            false,
            Sum { passed: 15, failed: 1, skipped: 2 },
        );
    }

    #[test]
    fn a_build_that_fails_is_one_failure() {
        check(&[], false, Sum { passed: 0, failed: 1, skipped: 0 });
    }

    #[test]
    fn a_line_that_only_looks_like_a_result_is_not_one() {
        assert_eq!(Sum::of_result_line("test result: unknown"), None);
        assert_eq!(Sum::of_result_line("3 passed; 0 failed; 0 ignored"), None);
    }

    #[test]
    fn skips_fail_only_where_they_must() {
        let sum = Sum { passed: 1, failed: 0, skipped: 1 };
        assert_eq!(sum.exit_code(Skips::Report), ExitCode::SUCCESS);
        assert_eq!(sum.exit_code(Skips::Fail), ExitCode::FAILURE);
        assert_eq!(Sum { skipped: 0, ..sum }.exit_code(Skips::Fail), ExitCode::SUCCESS);
    }

    #[test]
    fn a_run_without_a_test_is_a_failure() {
        assert_eq!(Sum::default().exit_code(Skips::Report), ExitCode::FAILURE);
    }

    #[test]
    fn the_sum_is_one_plain_line() {
        assert_eq!(
            Sum { passed: 3, failed: 1, skipped: 2 }.to_string(),
            "3 passed, 1 failed, 2 skipped"
        );
    }
}
