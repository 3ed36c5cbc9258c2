//! What the program tells about itself, on standard error.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::failure::{Failure, Outcome};

/// Starts logging what `filter` lets through: a level (`info`), or levels per part (`warn,kafka=debug`).
pub(crate) fn start(filter: &str) -> Outcome {
    let filter = EnvFilter::builder().parse(filter).map_err(|error| {
        Failure::Usage(format!(
            "cannot log by `{filter}`: {error}; try error, warn, info, debug or trace"
        ))
    })?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    log.with_ansi(io::stderr().is_terminal()).init();
    Ok(())
}
