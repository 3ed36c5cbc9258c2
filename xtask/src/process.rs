//! Running other programs so that one can see which.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::Context;

/// Prints the command, runs it with our own output, and says whether it succeeded.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<bool> {
    announce(command);
    quietly(command)
}

/// Runs the command with our own output and no word of our own, and says whether it succeeded.
pub(crate) fn quietly(command: &mut Command) -> anyhow::Result<bool> {
    let status = command.status().with_context(|| format!("run {}", name(command)))?;
    Ok(status.success())
}

/// As [`run`], but shows each line of standard output to `see` first, and prints those for which it says so.
pub(crate) fn run_seeing(
    command: &mut Command,
    mut see: impl FnMut(&str) -> bool,
) -> anyhow::Result<bool> {
    announce(command);
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("run {}", name(command)))?;
    let output = child.stdout.take().context("the output was piped")?;
    for line in BufReader::new(output).split(b'\n') {
        let line = line.with_context(|| format!("read the output of {}", name(command)))?;
        let line = String::from_utf8_lossy(&line);
        if see(&line) {
            println!("{line}");
        }
    }
    Ok(child.wait()?.success())
}

/// Whether the command can be run and succeeds; its output is thrown away.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

fn announce(command: &Command) {
    let words: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
    println!("\n$ {} {}", name(command), words.join(" "));
}

fn name(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}
