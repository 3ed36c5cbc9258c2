//! `strandline gc`: a round of collection in the running server, watched until it ends.

use std::time::Duration;

use crate::api::{Gc, GcPhase, GcProgress, GcRound, GcStarted, NewGc};
use crate::cli::{GcArgs, Target};
use crate::client::Client;
use crate::commands::block_on;
use crate::commands::progress::{Progress, Unit};
use crate::failure::{Failure, Outcome};
use crate::output::Out;
use crate::units::{several, show_count, show_size};

/// Between two looks at a round that runs.
const LOOK: Duration = Duration::from_millis(100);

/// Runs a round and prints what it found and did. Fails when it left something undone.
pub(crate) fn run(target: &Target, args: &GcArgs) -> Outcome {
    let client = Client::for_changes(target)?;
    let round = block_on(watch(&client, args))?;
    let mut out = Out::stdout();
    if args.json {
        out.json(&round)?;
    } else {
        for (label, text) in lines(&round) {
            out.line(format!("{label:<10} {text}"))?;
        }
    }
    out.flush()?;
    match &round.first_error {
        Some(error) => Err(Failure::because("something was left undone", error)),
        None if round.missing_blocks > 0 => Err(Failure::new(
            "blocks are missing; stop the server and ask `strandline fsck` which data they held",
        )),
        None => Ok(()),
    }
}

async fn watch(client: &Client, args: &GcArgs) -> Outcome<GcRound> {
    let grace_ms = args.grace.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
    let body = NewGc { dry_run: args.dry_run, grace_ms };
    let GcStarted { round } = client.post_for("/api/gc", &body).await?;
    let bar = Progress::new();
    loop {
        let now: Gc = client.get("/api/gc").await?;
        if now.ended >= round {
            bar.clear();
            return match (now.last, now.error) {
                (Some(last), None) => Ok(last),
                (_, error) => Err(Failure::new(
                    error.unwrap_or_else(|| "the server does not say how it went".to_owned()),
                )),
            };
        }
        if let Some(progress) = now.running {
            show(&bar, progress)?;
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn show(bar: &Progress, progress: GcProgress) -> Outcome {
    let (what, unit) = match progress.phase {
        GcPhase::Mark => ("reading extents", Unit::Count),
        GcPhase::List => ("listing blocks", Unit::Count),
        GcPhase::Sweep => ("deleting blocks", Unit::Count),
        GcPhase::Rewrite => ("rewriting", Unit::Bytes),
    };
    bar.show(what, progress.done, progress.total, unit)
}

/// A line for each word that `strandline gc --help` explains and that the JSON has, too.
fn lines(round: &GcRound) -> Vec<(&'static str, String)> {
    let blocks =
        |count: u64, bytes: u64| format!("{}, {}", several(count, "block"), show_size(bytes));
    let mut lines = vec![
        (
            "live",
            format!(
                "{}; {} of their bytes, in {}",
                several(round.live_blocks, "block"),
                show_size(round.live_bytes),
                several(round.live_extents, "extent"),
            ),
        ),
        ("stored", blocks(round.stored_blocks, round.stored_bytes)),
        ("dead", blocks(round.dead_blocks, round.dead_bytes)),
        ("young", blocks(round.young_blocks, round.young_bytes)),
        (
            "sparse",
            format!("{} of which less than half is needed", several(round.sparse_blocks, "block")),
        ),
        (
            "scattered",
            format!(
                "{} of 4 MiB in more than 64 places",
                several(round.scattered_stretches, "stretch")
            ),
        ),
    ];
    if round.dry_run {
        lines.push(("deleted", "nothing: this was a dry run".to_owned()));
    } else {
        lines.push(("deleted", blocks(round.deleted_blocks, round.deleted_bytes)));
        let rewritten = show_size(round.rewritten_bytes);
        lines.push((
            "rewritten",
            format!("{rewritten} into {}", several(round.rewritten_into_blocks, "block")),
        ));
    }
    if round.missing_blocks > 0 {
        lines.push(("missing", several(round.missing_blocks, "block")));
    }
    lines.push(("took", format!("{} ms", show_count(round.took_ms))));
    lines
}
