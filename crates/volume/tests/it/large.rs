//! Goal: a large write to a file is like any other, but for where its bytes lie.

use file_tree::conformance::block_on;
use file_tree::{Caller, FileTree, SetAttr, Stability};
use volume::{Durability, NewVolume};

use crate::bed::{Bed, make_file, named, read, runtime, write};

const LARGE: usize = 700_000;

fn bytes(fill: u8) -> Vec<u8> {
    (0..LARGE).map(|at| fill ^ (at / 999).to_le_bytes()[0]).collect()
}

#[test]
fn a_large_write_to_a_synced_volume_does_not_pass_the_journal_and_survives_the_power() {
    let runtime = runtime();
    let _in = runtime.enter();
    let mut bed = Bed::new(1);
    let server = bed.start();
    let synced = NewVolume { durability: Durability::Synced, ..NewVolume::default() };
    block_on(server.volumes.create(&named("v"), synced)).unwrap();
    let tree = server.tree("v");
    let file = make_file(&*tree, tree.root(), "a").ino;
    let written = block_on(tree.write(file, 100, bytes(1).into())).unwrap();
    assert_eq!(written.stability, Stability::Durable);
    assert_eq!(written.attr.size, 100 + LARGE as u64);
    write(&*tree, file, 300, &[9; 50]);
    let mut want = [vec![0; 100], bytes(1)].concat();
    want[300..350].fill(9);
    assert_eq!(read(&*tree, file), want);
    let status = server.strands.status();
    assert_eq!((status.staged_bytes, status.unpacked_bytes), (LARGE as u64, 50));
    drop((tree, server));
    bed.cut_power_losing_all();
    let server = bed.start();
    assert_eq!(read(&*server.tree("v"), file), want);
}

#[test]
fn a_burst_to_a_written_volume_does_not_pass_the_journal_and_survives_the_power_when_it_is_synced()
{
    let runtime = runtime();
    let _in = runtime.enter();
    let mut bed = Bed::new(1);
    let server = bed.start();
    let tree = server.create("v");
    let file = make_file(&*tree, tree.root(), "a").ino;
    write(&*tree, file, 0, &bytes(1));
    write(&*tree, file, 300_000, &bytes(2));
    let status = server.strands.status();
    assert_eq!((status.staged_bytes, status.unpacked_bytes), (2 * LARGE as u64, 0));
    let want = [&bytes(1)[..300_000], &bytes(2)].concat();
    assert!(read(&*tree, file) == want);
    block_on(tree.commit(file)).unwrap();
    assert_eq!(server.strands.status().unsynced_block_bytes, 0);
    drop((tree, server));
    bed.cut_power_losing_all();
    let server = bed.start();
    assert!(read(&*server.tree("v"), file) == want);
}

#[test]
fn large_writes_and_cuts_of_one_file_side_by_side_leave_one_of_their_orders() {
    let runtime = runtime();
    let _in = runtime.enter();
    let bed = Bed::new(1);
    let server = bed.start();
    let synced = NewVolume { durability: Durability::Synced, ..NewVolume::default() };
    block_on(server.volumes.create(&named("v"), synced)).unwrap();
    let tree = server.tree("v");
    for round in 0..20 {
        let file = make_file(&*tree, tree.root(), &format!("file {round}")).ino;
        write(&*tree, file, 0, &bytes(1));
        let writer = {
            let (tree, handle) = (tree.clone(), runtime.handle().clone());
            let body = move || {
                let _in = handle.enter();
                write(&*tree, file, 0, &bytes(2));
            };
            host::spawn("writer", body).unwrap()
        };
        // Gives the file another strand, so that what is staged for the old one must not get lost.
        let empty = SetAttr { size: Some(0), ..SetAttr::default() };
        block_on(tree.set_attr(&Caller::root(), file, empty)).unwrap();
        writer.join().unwrap();
        let got = read(&*tree, file);
        assert!(got.is_empty() || got == bytes(2), "round {round}");
        assert_eq!(block_on(tree.attr(file)).unwrap().size, got.len() as u64);
    }
}
