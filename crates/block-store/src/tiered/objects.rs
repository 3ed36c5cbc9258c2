//! Objects of a tiered store: those put always are staged, and follow the blocks; all others go straight
//! through.

use std::io;
use std::sync::PoisonError;

use bytes::Bytes;

use super::{Job, Shared, State, Way};
use crate::objects::{ObjectName, Stamp, check_put, is_prefix, seal};
use crate::remote::{ObjectTrouble, object_delete_error, object_list_error, object_put_error};
use crate::{
    ObjectDeleteError, ObjectGetError, ObjectListError, ObjectPutError, Objects, PutIf, Version,
};

impl Shared {
    /// Finds objects that an earlier process staged.
    pub(super) fn find_staged_objects(&self, state: &mut State) -> io::Result<()> {
        for name in self.staged_objects.list("").map_err(io::Error::other)? {
            let Ok(good) = name.parse::<ObjectName>() else { continue };
            let found = self.staged_objects.load(&good).map_err(io::Error::other)?;
            let Some((content, stamp)) = found else { continue };
            let sealed = seal(stamp, &content);
            if !state.staging.reserve(sealed.len() as u64) {
                state.staging.exceed(sealed.len() as u64);
            }
            state.staging.add_object(good, content, sealed, stamp);
        }
        Ok(())
    }

    fn stage_object(
        &self,
        name: ObjectName,
        content: Bytes,
        stamp: Stamp,
    ) -> Result<(), ObjectPutError> {
        let sealed = seal(stamp, &content);
        let bytes = sealed.len() as u64;
        let deadline = self.now() + self.options.put_patience;
        let room = |state: &mut State| state.staging.reserve(bytes).then_some(());
        let full = || ObjectPutError::Full { name: name.as_str().to_owned() };
        self.wait_for(deadline, room).ok_or_else(full)?;
        let alone = self.objects_io.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = self.staged_objects.put_sealed(&name, &sealed) {
            self.state().staging.release(bytes);
            return Err(error);
        }
        let now = self.now();
        let mut state = self.state();
        state.staging.add_object(name, content, sealed, stamp);
        state.push_ready_objects(now);
        drop(state);
        drop(alone);
        self.work.notify_one();
        Ok(())
    }

    /// The staged object goes, if it is the one with that stamp, whichever it is without one.
    pub(super) fn unstage_object(&self, name: &ObjectName, stamp: Option<Stamp>) -> io::Result<()> {
        let _alone = self.objects_io.lock().unwrap_or_else(PoisonError::into_inner);
        let there = self.state().staging.objects().get(name).map(|object| object.stamp);
        if there.is_none() || stamp.is_some_and(|stamp| there != Some(stamp)) {
            return Ok(());
        }
        self.staged_objects.delete(name.as_str()).map_err(io::Error::other)?;
        self.state().staging.remove_object(name);
        Ok(())
    }

    /// Waits until the object is not being uploaded, if it is staged, and holds it back.
    fn hold_object(&self, name: &ObjectName) -> Result<(), ObjectDeleteError> {
        let deadline = self.now() + self.options.patience;
        let held = self.wait_for(deadline, |state| {
            let Some(object) = state.staging.object_mut(name) else { return Some(()) };
            let is_idle = !std::mem::replace(&mut object.asked, true);
            (is_idle || state.queue.remove(&Job::UploadObject(name.clone()))).then_some(())
        });
        held.ok_or_else(|| ObjectDeleteError::Away {
            name: name.as_str().to_owned(),
            why: "the object is being uploaded".to_owned(),
        })
    }

    /// The object is not deleted after all.
    fn let_object_go(&self, name: &ObjectName) {
        let now = self.now();
        let mut state = self.state();
        if let Some(object) = state.staging.object_mut(name) {
            object.asked = false;
            state.push_ready_objects(now);
        }
    }
}

impl Objects for Shared {
    fn get(&self, name: &str) -> Result<Option<(Bytes, Version)>, ObjectGetError> {
        let Ok(good) = name.parse::<ObjectName>() else {
            return Err(ObjectGetError::BadName { name: name.to_owned() });
        };
        if let Some(object) = self.state().staging.objects().get(&good) {
            return Ok(Some((object.content.clone(), object.stamp.version())));
        }
        let asked = self.ask(Way::Reads, |remote| match remote.object(&good) {
            Err(ObjectTrouble::Trouble(trouble)) => Err(trouble),
            answer => Ok(answer),
        });
        let found = asked
            .unwrap_or_else(|trouble| Err(ObjectTrouble::Trouble(trouble)))
            .map_err(|trouble| trouble.into_get_error(name, self.remote.place()))?;
        Ok(found.map(|found| (found.content, found.stamp.version())))
    }

    /// An unconditional put is durable in the staging area when it returns.
    fn put(&self, name: &str, bytes: Bytes, condition: PutIf) -> Result<Version, ObjectPutError> {
        let good = check_put(name, &bytes)?;
        let stamp = Stamp::new(&*self.host.random);
        if condition == PutIf::Always {
            self.stage_object(good, bytes, stamp)?;
            return Ok(stamp.version());
        }
        let conflict = || ObjectPutError::Conflict { name: name.to_owned() };
        if self.state().staging.objects().contains_key(&good) {
            return Err(conflict());
        }
        let sealed = seal(stamp, &bytes);
        let put =
            self.ask(Way::Writes, |remote| remote.put_object(&good, &sealed, stamp, &condition));
        match put {
            Ok(true) => Ok(stamp.version()),
            Ok(false) => Err(conflict()),
            Err(trouble) => Err(object_put_error(name, trouble)),
        }
    }

    fn is_settled(&self, name: &str) -> bool {
        !name
            .parse()
            .is_ok_and(|name: ObjectName| self.state().staging.objects().contains_key(&name))
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, ObjectListError> {
        if !is_prefix(prefix) {
            return Err(ObjectListError::BadName { prefix: prefix.to_owned() });
        }
        let mut names: Vec<String> = {
            let state = self.state();
            let staged = state.staging.objects().keys().map(ObjectName::as_str);
            staged.filter(|name| name.starts_with(prefix)).map(str::to_owned).collect()
        };
        let mut after = None;
        loop {
            let page = self.ask(Way::Reads, |remote| remote.objects_page(prefix, after.as_ref()));
            let (more, next) = page.map_err(|trouble| object_list_error(prefix, trouble))?;
            names.extend(more);
            after = next;
            if after.is_none() {
                break;
            }
        }
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    fn delete(&self, name: &str) -> Result<(), ObjectDeleteError> {
        let Ok(good) = name.parse::<ObjectName>() else {
            return Err(ObjectDeleteError::BadName { name: name.to_owned() });
        };
        self.hold_object(&good)?;
        if let Err(source) = self.unstage_object(&good, None) {
            self.let_object_go(&good);
            return Err(ObjectDeleteError::Io { name: name.to_owned(), source });
        }
        self.ask(Way::Writes, |remote| remote.delete_object(&good))
            .map_err(|trouble| object_delete_error(name, trouble))
    }
}
