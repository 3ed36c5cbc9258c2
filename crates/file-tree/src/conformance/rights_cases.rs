//! Goal: owner, group and others may do what the mode bits say and no more; the sticky bit protects, setuid
//! and setgid are lost when they would be dangerous, and setgid directories pass their group on.

use super::{Case, Subject, mode, owner, refused, size, user};
use crate::error::TreeError;
use crate::types::{
    Access, Attr, Caller, FileKind, Ino, NewNode, RenameMode, SetAttr, SetTime, Timestamp,
};

pub(super) const CASES: &[Case] = &[
    ("exactly one class of bits counts", exactly_one_class_counts),
    ("further groups count as the group", further_groups_count),
    ("root and checked callers pass all bits", root_and_checked_callers_pass),
    ("finding a name needs search permission", finding_needs_search),
    ("listing needs read permission", listing_needs_read),
    ("adding and removing need write permission", adding_and_removing_need_write),
    ("an existing name is told before a missing right", exists_comes_before_denied),
    ("a sticky directory protects what others own", sticky_protects),
    ("a moved directory must be writable", a_moved_directory_must_be_writable),
    ("new files belong to their maker", new_files_belong_to_their_maker),
    ("a setgid directory passes its group on", setgid_directories_pass_their_group_on),
    ("only the owner changes the mode", only_the_owner_changes_the_mode),
    ("only root gives files away", only_root_gives_files_away),
    ("an owner may use its own groups", an_owner_may_use_its_own_groups),
    ("only the owner sets a time, a writer touches", only_the_owner_sets_a_time),
    ("truncation needs write permission", truncation_needs_write),
    ("a write by a user takes setuid away", a_write_takes_setuid_away),
    ("a write by root keeps setuid", a_write_by_root_keeps_setuid),
    ("a new owner takes setuid away", a_new_owner_takes_setuid_away),
    ("setgid needs membership", setgid_needs_membership),
    ("devices are made by root alone", devices_are_made_by_root_alone),
    ("a refused change leaves no trace", a_refused_change_leaves_no_trace),
];

const ALICE: u32 = 1_000;
const BOB: u32 = 2_000;
const STAFF: u32 = 50;

/// A file of alice and the group staff.
fn alices(on: &Subject, name: &str, bits: u32) -> Ino {
    let file = on.file(on.root, name).ino;
    on.set(file, owner(ALICE, STAFF));
    on.set(file, mode(bits));
    file
}

fn in_staff(uid: u32) -> Caller {
    Caller { groups: vec![7, STAFF], ..user(uid) }
}

/// A directory of alice that everyone may change.
fn shared(on: &Subject, name: &str, bits: u32) -> Ino {
    let dir = on.dir(on.root, name).ino;
    on.set(dir, owner(ALICE, STAFF));
    on.set(dir, mode(bits));
    dir
}

fn file(mode: u32) -> NewNode {
    NewNode::File { mode }
}

fn mode_of(on: &Subject, ino: Ino) -> u32 {
    on.attr(ino).expect("it exists").mode
}

fn exactly_one_class_counts(on: &Subject) {
    let open = |who: &Caller, ino, access| on.open_as(who, ino, access).map(|_| ());
    let odd = alices(on, "odd", 0o064);
    assert_eq!(open(&user(ALICE), odd, Access::Read), Err(TreeError::AccessDenied));
    assert_eq!(open(&in_staff(BOB), odd, Access::ReadWrite), Ok(()));
    assert_eq!(open(&user(BOB), odd, Access::Read), Ok(()));
    assert_eq!(open(&user(BOB), odd, Access::Write), Err(TreeError::AccessDenied));
    let usual = alices(on, "usual", 0o640);
    assert_eq!(open(&user(ALICE), usual, Access::ReadWrite), Ok(()));
    assert_eq!(open(&in_staff(BOB), usual, Access::Read), Ok(()));
    assert_eq!(open(&in_staff(BOB), usual, Access::ReadWrite), Err(TreeError::AccessDenied));
    assert_eq!(open(&user(BOB), usual, Access::Read), Err(TreeError::AccessDenied));
}

