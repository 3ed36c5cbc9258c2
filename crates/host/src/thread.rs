//! Threads with names.

use std::io;
use std::thread::{Builder, JoinHandle};

/// Starts a named thread. The name shows in debuggers and in `/proc`.
pub fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    Builder::new().name(name.to_owned()).spawn(work)
}
