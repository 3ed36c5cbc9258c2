//! Goal: volumes are made, listed, deleted and found by name, durably; a deletion that is cut short is
//! finished at the next start.

use std::ops::Bound;

use file_tree::conformance::block_on;
use file_tree::{FileTree, TreeError};
use strands::{Order, Strands, Table};
use volume::{CreateError, DeleteError, Durability, FindError, NewVolume, VolumeName};

use crate::bed::{Bed, Server, make_file, named, read, write};

fn names(server: &Server) -> Vec<String> {
    server.volumes.list().unwrap().iter().map(|info| info.name.to_string()).collect()
}

/// Rows of all volumes, the counter of volumes not counted.
fn rows_left(strands: &Strands) -> usize {
    let all = (Bound::Unbounded, Bound::Unbounded);
    let rows = |table| strands.rows(Table(table), all, Order::Ascending, 100_000).unwrap().len();
    (64..=95).map(rows).sum::<usize>() - 1
}

#[test]
fn a_volume_is_made_once_and_found() {
    let bed = Bed::new(1);
    let server = bed.start();
    let (a, b) = (named("a"), named("b"));
    let new = NewVolume { uid: 5, gid: 6, mode: 0o2770, durability: Durability::Synced };
    let made = block_on(server.volumes.create(&b, new)).unwrap();
    block_on(server.volumes.create(&a, NewVolume::default())).unwrap();
    let again = block_on(server.volumes.create(&a, new));
    assert_eq!(again, Err(CreateError::Exists(a)));
    assert_eq!(names(&server), ["a", "b"]);
    assert_eq!(server.volumes.list().unwrap()[1], made);
    let tree = server.tree("b");
    let root = block_on(tree.attr(tree.root())).unwrap();
    assert_eq!((root.uid, root.gid, root.mode, root.nlink), (5, 6, 0o2770, 2));
    let missing = server.volumes.tree(&named("c")).unwrap_err();
    assert_eq!(missing, FindError::NotFound(named("c")));
}

#[test]
fn volumes_do_not_see_each_other() {
    let bed = Bed::new(1);
    let server = bed.start();
    let (a, b) = (server.create("a"), server.create("b"));
    let in_a = make_file(&*a, a.root(), "file").ino;
    let in_b = make_file(&*b, b.root(), "file").ino;
    write(&*a, in_a, 0, b"a's");
    write(&*b, in_b, 0, b"b's bytes");
    assert_eq!((read(&*a, in_a), read(&*b, in_b)), (b"a's".to_vec(), b"b's bytes".to_vec()));
    block_on(server.volumes.delete(&named("a"))).unwrap();
    assert_eq!(read(&*b, in_b), b"b's bytes");
}

#[test]
fn creation_and_deletion_are_durable() {
    let mut bed = Bed::new(1);
    let server = bed.start();
    server.create("a");
    server.create("b");
    block_on(server.volumes.delete(&named("a"))).unwrap();
    drop(server);
    bed.cut_power_losing_all();
    assert_eq!(names(&bed.start()), ["b"]);
}

#[test]
fn a_deleted_volume_is_gone_for_all_who_use_it() {
    let bed = Bed::new(1);
    let server = bed.start();
    let tree = server.create("a");
    let file = make_file(&*tree, tree.root(), "f").ino;
    let deleted = block_on(server.volumes.delete(&named("a")));
    assert_eq!(deleted, Ok(()));
    assert_eq!(
        block_on(server.volumes.delete(&named("a"))),
        Err(DeleteError::NotFound(named("a")))
    );
    assert_eq!(block_on(tree.attr(file)), Err(TreeError::Stale));
    assert_eq!(block_on(tree.read(file, 0, 1)), Err(TreeError::Stale));
    assert_eq!(
        block_on(tree.write(file, 0, b"x".as_slice().into())).unwrap_err(),
        TreeError::Stale
    );
    let again = server.create("a");
    assert_eq!(
        block_on(again.attr(file)),
        Err(TreeError::Stale),
        "a new volume of that name is empty"
    );
    block_on(server.volumes.delete(&named("a"))).unwrap();
    assert_eq!(rows_left(&server.strands), 0);
}

#[test]
fn a_deletion_that_is_cut_short_is_finished_at_the_next_start() {
    let bed = Bed::new(1);
    let server = bed.start();
    let tree = server.create("a");
    for number in 0..700 {
        let file = make_file(&*tree, tree.root(), &format!("{number}")).ino;
        write(&*tree, file, 0, b"some bytes");
    }
    server.strands.close().unwrap();
    drop((tree, server));
    for after in 0..8 {
        let machine = bed.machine.fork();
        let mut bed = Bed { machine, meta: std::sync::Arc::new(bed.meta.after_crash(usize::MAX)) };
        bed.machine.kill();
        let server = bed.start();
        bed.machine.crash_at(bed.machine.counts().operations + 1 + after);
        let deleted = block_on(server.volumes.delete(&named("a")));
        drop(server);
        bed.cut_power(after);
        let server = bed.start();
        match names(&server).as_slice() {
            [] => assert_eq!(rows_left(&server.strands), 0),
            [_] => {
                assert!(deleted.is_err(), "an answered deletion came undone");
                let files = server.volumes.list().unwrap()[0].files;
                assert_eq!(files, 701, "a volume is deleted whole or not at all");
            }
            more => panic!("{more:?}"),
        }
    }
}

#[test]
fn only_plain_names_are_names_of_volumes() {
    for good in ["a", "my-volume_2.old", "0", &"x".repeat(64)] {
        assert_eq!(VolumeName::new(good).unwrap().as_str(), good);
    }
    for bad in ["", ".", "..", "A", "a b", "a/b", "ä", &"x".repeat(65), "a\0"] {
        assert!(VolumeName::new(bad).is_err(), "{bad:?}");
    }
}
