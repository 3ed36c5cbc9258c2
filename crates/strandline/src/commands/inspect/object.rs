//! Printing the small objects of a block store: whose it is, and the roots from which a node is restored.

use std::path::Path;
use std::sync::Arc;

use block_store::{OBJECT_BYTES_MAX, inspect_object};
use bytes::Bytes;
use host::File;
use serde_json::json;

use super::block_fault;
use crate::failure::{Failure, Outcome};
use crate::output::Out;
use crate::units::{show_count, show_millis, show_size};

/// An envelope is short; more than this around the content is none.
const ENVELOPE_BYTES_MAX: u64 = 4096;

/// Prints an object's file.
pub(super) fn print(path: &Path, file: &Arc<dyn File>, json: bool, out: &mut Out) -> Outcome {
    let cannot = |error| Failure::because(format!("cannot read {}", path.display()), error);
    let size = file.size().map_err(cannot)?;
    let len = usize::try_from(size)
        .ok()
        .filter(|_| size <= u64::from(OBJECT_BYTES_MAX) + ENVELOPE_BYTES_MAX)
        .ok_or_else(|| Failure::new(format!("{}: an object is never so long", path.display())))?;
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, 0).map_err(cannot)?;
    let content = inspect_object(&Bytes::from(bytes)).map_err(|error| block_fault(path, &error))?;
    if let Ok(root) = strands::inspect_root(&content) {
        return print_root(path, &root, json, out);
    }
    if let Ok((store, epoch, time_ms)) = strands::inspect_owner(&content) {
        if json {
            return out.json(&json!({
                "file": path.to_string_lossy(), "kind": "owner", "store": store.to_string(),
                "epoch": epoch, "time_ms": time_ms,
            }));
        }
        return out.line(format!(
            "{}: owner of the store: data directory {store}, opening {epoch}, since {}",
            path.display(),
            show_millis(time_ms)
        ));
    }
    if json {
        return out.json(&json!({
            "file": path.to_string_lossy(), "kind": "object", "content_bytes": content.len(),
        }));
    }
    out.line(format!(
        "{}: an object with {} bytes of content, its checksum matches",
        path.display(),
        content.len()
    ))
}

fn print_root(path: &Path, root: &strands::InspectedRoot, json: bool, out: &mut Out) -> Outcome {
    if json {
        let blocks: Vec<_> = root.blocks.iter().map(ToString::to_string).collect();
        return out.json(&json!({
            "file": path.to_string_lossy(), "kind": "root", "store": root.store.to_string(),
            "epoch": root.epoch, "seq": root.seq, "position": root.position.get(),
            "time_ms": root.time_ms, "complete": root.complete,
            "checkpoint_at": root.checkpoint_at.get(), "checkpoint_bytes": root.checkpoint_bytes,
            "ledger_bytes": root.ledger_bytes, "blocks": blocks,
        }));
    }
    out.line(format!(
        "{}: root {} of data directory {}, opening {}: all before commit {}, of {}",
        path.display(),
        root.seq,
        root.store,
        root.epoch,
        show_count(root.position.get()),
        show_millis(root.time_ms)
    ))?;
    out.line(format!(
        "  checkpoint at commit {} with {}, ledger with {}, in {} blocks{}",
        show_count(root.checkpoint_at.get()),
        show_size(root.checkpoint_bytes),
        show_size(root.ledger_bytes),
        root.blocks.len(),
        if root.complete { "" } else { "; not enough to restore from alone" }
    ))
}