fn further_groups_count(on: &Subject) {
    let file = alices(on, "f", 0o060);
    let by_group = Caller { gid: STAFF, ..user(BOB) };
    for who in [by_group, in_staff(BOB)] {
        on.open_as(&who, file, Access::ReadWrite).expect("the group may");
    }
}

fn root_and_checked_callers_pass(on: &Subject) {
    let file = alices(on, "f", 0);
    let dir = shared(on, "d", 0);
    for who in [Caller::root(), Caller { checks_done: true, ..user(BOB) }] {
        on.open_as(&who, file, Access::ReadWrite).expect("nothing binds it");
        let name = format!("by {}", who.uid);
        let made = on.create_as(&who, dir, &name, 0o600).expect("nothing binds it");
        assert_eq!((made.uid, made.gid), (who.uid, who.gid), "but what it makes is its own");
    }
}

fn finding_needs_search(on: &Subject) {
    let dir = shared(on, "d", 0o644);
    on.file(dir, "a");
    refused(on.lookup_as(&user(BOB), dir, "a"), TreeError::AccessDenied);
    refused(on.lookup_as(&user(BOB), dir, "none"), TreeError::AccessDenied);
    refused(on.unlink_as(&user(ALICE), dir, "a"), TreeError::AccessDenied);
    on.set(dir, mode(0o711));
    assert!(on.lookup_as(&user(BOB), dir, "a").is_ok());
}

fn listing_needs_read(on: &Subject) {
    let dir = shared(on, "d", 0o711);
    refused(on.list_as(&user(BOB), dir, 0, 10), TreeError::AccessDenied);
    refused(on.open_as(&user(BOB), dir, Access::Read), TreeError::AccessDenied);
    assert!(on.list_as(&user(ALICE), dir, 0, 10).is_ok());
}

fn adding_and_removing_need_write(on: &Subject) {
    let dir = shared(on, "d", 0o755);
    let bob = user(BOB);
    let a = on.file(dir, "a").ino;
    refused(on.make_as(&bob, dir, "b", file(0)), TreeError::AccessDenied);
    refused(on.create_as(&bob, dir, "b", 0), TreeError::AccessDenied);
    refused(on.link_as(&bob, a, dir, "b"), TreeError::AccessDenied);
    refused(on.unlink_as(&bob, dir, "a"), TreeError::AccessDenied);
    let rename = |to| on.rename_as(&bob, (dir, "a"), (dir, to), RenameMode::Replace);
    refused(rename("b"), TreeError::AccessDenied);
    on.set(dir, mode(0o757));
    on.make_as(&bob, dir, "b", file(0)).expect("it may now");
    rename("b").expect("it may now");
    on.unlink_as(&bob, dir, "b").expect("it may now");
}

fn exists_comes_before_denied(on: &Subject) {
    let dir = shared(on, "d", 0o755);
    on.file(dir, "a");
    refused(on.make_as(&user(BOB), dir, "a", file(0)), TreeError::Exists);
}

fn sticky_protects(on: &Subject) {
    let dir = shared(on, "tmp", 0o1777);
    let (alice, bob, carol) = (user(ALICE), user(BOB), user(3_000));
    for name in ["a", "b", "c"] {
        on.make_as(&bob, dir, name, file(0o666)).expect("everyone may add");
    }
    on.make_as(&carol, dir, "carols", file(0o666)).expect("everyone may add");
    refused(on.unlink_as(&carol, dir, "a"), TreeError::NotPermitted);
    let rename = |who: &Caller, from, to, mode| on.rename_as(who, (dir, from), (dir, to), mode);
    refused(rename(&carol, "a", "x", RenameMode::Replace), TreeError::NotPermitted);
    refused(rename(&carol, "carols", "a", RenameMode::Replace), TreeError::NotPermitted);
    refused(rename(&carol, "carols", "a", RenameMode::Exchange), TreeError::NotPermitted);
    on.unlink_as(&bob, dir, "a").expect("the file's owner may");
    on.unlink_as(&alice, dir, "b").expect("the directory's owner may");
    on.unlink_as(&Caller { checks_done: true, ..carol }, dir, "c").expect("a checked caller may");
}

