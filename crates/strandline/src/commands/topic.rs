//! `strandline topic`: create, list, describe and delete topics.

use crate::api::{Durability, NewTopic, Partition, Topic};
use crate::cli::{DurabilityArg, Target, TopicCommand};
use crate::client::Client;
use crate::commands::{block_on, confirm, path_part};
use crate::failure::Outcome;
use crate::output::Out;
use crate::units::show_size;

/// Runs one of the commands.
pub(crate) fn run(target: &Target, command: TopicCommand) -> Outcome {
    match command {
        TopicCommand::Create { name, partitions, durability } => {
            create(target, name, partitions, durability)
        }
        TopicCommand::List { json } => list(target, json),
        TopicCommand::Describe { name, json } => describe(target, &name, json),
        TopicCommand::Delete { name, yes } => delete(target, &name, yes),
    }
}

fn create(target: &Target, name: String, partitions: u32, durability: DurabilityArg) -> Outcome {
    let client = Client::for_changes(target)?;
    let durability = durability.to_api();
    block_on(client.post("/api/topics", &NewTopic { name, partitions, durability }))
}

fn list(target: &Target, json: bool) -> Outcome {
    let topics: Vec<Topic> = block_on(Client::new(target).get("/api/topics"))?;
    let mut out = Out::stdout();
    if json {
        out.json(&topics)?;
    } else {
        for topic in topics {
            out.line(topic.name)?;
        }
    }
    out.flush()
}

fn describe(target: &Target, name: &str, json: bool) -> Outcome {
    let topic: Topic =
        block_on(Client::new(target).get(&format!("/api/topics/{}", path_part(name))))?;
    let mut out = Out::stdout();
    if json {
        out.json(&topic)?;
        return out.flush();
    }
    let durability = match topic.durability {
        Durability::Synced => "synced",
        Durability::Written => "written",
    };
    out.line(format!("name        {}", topic.name))?;
    out.line(format!("id          {}", topic.id))?;
    out.line(format!("durability  {durability}"))?;
    out.line("")?;
    let heading = ["partition", "start", "end", "records", "bytes"].map(str::to_owned).to_vec();
    let rows = topic.partitions.iter().map(partition_row);
    out.table(&std::iter::once(heading).chain(rows).collect::<Vec<_>>())?;
    out.flush()
}

fn partition_row(partition: &Partition) -> Vec<String> {
    let number = partition.partition.to_string();
    match (partition.start, partition.end) {
        (Some(start), Some(end)) => {
            let bytes = partition.bytes.map_or_else(String::new, show_size);
            vec![
                number,
                start.to_string(),
                end.to_string(),
                end.saturating_sub(start).to_string(),
                bytes,
            ]
        }
        _ => vec![
            number,
            format!(
                "cannot be used: {}",
                partition.error.as_deref().unwrap_or("the server does not say why")
            ),
        ],
    }
}

fn delete(target: &Target, name: &str, yes: bool) -> Outcome {
    let client = Client::for_changes(target)?;
    confirm(yes, &format!("This deletes the topic `{name}` with all its records."))?;
    block_on(client.delete(&format!("/api/topics/{}", path_part(name))))
}
