//! Goal: what a remote store promises holds on a bad network. Method: a real S3 server (moto) behind a proxy of ours
//! that does to each request what the test says; the bucket is looked into past the proxy.
//!
//! Where the server is missing, each test prints a line that begins with `skipped:` and passes.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod client;
mod lab;
mod model;
mod remote;
mod tiered;
