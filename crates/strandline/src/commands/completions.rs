//! `strandline completions`: a script that completes our commands and flags in a shell.

use crate::cli;
use crate::failure::Outcome;
use crate::output::Out;

/// Prints the script for `shell`.
pub(crate) fn run(shell: clap_complete::Shell) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut cli::command(), "strandline", &mut script);
    let mut out = Out::stdout();
    out.bytes(&script)?;
    out.flush()
}
