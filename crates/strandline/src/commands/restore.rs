//! `strandline restore`: makes a data directory of what a store holds.

use std::io::Write;

use host::Host;
use strands::RestoreStep;

use crate::cli::{RestoreArgs, Target};
use crate::data_dir::DataDir;
use crate::failure::{Failure, Outcome};
use crate::output::Out;
use crate::stores::{StoreUrl, Stores};
use crate::units::{show_count, show_millis};

/// Restores into an empty directory and says up to where. FORMAT is written last, so that a restore that was
/// interrupted leaves no data directory.
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
    let data = DataDir::draft(&host, &path, store)?;
    let stores = Stores::open(&host, &data, &settings)?;
    let restored = strands::restore(
        &stores.host,
        &stores.journal,
        &*stores.meta,
        &*stores.blocks,
        &strands::Options::default(),
        &mut tell,
    );
    stores.close();
    let restored = restored.map_err(|error| {
        let shown = path.display();
        Failure::because(
            format!("nothing was restored, and what is in {shown} is of no use"),
            error,
        )
    })?;
    data.finish(&host, restored.store)?;
    let mut out = Out::stdout();
    out.line(format!(
        "restored up to commit {} of {} from {}",
        show_count(restored.position.get()),
        show_millis(restored.time_ms),
        restored.root
    ))?;
    out.flush()
}

fn tell(step: RestoreStep) {
    if let RestoreStep::Skipped(skipped) = step {
        // Standard error may be closed; then there is nobody to tell.
        let _nobody = writeln!(std::io::stderr(), "{} is skipped: {}", skipped.name, skipped.why);
    }
}
