//! Tests of the Kafka door through its public face: the wire under hostile bytes, and client and server
//! over loopback on a real broker and a real disk.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, outside the functions that clippy knows as tests"
)]

mod bed;
mod frames;
mod hostile;
mod reading;
mod topics;
mod writing;
