//! Goal: a full disk refuses bytes, not deletes; damaged rows are named, never guessed; limits hold.

use file_tree::conformance::block_on;
use file_tree::rules::NLINK_MAX;
use file_tree::{Access, Caller, FileTree, Ino, NewNode, RenameMode, SetAttr, TreeError};
use strands::{Commit, Table};
use volume::IO_BYTES_MAX;

use crate::bed::{Bed, make_file, name, read, runtime, write};

#[test]
fn a_full_disk_refuses_bytes_but_not_deletes() {
    let runtime = runtime();
    let _in = runtime.enter();
    let bed = Bed::new(1);
    let server = bed.start();
    let tree = server.create("v");
    let kept = make_file(&*tree, tree.root(), "kept").ino;
    write(&*tree, kept, 0, &[1; 10_000]);
    let used: u64 = bed.machine.counts().bytes_written;
    bed.machine.fill_up(used + (12 << 20));
    let mut made = 0;
    let full = loop {
        let called = name(&format!("{made}"));
        let node = NewNode::File { mode: 0o600 };
        let file = block_on(tree.make(&Caller::root(), tree.root(), &called, node));
        let written = match file {
            Ok(attr) => block_on(tree.write(attr.ino, 0, vec![2; 1 << 20].into())).map(|_| ()),
            Err(error) => Err(error),
        };
        match written {
            Ok(()) => made += 1,
            Err(error) => break error,
        }
        assert!(made < 1_000, "the disk never filled");
    };
    assert_eq!(full, TreeError::NoSpace);
    assert_eq!(read(&*tree, kept), [1; 10_000]);
    for number in 0..made {
        block_on(tree.unlink(&Caller::root(), tree.root(), &name(&format!("{number}")))).unwrap();
    }
    bed.machine.fill_up(u64::MAX);
    let after = make_file(&*tree, tree.root(), "after").ino;
    write(&*tree, after, 0, &[3; 10_000]);
    assert_eq!(read(&*tree, after), [3; 10_000]);
    let whole = |tree: &dyn FileTree| {
        let items = block_on(tree.list(&Caller::root(), tree.root(), 0, 1_000)).unwrap();
        let files = block_on(tree.stat()).unwrap().files;
        assert_eq!(files, items.len() as u64 + 1, "the count of files went wrong");
        items
    };
    let before = whole(&*tree);
    drop((tree, server));
    bed.machine.kill();
    assert_eq!(whole(&*bed.start().tree("v")), before);
}

#[test]
fn damaged_rows_are_named() {
    let bed = Bed::new(1);
    let server = bed.start();
    let tree = server.create("v");
    let file = make_file(&*tree, tree.root(), "a").ino;
    let row = |ino: Ino| [&1_u32.to_be_bytes()[..], &ino.0.to_be_bytes()].concat();
    drop(tree);
    let put = |table, key: Vec<u8>, value: &[u8]| {
        let mut commit = Commit::new();
        commit.put(Table(table), key, value.to_vec());
        drop(server.strands.commit(commit).unwrap());
    };
    put(65, row(file), b"\x01\x00short");
    put(
        66,
        [row(Ino(1)), b"nothing".to_vec()].concat(),
        &[vec![1, 0], vec![0; 7], vec![99], vec![0; 8]].concat(),
    );
    put(66, [row(Ino(1)), b"newer".to_vec()].concat(), &[2]);
    drop(server);
    bed.machine.kill();
    let server = bed.start();
    let tree = server.tree("v");
    let damaged = |answer: Result<_, TreeError>| {
        assert!(matches!(answer, Err(TreeError::Damaged(_))), "{answer:?}");
    };
    damaged(block_on(tree.attr(file)));
    damaged(block_on(tree.lookup(&Caller::root(), tree.root(), &name("nothing"))));
    damaged(block_on(tree.lookup(&Caller::root(), tree.root(), &name("newer"))));
    damaged(block_on(tree.write(file, 0, b"x".as_slice().into())).map(|written| written.attr));
    let other = make_file(&*tree, tree.root(), "other");
    assert_eq!(block_on(tree.attr(other.ino)), Ok(other), "the rest still works");
}

