//! End to end: the real binary, real clients, real mounts, real kills.
//!
//! What needs something that is not there (kcat, /dev/fuse, root) prints a line that begins with `skipped:`.
#![expect(
    clippy::disallowed_methods,
    reason = "tests look at files, time and processes as any user would"
)]
#![expect(clippy::unwrap_used, reason = "a test fails where something is not as it should be")]

mod admin;
mod crash;
mod faults;
mod files;
mod gc;
mod harness;
mod inspect;
mod python;
mod serve;
mod stores;
mod streams;
