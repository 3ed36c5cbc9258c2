//! Goal: a rename is one step, replaces what it may, and never makes a loop or loses a file.

use super::{Case, Subject, invalid, refused};
use crate::error::TreeError;
use crate::types::{Access, Caller, Ino, RenameMode};

pub(super) const CASES: &[Case] = &[
    ("a rename moves a name", a_rename_moves_a_name),
    ("a rename replaces a file", a_rename_replaces_a_file),
    ("a replaced open file lives on", a_replaced_open_file_lives_on),
    ("a rename replaces only an empty directory", only_an_empty_directory_is_replaced),
    ("kinds do not replace each other", kinds_do_not_replace_each_other),
    ("a directory cannot move into itself", a_directory_cannot_move_into_itself),
    ("a directory cannot be replaced from within", a_directory_cannot_be_replaced_from_within),
    ("a moved directory has a new parent", a_moved_directory_has_a_new_parent),
    ("a rename to itself does nothing", a_rename_to_itself_does_nothing),
    ("a rename between two names of one file does nothing", between_two_names_of_one_file),
    ("no-replace keeps the target", no_replace_keeps_the_target),
    ("exchange swaps two names", exchange_swaps_two_names),
    ("exchange of directories moves their counts", exchange_moves_counts),
    ("exchange makes no loop", exchange_makes_no_loop),
    ("a missing name cannot be renamed", a_missing_name_cannot_be_renamed),
    ("a replaced name keeps its place in a listing", a_replaced_name_keeps_its_place),
];

fn exchange(on: &Subject, from: (Ino, &str), to: (Ino, &str)) -> Result<(), TreeError> {
    on.rename_as(&Caller::root(), from, to, RenameMode::Exchange)
}

fn nlink(on: &Subject, ino: Ino) -> u32 {
    on.attr(ino).expect("it exists").nlink
}

fn a_rename_moves_a_name(on: &Subject) {
    let dir = on.dir(on.root, "d").ino;
    let file = on.file(on.root, "a");
    on.rename((on.root, "a"), (dir, "b")).expect("a rename");
    assert_eq!(on.names(on.root), ["d"]);
    let moved = on.lookup(dir, "b").expect("the new name");
    assert_eq!((moved.ino, moved.nlink, moved.mtime), (file.ino, 1, file.mtime));
    assert!(moved.ctime > file.ctime);
}

fn a_rename_replaces_a_file(on: &Subject) {
    let new = on.file(on.root, "new").ino;
    let old = on.file(on.root, "old").ino;
    on.link(old, on.root, "other name of old").expect("a link");
    on.rename((on.root, "new"), (on.root, "old")).expect("a rename");
    assert_eq!(on.lookup(on.root, "old").map(|attr| attr.ino), Ok(new));
    assert_eq!(nlink(on, old), 1);
    on.rename((on.root, "old"), (on.root, "other name of old")).expect("a rename");
    refused(on.attr(old), TreeError::Stale);
    assert_eq!(on.names(on.root), ["other name of old"]);
}

fn a_replaced_open_file_lives_on(on: &Subject) {
    let old = on.file(on.root, "old").ino;
    on.open(old, Access::ReadWrite).expect("an open");
    on.write(old, 0, b"still here").expect("a write");
    on.file(on.root, "new");
    on.rename((on.root, "new"), (on.root, "old")).expect("a rename");
    assert_eq!(nlink(on, old), 0);
    assert_eq!(on.contents(old), b"still here");
    on.release(old).expect("it was open");
    refused(on.attr(old), TreeError::Stale);
}

fn only_an_empty_directory_is_replaced(on: &Subject) {
    let moved = on.dir(on.root, "moved").ino;
    let target = on.dir(on.root, "target").ino;
    on.file(target, "a");
    refused(on.rename((on.root, "moved"), (on.root, "target")), TreeError::NotEmpty);
    on.unlink(target, "a").expect("a name");
    on.rename((on.root, "moved"), (on.root, "target")).expect("it is empty now");
    assert_eq!(on.lookup(on.root, "target").map(|attr| attr.ino), Ok(moved));
    refused(on.attr(target), TreeError::Stale);
    assert_eq!(nlink(on, on.root), 3);
}

fn kinds_do_not_replace_each_other(on: &Subject) {
    on.dir(on.root, "d");
    on.file(on.root, "f");
    refused(on.rename((on.root, "d"), (on.root, "f")), TreeError::NotADirectory);
    refused(on.rename((on.root, "f"), (on.root, "d")), TreeError::IsADirectory);
}

fn a_directory_cannot_move_into_itself(on: &Subject) {
    let dir = on.dir(on.root, "d").ino;
    let sub = on.dir(dir, "sub").ino;
    let deep = on.dir(sub, "deep").ino;
    for into in [dir, sub, deep] {
        invalid(on.rename((on.root, "d"), (into, "x")));
    }
    on.rename((sub, "deep"), (on.root, "x")).expect("up is allowed");
    on.rename((on.root, "d"), (deep, "x")).expect("it is not below itself any more");
    assert_eq!(on.names(on.root), ["x"]);
}