#[test]
fn too_much_at_once_is_refused() {
    let runtime = runtime();
    let _in = runtime.enter();
    let bed = Bed::new(1);
    let server = bed.start();
    let tree = server.create("v");
    let file = make_file(&*tree, tree.root(), "a").ino;
    let most = usize::try_from(IO_BYTES_MAX).unwrap();
    write(&*tree, file, 0, &vec![1; most]);
    assert_eq!(block_on(tree.read(file, 0, IO_BYTES_MAX)).unwrap().len(), most);
    let write = block_on(tree.write(file, 0, vec![1; most + 1].into()));
    assert!(matches!(write, Err(TreeError::Invalid(_))));
    let size = SetAttr { size: Some(u64::from(IO_BYTES_MAX) * 2), ..SetAttr::default() };
    block_on(tree.set_attr(&Caller::root(), file, size)).unwrap();
    assert!(matches!(block_on(tree.read(file, 0, IO_BYTES_MAX + 1)), Err(TreeError::Invalid(_))));
}

#[test]
fn only_what_was_written_counts_as_allocated() {
    let bed = Bed::new(1);
    let server = bed.start();
    let tree = server.create("v");
    let file = make_file(&*tree, tree.root(), "a").ino;
    write(&*tree, file, 1 << 40, &[1; 1_000]);
    let allocated = || block_on(tree.attr(file)).unwrap().allocated;
    assert_eq!(allocated(), 1_000);
    write(&*tree, file, 0, &[1; 500]);
    assert_eq!(allocated(), 1_500);
    let size = SetAttr { size: Some(100), ..SetAttr::default() };
    block_on(tree.set_attr(&Caller::root(), file, size)).unwrap();
    assert_eq!(allocated(), 100);
}

#[test]
fn bytes_that_nobody_can_reach_are_given_back() {
    let bed = Bed::new(1);
    let server = bed.start();
    let tree = server.create("v");
    let (root, caller) = (tree.root(), Caller::root());
    let kept = || server.strands.status().unpacked_bytes;
    for called in ["emptied", "unlinked", "replaced", "open"] {
        let file = make_file(&*tree, root, called).ino;
        write(&*tree, file, 0, &[1; 1_000]);
    }
    assert_eq!(kept(), 4_000);
    let find = |called| block_on(tree.lookup(&caller, root, &name(called))).unwrap().ino;
    let empty = SetAttr { size: Some(0), ..SetAttr::default() };
    block_on(tree.set_attr(&caller, find("emptied"), empty)).unwrap();
    assert_eq!(kept(), 3_000);
    block_on(tree.unlink(&caller, root, &name("unlinked"))).unwrap();
    assert_eq!(kept(), 2_000);
    let (from, to) = (name("emptied"), name("replaced"));
    block_on(tree.rename(&caller, (root, &from), (root, &to), RenameMode::Replace)).unwrap();
    assert_eq!(kept(), 1_000);
    let open = find("open");
    block_on(tree.open(&caller, open, Access::Read)).unwrap();
    block_on(tree.unlink(&caller, root, &name("open"))).unwrap();
    assert_eq!(kept(), 1_000);
    block_on(tree.release(open)).unwrap();
    assert_eq!(kept(), 0);
}

/// Where the count of links begins in a file's row (`docs/formats/volume.md`).
const LINKS_AT: usize = 6;

#[test]
fn a_file_has_no_more_names_than_the_limit() {
    let bed = Bed::new(1);
    let server = bed.start();
    let tree = server.create("v");
    let (root, caller) = (tree.root(), Caller::root());
    let file = make_file(&*tree, root, "file").ino;
    let node = || NewNode::Directory { mode: 0o755 };
    let dir =
        |called| block_on(tree.make(&caller, root, &name(called), node())).map(|attr| attr.ino);
    let (full, other) = (dir("full").unwrap(), dir("other").unwrap());
    drop(tree);
    let mut commit = Commit::new();
    for ino in [file, full] {
        let key = [&1_u32.to_be_bytes()[..], &ino.0.to_be_bytes()].concat();
        let mut row = server.strands.row(Table(65), &key).unwrap().unwrap().to_vec();
        row[LINKS_AT..LINKS_AT + 4].copy_from_slice(&NLINK_MAX.to_be_bytes());
        commit.put(Table(65), key, row);
    }
    drop(server.strands.commit(commit).unwrap());
    drop(server);
    bed.machine.kill();
    let server = bed.start();
    let tree = server.tree("v");
    let refused = |answer: Result<(), TreeError>| assert_eq!(answer, Err(TreeError::TooManyLinks));
    refused(block_on(tree.link(&caller, file, other, &name("one more"))).map(|_| ()));
    refused(block_on(tree.make(&caller, full, &name("one more"), node())).map(|_| ()));
    let rename =
        |mode| block_on(tree.rename(&caller, (root, &name("other")), (full, &name("x")), mode));
    refused(rename(RenameMode::Replace));
    make_file(&*tree, full, "x");
    refused(rename(RenameMode::Exchange));
}
