//! Tests of the log from the outside, on real files and on the simulated disk.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod allocations;
mod basics;
mod commits;
mod concurrent;
mod crashes;
mod damage;
mod exhaustive;
mod failures;
mod follow;
mod forged;
mod gate;
mod hostile;
mod inspection;
mod landmarks;
mod model;
mod mutated;
#[cfg(feature = "mutation")]
mod mutations;
mod needs;
mod open_files;
mod power_cut_ext4;
mod reads;
mod recycling;
mod support;
mod torn_ends;
mod trimming;
mod truncation;
mod watched;
mod workload;
