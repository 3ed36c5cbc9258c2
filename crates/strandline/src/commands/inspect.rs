//! `strandline inspect`: prints any file that the server writes, told apart by its first bytes.
//!
//! Each kind is read by the crate that writes it; nothing is changed. A file that is damaged, or of an unknown kind or
//! version, is told with the reason and the place, and makes the command fail; the files after it are printed all the
//! same. What is long is printed as it is read.
//!
//! Not here: the meta store's own files, which are its engine's (`strandline status` shows how far it is).

mod index;
mod journal;
mod object;
mod tables;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use block_store::{Block, FormatError, format::BLOCK_FILE_BYTES_MAX};
use bytes::Bytes;
use host::{DirEntry, File, Host, OpenMode};
use serde_json::{Value, json};

use crate::data_dir::{FORMAT_MAGIC, read_format};
use crate::failure::{Failure, Outcome};
use crate::output::Out;
use crate::units::show_size;

/// Enough to tell all kinds apart.
const MAGIC_BYTES: usize = 25;

/// Prints each file; fails when one of them is damaged or cannot be read.
pub(crate) fn run(files: &[PathBuf], json: bool) -> Outcome {
    let host = Host::real();
    let mut out = Out::stdout();
    let mut faults = Vec::new();
    for path in files {
        let printed = print(&host, path, json, &mut out);
        // What was read before the fault is shown too.
        out.flush()?;
        match printed {
            Ok(()) => {}
            Err(failure @ (Failure::Refused(_) | Failure::Unchecked(_))) => {
                // With --json its own object says so; one alone is told by whoever called.
                if !json && files.len() > 1 {
                    let mut stderr = std::io::stderr();
                    // Standard error may be closed; then there is nobody to tell.
                    let _nobody =
                        std::io::Write::write_fmt(&mut stderr, format_args!("error: {failure}\n"));
                }
                faults.push(failure);
            }
            Err(other) => return Err(other),
        }
    }
    match (faults.pop(), files.len()) {
        (None, _) => Ok(()),
        (Some(failure), 1) => Err(failure),
        (Some(_), all) => Err(Failure::new(format!(
            "{} of {all} files are damaged or cannot be read",
            faults.len() + 1
        ))),
    }
}

/// With --json every file has an object, also one of which nothing can be said but what is wrong with it.
fn print(host: &Host, path: &Path, json: bool, out: &mut Out) -> Outcome {
    match print_known(host, path, json, out) {
        Err(Fault::Untold(failure)) if json => {
            out.json(&json!({ "file": path.to_string_lossy(), "error": failure.to_string() }))?;
            Err(failure)
        }
        Err(Fault::Told(failure) | Fault::Untold(failure)) => Err(failure),
        Ok(()) => Ok(()),
    }
}

/// What is wrong with a file.
enum Fault {
    /// Its object says so.
    Told(Failure),
    /// There is no object of it yet.
    Untold(Failure),
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        Self::Untold(failure)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn print_known(host: &Host, path: &Path, json: bool, out: &mut Out) -> Result<(), Fault> {
    let cannot = |error| Failure::because(format!("cannot read {}", path.display()), error);
    if let Ok(entries) = host.disk.list(path) {
        return Err(is_directory(path, &entries).into());
    }
    let file = host.disk.open(path, OpenMode::Read).map_err(cannot)?;
    let mut magic = [0; MAGIC_BYTES];
    let read = file.read_at(&mut magic, 0).map_err(cannot)?;
    if is_torn(path) {
        return Ok(journal::print_torn(path, &file, json, out)?);
    }
    if magic[..read].starts_with(b"strndlog") {
        return journal::print_segment(host, path, json, out);
    }
    Ok(match &magic[..read] {
        magic if magic.starts_with(b"sl.block") => print_block(path, &file, json, out),
        magic if magic.starts_with(b"sl.objct") => object::print(path, &file, json, out),
        magic if magic.starts_with(b"sl.index") => index::print(path, &file, json, out),
        magic if magic.starts_with(b"strndend") => journal::print_marker(host, path, json, out),
        magic if magic.starts_with(b"strndlow") => journal::print_start(host, path, json, out),
        magic if magic.starts_with(b"strndidx") => journal::print_index(host, path, json, out),
        magic if magic.starts_with(FORMAT_MAGIC.as_bytes()) => print_format(host, path, json, out),
        [] if is_lock(path) => print_lock(path, json, out),
        [] => Err(Failure::new(format!("{} is empty: there is nothing to print", path.display()))),
        _ => Err(Failure::new(format!(
            "{}, offset 0: this is none of our files: it begins with {}",
            path.display(),
            magic[..read.min(8)].escape_ascii()
        ))),
    }?)
}

/// The torn end of a segment is kept as it was found, so only its name says what it is.
fn is_torn(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "torn")
}

