//! Tests of the log from the outside, on real files and on the simulated disk.

mod allocations;
mod basics;
mod concurrent;
mod damage;
mod model;
mod support;
