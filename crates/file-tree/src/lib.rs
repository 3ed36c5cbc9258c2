//! The file tree: what every door mounts and every volume offers.
//!
//! [`FileTree`] is POSIX without descriptors: files are inode numbers, names are bytes, every change
//! says who asked. The doors (FUSE, NFS, the remote protocol) translate to it; `volume` and the client
//! half of `remote` implement it.
//!
//! Invariants every implementation keeps:
//! - an inode number is minted once and never reused, so a stale one is [`TreeError::Stale`], never
//!   another file;
//! - a namespace change is atomic, and survives the server process once it was answered;
//! - written bytes survive the server process once answered, and a power cut once [`FileTree::commit`]
//!   answered with the same [`WriteEpoch`] that the writes carried;
//! - setuid, and setgid with group execution, go when bytes are written while someone unprivileged has the
//!   file open for writing, and when owner or group change.
//!
//! Not here: any implementation but the reference model in [`model`], which [`conformance`] compares every
//! other one against.

pub mod conformance;
mod error;
pub mod model;
pub mod rules;
mod tree;
mod types;

pub use error::TreeError;
pub use tree::{FileTree, Reply};
pub use types::{
    Access, Attr, Caller, DirItem, FileKind, Ino, Name, NameError, NewNode, RenameMode, SetAttr,
    SetTime, Stability, Stat, Timestamp, WriteEpoch, Written,
};
