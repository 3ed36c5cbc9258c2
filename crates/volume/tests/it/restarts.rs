//! Goal: whatever happened before a restart is there after it: after a clean stop, a killed process, a power
//! cut; and what was open without a name is gone.

use file_tree::conformance::{Comparison, block_on};
use file_tree::{Access, Caller, FileTree, RenameMode, Stability, TreeError};
use strands::Table;
use volume::{Durability, NewVolume};

use crate::bed::{Bed, make_file, name, named, read, runtime, write};

#[test]
fn random_calls_survive_restarts_and_packing() {
    let runtime = runtime();
    let _in = runtime.enter();
    for seed in 0..8 {
        let bed = Bed::new(seed);
        let mut server = bed.start();
        let mut comparison = Comparison::new(server.create("v"), seed);
        for round in 0..6 {
            comparison.run(60);
            if round % 2 == 0 {
                server.strands.pack_now().unwrap();
                comparison.verify();
            }
            if round % 3 == 0 {
                server.strands.close().unwrap();
            }
            drop(server);
            bed.machine.kill();
            server = bed.start();
            comparison.restarted(server.tree("v"));
        }
    }
}

#[test]
fn a_power_cut_leaves_a_state_that_was_and_loses_nothing_durable() {
    let runtime = runtime();
    let _in = runtime.enter();
    for seed in 0..12 {
        let mut bed = Bed::new(seed);
        let mut server = bed.start();
        let mut comparison = Comparison::new(server.create("v"), seed);
        for round in 0..5 {
            comparison.run(40);
            if round % 2 == 1 {
                server.strands.pack_now().unwrap();
            }
            server.sync();
            let mut candidates = vec![comparison.snapshot()];
            for _ in 0..20 {
                comparison.run(1);
                candidates.push(comparison.snapshot());
            }
            drop(server);
            bed.cut_power(seed * 1_000 + round);
            server = bed.start();
            comparison.crashed(server.tree("v"), candidates);
        }
    }
}

#[test]
fn a_committed_file_survives_a_power_cut() {
    let mut bed = Bed::new(1);
    let server = bed.start();
    let tree = server.create("v");
    let file = make_file(&*tree, tree.root(), "a").ino;
    let written = block_on(tree.write(file, 0, b"safe".as_slice().into())).unwrap();
    assert_eq!(block_on(tree.commit(file)), Ok(written.epoch));
    drop((tree, server));
    bed.cut_power_losing_all();
    let server = bed.start();
    let tree = server.tree("v");
    assert_eq!(read(&*tree, file), b"safe");
    let epoch = block_on(tree.commit(file)).unwrap();
    assert_ne!(epoch, written.epoch, "a client must see that writes may have been lost");
}

#[test]
fn a_commit_covers_names_and_attributes() {
    let mut bed = Bed::new(1);
    let root = Caller::root();
    let server = bed.start();
    let tree = server.create("v");
    let file = make_file(&*tree, tree.root(), "a").ino;
    let mode = file_tree::SetAttr { mode: Some(0o600), ..file_tree::SetAttr::default() };
    block_on(tree.set_attr(&root, file, mode)).unwrap();
    block_on(tree.rename(
        &root,
        (tree.root(), &name("a")),
        (tree.root(), &name("b")),
        RenameMode::Replace,
    ))
    .unwrap();
    block_on(tree.commit(tree.root())).unwrap();
    drop((tree, server));
    bed.cut_power_losing_all();
    let server = bed.start();
    let tree = server.tree("v");
    let found = block_on(tree.lookup(&root, tree.root(), &name("b"))).unwrap();
    assert_eq!((found.ino, found.mode), (file, 0o600));
}

#[test]
fn answers_of_a_synced_volume_survive_a_power_cut() {
    let mut bed = Bed::new(1);
    let server = bed.start();
    let new = NewVolume { durability: Durability::Synced, ..NewVolume::default() };
    block_on(server.volumes.create(&named("v"), new)).unwrap();
    let tree = server.tree("v");
    let file = make_file(&*tree, tree.root(), "a").ino;
    let written = block_on(tree.write(file, 0, b"safe".as_slice().into())).unwrap();
    assert_eq!(written.stability, Stability::Durable);
    drop((tree, server));
    bed.cut_power_losing_all();
    assert_eq!(read(&*bed.start().tree("v"), file), b"safe");
}

#[test]
fn files_open_without_a_name_are_gone_after_a_restart() {
    let bed = Bed::new(1);
    let server = bed.start();
    let tree = server.create("v");
    let root = Caller::root();
    for number in 0..600 {
        let called = name(&format!("{number}"));
        let file = block_on(tree.create(&root, tree.root(), &called, 0o600)).unwrap().ino;
        write(&*tree, file, 0, b"soon gone");
        block_on(tree.unlink(&root, tree.root(), &called)).unwrap();
    }
    let kept = make_file(&*tree, tree.root(), "kept").ino;
    block_on(tree.open(&root, kept, Access::Read)).unwrap();
    assert_eq!(block_on(tree.stat()).unwrap().files, 602);
    drop((tree, server));
    bed.machine.kill();
    let server = bed.start();
    let tree = server.tree("v");
    assert_eq!(block_on(tree.stat()).unwrap().files, 2);
    assert_eq!(block_on(tree.attr(kept)).unwrap().nlink, 1);
    let all = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
    let left = server.strands.rows(Table(68), all, strands::Order::Ascending, 1).unwrap();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn numbers_are_not_reused_after_any_stop() {
    let mut bed = Bed::new(1);
    let mut last = 0;
    for round in 0..6 {
        let server = bed.start();
        let tree = if round == 0 { server.create("v") } else { server.tree("v") };
        for _ in 0..3 {
            let file = make_file(&*tree, tree.root(), "a").ino;
            assert!(file.0 > last, "{file} after {last}");
            last = file.0;
            block_on(tree.unlink(&Caller::root(), tree.root(), &name("a"))).unwrap();
        }
        server.sync();
        drop((tree, server));
        bed.cut_power(round);
    }
}

#[test]
fn bytes_cut_off_do_not_come_back_from_blocks() {
    let runtime = runtime();
    let _in = runtime.enter();
    let bed = Bed::new(1);
    let server = bed.start();
    let tree = server.create("v");
    let file = make_file(&*tree, tree.root(), "a").ino;
    let size = |size| file_tree::SetAttr { size: Some(size), ..file_tree::SetAttr::default() };
    write(&*tree, file, 0, &[7; 100_000]);
    server.strands.pack_now().unwrap();
    for (cut, grown) in [(50_000, 60_000), (0, 70_000)] {
        block_on(tree.set_attr(&Caller::root(), file, size(cut))).unwrap();
        block_on(tree.set_attr(&Caller::root(), file, size(grown))).unwrap();
        let bytes = read(&*tree, file);
        let kept = usize::try_from(cut).unwrap();
        assert_eq!(bytes.len(), usize::try_from(grown).unwrap());
        assert!(
            bytes[..kept].iter().all(|byte| *byte == 7)
                && bytes[kept..].iter().all(|byte| *byte == 0)
        );
        server.strands.pack_now().unwrap();
    }
    drop((tree, server));
    bed.machine.kill();
    let server = bed.start();
    assert_eq!(read(&*server.tree("v"), file), vec![0; 70_000]);
    let gone = block_on(server.tree("v").attr(file_tree::Ino(99)));
    assert_eq!(gone, Err(TreeError::Stale));
}
