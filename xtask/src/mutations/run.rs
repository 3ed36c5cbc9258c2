//! The tests of the log as one program that is run again and again.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::Step;
use crate::process;

/// Names the step to leave out.
const LEAVE_OUT: &str = "DURABLE_LOG_LEAVE_OUT";
/// How long the sequences of the crash tests are.
const CRASHES: &str = "DURABLE_LOG_CRASHES";

/// Which tests to run.
#[derive(Debug)]
pub(super) struct Selection<'a> {
    /// Parts of the tests' names.
    pub(super) tests: &'a [&'a str],
    /// They are the whole names.
    pub(super) exact: bool,
    pub(super) crashes: &'a str,
}

/// How a run ended.
#[derive(Debug)]
pub(super) enum Ending {
    Passed,
    /// By the first test that failed.
    Failed(String),
}

/// The tests of the log, in one program.
#[derive(Debug)]
pub(super) struct Tests {
    program: PathBuf,
    /// Where they run.
    dir: PathBuf,
}

impl Tests {
    pub(super) fn build(root: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new("cargo");
        command.current_dir(root).args(["test", "--no-run", "--package", "durable-log"]);
        command.args(["--test", "it", "--features", "mutation"]);
        command.args(["--message-format", "json-render-diagnostics"]);
        let mut program = None;
        let built = process::run_seeing(&mut command, |line| {
            program = executable(line).map(PathBuf::from).or_else(|| program.take());
            false
        })?;
        anyhow::ensure!(built, "the tests do not build");
        let dir = root.join("target/mutations");
        std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        Ok(Self { program: program.context("cargo built no tests")?, dir })
    }

    /// The steps, as the program itself lists them.
    pub(super) fn steps(&self) -> anyhow::Result<Vec<Step>> {
        let mut command = self.command();
        command.args(["mutations::steps_are_listed", "--exact", "--nocapture"]);
        let output = command.output().context("list the steps")?;
        anyhow::ensure!(output.status.success(), "the tests do not list the steps");
        Ok(String::from_utf8_lossy(&output.stdout).lines().filter_map(step).collect())
    }

    /// Runs tests one after the other, until one fails or the time is up.
    pub(super) fn run(
        &self,
        selection: &Selection<'_>,
        step: Option<&Step>,
        limit: Duration,
    ) -> anyhow::Result<Ending> {
        let mut command = self.command();
        command.args(selection.tests).env(CRASHES, selection.crashes);
        command.args(["--test-threads", "1"]).args(selection.exact.then_some("--exact"));
        if let Some(step) = step {
            command.env(LEAVE_OUT, &step.name);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().context("run the tests")?;
        let lines = lines(&mut child)?;
        let failure = first_failure(&lines, limit);
        if failure.is_some() {
            child.kill().context("end the tests")?;
        }
        let status = child.wait().context("wait for the tests")?;
        Ok(match failure {
            Some(failure) => Ending::Failed(failure),
            None if status.success() => Ending::Passed,
            None => Ending::Failed(format!("the tests ended with {status}")),
        })
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

/// What the tests print, line by line.
fn lines(child: &mut Child) -> anyhow::Result<Receiver<String>> {
    let output = child.stdout.take().context("the output was piped")?;
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
        }
    });
    Ok(lines)
}

/// The first test that fails before the output ends.
fn first_failure(lines: &Receiver<String>, limit: Duration) -> Option<String> {
    let began = Instant::now();
    loop {
        match lines.recv_timeout(limit.saturating_sub(began.elapsed())) {
            Ok(line) => {
                if let Some(test) = failed_test(&line) {
                    return Some(test.to_owned());
                }
            }
            Err(RecvTimeoutError::Timeout) => return Some("takes too long".to_owned()),
            Err(RecvTimeoutError::Disconnected) => return None,
        }
    }
}

/// The program that a line of cargo's messages names.
fn executable(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("\"executable\":\"")?;
    rest.split_once('"').map(|(path, _)| path)
}

/// Reads `step: NAME: what it does`.
fn step(line: &str) -> Option<Step> {
    let (name, what) = line.strip_prefix("step: ")?.split_once(": ")?;
    Some(Step { name: name.to_owned(), what: what.to_owned() })
}

fn failed_test(line: &str) -> Option<&str> {
    line.strip_prefix("test ")?.strip_suffix(" ... FAILED")
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
        assert_eq!(failed_test("test a::b ... FAILED"), Some("a::b"));
        assert_eq!(failed_test("test c ... ok"), None);
    }

    #[test]
    fn the_first_failure_counts_and_time_runs_out() {
        let (sender, lines) = mpsc::channel();
        for line in ["test a ... ok", "test b ... FAILED", "test c ... FAILED"] {
            sender.send(line.to_owned()).unwrap();
        }
        assert_eq!(first_failure(&lines, Duration::MAX), Some("b".to_owned()));
        assert_eq!(first_failure(&lines, Duration::MAX), Some("c".to_owned()));
        assert_eq!(first_failure(&lines, Duration::ZERO), Some("takes too long".to_owned()));
        drop(sender);
        assert_eq!(first_failure(&lines, Duration::MAX), None);
    }
}
