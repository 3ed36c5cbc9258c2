//! What the client has open, so that it can be opened again on a new connection.
//!
//! Invariant: while a connection is up, the server holds exactly the opens counted here. A release goes
//! to the connection that is up when it is counted, and ends with it; one that comes while files are
//! being opened anew is sent when that is done.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use file_tree::{Access, Caller, Ino};

use super::connection::Connection;

/// See the module's text.
pub(super) struct Opens(Mutex<Table>);

struct Table {
    files: HashMap<Ino, Open>,
    phase: Phase,
}

/// One open file, however often it is open.
#[derive(Clone, Debug)]
pub(super) struct Open {
    pub(super) count: u64,
    pub(super) access: Access,
    pub(super) caller: Caller,
}

enum Phase {
    Up(Arc<Connection>),
    Down,
    Restoring { late: Vec<Ino> },
}

/// What to do about a release.
pub(super) enum Release {
    /// Tell this connection.
    Send(Arc<Connection>),
    /// Nothing: it has been taken care of.
    Done,
    /// The file is not open here.
    Unknown,
}

impl Opens {
    pub(super) fn new(connection: Arc<Connection>) -> Self {
        Self(Mutex::new(Table { files: HashMap::new(), phase: Phase::Up(connection) }))
    }

    /// Counts an open that was answered on connection `number`; false if that one is not up any more, so
    /// that the open is gone with it.
    pub(super) fn add(&self, ino: Ino, access: Access, caller: &Caller, number: u64) -> bool {
        let mut table = self.table();
        if !matches!(&table.phase, Phase::Up(up) if up.number() == number) {
            return false;
        }
        match table.files.entry(ino) {
            Entry::Vacant(file) => {
                file.insert(Open { count: 1, access, caller: caller.clone() });
            }
            Entry::Occupied(mut file) => {
                let open = file.get_mut();
                open.count += 1;
                if open.access != access {
                    open.access = Access::ReadWrite;
                }
            }
        }
        true
    }

    /// Takes one open away.
    pub(super) fn remove(&self, ino: Ino) -> Release {
        let mut table = self.table();
        match table.files.entry(ino) {
            Entry::Vacant(_) => return Release::Unknown,
            Entry::Occupied(file) if file.get().count == 1 => drop(file.remove()),
            Entry::Occupied(mut file) => file.get_mut().count -= 1,
        }
        match &mut table.phase {
            Phase::Up(connection) => Release::Send(connection.clone()),
            Phase::Down => Release::Done,
            Phase::Restoring { late } => {
                late.push(ino);
                Release::Done
            }
        }
    }

    /// The connection is lost, and all its opens with it.
    pub(super) fn down(&self) {
        self.table().phase = Phase::Down;
    }

    /// What must be opened again.
    pub(super) fn begin_restore(&self) -> Vec<(Ino, Open)> {
        let mut table = self.table();
        table.phase = Phase::Restoring { late: Vec::new() };
        table.files.iter().map(|(ino, open)| (*ino, open.clone())).collect()
    }

    /// All is open again on `connection`. Returns what was released meanwhile and must be released there.
    pub(super) fn end_restore(&self, connection: Arc<Connection>) -> Vec<Ino> {
        match mem::replace(&mut self.table().phase, Phase::Up(connection)) {
            Phase::Restoring { late } => late,
            Phase::Up(_) | Phase::Down => Vec::new(),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
