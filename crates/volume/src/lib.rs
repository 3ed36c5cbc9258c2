//! Volumes: file trees kept in strands.
//!
//! [`Volumes`] makes, lists, deletes and opens volumes by name; a [`Volume`] is a
//! [`FileTree`](file_tree::FileTree). Names, attributes and counters are rows (`rows.rs`, described byte by
//! byte in `docs/formats/volume.md`); the bytes of a file are a strand.
//!
//! Invariants:
//! - every change is one commit with all its rows, so that a crash leaves each either done or not begun;
//! - file numbers are reserved in the commit that uses the first of them, and never used twice;
//! - a file whose last name is gone has a row that says so, until it is removed: with its last release, or
//!   at the next opening of the volume.
//!
//! Reads never change a file: `atime` is the moment of its making until somebody sets it.
//!
//! Not here: how commits reach the disk (`strands`), and any protocol.

mod error;
mod rows;
mod volume;
mod volumes;

pub use error::{CreateError, DeleteError, FindError, StoreError, VolumeNameError};
pub use rows::Durability;
pub use volume::{IO_BYTES_MAX, Volume};
pub use volumes::{NewVolume, VolumeInfo, VolumeName, Volumes};
