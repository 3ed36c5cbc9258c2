//! `cargo xtask mutations`: leaves out each step of the log that keeps a promise, one at a time, and sees that
//! a test notices.
//!
//! `durable-log` is built once with its feature `mutation`; the step to leave out is then named by an environment
//! variable (`crates/durable-log/src/mutation.rs` lists the steps and says how). The tests are run in stages, the
//! quick and likely ones first, and a step is done with the first test that fails, or that takes too long.

use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::process;

/// Names the step to leave out.
const LEAVE_OUT: &str = "DURABLE_LOG_LEAVE_OUT";
/// How long the sequences of the crash tests are.
const CRASHES: &str = "DURABLE_LOG_CRASHES";
/// A step whose absence makes a test wait for ever is noticed too.
const STAGE_TIME_MAX: Duration = Duration::from_secs(180);
const TURN: Duration = Duration::from_millis(10);

/// Tests that are run together.
#[derive(Debug)]
struct Stage {
    name: &'static str,
    /// Parts of the tests' names.
    tests: &'static [&'static str],
    crashes: &'static str,
}

const STAGES: &[Stage] = &[
    Stage {
        name: "damage",
        tests: &[
            "damage::",
            "failures::",
            "basics::",
            "forged::",
            "trimming::",
            "recycling::",
            "truncation::",
            "crashes::an_orderly_close",
            "crashes::what_opening_removed",
        ],
        crashes: "2",
    },
    Stage { name: "short workloads", tests: &["exhaustive::"], crashes: "2" },
    Stage { name: "workloads", tests: &["crashes::", "exhaustive::", "model::"], crashes: "4" },
];

/// Leaves out each step whose name contains `only`, and prints what noticed.
pub(crate) fn run(root: &Path, only: &str) -> anyhow::Result<ExitCode> {
    let tests = build(root)?;
    let steps: Vec<Step> =
        steps(&tests)?.into_iter().filter(|step| step.name.contains(only)).collect();
    anyhow::ensure!(!steps.is_empty(), "no step is called {only}");
    let began = Instant::now();
    for stage in STAGES {
        if let Some(failure) = tests.run(stage, None)? {
            anyhow::bail!("with nothing left out, {failure}: first make the tests pass");
        }
    }
    println!("nothing left out: all tests pass ({})", seconds(began));
    let mut unnoticed = Vec::new();
    let wide = steps.iter().map(|step| step.name.len()).max().unwrap_or(0);
    for step in &steps {
        let began = Instant::now();
        let noticed = notice(&tests, step)?;
        let mut line = format!("{:wide$}  ", step.name);
        match &noticed {
            Some(failure) => write!(line, "noticed {:>6}  {failure}", seconds(began))?,
            None => write!(line, "UNNOTICED       {}", step.what)?,
        }
        println!("{line}");
        unnoticed.extend(noticed.is_none().then_some(&step.name));
    }
    println!(
        "{} steps left out one at a time, {} noticed, {} unnoticed ({})",
        steps.len(),
        steps.len() - unnoticed.len(),
        unnoticed.len(),
        seconds(began)
    );
    Ok(if unnoticed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The first test that fails without the step, if any does.
fn notice(tests: &Tests, step: &Step) -> anyhow::Result<Option<String>> {
    for stage in STAGES {
        if let Some(failure) = tests.run(stage, Some(step))? {
            return Ok(Some(failure));
        }
    }
    Ok(None)
}

/// A step that can be left out.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    name: String,
    what: String,
}

/// The tests of the log, in one program.
#[derive(Debug)]
struct Tests {
    program: PathBuf,
    /// Where they run, and leave what they print.
    dir: PathBuf,
}

impl Tests {
    /// Runs a stage; says what failed.
    fn run(&self, stage: &Stage, step: Option<&Step>) -> anyhow::Result<Option<String>> {
        let path = self.dir.join("mutations.log");
        let log = File::create(&path).with_context(|| format!("create {}", path.display()))?;
        let mut command = self.command();
        command.args(stage.tests).env(CRASHES, stage.crashes).stderr(log.try_clone()?).stdout(log);
        if let Some(step) = step {
            command.env(LEAVE_OUT, &step.name);
        }
        let mut child = command.spawn().context("run the tests")?;
        let began = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if began.elapsed() > STAGE_TIME_MAX {
                child.kill()?;
                child.wait()?;
                return Ok(Some(format!("{}: takes too long", stage.name)));
            }
            std::thread::sleep(TURN);
        };
        if status.success() {
            return Ok(None);
        }
        let output = std::fs::read(&path)?;
        let failed = failed_tests(&String::from_utf8_lossy(&output));
        let more = failed.len().saturating_sub(1);
        Ok(Some(match failed.first() {
            Some(first) if more > 0 => format!("{first} and {more} more"),
            Some(first) => first.clone(),
            None => format!("{}: the tests ended with {status}", stage.name),
        }))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .current_dir(&self.dir)
            .env_remove(LEAVE_OUT)
            .env("RUST_BACKTRACE", "0")
            .env("PROPTEST_MAX_SHRINK_ITERS", "0")
            .env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1");
        command
    }
}

