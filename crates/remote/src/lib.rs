//! A [`file_tree::FileTree`] over a wire: one protocol, its server half and its client half.
//!
//! - [`wire`]: bytes to messages and back, without any I/O. The layout is in `docs/formats/remote.md`.
//! - [`serve`]: offers [`Volumes`] on a Unix socket; [`serve_pipe`] does so on any one connection.
//! - [`Client`]: a tree whose calls go to a server; it survives the server's restart (see [`client`]).
//! - [`unix`]: sockets whose paths may be longer than the 107 bytes the kernel takes.
//!
//! Invariants:
//! - what a peer sends never panics, never makes either half allocate more than one frame ahead of the
//!   bytes that came, and never costs more than the connection it came on;
//! - a peer that is neither root nor the server's own user acts as itself only, whatever it claims;
//! - every open of a connection is released when the connection ends.
//!
//! Not here: tickets and keys (`share`), FUSE (`mount`), what a tree does (`volume`).

pub mod client;
mod frames;
mod metrics;
mod outbox;
mod peer;
mod pipe;
pub mod server;
pub mod unix;
pub mod wire;

#[cfg(test)]
mod tests;

pub use client::{Client, ConnectError, Connector, Options};
pub use metrics::Metrics;
pub use peer::Peer;
pub use pipe::Pipe;
pub use server::{Limits, OpenVolumeError, Volumes, serve, serve_pipe};
