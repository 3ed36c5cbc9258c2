//! The data directory: whose it is, that it is one, and that only one server uses it.
//!
//! ```text
//! DATA/            mode 0700
//!   FORMAT         "strandline data directory\nversion 2\nid 32 hexadecimal digits\nstore NAME\n", written and
//!                  synced before anything else; id and store stay. Version 1 had no store: it was `own`
//!   LOCK           empty; held exclusively by the running server
//!   journal/ meta/ blocks/
//!   control.sock   admin HTTP with changes (mode 0600)
//!   files.sock     the file protocol
//! ```
//!
//! Invariant: a directory that holds anything but has no FORMAT is somebody else's and is never touched.
//! FORMAT appears by a rename, so it is whole or absent; a lone `FORMAT.new` or `LOCK` is a start that was cut short.
//! A server that keeps everything in memory has only LOCK and sockets here, and no FORMAT.
//!
//! Not here: what the parts contain; each crate owns its own.

use std::fmt;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use host::{DirLock, Host, OpenMode};
use strands::StoreId;

use crate::failure::{Failure, Outcome};
use crate::stores::StoreUrl;

/// The first line of FORMAT.
pub(crate) const FORMAT_MAGIC: &str = "strandline data directory";
/// The version that this program writes; it also reads those before.
pub(crate) const FORMAT_VERSION: u32 = 2;
/// FORMAT is four lines, one of which holds a path; anything longer is not ours.
const FORMAT_BYTES_MAX: u64 = 8192;
const FORMAT_NAME: &str = "FORMAT";
const FORMAT_DRAFT_NAME: &str = "FORMAT.new";
const LOCK_NAME: &str = "LOCK";

/// A data directory that this process owns until the value is dropped.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    id: DataId,
    store: StoreUrl,
    /// What was made for it, if it is new: see [`DataDir::discard`].
    made: Option<Vec<PathBuf>>,
    _lock: Box<dyn DirLock>,
}

impl DataDir {
    /// Opens the directory at `path`, making a new one where there is none or an empty one.
    ///
    /// Returns when FORMAT and its name are durable and the lock is ours. `store`: where the blocks shall lie; must be
    /// where they lie already, if there are any. A server in memory leaves no FORMAT.
    pub(crate) fn open(host: &Host, path: &Path, store: Option<&StoreUrl>) -> Outcome<Self> {
        let cannot = |error: io::Error| {
            Failure::because(format!("cannot use {} as data directory", path.display()), error)
        };
        let made = missing_dirs(path);
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
        let store = store.map(|store| store.seen_from(&path));
        let new = !path.join(FORMAT_NAME).exists();
        let format = match store {
            Some(StoreUrl::Memory) if new => Format {
                version: FORMAT_VERSION,
                id: DataId::random(host),
                store: StoreUrl::Memory,
            },
            store if new => {
                let store = store.unwrap_or_default();
                write_format(host, &path, DataId::random(host), &store).map_err(cannot)?;
                read_format(host, &path.join(FORMAT_NAME))?
            }
            store => {
                let format = read_format(host, &path.join(FORMAT_NAME))?;
                refuse_other_store(&path, &format.store, store.as_ref())?;
                format
            }
        };
        let made = new.then_some(made);
        Ok(Self { path, id: format.id, store: format.store, made, _lock: lock })
    }

