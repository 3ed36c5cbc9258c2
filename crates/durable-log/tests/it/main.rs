//! Tests of the log from the outside, on real files and on the simulated disk.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod allocations;
mod basics;
mod concurrent;
mod crashes;
mod damage;
mod exhaustive;
mod failures;
mod inspection;
mod model;
mod support;
mod workload;
