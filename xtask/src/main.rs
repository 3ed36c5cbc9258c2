//! Project chores: one command that tests everything, one that measures. `cargo xtask --help` lists them.
//!
//! The habits of the code that a machine can check (crate arrows, file headers, function lengths) are
//! unit tests of this crate: see `tidy.rs`. Not here: what the benches measure (`bench/`).
#![expect(
    clippy::disallowed_methods,
    reason = "chores run on the real machine, never in a simulation"
)]

mod bench;
mod check;
mod mutations;
mod process;
mod s3;
mod setup;
#[cfg(test)]
mod tidy;

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const HELP: &str = "\
Project chores.

Usage: cargo xtask COMMAND

Commands:
  setup               Install what the tests need, where that is possible
  test [--no-skips]   Install what the tests need, then run every check and every test.
                      With --no-skips, or with CI=true, a skipped test is a failure, and the
                      check by mutation runs too
  bench [OPTIONS]     Build the product and bench/ in release mode and measure
      --row ID          Only this row; a trailing * matches any rest. May be given again
      --list            Say which rows there are, and measure nothing
      --json FILE       Write the results as one JSON object (-: to standard output, the lines to the other)
      --save FILE       Write the results as a baseline
      --against FILE    Print the change of each row against a baseline
      --write FILE      Renew the tables of a page (docs/benchmarks.md) whose rows were all measured
      --pairs N         Subject and limit are measured N times in turn (default: as each row says)
      --dir DIR         Where the measured files lie (default: bench-data in the target directory)
      --quick           A quarter of the work, three times: rough figures
      --smoke           A hundredth of the work, once: shows that rows run, not how fast anything is
  mutations [NAME]    Leave out each step of durable-log that keeps a promise (or those whose names contain
                      NAME), one at a time, and see that a test notices
  s3 [PORT]           Run an S3 server that keeps its objects in memory, until it is interrupted
  help                Print this text
";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> anyhow::Result<ExitCode> {
    match arguments {
        [] | ["help" | "--help" | "-h", ..] | [_, "--help" | "-h", ..] => {
            print!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        ["setup"] => setup::prepare(&root()).map(|()| ExitCode::SUCCESS),
        ["test"] => check::run(&root(), check::Skips::from_environment()),
        ["test", "--no-skips"] => check::run(&root(), check::Skips::Fail),
        ["mutations"] => mutations::run(&root(), "").map(exit_code),
        ["mutations", only] => mutations::run(&root(), only).map(exit_code),
        ["s3"] => s3::run("0"),
        ["s3", port] => s3::run(port),
        ["bench", rest @ ..] => bench::run(&root(), rest),
        _ => anyhow::bail!(
            "no such command: {}; `cargo xtask --help` lists them",
            arguments.join(" ")
        ),
    }
}

fn exit_code(succeeded: bool) -> ExitCode {
    if succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The root of the repository.
fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().expect("xtask lies in a folder of the repository").to_owned()
}
