//! Goal: the write epoch changes exactly when what was written and not synced may be gone: after the end of
//! the operating system's run, not after the end of the process.

use std::path::Path;
use std::sync::Arc;

use host::sim::Machine;

use super::options;
use crate::Strands;

fn epoch(machine: &Machine, meta: &Arc<meta_store::Memory>) -> u64 {
    let blocks = Arc::new(block_store::Memory::new());
    let meta = Arc::clone(meta) as Arc<dyn meta_store::MetaStore>;
    let strands = Strands::open(machine.host(), Path::new("/journal"), meta, blocks, options());
    strands.unwrap().write_epoch()
}

#[test]
fn the_write_epoch_outlives_the_process_and_not_the_system() {
    let machine = Machine::new(1);
    let meta = Arc::new(meta_store::Memory::new());
    let first = epoch(&machine, &meta);
    machine.kill();
    assert_eq!(epoch(&machine, &meta), first);
    machine.crash_seeded(1);
    let second = epoch(&machine, &meta);
    assert_ne!(second, first);
    machine.kill();
    assert_eq!(epoch(&machine, &meta), second);
}
