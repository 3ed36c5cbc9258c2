//! How a command ends when it does not end well: one sentence that says what to do, and an exit code.
//!
//! There is no conversion from `io::Error`: whoever meets an error knows what was being done and has to say so.
//!
//! Not here: the errors of the crates below; they become sentences where they are met.

use std::fmt::{self, Display};
use std::io;
use std::process::ExitCode;

/// Why a command stops early.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The command was called wrongly: exit code 2.
    Usage(String),
    /// It was called well and could not be done: exit code 1.
    Refused(String),
    /// What was to be checked could not be: exit code 2.
    Unchecked(String),
    /// Another process of ours has told it already: exit code 1.
    AlreadyTold,
    /// Whoever read our output went away (`strandline consume t | head`): nothing to say, nothing wrong.
    ReaderGone,
}

/// What every command returns.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// A failure with a sentence of its own.
    pub(crate) fn new(sentence: impl Into<String>) -> Self {
        Self::Refused(sentence.into())
    }

    /// A failure to do `what` ("cannot open x") because of `cause`.
    pub(crate) fn because(what: impl Display, cause: impl Display) -> Self {
        Self::Refused(format!("{what}: {cause}"))
    }

    /// A failure to write to standard output.
    pub(crate) fn output(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::ReaderGone,
            _ => Self::because("cannot write to standard output", error),
        }
    }

    /// What the process answers its caller with.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) | Self::Unchecked(_) => ExitCode::from(2),
            Self::Refused(_) | Self::AlreadyTold => ExitCode::FAILURE,
            Self::ReaderGone => ExitCode::SUCCESS,
        }
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(sentence) | Self::Refused(sentence) | Self::Unchecked(sentence) => {
                f.write_str(sentence)
            }
            Self::AlreadyTold => f.write_str("it was told already"),
            Self::ReaderGone => f.write_str("the reader of the output went away"),
        }
    }
}
