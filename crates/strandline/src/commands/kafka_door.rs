//! The way from a command to the server's Kafka door: its address is asked of the admin API.

use broker::TopicName;
use kafka::client::{Client as KafkaClient, ClientError, Create, Options};
use kafka::wire::ErrorCode;
use kafka::wire::messages::metadata::MetadataTopic;

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

/// Looks a topic up, or makes it.
pub(crate) async fn topic(
    client: &KafkaClient,
    name: &str,
    create: Create,
) -> Outcome<MetadataTopic> {
    TopicName::new(name).map_err(|error| Failure::new(error.to_string()))?;
    client.topic(name, create).await.map_err(|error| refusal(name, &error))
}

/// A topic's partitions, as a person says them.
pub(crate) fn no_such_partition(topic: &MetadataTopic) -> Failure {
    let name = topic.name.as_deref().unwrap_or_default();
    match topic.partitions.len() {
        0 | 1 => Failure::new(format!("topic {name} has only partition 0; leave --partition out")),
        many => Failure::new(format!(
            "topic {name} has partitions 0 to {}; choose one of them",
            many - 1
        )),
    }
}

fn refusal(topic: &str, error: &ClientError) -> Failure {
    match error.code() {
        Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) => Failure::new(api::missing("topic", topic)),
        Some(_) | None => Failure::because(format!("cannot use topic {topic}"), error),
    }
}

/// A door that listens on all addresses is reached on loopback.
fn on_this_machine(address: &str) -> String {
    address
        .strip_prefix("0.0.0.0:")
        .or_else(|| address.strip_prefix("[::]:"))
        .map_or_else(|| address.to_owned(), |port| format!("127.0.0.1:{port}"))
}
