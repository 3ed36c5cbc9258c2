//! Goal: names appear, are found, listed and removed as POSIX says, and the counts of links follow.

use super::{Case, Subject, invalid, named, refused, times};
use crate::error::TreeError;
use crate::rules::COOKIE_MIN;
use crate::types::{Access, Caller, FileKind, Ino, NewNode};

pub(super) const CASES: &[Case] = &[
    ("a new tree has an empty root", a_new_tree_has_an_empty_root),
    ("a new file is found and listed", a_new_file_is_found_and_listed),
    ("a taken name is refused", a_taken_name_is_refused),
    ("names are bytes, not text", names_are_bytes),
    ("a file is no directory", a_file_is_no_directory),
    ("directories count their subdirectories", directories_count_their_subdirectories),
    ("only an empty directory is removed", only_an_empty_directory_is_removed),
    ("unlink and remove_dir keep to their kinds", unlink_and_remove_dir_keep_to_their_kinds),
    ("a hard link is the same file", a_hard_link_is_the_same_file),
    ("a directory gets no second name", a_directory_gets_no_second_name),
    ("a file without names lives while it is open", a_file_without_names_lives_while_it_is_open),
    ("the last of two opens ends the file", the_last_of_two_opens_ends_the_file),
    ("a created file is open", a_created_file_is_open),
    ("a removed directory takes no names", a_removed_directory_takes_no_names),
    ("a symbolic link keeps its target", a_symbolic_link_keeps_its_target),
    ("special nodes keep kind and number", special_nodes_keep_kind_and_number),
    ("numbers are never reused", numbers_are_never_reused),
    ("a listing goes on after any cookie", a_listing_goes_on_after_any_cookie),
    ("a listing survives the removal of what it gave", a_listing_survives_removals),
    ("a change of names is a change of the directory", name_changes_touch_the_directory),
    ("the tree counts its files", the_tree_counts_its_files),
];

fn a_new_tree_has_an_empty_root(on: &Subject) {
    let attr = on.attr(on.root).expect("the root exists");
    assert_eq!((attr.ino, attr.kind, attr.nlink), (on.root, FileKind::Directory, 2));
    assert_eq!(on.names(on.root), [""; 0]);
    refused(on.lookup(on.root, "a"), TreeError::NotFound);
    refused(on.attr(Ino(u64::MAX)), TreeError::Stale);
}

fn a_new_file_is_found_and_listed(on: &Subject) {
    let attr = on.file(on.root, "a");
    assert_eq!((attr.kind, attr.mode, attr.nlink, attr.size), (FileKind::Regular, 0o644, 1, 0));
    assert_eq!(on.lookup(on.root, "a"), Ok(attr));
    assert_eq!(on.attr(attr.ino), Ok(attr));
    let items = on.list(on.root, 10);
    assert_eq!(items.len(), 1);
    assert_eq!((&items[0].name, items[0].attr), (&named("a"), attr));
}

fn a_taken_name_is_refused(on: &Subject) {
    let root = Caller::root();
    let file = on.file(on.root, "a");
    let target = b"t".to_vec();
    for node in
        [NewNode::File { mode: 0 }, NewNode::Directory { mode: 0 }, NewNode::Symlink { target }]
    {
        refused(on.make_as(&root, on.root, "a", node), TreeError::Exists);
    }
    refused(on.create_as(&root, on.root, "a", 0), TreeError::Exists);
    refused(on.link(file.ino, on.root, "a"), TreeError::Exists);
}

fn names_are_bytes(on: &Subject) {
    let root = Caller::root();
    let longest = [b'x'; 255];
    for bytes in [&b"\xff\xfe"[..], b" ", b"a\nb", &longest] {
        let name = crate::types::Name::new(bytes).expect("a valid name");
        let made = super::block_on(on.tree.make(&root, on.root, &name, NewNode::File { mode: 0 }));
        let found = super::block_on(on.tree.lookup(&root, on.root, &name));
        assert_eq!(found, made);
    }
    assert_eq!(on.list(on.root, 10).len(), 4);
}

fn a_file_is_no_directory(on: &Subject) {
    let file = on.file(on.root, "a").ino;
    let root = Caller::root();
    refused(on.lookup(file, "b"), TreeError::NotADirectory);
    refused(on.make_as(&root, file, "b", NewNode::File { mode: 0 }), TreeError::NotADirectory);
    refused(on.list_as(&root, file, 0, 1), TreeError::NotADirectory);
    refused(on.unlink(file, "b"), TreeError::NotADirectory);
    refused(on.rename((file, "b"), (on.root, "c")), TreeError::NotADirectory);
    refused(on.rename((on.root, "a"), (file, "c")), TreeError::NotADirectory);
}

fn directories_count_their_subdirectories(on: &Subject) {
    let dir = on.dir(on.root, "d");
    assert_eq!(dir.nlink, 2);
    on.dir(dir.ino, "sub");
    on.file(dir.ino, "file");
    assert_eq!(on.attr(dir.ino).map(|attr| attr.nlink), Ok(3));
    on.remove_dir(dir.ino, "sub").expect("it is empty");
    assert_eq!(on.attr(dir.ino).map(|attr| attr.nlink), Ok(2));
    assert_eq!(on.attr(on.root).map(|attr| attr.nlink), Ok(3));
}

