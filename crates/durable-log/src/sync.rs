//! Locks, atomics and threads: the standard library's, or those of `shuttle`.
//!
//! With the feature `shuttle`, which only the tests of the commit protocol turn on, every lock, atomic
//! and wake-up here is a point where the test's scheduler may let another thread go on; see
//! `crate::schedules`. Outside of such a test that feature makes the log unusable.

#[cfg(not(feature = "shuttle"))]
pub(crate) use std::{
    sync::{Condvar, Mutex, MutexGuard, atomic},
    thread::{JoinHandle, Thread, current, park, park_timeout},
};

#[cfg(not(feature = "shuttle"))]
pub(crate) use host::spawn;

#[cfg(feature = "shuttle")]
pub(crate) use shuttle::{
    sync::{Condvar, Mutex, MutexGuard, atomic},
    thread::{JoinHandle, Thread, current, park, park_timeout},
};

/// Starts a named thread.
#[cfg(feature = "shuttle")]
pub(crate) fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<JoinHandle<T>> {
    shuttle::thread::Builder::new().name(name.to_owned()).spawn(work)
}
