//! `strandline gc`: a round of collection in the running server, watched until it ends.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::api::{Gc, GcPhase, GcProgress, GcRound, GcStarted, NewGc};
use crate::cli::{GcArgs, Target};
use crate::client::Client;
use crate::commands::block_on;
use crate::failure::{Failure, Outcome};
use crate::output::Out;
use crate::units::{show_count, show_size};

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
    let bar = Bar::new();
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
            bar.show(progress)?;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// How far a round is, on a terminal.
struct Bar(ProgressBar);

impl Bar {
    fn new() -> Self {
        let is_seen = io::stderr().is_terminal();
        Self(if is_seen { ProgressBar::no_length() } else { ProgressBar::hidden() })
    }

    fn show(&self, progress: GcProgress) -> Outcome {
        let what = match progress.phase {
            GcPhase::Mark => "reading extents",
            GcPhase::List => "listing blocks",
            GcPhase::Sweep => "deleting blocks",
            GcPhase::Rewrite => "rewriting",
        };
        let template = match (progress.phase, progress.total) {
            (GcPhase::Rewrite, _) => "{msg} {bar:40} {bytes}/{total_bytes}",
            (_, Some(_)) => "{msg} {bar:40} {human_pos}/{human_len}",
            (_, None) => "{msg} {human_pos}",
        };
        let style = ProgressStyle::with_template(template)
            .map_err(|error| Failure::because("cannot show progress", error))?;
        self.0.set_style(style);
        self.0.set_message(what);
        match progress.total {
            Some(total) => self.0.set_length(total.max(progress.done)),
            None => self.0.unset_length(),
        }
        self.0.set_position(progress.done);
        Ok(())
    }

    fn clear(&self) {
        self.0.finish_and_clear();
    }
}

fn lines(round: &GcRound) -> Vec<(&'static str, String)> {
    let blocks =
        |count: u64, bytes: u64| format!("{}, {}", several(count, "block"), show_size(bytes));
    let mut lines = vec![
        (
            "needed",
            format!(
                "{} with {} in {}",
                several(round.marked_extents, "extent"),
                show_size(round.live_bytes),
                several(round.live_blocks, "block")
            ),
        ),
        ("stored", blocks(round.stored_blocks, round.stored_bytes)),
        ("dead", blocks(round.dead_blocks, round.dead_bytes)),
        ("young", format!("{}, kept for now", blocks(round.young_blocks, round.young_bytes))),
        (
            "sparse",
            format!("{} of which less than half is needed", several(round.sparse_blocks, "block")),
        ),
        (
            "scattered",
            format!(
                "{} of 4 MiB in more than 64 parts",
                several(round.scattered_stretches, "range")
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
            format!("{rewritten} into {}", several(round.written_blocks, "block")),
        ));
    }
    if round.missing_blocks > 0 {
        lines.push(("missing", several(round.missing_blocks, "block")));
    }
    lines.push(("took", format!("{} ms", show_count(round.took_ms))));
    lines
}

fn several(count: u64, thing: &str) -> String {
    format!("{} {thing}{}", show_count(count), if count == 1 { "" } else { "s" })
}