fn only_an_empty_directory_is_removed(on: &Subject) {
    let dir = on.dir(on.root, "d").ino;
    on.file(dir, "a");
    refused(on.remove_dir(on.root, "d"), TreeError::NotEmpty);
    on.unlink(dir, "a").expect("a name to remove");
    on.remove_dir(on.root, "d").expect("it is empty now");
    refused(on.attr(dir), TreeError::Stale);
    refused(on.lookup(dir, "a"), TreeError::Stale);
    refused(on.remove_dir(on.root, "d"), TreeError::NotFound);
}

fn unlink_and_remove_dir_keep_to_their_kinds(on: &Subject) {
    on.dir(on.root, "d");
    on.file(on.root, "f");
    refused(on.unlink(on.root, "d"), TreeError::IsADirectory);
    refused(on.remove_dir(on.root, "f"), TreeError::NotADirectory);
    assert_eq!(on.names(on.root), ["d", "f"]);
}

fn a_hard_link_is_the_same_file(on: &Subject) {
    let dir = on.dir(on.root, "d").ino;
    let file = on.file(on.root, "a").ino;
    on.write(file, 0, b"bytes").expect("a write");
    let linked = on.link(file, dir, "b").expect("a link");
    assert_eq!((linked.ino, linked.nlink, linked.size), (file, 2, 5));
    on.unlink(on.root, "a").expect("the first name");
    assert_eq!(on.lookup(dir, "b").map(|attr| (attr.ino, attr.nlink)), Ok((file, 1)));
    assert_eq!(on.contents(file), b"bytes");
    on.unlink(dir, "b").expect("the last name");
    refused(on.attr(file), TreeError::Stale);
    refused(on.read(file, 0, 1), TreeError::Stale);
    refused(on.link(file, dir, "c"), TreeError::Stale);
}

fn a_directory_gets_no_second_name(on: &Subject) {
    let dir = on.dir(on.root, "d").ino;
    refused(on.link(dir, on.root, "e"), TreeError::NotPermitted);
}

fn a_file_without_names_lives_while_it_is_open(on: &Subject) {
    let file = on.file(on.root, "a").ino;
    on.open(file, Access::ReadWrite).expect("an open");
    on.write(file, 0, b"kept").expect("a write");
    on.unlink(on.root, "a").expect("the last name");
    assert_eq!(on.attr(file).map(|attr| attr.nlink), Ok(0));
    refused(on.lookup(on.root, "a"), TreeError::NotFound);
    on.write(file, 4, b", too").expect("a write without a name");
    assert_eq!(on.contents(file), b"kept, too");
    refused(on.link(file, on.root, "b"), TreeError::NotFound);
    on.release(file).expect("it was open");
    refused(on.attr(file), TreeError::Stale);
    refused(on.write(file, 0, b"x"), TreeError::Stale);
}

fn the_last_of_two_opens_ends_the_file(on: &Subject) {
    let file = on.file(on.root, "a").ino;
    on.open(file, Access::Read).expect("an open");
    on.open(file, Access::Write).expect("another");
    on.unlink(on.root, "a").expect("the last name");
    on.release(file).expect("it was open twice");
    assert!(on.attr(file).is_ok());
    on.release(file).expect("it was open once");
    refused(on.attr(file), TreeError::Stale);
    refused(on.release(file), TreeError::Stale);
}

fn a_created_file_is_open(on: &Subject) {
    let file = on.create_as(&Caller::root(), on.root, "a", 0o600).expect("a new file").ino;
    on.unlink(on.root, "a").expect("the last name");
    on.write(file, 0, b"x").expect("it is open");
    on.release(file).expect("it is open");
    refused(on.attr(file), TreeError::Stale);
    let closed = on.file(on.root, "b").ino;
    invalid(on.release(closed));
}

fn a_removed_directory_takes_no_names(on: &Subject) {
    let dir = on.dir(on.root, "d").ino;
    let file = on.file(on.root, "f").ino;
    on.open(dir, Access::Read).expect("an open");
    on.remove_dir(on.root, "d").expect("it is empty");
    assert_eq!(on.attr(dir).map(|attr| attr.nlink), Ok(0));
    let root = Caller::root();
    refused(on.make_as(&root, dir, "a", NewNode::File { mode: 0 }), TreeError::NotFound);
    refused(on.create_as(&root, dir, "a", 0), TreeError::NotFound);
    refused(on.link(file, dir, "a"), TreeError::NotFound);
    refused(on.rename((on.root, "f"), (dir, "a")), TreeError::NotFound);
    refused(on.lookup(dir, "a"), TreeError::NotFound);
    assert_eq!(on.names(dir), [""; 0]);
    on.release(dir).expect("it was open");
    refused(on.attr(dir), TreeError::Stale);
}

