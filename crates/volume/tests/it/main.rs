//! Goal: a volume is a file tree like the reference model, and stays it through restarts, packing, power
//! cuts, a full disk, damage and many callers at once.
//!
//! Method: the conformance suite and its random calls on volumes over the simulated machine and over a
//! real directory.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, outside the functions that clippy knows as tests"
)]

mod bed;
mod conformance;
mod failures;
mod large;
mod restarts;
mod together;
mod volumes;
