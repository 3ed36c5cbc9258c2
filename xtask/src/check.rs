//! `cargo xtask test`: every check and every test, and one line that sums them up.
//!
//! A test that cannot run prints a line `skipped: reason`. `cargo test` is asked for what passing tests print
//! (`--show-output`); it is read for such lines and not shown. Totals come from the `test result:` lines. Each
//! check that is not a test (format, lints, documentation) counts as one. Lines `covered: ...`, in which a test
//! says how much it looked at, are repeated at the end. `DURABLE_LOG_CRASHES=all` is set, so that the crash tests
//! look at all that they can. Where nothing may be skipped, the check by mutation (`mutations`) follows.

use std::env;
use std::path::Path;
use std::process::{Command, ExitCode};

use crate::{mutations, process, setup};

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
    let mut sum = Sum::default();
    let mut notes = Vec::new();
    for mut check in checks(root) {
        if process::run(&mut check.command)? {
            sum.passed += 1;
        } else {
            sum.failed += 1;
            notes.push(format!("failed: {}", check.name));
        }
    }
    let tests = run_tests(root)?;
    sum.add(tests.counted());
    notes.extend(tests.notes());
    if skips == Skips::Fail {
        let noticed = mutations::run(root, "");
        match &noticed {
            Ok(true) => sum.passed += 1,
            Ok(false) => notes.push("failed: a missing step of the log goes unnoticed".to_owned()),
            Err(error) => notes.push(format!("failed: the check by mutation: {error:#}")),
        }
        sum.failed += usize::from(!matches!(noticed, Ok(true)));
    }

    println!();
    for note in notes {
        println!("{note}");
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
    let mut lint_schedules =
        cargo(root, &["clippy", "--package", "durable-log", "--lib", "--tests"]);
    lint_schedules.args(["--features", "shuttle", "--", "-D", "warnings"]);
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
        Check { name: "lints of durable-log under shuttle", command: lint_schedules },
        Check { name: "lints of bench/", command: bench_clippy },
        Check { name: "documentation", command: docs },
    ]
}

fn cargo(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.args(arguments).current_dir(root);
    command
}

fn run_tests(root: &Path) -> anyhow::Result<Tests> {
    let mut tests = Tests::default();
    let mut of_product = cargo(root, &["test", "--workspace", "--no-fail-fast"]);
    let mut of_bench =
        cargo(root, &["test", "--no-fail-fast", "--manifest-path", "bench/Cargo.toml"]);
    of_bench.arg("--target-dir").arg(root.join("target"));
    // Its own run: with the feature, the log works under the tests' scheduler alone.
    let mut of_schedules = cargo(root, &["test", "--package", "durable-log", "--lib"]);
    of_schedules.args(["--features", "shuttle", "schedules"]);
    for command in [&mut of_product, &mut of_schedules, &mut of_bench] {
        command.args(["--", "--show-output"]).env("DURABLE_LOG_CRASHES", "all");
        let succeeded = process::run_seeing(command, |line| tests.see(line))?;
        tests.end_run(succeeded);
    }
    Ok(tests)
}

/// What the runs of `cargo test` said.
#[derive(Debug, Default)]
struct Tests {
    sum: Sum,
    failed: Vec<String>,
    skipped: Vec<String>,
    covered: Vec<String>,
    /// Runs that failed although no test did: one that does not compile, a binary that aborts.
    unexplained: usize,
    /// Failures when the current run began.
    failed_before: usize,
    /// Where in the output of a test binary we are.
    in_successes: bool,
}

impl Tests {
    /// Takes one line of output, and says whether somebody wants to see it: what passing tests print, and
    /// their second list, are left out.
    fn see(&mut self, line: &str) -> bool {
        self.in_successes = match line {
            "successes:" => true,
            "failures:" => false,
            _ => self.in_successes && !line.starts_with("test result: "),
        };
        if line.starts_with("skipped: ") {
            self.skipped.push(line.to_owned());
        } else if line.starts_with("covered: ") {
            self.covered.push(line.to_owned());
        } else if let Some(sum) = Sum::of_result_line(line) {
            self.sum.add(sum);
        } else if let Some(name) =
            line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED"))
        {
            self.failed.push(name.to_owned());
        }
        !self.in_successes
    }

    /// Takes how a run of `cargo test` ended.
    fn end_run(&mut self, succeeded: bool) {
        self.unexplained += usize::from(!succeeded && self.sum.failed == self.failed_before);
        self.failed_before = self.sum.failed;
        self.in_successes = false;
    }

    fn counted(&self) -> Sum {
        Sum {
            failed: self.sum.failed + self.unexplained,
            skipped: self.sum.skipped + self.skipped.len(),
            ..self.sum
        }
    }

    /// What was covered, what was skipped and what failed, a line each.
    fn notes(&self) -> Vec<String> {
        let mut notes = [&self.covered[..], &self.skipped[..]].concat();
        notes.extend(self.failed.iter().map(|name| format!("failed: {name}")));
        let unexplained =
            "failed: a test did not build, or a test binary did not end well".to_owned();
        notes.extend(vec![unexplained; self.unexplained]);
        notes
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
    fn check(lines: &[&str], succeeded: bool, want: Sum, want_notes: &[&str]) {
        let mut tests = Tests::default();
        for line in lines {
            tests.see(line);
        }
        tests.end_run(succeeded);
        assert_eq!(tests.counted(), want);
        assert_eq!(tests.notes(), want_notes);
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
            &["failed: a::b"],
        );
    }

    #[test]
    fn a_build_that_fails_is_one_failure() {
        let note = "failed: a test did not build, or a test binary did not end well";
        check(&[], false, Sum { passed: 0, failed: 1, skipped: 0 }, &[note]);
    }

    #[test]
    fn a_run_that_fails_after_one_with_failures_counts_too() {
        let mut tests = Tests::default();
        tests.see("test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out");
        tests.end_run(false);
        tests.end_run(false);
        assert_eq!(tests.counted(), Sum { passed: 1, failed: 2, skipped: 0 });
    }

    #[test]
    fn what_passing_tests_print_is_read_but_not_shown() {
        let mut tests = Tests::default();
        let output = [
            ("test a ... ok", true),
            ("", true),
            ("successes:", false),
            ("", false),
            ("---- a stdout ----", false),
            ("skipped: no kcat", false),
            ("covered: 3 power cuts", false),
            ("a log line: skipped: nothing", false),
            ("successes:", false),
            ("    a", false),
            ("failures:", true),
            ("---- b stdout ----", true),
            ("test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out", true),
            ("running 0 tests", true),
        ];
        for (line, shown) in output {
            assert_eq!(tests.see(line), shown, "{line}");
        }
        assert_eq!(tests.notes(), ["covered: 3 power cuts", "skipped: no kcat"]);
        assert_eq!(tests.counted(), Sum { passed: 1, failed: 0, skipped: 1 });
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