fn a_symbolic_link_keeps_its_target(on: &Subject) {
    let root = Caller::root();
    let link =
        |name: &str, target: Vec<u8>| on.make_as(&root, on.root, name, NewNode::Symlink { target });
    let attr = link("a", b"../some where".to_vec()).expect("a link");
    assert_eq!((attr.kind, attr.size), (FileKind::Symlink, 13));
    assert_eq!(super::block_on(on.tree.read_link(attr.ino)).as_deref(), Ok(&b"../some where"[..]));
    let long = link("b", vec![b'x'; 4_095]).expect("the longest link");
    assert_eq!(long.size, 4_095);
    refused(link("c", vec![b'x'; 4_096]), TreeError::NameTooLong);
    invalid(link("c", Vec::new()));
    invalid(super::block_on(on.tree.read_link(on.root)));
    invalid(on.read(attr.ino, 0, 1));
    invalid(on.open(attr.ino, Access::Read));
}

fn special_nodes_keep_kind_and_number(on: &Subject) {
    let root = Caller::root();
    let make = |name: &str, kind: FileKind, rdev: u64| {
        on.make_as(&root, on.root, name, NewNode::Special { kind, mode: 0o640, rdev })
    };
    for (name, kind, rdev) in [
        ("fifo", FileKind::Fifo, 0),
        ("socket", FileKind::Socket, 0),
        ("char", FileKind::CharDevice, 0x105),
        ("block", FileKind::BlockDevice, 0x0801),
    ] {
        let attr = make(name, kind, rdev).expect("a special node");
        assert_eq!((attr.kind, attr.rdev, attr.mode), (kind, rdev, 0o640));
        assert_eq!(on.lookup(on.root, name), Ok(attr));
    }
    invalid(make("not special", FileKind::Regular, 0));
    invalid(make("not special", FileKind::Directory, 0));
}

fn numbers_are_never_reused(on: &Subject) {
    let mut last = on.root.max(on.file(on.root, "first").ino);
    for _ in 0..20 {
        let file = on.file(on.root, "again").ino;
        assert!(file > last, "{file} after {last}");
        last = file;
        on.unlink(on.root, "again").expect("the name");
    }
}

fn a_listing_goes_on_after_any_cookie(on: &Subject) {
    for number in 0..50 {
        on.file(on.root, &format!("file {number}"));
    }
    let whole = on.list(on.root, 1_000);
    assert_eq!(whole.len(), 50);
    assert!(whole.iter().all(|item| item.cookie >= COOKIE_MIN));
    for max in [1, 3, 50] {
        assert_eq!(on.list(on.root, max), whole);
    }
    for (place, item) in whole.iter().enumerate() {
        let rest = on.list_as(&Caller::root(), on.root, item.cookie, 1).expect("root may list");
        assert_eq!(rest.first(), whole.get(place + 1));
    }
}

fn a_listing_survives_removals(on: &Subject) {
    for number in 0..30 {
        on.file(on.root, &format!("{number}"));
    }
    let mut seen = 0;
    let mut after = 0;
    loop {
        let page = on.list_as(&Caller::root(), on.root, after, 4).expect("root may list");
        let Some(last) = page.last() else { break };
        after = last.cookie;
        seen += page.len();
        for item in &page {
            on.unlink(on.root, &String::from_utf8_lossy(item.name.as_bytes()))
                .expect("a listed name");
        }
    }
    assert_eq!(seen, 30);
    assert_eq!(on.names(on.root), [""; 0]);
}

fn name_changes_touch_the_directory(on: &Subject) {
    let dir = on.dir(on.root, "d").ino;
    let mut before = on.attr(dir).expect("it exists");
    let mut touched = |what: &str| {
        let now = on.attr(dir).expect("it exists");
        assert!(now.mtime > before.mtime && now.ctime > before.ctime, "{what}: {now:?}");
        assert_eq!(now.atime, before.atime);
        before = now;
    };
    let file = on.file(dir, "a").ino;
    touched("make");
    let made = times(&on.attr(file).expect("it exists"));
    on.link(file, dir, "b").expect("a link");
    touched("link");
    on.rename((dir, "b"), (dir, "c")).expect("a rename");
    touched("rename");
    on.unlink(dir, "c").expect("a name");
    touched("unlink");
    let [atime, mtime, ctime] = times(&on.attr(file).expect("it exists"));
    assert_eq!([atime, mtime], made[..2], "names are not bytes");
    assert!(ctime > made[2], "the count of links changed");
}

fn the_tree_counts_its_files(on: &Subject) {
    let files = || super::block_on(on.tree.stat()).expect("room and limits").files;
    let before = files();
    let dir = on.dir(on.root, "d").ino;
    let file = on.file(dir, "a").ino;
    on.link(file, on.root, "b").expect("a link");
    assert_eq!(files(), before + 2);
    on.unlink(dir, "a").expect("a name");
    on.remove_dir(on.root, "d").expect("it is empty");
    assert_eq!(files(), before + 1);
    on.open(file, Access::Read).expect("an open");
    on.unlink(on.root, "b").expect("the last name");
    assert_eq!(files(), before + 1);
    on.release(file).expect("it was open");
    assert_eq!(files(), before);
}
