//! `strandline restore`: makes a data directory of what a store holds.

use host::Host;
use serde_json::json;
use strands::{RestoreStep, Restored, SkippedRoot};

use crate::cli::{RestoreArgs, Target};
use crate::commands::progress::Progress;
use crate::data_dir::DataDir;
use crate::failure::{Failure, Outcome};
use crate::output::Out;
use crate::stores::{StoreSettings, StoreUrl, Stores};
use crate::units::{show_count, show_millis, show_size};

/// Restores into an empty directory and says up to where. FORMAT is written last, so that a restore that was
/// interrupted leaves no data directory; one that fails leaves nothing.
pub(crate) fn run(target: &Target, args: &RestoreArgs) -> Outcome {
    let host = Host::real();
    let missing = |what: &str| Failure::Usage(format!("say {what}"));
    let path = target.data.clone();
    let path = path.ok_or_else(|| missing("where to restore to with --data EMPTY_DIR"))?;
    let settings = args.store.given();
    let store = match &settings.store {
        Some(store @ (StoreUrl::Dir(_) | StoreUrl::S3(_))) => store,
        Some(StoreUrl::Own | StoreUrl::Memory) | None => {
            return Err(missing(
                "which store to restore from with --store dir:/path or s3://bucket/prefix",
            ));
        }
    };
    if let StoreUrl::Dir(dir) = store
        && !dir.exists()
    {
        return Err(Failure::new(format!(
            "nothing was restored: there is no directory {}; look at --store",
            dir.display()
        )));
    }
    let data = DataDir::draft(&host, &path, store)?;
    match restore(&host, &data, &settings) {
        Ok(restored) => {
            data.finish(&host, restored.store)?;
            tell_restored(&restored, args.json)
        }
        Err(failure) => {
            data.discard(&host);
            Err(failure)
        }
    }
}

fn restore(host: &Host, data: &DataDir, settings: &StoreSettings) -> Outcome<Restored> {
    let stores = Stores::open(host, data, settings)?;
    let bar = Progress::new();
    let mut shown = Ok(());
    let restored = strands::restore(
        &stores.host,
        &stores.journal,
        &*stores.meta,
        &*stores.blocks,
        &strands::Options::default(),
        &mut |step| {
            if shown.is_ok() {
                shown = show(&bar, step);
            }
        },
    );
    stores.close();
    bar.clear();
    shown?;
    restored.map_err(|error| Failure::because("nothing was restored", error))
}

fn show(bar: &Progress, step: RestoreStep) -> Outcome {
    match step {
        RestoreStep::Checking { root, bytes } => {
            bar.say(format!("reading {} of checkpoint and ledger of {root}", show_size(bytes)))
        }
        RestoreStep::Skipped(skipped) => {
            bar.note(&format!("{} is skipped: {}", skipped.name, skipped.why));
            Ok(())
        }
        RestoreStep::Loading { position } => {
            bar.say(format!("writing the meta store up to commit {}", show_count(position.get())))
        }
    }
}

fn tell_restored(restored: &Restored, is_json: bool) -> Outcome {
    let mut out = Out::stdout();
    if is_json {
        let skipped = |root: &SkippedRoot| json!({ "root": root.name, "why": root.why });
        out.json(&json!({
            "commit": restored.position.get(), "time_ms": restored.time_ms, "root": restored.root,
            "checkpoint_rows": restored.checkpoint_rows, "ledger_commits": restored.ledger_commits,
            "skipped": restored.skipped.iter().map(skipped).collect::<Vec<_>>(),
        }))?;
    } else {
        out.line(format!(
            "restored up to commit {} of {} from {}",
            show_count(restored.position.get()),
            show_millis(restored.time_ms),
            restored.root
        ))?;
    }
    out.flush()
}
