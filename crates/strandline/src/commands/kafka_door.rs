//! The way from a command to the server's Kafka door: its address is asked of the admin API.

use kafka::client::{Client as KafkaClient, Options};

use crate::api;
use crate::cli::Target;
use crate::client::Client;
use crate::failure::{Failure, Outcome};

/// Connects to the Kafka door of the server that the command line names.
pub(crate) async fn connect(target: &Target) -> Outcome<KafkaClient> {
    let admin = Client::new(target);
    let status: api::Status = admin.get("/api/status").await?;
    let door = status.doors.kafka.ok_or_else(|| {
        Failure::new(format!(
            "{admin} runs with --kafka off; start it with a Kafka door to produce and consume"
        ))
    })?;
    let address = match &admin {
        Client::Control(_) => on_this_machine(&door.address),
        Client::Http(_) => door.advertised,
    };
    KafkaClient::connect(&address, Options::default())
        .await
        .map_err(|error| Failure::new(error.to_string()))
}

/// A door that listens on all addresses is reached on loopback.
fn on_this_machine(address: &str) -> String {
    address
        .strip_prefix("0.0.0.0:")
        .or_else(|| address.strip_prefix("[::]:"))
        .map_or_else(|| address.to_owned(), |port| format!("127.0.0.1:{port}"))
}