    /// An empty or new directory that becomes a data directory when it is [finished](Self::finish).
    pub(crate) fn draft(host: &Host, path: &Path, store: &StoreUrl) -> Outcome<Self> {
        let shown = path.display();
        let cannot = |error: io::Error| {
            Failure::because(format!("cannot use {shown} as data directory"), error)
        };
        let made = Some(missing_dirs(path));
        host.disk.create_dir_all(path).map_err(cannot)?;
        let entries = host.disk.list(path).map_err(cannot)?;
        if entries.iter().any(|entry| entry.name != LOCK_NAME) {
            return Err(Failure::new(format!(
                "{shown} is not empty; choose an empty or a new directory with --data"
            )));
        }
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).map_err(cannot)?;
        let path = path.canonicalize().map_err(cannot)?;
        let lock = host.disk.lock(&path.join(LOCK_NAME)).map_err(cannot)?;
        let lock = lock.ok_or_else(|| Failure::new(format!("{shown} is in use")))?;
        Ok(Self { path, id: DataId::random(host), store: store.clone(), made, _lock: lock })
    }

    /// Takes back what [`open`](Self::open) or [`draft`](Self::draft) made, and all that was put into it since, for a
    /// start that came to nothing. A directory that was one before is left as it is.
    ///
    /// Whatever cannot be removed stays; FORMAT goes after the parts, so that what stays is a data directory or empty.
    pub(crate) fn discard(self, host: &Host) {
        let Some(made) = &self.made else { return };
        for part in [self.journal(), self.meta(), self.blocks()] {
            drop(std::fs::remove_dir_all(part));
        }
        for name in [CONTROL_NAME, FILES_NAME, FORMAT_NAME, FORMAT_DRAFT_NAME] {
            drop(host.disk.unlink(&self.path.join(name)));
        }
        // In a directory that stays somebody else may be about to lock the same file.
        if !made.is_empty() {
            drop(host.disk.unlink(&self.path.join(LOCK_NAME)));
        }
        for dir in made {
            drop(std::fs::remove_dir(dir));
        }
    }

    /// Makes a draft the data directory with this id, durably.
    pub(crate) fn finish(self, host: &Host, id: StoreId) -> Outcome {
        let id = DataId(u128::from_be_bytes(id.0));
        write_format(host, &self.path, id, &self.store).map_err(|error| {
            Failure::because(format!("cannot finish {}", self.path.display()), error)
        })
    }

    /// The directory, as an absolute path without symbolic links.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Names this data, wherever it is moved.
    pub(crate) fn id(&self) -> DataId {
        self.id
    }

    /// Where its blocks lie.
    pub(crate) fn store(&self) -> &StoreUrl {
        &self.store
    }

    /// Where the journal lies.
    pub(crate) fn journal(&self) -> PathBuf {
        self.path.join("journal")
    }

    /// Where the meta store lies.
    pub(crate) fn meta(&self) -> PathBuf {
        self.path.join("meta")
    }

    /// Moves the meta store out of the way, so that the start rebuilds it from journal and blocks. Nothing of it is
    /// deleted: somebody may want to look at it.
    pub(crate) fn set_meta_aside(&self, host: &Host, why: &str) -> io::Result<()> {
        let mut names = (1..).map(|n| self.path.join(format!("meta.damaged-{n}")));
        let Some(aside) = names.find(|name| !name.exists()) else { return Ok(()) };
        host.disk.rename(&self.meta(), &aside)?;
        host.disk.sync_dir(&self.path)?;
        tracing::warn!(
            why,
            "the meta store is of no use; it is kept as {} and rebuilt",
            aside.display()
        );
        Ok(())
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

/// The directories that have to be made for `path` to be one, the innermost first.
fn missing_dirs(path: &Path) -> Vec<PathBuf> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    path.ancestors().take_while(|dir| !dir.exists()).map(Path::to_owned).collect()
}

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
    let unfinished =
        |name: &str| [FORMAT_DRAFT_NAME, LOCK_NAME, CONTROL_NAME, FILES_NAME].contains(&name);
    if entries.iter().all(|entry| unfinished(&entry.name))
        || entries.iter().any(|entry| entry.name == FORMAT_NAME)
    {
        return Ok(());
    }
    Err(Failure::new(format!(
        "{shown} is not empty and has no {FORMAT_NAME} file, so it is not a data directory; choose an empty or a new one with --data"
    )))
}

/// A directory keeps to its store: with another one, everything in it would seem lost.
fn refuse_other_store(path: &Path, own: &StoreUrl, asked: Option<&StoreUrl>) -> Outcome {
    let shown = path.display();
    match (asked, own) {
        (None, _) => Ok(()),
        (Some(asked), own) if asked == own => Ok(()),
        (Some(StoreUrl::Memory), _) => Err(Failure::new(format!(
            "{shown} holds data, of which a server with --store memory would know nothing; choose an empty or a new directory with --data"
        ))),
        (Some(asked), StoreUrl::Own) => Err(Failure::new(format!(
            "{shown} keeps its blocks in itself and not in {asked}; leave --store out, or choose another --data"
        ))),
        (Some(asked), own) => Err(Failure::new(format!(
            "{shown} keeps its blocks in {own} and not in {asked}; leave --store out, or choose another --data"
        ))),
    }
}

fn write_format(host: &Host, dir: &Path, id: DataId, store: &StoreUrl) -> io::Result<()> {
    let draft = dir.join(FORMAT_DRAFT_NAME);
    let file = host.disk.open(&draft, OpenMode::Create)?;
    file.set_size(0)?;
    let text = format!("{FORMAT_MAGIC}\nversion {FORMAT_VERSION}\nid {id}\nstore {store}\n");
    file.write_all_at(text.as_bytes(), 0)?;
    file.sync_data()?;
    host.disk.rename(&draft, &dir.join(FORMAT_NAME))?;
    host.disk.sync_dir(dir)
}

/// What a FORMAT file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    /// Version of the layout.
    pub(crate) version: u32,
    /// Names the data.
    pub(crate) id: DataId,
    /// Where the blocks lie.
    pub(crate) store: StoreUrl,
}

/// Random name of a data directory's contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DataId(u128);

impl DataId {
    /// As the block store knows it.
    pub(crate) fn store_id(self) -> StoreId {
        StoreId(self.0.to_be_bytes())
    }

