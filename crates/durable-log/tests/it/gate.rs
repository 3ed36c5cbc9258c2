//! A disk that stops a thread at a chosen operation, for tests where the order of two threads matters.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use host::Host;

use crate::support::Place;
use crate::watched::{Operation, Watch, watched};

/// Stops the first thread that does this operation on a file whose name begins so.
#[derive(Debug)]
pub(crate) struct Gate {
    operation: Operation,
    name: &'static str,
    armed: AtomicBool,
    state: Mutex<Option<(Sender<()>, Receiver<()>)>>,
}

impl Gate {
    /// The gate, how to know that somebody stands before it, and how to open it.
    pub(crate) fn new(
        operation: Operation,
        name: &'static str,
    ) -> (Arc<Self>, Receiver<()>, Sender<()>) {
        let (arrived, arrives) = channel();
        let (open, opened) = channel();
        let state = Mutex::new(Some((arrived, opened)));
        (Arc::new(Self { operation, name, armed: AtomicBool::new(false), state }), arrives, open)
    }

    /// From now on it stops who comes.
    pub(crate) fn arm(&self) {
        self.armed.store(true, Ordering::SeqCst);
    }
}

impl Watch for Gate {
    fn before(&self, operation: Operation, path: &Path) -> io::Result<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_meant = operation == self.operation && name.starts_with(self.name);
        if self.armed.load(Ordering::SeqCst) && is_meant {
            let taken = self.state.lock().unwrap().take();
            if let Some((arrived, opened)) = taken {
                let _ = arrived.send(());
                let _ = opened.recv();
            }
        }
        Ok(())
    }
}

/// The host of a place, with a gate before its disk.
pub(crate) fn gated(place: &Place, gate: &Arc<Gate>) -> Host {
    watched(&place.host, Arc::clone(gate))
}