fn a_moved_directory_must_be_writable(on: &Subject) {
    let from = shared(on, "from", 0o777);
    let to = shared(on, "to", 0o777);
    let bob = user(BOB);
    let sub =
        on.make_as(&bob, from, "sub", NewNode::Directory { mode: 0o555 }).expect("a directory");
    let rename = |to| on.rename_as(&bob, (from, "sub"), to, RenameMode::Replace);
    refused(rename((to, "sub")), TreeError::AccessDenied);
    on.set(sub.ino, mode(0o755));
    rename((to, "sub")).expect("it may now");
    on.set(sub.ino, mode(0o555));
    let within = on.rename_as(&bob, (to, "sub"), (to, "other"), RenameMode::Replace);
    assert_eq!(within, Ok(()), "the parent stays");
}

fn new_files_belong_to_their_maker(on: &Subject) {
    let dir = shared(on, "d", 0o777);
    let bob = in_staff(BOB);
    let target = b"t".to_vec();
    let nodes = [
        file(0o640),
        NewNode::Directory { mode: 0o750 },
        NewNode::Symlink { target },
        NewNode::Special { kind: FileKind::Fifo, mode: 0o600, rdev: 0 },
    ];
    for (number, node) in nodes.into_iter().enumerate() {
        let made = on.make_as(&bob, dir, &format!("{number}"), node).expect("a new node");
        assert_eq!((made.uid, made.gid), (BOB, BOB));
    }
}

fn setgid_directories_pass_their_group_on(on: &Subject) {
    let dir = shared(on, "d", 0o2777);
    let bob = user(BOB);
    let made =
        |name: &str, node| -> Attr { on.make_as(&bob, dir, name, node).expect("a new node") };
    let sub = made("sub", NewNode::Directory { mode: 0o755 });
    assert_eq!((sub.uid, sub.gid, sub.mode), (BOB, STAFF, 0o2755));
    let plain = made("plain", file(0o644));
    assert_eq!((plain.gid, plain.mode), (STAFF, 0o644));
    assert_eq!(made("runs as staff", file(0o2755)).mode, 0o755, "bob is not in staff");
    let member = on.make_as(&in_staff(BOB), dir, "by a member", file(0o2755));
    assert_eq!(member.expect("a new file").mode, 0o2755);
}

fn only_the_owner_changes_the_mode(on: &Subject) {
    let file = alices(on, "f", 0o644);
    refused(on.set_as(&user(BOB), file, mode(0o777)), TreeError::NotPermitted);
    refused(on.set_as(&in_staff(BOB), file, mode(0o777)), TreeError::NotPermitted);
    let before = on.attr(file).expect("it exists");
    let set = on.set_as(&user(ALICE), file, mode(0o1600)).expect("the owner may");
    assert_eq!((set.mode, set.mtime), (0o1600, before.mtime));
    assert!(set.ctime > before.ctime);
}

fn only_root_gives_files_away(on: &Subject) {
    let file = alices(on, "f", 0o644);
    refused(on.set_as(&user(ALICE), file, owner(BOB, STAFF)), TreeError::NotPermitted);
    refused(on.set_as(&user(BOB), file, owner(BOB, STAFF)), TreeError::NotPermitted);
    assert_eq!(on.set(file, owner(BOB, 9)).uid, BOB);
}

fn an_owner_may_use_its_own_groups(on: &Subject) {
    let file = alices(on, "f", 0o644);
    let group = |gid| SetAttr { gid: Some(gid), ..SetAttr::default() };
    refused(on.set_as(&user(ALICE), file, group(BOB)), TreeError::NotPermitted);
    refused(on.set_as(&in_staff(BOB), file, group(STAFF)), TreeError::NotPermitted);
    assert_eq!(on.set_as(&user(ALICE), file, group(ALICE)).map(|attr| attr.gid), Ok(ALICE));
    assert_eq!(on.set_as(&in_staff(ALICE), file, group(STAFF)).map(|attr| attr.gid), Ok(STAFF));
}

