//! The machine below us: disk, clock, randomness and threads, behind traits that a simulation can own.
//!
//! Everything that touches the outside world on behalf of the data path comes through here; `clippy.toml`
//! bans the direct calls elsewhere. There are two machines: [`Host::real`] and the simulated one in
//! [`sim`], which keeps live and durable images and can crash, tear, fill up and fail a sync. And
//! [`Host::in_memory`] is the real one with a disk that keeps nothing.
//!
//! Not here: anything that knows what a record, block or strand is.

mod clock;
mod disk;
mod mapping;
mod memory;
mod random;
mod real;
pub mod sim;
mod thread;

use std::sync::Arc;

pub use clock::{Clock, Monotonic, WallTime};
pub use disk::{DirEntry, DirLock, Disk, File, OpenMode, Space, SystemRun};
pub use mapping::Mapping;
pub use random::Random;
pub use thread::spawn;

/// The machine that a crate runs on: one handle, cheap to clone.
#[derive(Clone, Debug)]
pub struct Host {
    /// Where bytes and names are kept.
    pub disk: Arc<dyn Disk>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where unpredictable numbers come from.
    pub random: Arc<dyn Random>,
}

impl Host {
    /// The operating system's own disk, clock and randomness.
    pub fn real() -> Self {
        Self {
            disk: Arc::new(real::RealDisk),
            clock: Arc::new(real::RealClock::new()),
            random: Arc::new(real::RealRandom),
        }
    }

    /// The operating system's clock and randomness, and a disk in memory that is gone when the last clone is.
    pub fn in_memory() -> Self {
        let real = Self::real();
        let mut run = [0; 16];
        run[..8].copy_from_slice(&real.random.next_u64().to_le_bytes());
        run[8..].copy_from_slice(&real.random.next_u64().to_le_bytes());
        let disk = memory::MemoryDisk::new(Arc::clone(&real.clock), SystemRun(run));
        Self { disk: Arc::new(disk), ..real }
    }
}
