//! `strandline volume`: create, list and delete volumes.

use crate::api::{NewVolume, Volume};
use crate::cli::{DurabilityArg, Target, VolumeCommand};
use crate::client::Client;
use crate::commands::{block_on, confirm, path_part};
use crate::failure::Outcome;
use crate::output::Out;

/// Runs one of the commands.
pub(crate) fn run(target: &Target, command: VolumeCommand) -> Outcome {
    match command {
        VolumeCommand::Create { name, durability } => create(target, name, durability),
        VolumeCommand::List { json } => list(target, json),
        VolumeCommand::Delete { name, yes } => delete(target, &name, yes),
    }
}

fn create(target: &Target, name: String, durability: DurabilityArg) -> Outcome {
    let client = Client::for_changes(target)?;
    block_on(client.post("/api/volumes", &NewVolume { name, durability: durability.to_api() }))
}

fn list(target: &Target, json: bool) -> Outcome {
    let volumes: Vec<Volume> = block_on(Client::new(target).get("/api/volumes"))?;
    let mut out = Out::stdout();
    if json {
        out.json(&volumes)?;
    } else {
        for volume in volumes {
            out.line(volume.name)?;
        }
    }
    out.flush()
}

fn delete(target: &Target, name: &str, yes: bool) -> Outcome {
    let client = Client::for_changes(target)?;
    confirm(yes, &format!("This deletes the volume `{name}` with everything in it."))?;
    block_on(client.delete(&format!("/api/volumes/{}", path_part(name))))
}
