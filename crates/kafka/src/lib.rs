//! The Kafka door: any Kafka client can produce to and consume from the broker's topics.
//!
//! [`wire`] turns bytes into messages and back and touches nothing else; [`server`] listens, decides
//! nothing and translates between the wire and the `broker` crate; [`client`] is a small client for the
//! command line and the tests; [`Metrics`] counts.
//!
//! Which APIs and versions are served, the limits and the deviations from Kafka are in
//! `docs/formats/kafka.md`.

pub mod client;
mod metrics;
pub mod server;
pub mod wire;

pub use metrics::Metrics;
