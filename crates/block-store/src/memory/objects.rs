//! Objects in memory.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::objects::{ObjectName, check_put, is_prefix};
use crate::{
    ObjectDeleteError, ObjectGetError, ObjectListError, ObjectPutError, Objects, PutIf, Version,
};

/// The objects of a store in memory. Their versions are the numbers of the puts.
#[derive(Debug, Default)]
pub(super) struct ObjectMap {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    kept: BTreeMap<ObjectName, (Bytes, u64)>,
    puts: u64,
}

impl ObjectMap {
    /// Each change is one call, so a poisoned lock guards a whole map.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn version(put: u64) -> Version {
    Version(put.to_string())
}

impl Objects for ObjectMap {
    fn get(&self, name: &str) -> Result<Option<(Bytes, Version)>, ObjectGetError> {
        let Ok(good) = name.parse::<ObjectName>() else {
            return Err(ObjectGetError::BadName { name: name.to_owned() });
        };
        Ok(self.state().kept.get(&good).map(|(bytes, put)| (bytes.clone(), version(*put))))
    }

    fn put(&self, name: &str, bytes: Bytes, condition: PutIf) -> Result<Version, ObjectPutError> {
        let good = check_put(name, &bytes)?;
        let mut state = self.state();
        let there = state.kept.get(&good).map(|(_, put)| version(*put));
        let as_wanted = match condition {
            PutIf::Always => true,
            PutIf::Absent => there.is_none(),
            PutIf::Is(version) => there == Some(version),
        };
        if !as_wanted {
            return Err(ObjectPutError::Conflict { name: name.to_owned() });
        }
        state.puts += 1;
        let put = state.puts;
        state.kept.insert(good, (bytes, put));
        Ok(version(put))
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, ObjectListError> {
        if !is_prefix(prefix) {
            return Err(ObjectListError::BadName { prefix: prefix.to_owned() });
        }
        let state = self.state();
        let names = state.kept.keys().map(ObjectName::as_str);
        Ok(names.filter(|name| name.starts_with(prefix)).map(str::to_owned).collect())
    }

    fn delete(&self, name: &str) -> Result<(), ObjectDeleteError> {
        let Ok(good) = name.parse::<ObjectName>() else {
            return Err(ObjectDeleteError::BadName { name: name.to_owned() });
        };
        self.state().kept.remove(&good);
        Ok(())
    }
}
