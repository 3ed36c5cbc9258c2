//! Goal: many callers at once leave the tree whole, and a reader sees only states that were.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use file_tree::conformance::block_on;
use file_tree::{Caller, FileTree, Ino, RenameMode, SetAttr, TreeError};
use strands::Strands;
use volume::Volume;

use crate::bed::{Bed, make_file, name, read, runtime, write};

/// Runs `body` with each number below `count` on a thread of its own, and waits for all.
fn at_once(count: u32, body: impl Fn(u32) + Send + Sync + 'static) {
    let body = Arc::new(body);
    let threads: Vec<_> = (0..count)
        .map(|number| {
            let body = Arc::clone(&body);
            host::spawn("caller", move || body(number)).unwrap()
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

fn count(tree: &Volume, dir: Ino) -> usize {
    let (mut count, mut after) = (0, 0);
    loop {
        let page = block_on(tree.list(&Caller::root(), dir, after, 100)).unwrap();
        let Some(last) = page.last() else { return count };
        after = last.cookie;
        count += page.len();
    }
}

#[test]
fn writers_of_different_files_do_not_mix() {
    let bed = Bed::new(1);
    let server = bed.start();
    let tree = server.create("v");
    let shared = Arc::clone(&tree);
    at_once(4, move |number| {
        let file = make_file(&*shared, shared.root(), &format!("{number}")).ino;
        let byte = number.to_le_bytes()[0];
        for round in 0..100 {
            write(&*shared, file, round * 1_000, &vec![byte; 1_000]);
        }
        assert_eq!(read(&*shared, file), vec![byte; 100_000]);
    });
    assert_eq!(count(&tree, tree.root()), 4);
}

#[test]
fn appends_to_one_file_are_all_there() {
    let bed = Bed::new(1);
    let server = bed.start();
    let tree = server.create("v");
    let file = make_file(&*tree, tree.root(), "f").ino;
    let shared = Arc::clone(&tree);
    at_once(4, move |number| {
        for round in 0..100 {
            let at = (round * 4 + u64::from(number)) * 10;
            write(&*shared, file, at, &[number.to_le_bytes()[0] + 1; 10]);
        }
    });
    let bytes = read(&*tree, file);
    assert_eq!(bytes.len(), 4_000);
    assert!(!bytes.contains(&0), "a write is missing");
    assert_eq!(block_on(tree.attr(file)).unwrap().size, 4_000);
}

#[test]
fn names_made_and_moved_at_once_are_neither_lost_nor_doubled() {
    let bed = Bed::new(1);
    let server = bed.start();
    let tree = server.create("v");
    let root = tree.root();
    let node = || file_tree::NewNode::Directory { mode: 0o755 };
    let dirs = ["x", "y"]
        .map(|dir| block_on(tree.make(&Caller::root(), root, &name(dir), node())).unwrap().ino);
    let shared = Arc::clone(&tree);
    at_once(4, move |number| {
        for round in 0..50 {
            let called = name(&format!("{number}-{round}"));
            make_file(&*shared, dirs[0], &format!("{number}-{round}"));
            let caller = Caller::root();
            let (from, to) = ((dirs[0], &called), (dirs[1], &called));
            block_on(shared.rename(&caller, from, to, RenameMode::NoReplace)).unwrap();
            if round % 5 == 0 {
                block_on(shared.unlink(&caller, dirs[1], &called)).unwrap();
            }
        }
    });
    assert_eq!((count(&tree, dirs[0]), count(&tree, dirs[1])), (0, 160));
    assert_eq!(block_on(tree.stat()).unwrap().files, 163);
}

#[test]
fn opposite_renames_make_no_loop() {
    let bed = Bed::new(1);
    let server = bed.start();
    let tree = server.create("v");
    let root = tree.root();
    let node = || file_tree::NewNode::Directory { mode: 0o755 };
    for round in 0..30 {
        let (a, b) = (name(&format!("a{round}")), name(&format!("b{round}")));
        let [in_a, in_b] = [&a, &b]
            .map(|dir| block_on(tree.make(&Caller::root(), root, dir, node())).unwrap().ino);
        let shared = Arc::clone(&tree);
        at_once(2, move |number| {
            let (moved, into) = if number == 0 { (&a, in_b) } else { (&b, in_a) };
            let caller = Caller::root();
            let renamed =
                block_on(shared.rename(&caller, (root, moved), (into, moved), RenameMode::Replace));
            assert!(matches!(renamed, Ok(()) | Err(TreeError::Invalid(_))), "{renamed:?}");
        });
        assert_eq!(count(&tree, root), round + 1, "one of the two is inside the other");
    }
}

#[test]
fn a_reader_sees_only_states_that_were() {
    check_reader(400, |_| {});
}

#[test]
fn a_reader_of_blocks_sees_only_states_that_were() {
    check_reader(150, |strands| strands.pack_now().unwrap());
}

/// A file is filled, cut and emptied over and over, `between` with its bytes there; it must never look
/// otherwise.
fn check_reader(rounds: u32, between: fn(&Strands)) {
    let runtime = runtime();
    let handle = runtime.handle().clone();
    let bed = Bed::new(1);
    let server = bed.start();
    let tree = server.create("v");
    let file = make_file(&*tree, tree.root(), "f").ino;
    let stopped = AtomicBool::new(false);
    let (shared, strands) = (tree, server.strands);
    at_once(3, move |number| {
        let _in = handle.enter();
        if number == 0 {
            for round in 0..rounds {
                let byte = (round % 250 + 1).to_le_bytes()[0];
                write(&*shared, file, 0, &[byte; 5_000]);
                between(&strands);
                for size in [2_000, 0] {
                    let size = SetAttr { size: Some(size), ..SetAttr::default() };
                    block_on(shared.set_attr(&Caller::root(), file, size)).unwrap();
                }
            }
            stopped.store(true, Ordering::Release);
            return;
        }
        while !stopped.load(Ordering::Acquire) {
            let bytes = read(&*shared, file);
            assert!(matches!(bytes.len(), 0 | 2_000 | 5_000), "{} bytes", bytes.len());
            if let Some(first) = bytes.first() {
                assert!(*first != 0 && bytes.iter().all(|byte| byte == first), "mixed bytes");
            }
        }
    });
}