fn build(root: &Path) -> anyhow::Result<Tests> {
    let mut command = Command::new("cargo");
    command.current_dir(root).args([
        "test",
        "--no-run",
        "--package",
        "durable-log",
        "--test",
        "it",
    ]);
    command.args(["--features", "mutation", "--message-format", "json-render-diagnostics"]);
    let mut program = None;
    let built = process::run_seeing(&mut command, |line| {
        program = executable(line).map(PathBuf::from).or_else(|| program.take());
        false
    })?;
    anyhow::ensure!(built, "the tests do not build");
    let dir = root.join("target/mutations");
    std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    Ok(Tests { program: program.context("cargo built no tests")?, dir })
}

/// The program that a line of cargo's messages names.
fn executable(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("\"executable\":\"")?;
    rest.split_once('"').map(|(path, _)| path)
}

/// The steps, as the program itself lists them.
fn steps(tests: &Tests) -> anyhow::Result<Vec<Step>> {
    let mut command = tests.command();
    command.args(["mutations::steps_are_listed", "--exact", "--nocapture"]);
    let output = command.output().context("list the steps")?;
    anyhow::ensure!(output.status.success(), "the tests do not list the steps");
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter_map(step).collect())
}

/// Reads `step: NAME: what it does`.
fn step(line: &str) -> Option<Step> {
    let (name, what) = line.strip_prefix("step: ")?.split_once(": ")?;
    Some(Step { name: name.to_owned(), what: what.to_owned() })
}

fn failed_tests(output: &str) -> Vec<String> {
    let failed =
        output.lines().filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"));
    failed.map(str::to_owned).collect()
}

fn seconds(since: Instant) -> String {
    format!("{:.1} s", since.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    //! Goal: what cargo and the tests print is read as it is meant.

    use super::*;

    #[test]
    fn the_program_is_the_one_that_cargo_names() {
        let line = r#"{"reason":"compiler-artifact","executable":"/target/it-1","fresh":true}"#;
        assert_eq!(executable(line), Some("/target/it-1"));
        assert_eq!(executable(r#"{"reason":"compiler-artifact","executable":null}"#), None);
    }

    #[test]
    fn steps_and_failures_are_read_line_by_line() {
        let want = Step { name: "SyncTrim".to_owned(), what: "a sync: of names".to_owned() };
        assert_eq!(step("step: SyncTrim: a sync: of names"), Some(want));
        assert_eq!(step("test mutations::steps_are_listed ... ok"), None);
        let output = "test a::b ... FAILED\ntest c ... ok\ntest d - should panic ... FAILED\n";
        assert_eq!(failed_tests(output), ["a::b", "d - should panic"]);
    }
}
