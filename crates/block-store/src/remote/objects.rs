//! Objects in a bucket, always put on a condition.
//!
//! Who wants to put always, puts on the condition that the object is what it was a moment ago. So of two
//! requests of which the later was answered, the earlier cannot take place after it, however late the
//! network delivers it.

use std::io;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{PutMode, PutPayload, UpdateVersion};

use super::Trouble;
use super::bucket::{BATCH, Bucket, collect, trouble};
use crate::objects::{ENVELOPE_BYTES, ObjectName, Stamp, check_put, is_prefix, seal, unseal};
use crate::{
    FormatError, OBJECT_BYTES_MAX, ObjectDeleteError, ObjectGetError, ObjectListError,
    ObjectPutError, Objects, PutIf, Version,
};

/// How often an unconditional put looks again at what it replaces.
const LOOKS_MAX: usize = 4;

/// An object as it is in the bucket.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) content: Bytes,
    pub(crate) stamp: Stamp,
}

/// What is there, and how to say that one means just that.
type There = (Result<Found, FormatError>, UpdateVersion);

/// Why there is no object.
#[derive(Clone, Debug)]
pub(crate) enum ObjectTrouble {
    /// What is there is no object.
    Format(FormatError),
    /// The request came to nothing.
    Trouble(Trouble),
}

impl From<Trouble> for ObjectTrouble {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

impl ObjectTrouble {
    pub(crate) fn into_get_error(self, name: &str, place: &str) -> ObjectGetError {
        match self {
            Self::Format(source) => {
                ObjectGetError::from_format(name, format!("objects/{name} in {place}"), source)
            }
            Self::Trouble(Trouble::Away(why) | Trouble::Busy { why, .. }) => {
                ObjectGetError::Away { name: name.to_owned(), why }
            }
            Self::Trouble(Trouble::Refused(why)) => {
                ObjectGetError::Io { name: name.to_owned(), source: io::Error::other(why) }
            }
        }
    }
}

impl Bucket {
    fn object_path(&self, name: &ObjectName) -> Path {
        Path::from(format!("{}objects/{}", self.prefix, name.as_str()))
    }

    /// What is there under an object's name, an object or not.
    fn look(&self, name: &ObjectName) -> Result<Option<There>, Trouble> {
        let path = self.object_path(name);
        self.run(async {
            let Some(result) = self.get(&path, None).await? else { return Ok(None) };
            let size = result.meta.size;
            let version = UpdateVersion {
                e_tag: result.meta.e_tag.clone(),
                version: result.meta.version.clone(),
            };
            if size > (ENVELOPE_BYTES as u64) + u64::from(OBJECT_BYTES_MAX) {
                let why = "no object is so long";
                return Ok(Some((Err(FormatError::Damaged { at: size, why }), version)));
            }
            let bytes = collect(result, 0..size).await?;
            let found = unseal(&bytes).map(|(content, stamp)| Found { content, stamp });
            Ok(Some((found, version)))
        })
    }

    /// Gets an object.
    pub(crate) fn object(&self, name: &ObjectName) -> Result<Option<Found>, ObjectTrouble> {
        match self.look(name)? {
            Some((found, _)) => found.map(Some).map_err(ObjectTrouble::Format),
            None => Ok(None),
        }
    }

    /// Puts an object that carries `stamp`; says whether the condition held. Asking again with the same stamp
    /// does no harm.
    pub(crate) fn put_object(
        &self,
        name: &ObjectName,
        sealed: &Bytes,
        stamp: Stamp,
        condition: &PutIf,
    ) -> Result<bool, Trouble> {
        if *condition == PutIf::Absent {
            return self.put_first(name, sealed, stamp);
        }
        let is_ours = |there: &There| there.0.as_ref().is_ok_and(|found| found.stamp == stamp);
        let mut is_damaged = false;
        for _ in 0..LOOKS_MAX {
            let there = self.look(name)?;
            if there.as_ref().is_some_and(is_ours) {
                // An earlier request, whose reply was lost.
                return Ok(true);
            }
            is_damaged = there.as_ref().is_some_and(|(found, _)| found.is_err());
            let mode = match (condition, there) {
                (PutIf::Always | PutIf::Absent, None) => PutMode::Create,
                (PutIf::Always | PutIf::Absent, Some((_, there))) => PutMode::Update(there),
                (PutIf::Is(version), Some((Ok(found), there)))
                    if found.stamp.version() == *version =>
                {
                    PutMode::Update(there)
                }
                // Damaged there, or on its way to here: looks again.
                (PutIf::Is(_), Some((Err(_), _))) => continue,
                (PutIf::Is(_), Some((Ok(_), _)) | None) => return Ok(false),
            };
            if self.put_if(name, sealed, mode)? {
                return Ok(true);
            }
        }
        let is_other = is_damaged && *condition != PutIf::Always;
        if is_other { Ok(false) } else { Err(keeps_changing()) }
    }

