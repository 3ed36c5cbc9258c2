//! `strandline fsck`: checks a data directory that no server uses, and says what it found.
//!
//! Exit codes: 0 nothing is wrong, 1 something is, 2 it could not be checked.

use host::Host;
use serde_json::json;
use strands::{Checked, FsckInput, FsckProgress};

use crate::cli::{FsckArgs, Target};
use crate::commands::progress::{Progress, Unit};
use crate::data_dir::DataDir;
use crate::failure::{Failure, Outcome};
use crate::output::Out;
use crate::stores::Stores;
use crate::units::{show_count, show_size};

/// Checks and prints what was found.
pub(crate) fn run(target: &Target, args: &FsckArgs) -> Outcome {
    let host = Host::real();
    let (checked, deleted) = check(&host, target, args).map_err(|failure| match failure {
        Failure::Refused(sentence) => Failure::Unchecked(sentence),
        other => other,
    })?;
    let mut out = Out::stdout();
    if args.json {
        out.json(&body(&checked, deleted))?;
    } else {
        for line in lines(&checked, args, deleted) {
            out.line(line)?;
        }
    }
    out.flush()?;
    match (checked.faults, checked.unchecked.first()) {
        (0, None) => Ok(()),
        (0, Some(_)) => Err(Failure::Unchecked("not everything could be checked".to_owned())),
        (1, _) => Err(Failure::new("1 fault was found")),
        (faults, _) => Err(Failure::new(format!("{} faults were found", show_count(faults)))),
    }
}

/// What was found, and how many blocks were deleted.
fn check(host: &Host, target: &Target, args: &FsckArgs) -> Outcome<(Checked, u64)> {
    if target.server.is_some() {
        return Err(Failure::Usage(
            "fsck checks a data directory that no server uses; name it with --data".to_owned(),
        ));
    }
    let path = target.data();
    if !path.join("FORMAT").exists() {
        return Err(Failure::new(format!(
            "{} is not a data directory; name one with --data",
            path.display()
        )));
    }
    let settings = args.store.given();
    let data = DataDir::open(host, &path, settings.store.as_ref())?;
    let stores = Stores::open(host, &data, &settings)?;
    let bar = Progress::new();
    let input = FsckInput {
        host: &stores.host,
        journal: &stores.journal,
        meta: &*stores.meta,
        blocks: &*stores.blocks,
        scrub: args.scrub,
    };
    let mut shown = Ok(());
    let checked = strands::fsck(&input, &mut |progress| {
        if shown.is_ok() {
            shown = show(&bar, progress);
        }
    });
    bar.clear();
    shown?;
    let deleted =
        if args.repair { strands::delete_unnamed(&*stores.blocks, &checked) } else { Ok(0) };
    stores.close();
    let deleted =
        deleted.map_err(|error| Failure::because("cannot delete what nothing needs", error))?;
    Ok((checked, deleted))
}

/// What can be done about faults.
const REPAIR_HINT: &str = "nothing was repaired: bytes that are gone cannot be made again. A meta store that is damaged or lost is \
    rebuilt when the server is started; `strandline restore` makes a directory of what \
    the store holds";

fn show(bar: &Progress, progress: FsckProgress) -> Outcome {
    let (what, done, total) = match progress {
        FsckProgress::Journal(done) => ("reading the journal", done, None),
        FsckProgress::Extents(done) => ("reading extents", done, None),
        FsckProgress::Blocks(done, total) => ("looking at blocks", done, Some(total)),
        FsckProgress::Scrub(done, total) => ("verifying checksums", done, Some(total)),
    };
    bar.show(what, done, total, Unit::Count)
}

fn lines(checked: &Checked, args: &FsckArgs, deleted: u64) -> Vec<String> {
    let mut lines = checked.found.clone();
    lines.extend(checked.unchecked.iter().map(|why| format!("could not be checked: {why}")));
    let more = checked.faults.saturating_sub(checked.found.len() as u64);
    if more > 0 {
        lines.push(format!("and {} more", show_count(more)));
    }
    lines.push(format!(
        "{} commits in the journal, {} extents with {}, {} blocks with {}, {} roots",
        show_count(checked.commits),
        show_count(checked.extents),
        show_size(checked.extent_bytes),
        show_count(checked.blocks),
        show_size(checked.block_bytes),
        show_count(checked.roots),
    ));
    lines.push(if args.scrub {
        format!("checksums of {} were verified", show_size(checked.scrubbed_bytes))
    } else {
        "checksums were not verified; --scrub does".to_owned()
    });
    let is_sound = checked.faults == 0 && checked.unchecked.is_empty();
    let unnamed = format!(
        "{} blocks with {} are needed by nothing",
        show_count(checked.unnamed_blocks),
        show_size(checked.unnamed_bytes)
    );
    match (checked.unnamed_blocks, args.repair, is_sound) {
        (0, ..) => {}
        (_, true, true) => lines.push(format!("{unnamed}; {} were deleted", show_count(deleted))),
        (_, false, true) => lines.push(format!("{unnamed}; --repair deletes them")),
        (_, _, false) => lines.push(format!("{unnamed}, as far as can be told; they stay")),
    }
    if args.repair && !is_sound {
        lines.push(REPAIR_HINT.to_owned());
    }
    lines
}

fn body(checked: &Checked, deleted: u64) -> serde_json::Value {
    json!({
        "commits": checked.commits,
        "extents": checked.extents, "extent_bytes": checked.extent_bytes,
        "blocks": checked.blocks, "block_bytes": checked.block_bytes,
        "roots": checked.roots,
        "unnamed_blocks": checked.unnamed_blocks, "unnamed_bytes": checked.unnamed_bytes,
        "deleted_blocks": deleted,
        "scrubbed_bytes": checked.scrubbed_bytes,
        "faults": checked.faults, "found": checked.found, "unchecked": checked.unchecked,
    })
}