/// What to do with a directory instead.
fn is_directory(path: &Path, entries: &[DirEntry]) -> Failure {
    let has = |wanted: &dyn Fn(&str) -> bool| entries.iter().any(|entry| wanted(&entry.name));
    let files = if has(&|name| name.ends_with(".seg")) {
        "*.seg"
    } else if has(&|name| name == "journal") {
        "journal/*.seg"
    } else {
        "*"
    };
    let path = path.display();
    Failure::new(format!(
        "{path} is a directory; name the files in it: strandline inspect {path}/{files}"
    ))
}

/// The file that whoever uses a directory has locked has nothing in it.
fn is_lock(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.eq_ignore_ascii_case("lock"))
}

fn print_lock(path: &Path, json: bool, out: &mut Out) -> Outcome {
    if json {
        return out.json(&json!({ "file": path.to_string_lossy(), "kind": "lock" }));
    }
    out.line(format!(
        "{}: a lock, empty; it is locked while somebody has the directory open",
        path.display()
    ))
}

fn print_format(host: &Host, path: &Path, json: bool, out: &mut Out) -> Outcome {
    let format = read_format(host, path)?;
    if json {
        return out.json(&json!({
            "file": path.to_string_lossy(), "kind": "format", "version": format.version, "id": format.id.to_string(), "store": format.store.to_string(),
        }));
    }
    out.line(format!(
        "{}: data directory, version {}, id {}, store {}",
        path.display(),
        format.version,
        format.id,
        format.store
    ))
}

fn print_block(path: &Path, file: &Arc<dyn File>, json: bool, out: &mut Out) -> Outcome {
    let cannot = |error| Failure::because(format!("cannot read {}", path.display()), error);
    let size = file.size().map_err(cannot)?;
    let len =
        usize::try_from(size).ok().filter(|&len| len <= BLOCK_FILE_BYTES_MAX).ok_or_else(|| {
            Failure::new(format!(
                "{}, offset {BLOCK_FILE_BYTES_MAX}: a block is never longer than this",
                path.display()
            ))
        })?;
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, 0).map_err(cannot)?;
    let block = Block::decode(Bytes::from(bytes)).map_err(|error| block_fault(path, &error))?;
    let footer = block.footer();
    if json {
        let piece = |placed: &block_store::Placed| {
            json!({
                "strand": placed.piece.strand, "start": placed.piece.start, "bytes": placed.piece.len,
                "generation": placed.piece.generation, "at": placed.at,
            })
        };
        return out.json(&json!({
            "file": path.to_string_lossy(), "kind": "block", "name": footer.name().to_string(),
            "bytes": size, "payload_bytes": footer.payload_len(),
            "pieces": footer.pieces().iter().map(piece).collect::<Vec<Value>>(),
        }));
    }
    out.line(format!(
        "{}: block {}, {} with {} of payload, all checksums match",
        path.display(),
        footer.name(),
        show_size(size),
        show_size(footer.payload_len().into())
    ))?;
    for placed in footer.pieces() {
        let piece = placed.piece;
        let end = piece.start + u64::from(piece.len);
        out.line(format!(
            "  at {:>7}  strand {} bytes {}..{end}  generation {}",
            placed.at, piece.strand, piece.start, piece.generation
        ))?;
    }
    Ok(())
}

fn block_fault(path: &Path, error: &FormatError) -> Failure {
    match error {
        FormatError::UnknownVersion { at, found } => Failure::new(format!(
            "{}, offset {at}: version {found} is unknown to this program; use the strandline that wrote it",
            path.display()
        )),
        FormatError::Damaged { at, why } => {
            Failure::new(format!("{}, offset {at}: {why}", path.display()))
        }
    }
}