    /// Puts an object if there is none; says whether there was none, but for one with `stamp`.
    fn put_first(&self, name: &ObjectName, sealed: &Bytes, stamp: Stamp) -> Result<bool, Trouble> {
        let mut is_damaged = false;
        for _ in 0..LOOKS_MAX {
            if self.put_if(name, sealed, PutMode::Create)? {
                return Ok(true);
            }
            match self.look(name)? {
                Some((Ok(found), _)) => return Ok(found.stamp == stamp),
                // Damaged there or on its way to here; or another request was under way, and failed.
                looked => is_damaged = looked.is_some(),
            }
        }
        if is_damaged { Ok(false) } else { Err(keeps_changing()) }
    }

    fn put_if(&self, name: &ObjectName, sealed: &Bytes, mode: PutMode) -> Result<bool, Trouble> {
        let path = self.object_path(name);
        self.run(async {
            let payload = PutPayload::from(sealed.clone());
            match self.store.put_opts(&path, payload, mode.into()).await {
                Ok(_) => Ok(true),
                Err(
                    object_store::Error::AlreadyExists { .. }
                    | object_store::Error::Precondition { .. },
                ) => Ok(false),
                Err(error) => Err(trouble(&error)),
            }
        })
    }

    pub(crate) fn delete_object(&self, name: &ObjectName) -> Result<(), Trouble> {
        self.delete_paths(vec![self.object_path(name)])
    }

    /// Names of objects behind `after` that begin with `prefix`, and where the next page begins.
    pub(crate) fn objects_page(
        &self,
        prefix: &str,
        after: Option<&Path>,
    ) -> Result<(Vec<String>, Option<Path>), Trouble> {
        let metas = self.page_of("objects", after)?;
        let next = (metas.len() == BATCH).then(|| metas[BATCH - 1].location.clone());
        let folder = format!("{}objects/", self.prefix);
        let names = metas
            .iter()
            .filter_map(|meta| meta.location.as_ref().strip_prefix(&folder))
            .filter(|name| name.starts_with(prefix) && name.parse::<ObjectName>().is_ok())
            .map(str::to_owned)
            .collect();
        Ok((names, next))
    }
}

fn keeps_changing() -> Trouble {
    Trouble::Away("somebody else keeps changing the object".to_owned())
}

impl Objects for Bucket {
    fn get(&self, name: &str) -> Result<Option<(Bytes, Version)>, ObjectGetError> {
        let Ok(good) = name.parse() else {
            return Err(ObjectGetError::BadName { name: name.to_owned() });
        };
        let found = self.object(&good);
        let found = found.map_err(|trouble| trouble.into_get_error(name, &self.place))?;
        Ok(found.map(|found| (found.content, found.stamp.version())))
    }

    fn put(&self, name: &str, bytes: Bytes, condition: PutIf) -> Result<Version, ObjectPutError> {
        let good = check_put(name, &bytes)?;
        let stamp = Stamp::new(&*self.random);
        match self.put_object(&good, &seal(stamp, &bytes), stamp, &condition) {
            Ok(true) => Ok(stamp.version()),
            Ok(false) => Err(ObjectPutError::Conflict { name: name.to_owned() }),
            Err(trouble) => Err(object_put_error(name, trouble)),
        }
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, ObjectListError> {
        if !is_prefix(prefix) {
            return Err(ObjectListError::BadName { prefix: prefix.to_owned() });
        }
        let (mut names, mut after) = (Vec::new(), None);
        loop {
            let page = self.objects_page(prefix, after.as_ref());
            let (more, next) = page.map_err(|trouble| object_list_error(prefix, trouble))?;
            names.extend(more);
            after = next;
            if after.is_none() {
                return Ok(names);
            }
        }
    }

    fn delete(&self, name: &str) -> Result<(), ObjectDeleteError> {
        let Ok(good) = name.parse() else {
            return Err(ObjectDeleteError::BadName { name: name.to_owned() });
        };
        self.delete_object(&good).map_err(|trouble| object_delete_error(name, trouble))
    }
}

pub(crate) fn object_put_error(name: &str, trouble: Trouble) -> ObjectPutError {
    let name = name.to_owned();
    match trouble {
        Trouble::Away(why) | Trouble::Busy { why, .. } => ObjectPutError::Away { name, why },
        Trouble::Refused(why) => ObjectPutError::Io { name, source: io::Error::other(why) },
    }
}

pub(crate) fn object_list_error(prefix: &str, trouble: Trouble) -> ObjectListError {
    let prefix = prefix.to_owned();
    match trouble {
        Trouble::Away(why) | Trouble::Busy { why, .. } => ObjectListError::Away { prefix, why },
        Trouble::Refused(why) => ObjectListError::Io { prefix, source: io::Error::other(why) },
    }
}

pub(crate) fn object_delete_error(name: &str, trouble: Trouble) -> ObjectDeleteError {
    let name = name.to_owned();
    match trouble {
        Trouble::Away(why) | Trouble::Busy { why, .. } => ObjectDeleteError::Away { name, why },
        Trouble::Refused(why) => ObjectDeleteError::Io { name, source: io::Error::other(why) },
    }
}
