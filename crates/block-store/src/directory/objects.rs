//! Objects as files in one folder.
//!
//! ```text
//! DIR/objects/NAME.obj      an envelope (`crate::objects`); a slash in the name is a plus sign here
//!            /NAME.tmp      an object being written
//!            /LOCK          held while an object changes
//! ```
//!
//! Put writes `NAME.tmp`, syncs it, renames it and syncs the folder. A leftover `NAME.tmp` is replaced by the
//! next put of that name.
//!
//! Invariant: an object is looked at and replaced under one lock, which is held against other threads and
//! other processes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use host::{Disk, Host, OpenMode, Random};

use crate::files::OBJECTS_FOLDER;
use crate::objects::{ENVELOPE_BYTES, ObjectName, Stamp, check_put, is_prefix, seal, unseal};
use crate::{
    OBJECT_BYTES_MAX, ObjectDeleteError, ObjectGetError, ObjectListError, ObjectPutError, Objects,
    PutIf, Version,
};

/// The objects of a directory store.
#[derive(Debug)]
pub(crate) struct ObjectFiles {
    disk: Arc<dyn Disk>,
    random: Arc<dyn Random>,
    dir: PathBuf,
    /// Whether the folder's name is durable.
    changing: Mutex<bool>,
}

impl ObjectFiles {
    /// The objects below `dir`, whose name is durable. Nothing is made until something is put.
    pub(crate) fn new(host: &Host, dir: &Path) -> Self {
        Self {
            disk: Arc::clone(&host.disk),
            random: Arc::clone(&host.random),
            dir: dir.join(OBJECTS_FOLDER),
            changing: Mutex::new(false),
        }
    }

    fn path(&self, name: &ObjectName, kind: &str) -> PathBuf {
        self.dir.join(format!("{}.{kind}", name.as_str().replace('/', "+")))
    }

    /// An object and the stamp of its put.
    pub(crate) fn load(&self, name: &ObjectName) -> Result<Option<(Bytes, Stamp)>, ObjectGetError> {
        let refused = |source| ObjectGetError::Io { name: name.as_str().to_owned(), source };
        let path = self.path(name, "obj");
        let damaged = |at, why| ObjectGetError::Damaged {
            name: name.as_str().to_owned(),
            place: path.display().to_string(),
            at,
            why,
        };
        let file = match self.disk.open(&path, OpenMode::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(refused(source)),
        };
        let size = file.size().map_err(refused)?;
        let len = usize::try_from(size).unwrap_or(usize::MAX);
        if len > ENVELOPE_BYTES + OBJECT_BYTES_MAX as usize {
            return Err(damaged(size, "no object is so long"));
        }
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, 0).map_err(refused)?;
        unseal(&bytes.into()).map(Some).map_err(|source| {
            ObjectGetError::from_format(name.as_str(), path.display().to_string(), source)
        })
    }

    /// Stores an envelope as it is, durably.
    pub(crate) fn put_sealed(
        &self,
        name: &ObjectName,
        sealed: &[u8],
    ) -> Result<(), ObjectPutError> {
        let put = self.alone(|| self.write(name, sealed));
        put.map_err(|source| put_error(name.as_str(), source))
    }

    /// Runs `change` while nobody else changes objects here. The folder is there and its name durable.
    fn alone<T>(&self, change: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        // A thread that panicked left a temporary file at worst.
        let mut durable = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if !*durable {
            self.disk.create_dir_all(&self.dir)?;
            self.disk.sync_dir(super::parent(&self.dir))?;
            *durable = true;
        }
        let Some(_lock) = self.disk.lock(&self.dir.join("LOCK"))? else {
            let why = "another process is changing the store's objects";
            return Err(io::Error::new(io::ErrorKind::WouldBlock, why));
        };
        change()
    }

    fn write(&self, name: &ObjectName, sealed: &[u8]) -> io::Result<()> {
        let temp = self.path(name, "tmp");
        let file = self.disk.open(&temp, OpenMode::Create)?;
        file.set_size(0)?;
        file.write_all_at(sealed, 0)?;
        file.sync_data()?;
        self.disk.rename(&temp, &self.path(name, "obj"))?;
        self.disk.sync_dir(&self.dir)
    }
}

fn put_error(name: &str, source: io::Error) -> ObjectPutError {
    let name = name.to_owned();
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            ObjectPutError::NoSpace { name }
        }
        _ => ObjectPutError::Io { name, source },
    }
}

impl Objects for ObjectFiles {
    fn get(&self, name: &str) -> Result<Option<(Bytes, Version)>, ObjectGetError> {
        let Ok(good) = name.parse() else {
            return Err(ObjectGetError::BadName { name: name.to_owned() });
        };
        Ok(self.load(&good)?.map(|(bytes, stamp)| (bytes, stamp.version())))
    }

    fn put(&self, name: &str, bytes: Bytes, condition: PutIf) -> Result<Version, ObjectPutError> {
        let good = check_put(name, &bytes)?;
        let stamp = Stamp::new(&*self.random);
        let sealed = seal(stamp, &bytes);
        let put = self.alone(|| {
            let as_wanted = match &condition {
                PutIf::Always => true,
                PutIf::Absent => self.load(&good).map_err(io::Error::other)?.is_none(),
                PutIf::Is(version) => self
                    .load(&good)
                    .map_err(io::Error::other)?
                    .is_some_and(|(_, stamp)| stamp.version() == *version),
            };
            if as_wanted {
                self.write(&good, &sealed)?;
            }
            Ok(as_wanted)
        });
        match put {
            Ok(true) => Ok(stamp.version()),
            Ok(false) => Err(ObjectPutError::Conflict { name: name.to_owned() }),
            Err(source) => Err(put_error(name, source)),
        }
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, ObjectListError> {
        if !is_prefix(prefix) {
            return Err(ObjectListError::BadName { prefix: prefix.to_owned() });
        }
        let entries = match self.disk.list(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => {
                return Err(ObjectListError::Io { prefix: prefix.to_owned(), source });
            }
        };
        let mut names: Vec<String> = entries
            .into_iter()
            .filter(|entry| !entry.is_dir)
            .filter_map(|entry| Some(entry.name.strip_suffix(".obj")?.replace('+', "/")))
            .filter(|name| name.starts_with(prefix) && name.parse::<ObjectName>().is_ok())
            .collect();
        names.sort_unstable();
        Ok(names)
    }

    fn delete(&self, name: &str) -> Result<(), ObjectDeleteError> {
        let Ok(good) = name.parse() else {
            return Err(ObjectDeleteError::BadName { name: name.to_owned() });
        };
        let deleted = self.alone(|| match self.disk.unlink(&self.path(&good, "obj")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(()) => self.disk.sync_dir(&self.dir),
        });
        deleted.map_err(|source| ObjectDeleteError::Io { name: name.to_owned(), source })
    }
}
