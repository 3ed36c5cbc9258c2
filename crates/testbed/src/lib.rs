//! The world outside, for tests and benches: an S3 server, a bad network in front of it, and a disk that loses power.
//!
//! - [`Moto`] starts a real S3 server (the Python package `moto`) that ends with the process that started it.
//!   [`Bucket`] looks into it directly, past any proxy.
//! - [`Proxy`] stands between a client and that server. It counts what it sees and, as [`Rule`]s say, makes
//!   requests slow, refuses them, cuts them off, damages them, or loses replies to what was done.
//! - [`Ext4`] is a real file system that loses power, and [`second_process`] plays the part of a test that is lost with
//!   it. [`Dice`] make choices that a printed seed repeats.
//!
//! No crate of the product uses this one; it knows nothing of them either. Standard library, `rustix` and threads only,
//! so that `xtask` may use it.
//!
//! # What moto does not do as S3 does
//!
//! `moto` 5.2.1, as its tests here find it; each is something that a test against it cannot show:
//!
//! - Signatures and checksums (`x-amz-content-sha256`, `x-amz-checksum-*`, `Content-MD5`) are not checked: a
//!   request body damaged on its way is stored as it arrives, where S3 answers 400.
//! - Conditions are checked, then the object is written, with no lock between: see
//!   `Proxy::start`, which passes on one conditional request at a time.
//! - A delete request of more than 1,000 keys is accepted, and `max-keys` above 1,000 is honoured. [`Proxy`]
//!   answers such a delete request as S3 would, with 400.
//! - The last bytes of an empty object are answered with 200, where S3 answers 416.
//! - Every reply ends its connection. The proxy keeps those to its clients open.
#![expect(
    clippy::disallowed_methods,
    reason = "this is the world outside, which no simulation owns"
)]

mod dice;
mod ext4;
mod http;
mod moto;
mod proxy;
pub mod second_process;

pub use dice::Dice;
pub use ext4::{Ext4, Flush, with_ext4};
pub use http::Reply;
pub use moto::{Bucket, Moto, NoMoto};
pub use proxy::{Fault, Kind, Log, Proxy, Rule, Seen};
