//! Goal: programs find a mounted tree to be a file system: every call works or fails as it should, on one
//! mount and between two mounts of one tree. Method: the reference model under a real FUSE mount, used
//! through the standard library.
//!
//! Without `/dev/fuse` each test prints a line that begins with `skipped:` and passes.

#![expect(
    clippy::disallowed_methods,
    reason = "a mount is tested as programs use it, which is through the operating system's files"
)]

#[cfg(test)]
mod files;
#[cfg(test)]
mod lab;
#[cfg(test)]
mod losses;
#[cfg(test)]
mod mounts;
#[cfg(test)]
mod names;
#[cfg(test)]
mod restarts;