    fn random(host: &Host) -> Self {
        let half = || u128::from(host.random.next_u64());
        Self(half() << 64 | half())
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
    let version = line.strip_prefix("version ").and_then(|number| number.parse::<u32>().ok());
    let version = match version {
        Some(known @ 1..=FORMAT_VERSION) => known,
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
    };
    let at = at + line.len() + 1;
    let (line, rest) = rest.split_once('\n').unwrap_or((rest, ""));
    let digits = line.strip_prefix("id ").filter(|id| id.len() == 32);
    let id =
        digits.and_then(|id| u128::from_str_radix(id, 16).ok()).map(DataId).ok_or_else(|| {
            fault(at, "the id cannot be read; restore the file from a backup".to_owned())
        })?;
    let at = at + line.len() + 1;
    parse_store(rest, version == 1).map(|store| Format { version, id, store }).ok_or_else(|| {
        fault(at, "the store cannot be read; restore the file from a backup".to_owned())
    })
}

/// The last line, which version 1 does not have.
fn parse_store(rest: &str, is_first_version: bool) -> Option<StoreUrl> {
    if is_first_version {
        return rest.is_empty().then_some(StoreUrl::Own);
    }
    match rest.strip_prefix("store ")?.strip_suffix('\n')? {
        "own" => Some(StoreUrl::Own),
        other => other.parse().ok().filter(|store| *store != StoreUrl::Memory),
    }
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
            DataDir::open(&Host::real(), dir, None).expect_err("this must be refused").to_string();
        assert!(failure.contains(part), "{failure}");
    }

    #[test]
    fn a_new_directory_is_private_and_opens_again() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("a/b");
        let id = DataDir::open(&Host::real(), &dir, None).unwrap().id();
        assert_eq!(dir.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        let text = std::fs::read_to_string(dir.join("FORMAT")).unwrap();
        assert_eq!(text, format!("strandline data directory\nversion 2\nid {id}\nstore own\n"));
        assert_eq!(DataDir::open(&Host::real(), &dir, None).unwrap().id(), id);
    }

    #[test]
    fn what_was_made_for_nothing_is_taken_back_and_what_was_there_stays() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("a/b");
        let open = || DataDir::open(&Host::real(), &dir, None).unwrap();
        let data = open();
        std::fs::create_dir_all(data.journal().join("torn")).unwrap();
        data.discard(&Host::real());
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
        drop(open());
        open().discard(&Host::real());
        assert!(dir.join("FORMAT").exists(), "it was a data directory before");
        let empty = temp.path().join("empty");
        std::fs::create_dir(&empty).unwrap();
        DataDir::open(&Host::real(), &empty, None).unwrap().discard(&Host::real());
        let left: Vec<_> =
            std::fs::read_dir(&empty).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["LOCK"]);
    }

    #[test]
    fn a_directory_in_use_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let _held = DataDir::open(&Host::real(), temp.path(), None).unwrap();
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
        drop(DataDir::open(&Host::real(), temp.path(), None).unwrap());
        drop(DataDir::open(&Host::real(), temp.path(), None).unwrap());
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

    #[test]
    fn a_directory_of_the_first_version_keeps_its_blocks_in_itself() {
        let temp = tempfile::tempdir().unwrap();
        let id = "0123456789abcdef0123456789abcdef";
        let text = format!("strandline data directory\nversion 1\nid {id}\n");
        std::fs::write(temp.path().join("FORMAT"), &text).unwrap();
        let data = DataDir::open(&Host::real(), temp.path(), None).unwrap();
        assert_eq!((data.id().to_string().as_str(), data.store()), (id, &StoreUrl::Own));
        assert_eq!(std::fs::read_to_string(temp.path().join("FORMAT")).unwrap(), text);
    }

    #[test]
    fn a_directory_keeps_to_its_store() {
        let temp = tempfile::tempdir().unwrap();
        let open = |store: Option<&str>| {
            let store = store.map(|store| store.parse().unwrap());
            DataDir::open(&Host::real(), temp.path(), store.as_ref())
                .map(|data| data.store().to_string())
                .map_err(|failure| failure.to_string())
        };
        let first = Some("s3://bucket/prefix");
        for again in [first, None, first] {
            assert_eq!(open(again), Ok("s3://bucket/prefix".to_owned()));
        }
        for other in ["s3://bucket", "dir:/srv", "memory"] {
            let why = open(Some(other)).unwrap_err();
            assert!(
                why.contains("holds data")
                    || why.contains("keeps its blocks in s3://bucket/prefix"),
                "{why}"
            );
        }
    }

    #[test]
    fn a_server_in_memory_leaves_no_format() {
        let temp = tempfile::tempdir().unwrap();
        let open = |store: &StoreUrl| DataDir::open(&Host::real(), temp.path(), Some(store));
        let one = open(&StoreUrl::Memory).unwrap().id();
        assert_ne!(open(&StoreUrl::Memory).unwrap().id(), one);
        assert!(!temp.path().join("FORMAT").exists());
        let own = StoreUrl::Dir(temp.path().canonicalize().unwrap().join("blocks"));
        assert_eq!(open(&own).unwrap().store(), &StoreUrl::Own, "its own blocks by another name");
        assert!(open(&StoreUrl::Memory).is_err());
    }
}
