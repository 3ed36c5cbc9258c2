//! Tests of the cache from the outside.
#![expect(clippy::cast_possible_truncation, reason = "tests run where a usize has 64 bits")]
#![expect(clippy::single_range_in_vec_init, reason = "lists of ranges are compared")]
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod allocations;
mod basics;
mod defects;
mod eviction;
mod fills;
mod model;
mod support;
mod threads;
mod waiting;
