//! Goal: a volume passes the suite that every file tree passes, on a simulated and on a real disk.

use std::cell::Cell;
use std::sync::Arc;

use file_tree::FileTree;
use file_tree::conformance::{block_on, check_all, check_cases, check_random};
use host::Host;
use volume::{Durability, NewVolume};

use crate::bed::{Bed, Server, named, runtime};

/// Makes a new volume in the same data directory each time.
fn fresh<'a>(
    server: &'a Server,
    durability: Durability,
    made: &'a Cell<u32>,
) -> impl Fn() -> Arc<dyn FileTree> + 'a {
    move || {
        made.set(made.get() + 1);
        let volume = named(&format!("volume-{}", made.get()));
        let new = NewVolume { durability, ..NewVolume::default() };
        block_on(server.volumes.create(&volume, new)).unwrap();
        server.volumes.tree(&volume).unwrap()
    }
}

#[test]
fn a_volume_passes_the_suite() {
    let runtime = runtime();
    let _in = runtime.enter();
    let server = Bed::new(1).start();
    check_all(&fresh(&server, Durability::Written, &Cell::new(0)));
}

#[test]
fn a_synced_volume_passes_the_cases() {
    let runtime = runtime();
    let _in = runtime.enter();
    let server = Bed::new(2).start();
    check_cases(&fresh(&server, Durability::Synced, &Cell::new(0)));
}

#[test]
fn a_volume_on_a_real_disk_equals_the_model() {
    let runtime = runtime();
    let _in = runtime.enter();
    let dir = tempfile::tempdir().unwrap();
    let meta = Arc::new(meta_store::Fjall::open(dir.path().join("meta")).unwrap());
    let server = Server::start(Host::real(), dir.path(), meta).unwrap();
    let made = Cell::new(0);
    let make = fresh(&server, Durability::Written, &made);
    check_cases(&make);
    for seed in 100..105 {
        check_random(make(), seed, 300);
        server.strands.pack_now().unwrap();
    }
}
