//! The data directory: whose it is, that it is one, and that only one server uses it.
//!
//! ```text
//! DATA/            mode 0700
//!   FORMAT         "strandline data directory\nversion 1\nid 32 hexadecimal digits\n", written and synced
//!                  before anything else; the id is random and stays
//!   LOCK           empty; held exclusively by the running server
//!   journal/ meta/ blocks/
//!   control.sock   admin HTTP with changes (mode 0600)
//!   files.sock     the file protocol
//! ```
//!
//! Invariant: a directory that holds anything but has no FORMAT is somebody else's and is never touched.
//! FORMAT appears by a rename, so it is whole or absent; a lone `FORMAT.new` or `LOCK` is a start that was cut short.
//!
//! Not here: what the parts contain; each crate owns its own.

use std::fmt;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use host::{DirLock, Host, OpenMode};
use strands::StoreId;

use crate::failure::{Failure, Outcome};

/// The first line of FORMAT.
pub(crate) const FORMAT_MAGIC: &str = "strandline data directory";
/// The version that this program reads and writes.
pub(crate) const FORMAT_VERSION: u32 = 1;
/// FORMAT is two short lines; anything longer is not ours.
const FORMAT_BYTES_MAX: u64 = 256;
const FORMAT_NAME: &str = "FORMAT";
const FORMAT_DRAFT_NAME: &str = "FORMAT.new";
const LOCK_NAME: &str = "LOCK";

/// A data directory that this process owns until the value is dropped.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    id: DataId,
    _lock: Box<dyn DirLock>,
}

impl DataDir {
    /// Opens the directory at `path`, making a new one where there is none or an empty one.
    ///
    /// Returns when FORMAT and its name are durable and the lock is ours.
    pub(crate) fn open(host: &Host, path: &Path) -> Outcome<Self> {
        let cannot = |error: io::Error| {
            Failure::because(format!("cannot use {} as data directory", path.display()), error)
        };
        host.disk.create_dir_all(path).map_err(cannot)?;
        let path = path.canonicalize().map_err(cannot)?;
        refuse_strangers(host, &path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).map_err(cannot)?;
        let lock = host.disk.lock(&path.join(LOCK_NAME)).map_err(cannot)?.ok_or_else(|| {
            let shown = path.display();
            Failure::new(format!(
                "another server is running on {shown}; use it, stop it, or give this one a directory of its own with --data"
            ))
        })?;
        let new = !path.join(FORMAT_NAME).exists();
        if new {
            write_format(host, &path).map_err(cannot)?;
        }
        let Format { id } = read_format(host, &path.join(FORMAT_NAME))?;
        Ok(Self { path, id, _lock: lock })
    }

    /// The directory, as an absolute path without symbolic links.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Names this data, wherever it is moved.
    pub(crate) fn id(&self) -> DataId {
        self.id
    }

    /// Where the journal lies.
    pub(crate) fn journal(&self) -> PathBuf {
        self.path.join("journal")
    }

    /// Where the meta store lies.
    pub(crate) fn meta(&self) -> PathBuf {
        self.path.join("meta")
    }

    /// Where blocks lie.
    pub(crate) fn blocks(&self) -> PathBuf {
        self.path.join("blocks")
    }
}

/// Name of the admin socket in a data directory.
pub(crate) const CONTROL_NAME: &str = "control.sock";
/// Name of the socket of the file protocol in a data directory.
pub(crate) const FILES_NAME: &str = "files.sock";

fn refuse_strangers(host: &Host, path: &Path) -> Outcome {
    let shown = path.display();
    let cannot = |error| Failure::because(format!("cannot use {shown} as data directory"), error);
    let owner = path.metadata().map_err(cannot)?.uid();
    let own = rustix::process::geteuid().as_raw();
    if owner != own {
        return Err(Failure::new(format!(
            "{shown} belongs to user {owner} and this server runs as user {own}; run it as that user or choose another --data"
        )));
    }
    let entries = host.disk.list(path).map_err(cannot)?;
    let unfinished = |name: &str| [FORMAT_DRAFT_NAME, LOCK_NAME].contains(&name);
    if entries.iter().all(|entry| unfinished(&entry.name))
        || entries.iter().any(|entry| entry.name == FORMAT_NAME)
    {
        return Ok(());
    }
    Err(Failure::new(format!(
        "{shown} is not empty and has no {FORMAT_NAME} file, so it is not a data directory; choose an empty or a new one with --data"
    )))
}

fn write_format(host: &Host, dir: &Path) -> io::Result<()> {
    let draft = dir.join(FORMAT_DRAFT_NAME);
    let file = host.disk.open(&draft, OpenMode::Create)?;
    file.set_size(0)?;
    let id = DataId(u128::from(host.random.next_u64()) << 64 | u128::from(host.random.next_u64()));
    file.write_all_at(
        format!("{FORMAT_MAGIC}\nversion {FORMAT_VERSION}\nid {id}\n").as_bytes(),
        0,
    )?;
    file.sync_data()?;
    host.disk.rename(&draft, &dir.join(FORMAT_NAME))?;
    host.disk.sync_dir(dir)
}