fn a_directory_cannot_be_replaced_from_within(on: &Subject) {
    let dir = on.dir(on.root, "d").ino;
    let sub = on.dir(dir, "sub").ino;
    on.file(sub, "f");
    refused(on.rename((sub, "f"), (on.root, "d")), TreeError::NotEmpty);
    refused(on.rename((dir, "sub"), (on.root, "d")), TreeError::NotEmpty);
}

fn a_moved_directory_has_a_new_parent(on: &Subject) {
    let from = on.dir(on.root, "from").ino;
    let to = on.dir(on.root, "to").ino;
    let moved = on.dir(from, "m").ino;
    on.rename((from, "m"), (to, "m")).expect("a rename");
    assert_eq!((nlink(on, from), nlink(on, to), nlink(on, moved)), (2, 3, 2));
    invalid(on.rename((on.root, "to"), (moved, "x")));
    on.rename((on.root, "from"), (moved, "x")).expect("the old parent is not above any more");
}

fn a_rename_to_itself_does_nothing(on: &Subject) {
    let file = on.file(on.root, "a");
    on.rename((on.root, "a"), (on.root, "a")).expect("nothing to do");
    assert_eq!(on.lookup(on.root, "a"), Ok(file));
    exchange(on, (on.root, "a"), (on.root, "a")).expect("nothing to do");
    let noreplace = RenameMode::NoReplace;
    refused(
        on.rename_as(&Caller::root(), (on.root, "a"), (on.root, "a"), noreplace),
        TreeError::Exists,
    );
}

fn between_two_names_of_one_file(on: &Subject) {
    let file = on.file(on.root, "a").ino;
    let linked = on.link(file, on.root, "b").expect("a link");
    on.rename((on.root, "a"), (on.root, "b")).expect("nothing to do");
    assert_eq!(on.names(on.root), ["a", "b"]);
    assert_eq!(on.attr(file), Ok(linked));
}

fn no_replace_keeps_the_target(on: &Subject) {
    let root = Caller::root();
    on.file(on.root, "a");
    let target = on.file(on.root, "b");
    let rename = |to| on.rename_as(&root, (on.root, "a"), (on.root, to), RenameMode::NoReplace);
    refused(rename("b"), TreeError::Exists);
    assert_eq!(on.lookup(on.root, "b"), Ok(target));
    rename("c").expect("the name is free");
    assert_eq!(on.names(on.root), ["b", "c"]);
}

fn exchange_swaps_two_names(on: &Subject) {
    let dir = on.dir(on.root, "d").ino;
    let file = on.file(on.root, "f").ino;
    let inner = on.file(dir, "inner").ino;
    exchange(on, (on.root, "f"), (dir, "inner")).expect("two files");
    assert_eq!(on.lookup(on.root, "f").map(|attr| attr.ino), Ok(inner));
    assert_eq!(on.lookup(dir, "inner").map(|attr| attr.ino), Ok(file));
    exchange(on, (on.root, "f"), (on.root, "d")).expect("a file and a directory that is not empty");
    assert_eq!(on.lookup(on.root, "f").map(|attr| attr.ino), Ok(dir));
    assert_eq!(on.lookup(on.root, "d").map(|attr| attr.ino), Ok(inner));
    refused(exchange(on, (on.root, "f"), (on.root, "none")), TreeError::NotFound);
}

fn exchange_moves_counts(on: &Subject) {
    let one = on.dir(on.root, "one").ino;
    let two = on.dir(on.root, "two").ino;
    let sub = on.dir(one, "x").ino;
    on.file(two, "y");
    exchange(on, (one, "x"), (two, "y")).expect("a directory and a file");
    assert_eq!((nlink(on, one), nlink(on, two), nlink(on, sub)), (2, 3, 2));
    invalid(on.rename((on.root, "two"), (sub, "z")));
    on.rename((on.root, "one"), (sub, "z")).expect("no loop");
}

fn exchange_makes_no_loop(on: &Subject) {
    let dir = on.dir(on.root, "d").ino;
    let sub = on.dir(dir, "sub").ino;
    on.file(sub, "f");
    invalid(exchange(on, (on.root, "d"), (dir, "sub")));
    invalid(exchange(on, (on.root, "d"), (sub, "f")));
    invalid(exchange(on, (sub, "f"), (on.root, "d")));
}

fn a_missing_name_cannot_be_renamed(on: &Subject) {
    on.file(on.root, "b");
    refused(on.rename((on.root, "a"), (on.root, "b")), TreeError::NotFound);
    refused(on.rename((on.root, "a"), (on.root, "a")), TreeError::NotFound);
    assert_eq!(on.names(on.root), ["b"]);
}

fn a_replaced_name_keeps_its_place(on: &Subject) {
    for name in ["a", "b", "c"] {
        on.file(on.root, name);
    }
    let cookie = |name: &str| {
        let item = on.list(on.root, 10).into_iter().find(|item| item.name == super::named(name));
        item.expect("a listed name").cookie
    };
    let before = cookie("b");
    on.rename((on.root, "c"), (on.root, "b")).expect("a rename");
    assert_eq!(cookie("b"), before);
    exchange(on, (on.root, "a"), (on.root, "b")).expect("an exchange");
    assert_eq!(cookie("b"), before);
}
