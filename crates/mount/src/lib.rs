//! Any [`file_tree::FileTree`] as a FUSE mount.
//!
//! [`mount()`] makes the mount and returns at once; [`Mounted::wait`] returns when it has ended, by
//! [`unmount()`] from anywhere or by dropping [`Mounted`]. The mount is made without libfuse: by the
//! process itself as root, else through `fusermount3`.
//!
//! How requests are dispatched, and why the kernel is told to cache no attributes and no names, is in
//! `docs/decisions/0002-fuse-dispatch-and-caching.md`. Invariants:
//! - several mounts of one tree see each other's changes at the next call, of file contents at the latest
//!   with the next `open` or `read`;
//! - a write is answered when the tree has answered it; `fsync` returns when [`commit`] has, and fails if
//!   a write before it is lost; `close` waits for nothing but reports what has gone wrong;
//! - the kernel checks permissions (`default_permissions`), and tells the tree so.
//!
//! Not here: where the tree is and what happens when it cannot be reached (`remote`).
//!
//! [`commit`]: file_tree::FileTree::commit

mod convert;
mod door;
mod epochs;
mod errno;
mod session;
mod table;
mod unmount;

pub use session::{MountError, Mounted, Options, mount};
pub use unmount::{UnmountError, Unmounted, unmount};
