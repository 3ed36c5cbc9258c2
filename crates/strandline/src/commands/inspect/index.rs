//! Printing a checkpoint of the journal's index: which bytes of which strands lie where in the journal.

use std::path::Path;
use std::sync::Arc;

use host::File;
use serde_json::json;
use strands::{INDEX_FILE_BYTES_MAX, IndexFileError, InspectedIndex, InspectedPiece};

use crate::failure::{Failure, Outcome};
use crate::output::Out;
use crate::units::{show_count, show_size};

/// Prints the file's header, then piece by piece.
pub(super) fn print(path: &Path, file: &Arc<dyn File>, json: bool, out: &mut Out) -> Outcome {
    let bytes = read(path, file)?;
    let fault = |error| index_fault(path, &error);
    // Checked to its end before anything is shown.
    let index = strands::inspect_index(&bytes, |_| {}).map_err(fault)?;
    begin(path, &index, json, out)?;
    let mut printed = Ok(());
    let mut number = 0;
    strands::inspect_index(&bytes, |piece| {
        if printed.is_ok() {
            printed = print_piece(&piece, number, json, out);
        }
        number += 1;
    })
    .map_err(fault)?;
    printed?;
    if json { out.bytes(b"]}\n") } else { Ok(()) }
}

fn read(path: &Path, file: &Arc<dyn File>) -> Result<Vec<u8>, Failure> {
    let cannot = |error| Failure::because(format!("cannot read {}", path.display()), error);
    let size = file.size().map_err(cannot)?;
    let len = usize::try_from(size).ok().filter(|_| size <= INDEX_FILE_BYTES_MAX);
    let len = len.ok_or_else(|| {
        Failure::new(format!("{}: a checkpoint is never so long", path.display()))
    })?;
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, 0).map_err(cannot)?;
    Ok(bytes)
}

fn begin(path: &Path, index: &InspectedIndex, json: bool, out: &mut Out) -> Outcome {
    if json {
        let head = json!({
            "file": path.to_string_lossy(), "kind": "index-checkpoint", "version": 1, "store": index.store.to_string(),
            "position": index.position.get(), "reached": index.reached.get(), "segment": index.segment,
            "strands": index.strands, "bytes": index.bytes,
        });
        // The object goes on, so its closing brace comes later.
        let head = head.to_string();
        return out.bytes(format!("{},\"pieces\":[", head.trim_end_matches('}')).as_bytes());
    }
    out.line(format!(
        "{}: checkpoint of the journal's index, format version 1, of data directory {}: all before commit {}, taken \
         before commit {} in segment {}; {} of {} strands in {} pieces",
        path.display(),
        index.store,
        show_count(index.position.get()),
        show_count(index.reached.get()),
        index.segment,
        show_size(index.bytes),
        show_count(index.strands),
        show_count(index.pieces)
    ))
}

fn print_piece(piece: &InspectedPiece, number: u64, json: bool, out: &mut Out) -> Outcome {
    let InspectedPiece { strand, start, len, at, written } = *piece;
    if json {
        let piece = json!({
            "strand": strand.get(), "start": start, "bytes": len, "at": at.get(), "written": written.get(),
        });
        let comma = if number == 0 { "" } else { "," };
        return out.bytes(format!("{comma}{piece}").as_bytes());
    }
    let end = start + u64::from(len);
    out.line(format!("  at {at:>10}  {strand} bytes {start}..{end}  of commit {written}"))
}

fn index_fault(path: &Path, error: &IndexFileError) -> Failure {
    match error {
        IndexFileError::UnknownVersion { found } => Failure::new(format!(
            "{}, offset 8: version {found} is unknown to this program; use the strandline that wrote it",
            path.display()
        )),
        IndexFileError::Damaged { at, why } => {
            Failure::new(format!("{}, offset {at}: {why}", path.display()))
        }
    }
}