fn only_the_owner_sets_a_time(on: &Subject) {
    let file = alices(on, "f", 0o662);
    let set = |at| SetAttr { mtime: Some(at), ..SetAttr::default() };
    let past = SetTime::At(Timestamp { seconds: 5, nanos: 0 });
    refused(on.set_as(&user(BOB), file, set(past)), TreeError::NotPermitted);
    on.set_as(&user(BOB), file, set(SetTime::Now)).expect("a writer may touch");
    on.set(file, mode(0o644));
    refused(on.set_as(&user(BOB), file, set(SetTime::Now)), TreeError::AccessDenied);
    on.set(file, mode(0o400));
    on.set_as(&user(ALICE), file, set(past)).expect("the owner may");
}

fn truncation_needs_write(on: &Subject) {
    let file = alices(on, "f", 0o644);
    on.write(file, 0, b"abc").expect("a write");
    refused(on.set_as(&user(BOB), file, size(0)), TreeError::AccessDenied);
    assert_eq!(on.contents(file), b"abc");
    assert_eq!(on.set_as(&user(ALICE), file, size(1)).map(|attr| attr.size), Ok(1));
}

fn a_write_takes_setuid_away(on: &Subject) {
    for (before, after) in [(0o6777, 0o777), (0o2666, 0o2666), (0o4644, 0o644)] {
        let file = alices(on, &format!("{before}"), before);
        on.open_as(&user(ALICE), file, Access::ReadWrite).expect("the owner may");
        assert_eq!(mode_of(on, file), before, "opening alone changes nothing");
        assert_eq!(on.write(file, 0, b"x").map(|written| written.attr.mode), Ok(after));
        on.release(file).expect("it was open");
    }
    let cut = alices(on, "cut", 0o6755);
    assert_eq!(on.set_as(&user(ALICE), cut, size(0)).map(|attr| attr.mode), Ok(0o755));
}

fn a_write_by_root_keeps_setuid(on: &Subject) {
    let file = alices(on, "f", 0o6755);
    on.open(file, Access::Write).expect("root may");
    assert_eq!(on.write(file, 0, b"x").map(|written| written.attr.mode), Ok(0o6755));
    assert_eq!(on.set(file, size(0)).mode, 0o6755);
}

fn a_new_owner_takes_setuid_away(on: &Subject) {
    let file = alices(on, "f", 0o6755);
    assert_eq!(on.set(file, owner(BOB, STAFF)).mode, 0o755);
    on.set(file, mode(0o2644));
    assert_eq!(on.set(file, owner(ALICE, STAFF)).mode, 0o2644, "without execution it is no right");
    let both = SetAttr { mode: Some(0o4755), ..owner(BOB, STAFF) };
    assert_eq!(on.set(file, both).mode, 0o4755, "a mode given beside it counts");
    let dir = shared(on, "d", 0o2755);
    assert_eq!(
        on.set(dir, owner(BOB, STAFF)).mode,
        0o2755,
        "on a directory it means something else"
    );
}

fn setgid_needs_membership(on: &Subject) {
    let file = alices(on, "f", 0o755);
    assert_eq!(on.set_as(&user(ALICE), file, mode(0o2755)).map(|attr| attr.mode), Ok(0o755));
    assert_eq!(on.set_as(&in_staff(ALICE), file, mode(0o2755)).map(|attr| attr.mode), Ok(0o2755));
}

fn devices_are_made_by_root_alone(on: &Subject) {
    let dir = shared(on, "d", 0o777);
    let node = |kind| NewNode::Special { kind, mode: 0o600, rdev: 5 };
    refused(on.make_as(&user(BOB), dir, "a", node(FileKind::CharDevice)), TreeError::NotPermitted);
    refused(on.make_as(&user(BOB), dir, "a", node(FileKind::BlockDevice)), TreeError::NotPermitted);
    on.make_as(&user(BOB), dir, "a", node(FileKind::Fifo)).expect("a pipe is harmless");
}

fn a_refused_change_leaves_no_trace(on: &Subject) {
    let file = alices(on, "f", 0o644);
    let before = on.attr(file).expect("it exists");
    let half = SetAttr { mode: Some(0o600), uid: Some(BOB), ..SetAttr::default() };
    refused(on.set_as(&user(ALICE), file, half), TreeError::NotPermitted);
    let half = SetAttr { size: Some(0), mode: Some(0o600), ..SetAttr::default() };
    refused(on.set_as(&in_staff(BOB), file, half), TreeError::AccessDenied);
    assert_eq!(on.attr(file), Ok(before));
}
