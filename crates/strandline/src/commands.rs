//! What each command does, a file per command; and what they share.

pub(crate) mod completions;
pub(crate) mod consume;
pub(crate) mod fsck;
pub(crate) mod gc;
pub(crate) mod inspect;
pub(crate) mod kafka_door;
pub(crate) mod mount;
pub(crate) mod produce;
pub(crate) mod progress;
pub(crate) mod restore;
pub(crate) mod status;
pub(crate) mod topic;
pub(crate) mod volume;

use std::future::Future;
use std::io::{self, BufRead, IsTerminal, Write};

use crate::failure::{Failure, Outcome};

/// Runs a command that waits for the network, on this thread.
pub(crate) fn block_on<T>(work: impl Future<Output = Outcome<T>>) -> Outcome<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::because("cannot start the event loop", error))?;
    runtime.block_on(work)
}

/// Returns if the person at the terminal, or --yes, wants what cannot be undone.
pub(crate) fn confirm(yes: bool, question: &str) -> Outcome {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Failure::Usage(format!(
            "{question} There is no terminal to ask on; repeat the command with --yes"
        )));
    }
    let mut answer = String::new();
    let asked = write!(io::stderr(), "{question} [y/N] ")
        .and_then(|()| io::stdin().lock().read_line(&mut answer));
    asked.map_err(|error| Failure::because("cannot ask on this terminal", error))?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::new("nothing was deleted")),
    }
}

/// `name` as a part of a path of the admin API.
pub(crate) fn path_part(name: &str) -> String {
    let mut part = String::with_capacity(name.len());
    for &byte in name.as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' => {
                part.push(char::from(byte))
            }
            _ => part.push_str(&format!("%{byte:02X}")),
        }
    }
    part
}