/// What a FORMAT file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    /// Names the data.
    pub(crate) id: DataId,
}

/// Random name of a data directory's contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DataId(u128);

impl DataId {
    /// As the block store knows it.
    pub(crate) fn store_id(self) -> StoreId {
        StoreId(self.0.to_be_bytes())
    }
}

impl fmt::Display for DataId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Reads a FORMAT file.
pub(crate) fn read_format(host: &Host, path: &Path) -> Outcome<Format> {
    let cannot =
        |error: io::Error| Failure::because(format!("cannot read {}", path.display()), error);
    let file = host.disk.open(path, OpenMode::Read).map_err(cannot)?;
    let size = file.size().map_err(cannot)?.min(FORMAT_BYTES_MAX);
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
    file.read_exact_at(&mut bytes, 0).map_err(cannot)?;
    let text = String::from_utf8_lossy(&bytes);
    parse_format(&text).map_err(|fault| {
        Failure::new(format!("{}, offset {}: {}", path.display(), fault.offset, fault.sentence))
    })
}

struct Fault {
    offset: usize,
    sentence: String,
}

/// Takes the text apart, line by line, each of which must be there.
fn parse_format(text: &str) -> Result<Format, Fault> {
    let fault = |offset, sentence: String| Fault { offset, sentence };
    let rest = text
        .strip_prefix(FORMAT_MAGIC)
        .and_then(|rest| rest.strip_prefix('\n'))
        .ok_or_else(|| {
            fault(
                0,
                "this is not a data directory's FORMAT file; restore it or choose another --data"
                    .to_owned(),
            )
        })?;
    let at = FORMAT_MAGIC.len() + 1;
    let (line, rest) = rest.split_once('\n').unwrap_or((rest, ""));
    match line.strip_prefix("version ").and_then(|number| number.parse::<u32>().ok()) {
        Some(FORMAT_VERSION) => {}
        Some(other) => {
            return Err(fault(
                at,
                format!(
                    "version {other} is unknown to this program, which knows version {FORMAT_VERSION}; use the strandline that wrote it"
                ),
            ));
        }
        None => {
            return Err(fault(
                at,
                "the version cannot be read; restore the file from a backup".to_owned(),
            ));
        }
    }
    let at = at + line.len() + 1;
    let id = rest
        .strip_prefix("id ")
        .and_then(|rest| rest.strip_suffix('\n'))
        .filter(|id| id.len() == 32);
    let id = id.and_then(|id| u128::from_str_radix(id, 16).ok());
    id.map(|id| Format { id: DataId(id) }).ok_or_else(|| {
        fault(at, "the id cannot be read; restore the file from a backup".to_owned())
    })
}

#[cfg(test)]
mod tests {
    //! Goal: a data directory is made once, recognised afterwards, and nothing else is ever taken for one.
    #![expect(
        clippy::disallowed_methods,
        reason = "the tests lay files in the way of the code under test"
    )]

    use super::*;

    #[track_caller]
    fn refused(dir: &Path, part: &str) {
        let failure =
            DataDir::open(&Host::real(), dir).expect_err("this must be refused").to_string();
        assert!(failure.contains(part), "{failure}");
    }

    #[test]
    fn a_new_directory_is_private_and_opens_again() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("a/b");
        let id = DataDir::open(&Host::real(), &dir).unwrap().id();
        assert_eq!(dir.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        let text = std::fs::read_to_string(dir.join("FORMAT")).unwrap();
        assert_eq!(text, format!("strandline data directory\nversion 1\nid {id}\n"));
        assert_eq!(DataDir::open(&Host::real(), &dir).unwrap().id(), id);
    }

    #[test]
    fn a_directory_in_use_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let _held = DataDir::open(&Host::real(), temp.path()).unwrap();
        refused(temp.path(), "another server is running");
    }

    #[test]
    fn a_strangers_directory_is_refused_and_left_alone() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::write(temp.path().join("thesis.tex"), "x").unwrap();
        refused(temp.path(), "not empty and has no FORMAT");
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_first_start_that_was_cut_short_is_finished() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::write(temp.path().join("LOCK"), "").unwrap();
        std::fs::write(
            temp.path().join("FORMAT.new"),
            "strand, and much more that never got there before the cut",
        )
        .unwrap();
        drop(DataDir::open(&Host::real(), temp.path()).unwrap());
        drop(DataDir::open(&Host::real(), temp.path()).unwrap());
    }

    #[test]
    fn an_unknown_version_is_refused_with_file_and_offset() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::write(temp.path().join("FORMAT"), "strandline data directory\nversion 7\n")
            .unwrap();
        refused(temp.path(), "FORMAT, offset 26: version 7 is unknown");
        std::fs::write(temp.path().join("FORMAT"), "something else").unwrap();
        refused(temp.path(), "FORMAT, offset 0: this is not");
        std::fs::write(temp.path().join("FORMAT"), "strandline data directory\nversion").unwrap();
        refused(temp.path(), "offset 26: the version cannot be read");
        std::fs::write(temp.path().join("FORMAT"), "strandline data directory\nversion 1\nid 12\n")
            .unwrap();
        refused(temp.path(), "offset 36: the id cannot be read");
    }
}
