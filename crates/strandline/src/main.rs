//! The server and its commands: from the command line to an exit code.
//!
//! The parts: `cli` says what can be asked, `commands` does it, `serve` runs the server over what `wiring` puts
//! together, `admin` is its HTTP door and `client` the other side of it.

mod admin;
mod api;
mod cli;
mod client;
mod commands;
mod data_dir;
mod failure;
mod logging;
mod output;
mod procfs;
mod serve;
mod settings;
mod stop;
mod stores;
mod units;
mod wiring;

use std::io::Write;
use std::process::ExitCode;

use clap::FromArgMatches;

use crate::cli::{Cli, Command};
use crate::failure::{Failure, Outcome};

fn main() -> ExitCode {
    let matches = cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches)
        .unwrap_or_else(|error| error.format(&mut cli::command()).exit());
    let is_json = cli.command.is_json();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tell(&failure, is_json);
            failure.exit_code()
        }
    }
}

/// Says why it was not done: a sentence, or for a program the same as the admin API says it.
fn tell(failure: &Failure, is_json: bool) {
    let line = match failure {
        Failure::ReaderGone | Failure::AlreadyTold => return,
        failure if is_json => serde_json::json!({ "error": failure.to_string() }).to_string(),
        failure => format!("error: {failure}"),
    };
    // Standard error may be closed; then there is nobody to tell.
    let _nobody = writeln!(std::io::stderr(), "{line}");
}

fn run(Cli { target, command }: Cli) -> Outcome {
    match command {
        Command::Serve(args) => serve::run(&target, &args),
        Command::Mount(args) => commands::mount::run(&target, &args),
        Command::Unmount { dir } => commands::mount::unmount(&dir),
        Command::Volume(command) => commands::volume::run(&target, command),
        Command::Topic(command) => commands::topic::run(&target, command),
        Command::Produce(args) => commands::produce::run(&target, &args),
        Command::Consume(args) => commands::consume::run(&target, &args),
        Command::Status { json } => commands::status::run(&target, json),
        Command::Fsck(args) => commands::fsck::run(&target, &args),
        Command::Restore(args) => commands::restore::run(&target, &args),
        Command::Gc(args) => commands::gc::run(&target, &args),
        Command::Inspect { files, json } => commands::inspect::run(&files, json),
        Command::Completions { shell } => commands::completions::run(shell),
    }
}
