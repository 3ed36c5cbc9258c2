//! Goal: bytes come back as they were written, holes as zeros, and a truncate forgets for good.

use super::{Case, Subject, block_on, invalid, refused, size};
use crate::error::TreeError;
use crate::rules::FILE_BYTES_MAX;
use crate::types::{Access, Caller, SetAttr, SetTime, Stability, Timestamp};

pub(super) const CASES: &[Case] = &[
    ("written bytes are read back", written_bytes_are_read_back),
    ("a read ends at the end of the file", a_read_ends_at_the_end_of_the_file),
    ("a later write covers an earlier one", a_later_write_covers_an_earlier_one),
    ("a hole is zeros", a_hole_is_zeros),
    ("a write far out costs nothing in between", a_write_far_out),
    ("a truncate forgets for good", a_truncate_forgets_for_good),
    ("a truncate to nothing forgets everything", a_truncate_to_nothing),
    ("growing a file adds zeros", growing_adds_zeros),
    ("a write of nothing changes nothing", a_write_of_nothing),
    ("only regular files have bytes", only_regular_files_have_bytes),
    ("the largest file has a limit", the_largest_file_has_a_limit),
    ("a write touches the times of the bytes", a_write_touches_the_times),
    ("times can be set", times_can_be_set),
    ("an empty change changes nothing", an_empty_change_changes_nothing),
    ("a commit names the epoch of the writes", a_commit_names_the_epoch),
    ("many small writes make one file", many_small_writes),
];

fn written_bytes_are_read_back(on: &Subject) {
    let file = on.file(on.root, "a").ino;
    let written = on.write(file, 0, b"hello").expect("a write");
    assert_eq!(written.attr.size, 5);
    assert_eq!(on.attr(file), Ok(written.attr));
    assert_eq!(on.contents(file), b"hello");
    assert_eq!(on.lookup(on.root, "a").map(|attr| attr.size), Ok(5));
}

fn a_read_ends_at_the_end_of_the_file(on: &Subject) {
    let file = on.file(on.root, "a").ino;
    on.write(file, 0, b"hello").expect("a write");
    let read = |offset, len| on.read(file, offset, len).expect("a read").to_vec();
    assert_eq!(read(1, 3), b"ell");
    assert_eq!(read(3, 100), b"lo");
    assert_eq!(read(5, 1), b"");
    assert_eq!(read(0, 0), b"");
    assert_eq!(read(u64::MAX, u32::MAX), b"");
}

fn a_later_write_covers_an_earlier_one(on: &Subject) {
    let file = on.file(on.root, "a").ino;
    on.write(file, 0, b"aaaaaaaaaa").expect("a write");
    on.write(file, 3, b"bbbb").expect("inside");
    on.write(file, 8, b"cccc").expect("over the end");
    on.write(file, 4, b"d").expect("inside the inside");
    assert_eq!(on.contents(file), b"aaabdbbacccc");
}

fn a_hole_is_zeros(on: &Subject) {
    let file = on.file(on.root, "a").ino;
    on.write(file, 6, b"x").expect("a write beyond the end");
    on.write(file, 2, b"y").expect("a write inside the hole");
    assert_eq!(on.contents(file), b"\0\0y\0\0\0x");
}

fn a_write_far_out(on: &Subject) {
    let file = on.file(on.root, "a").ino;
    let far = 1 << 40;
    on.write(file, far, b"x").expect("a write at 1 TiB");
    assert_eq!(on.attr(file).map(|attr| attr.size), Ok(far + 1));
    assert_eq!(on.read(file, far - 3, 10).as_deref(), Ok(&b"\0\0\0x"[..]));
    assert_eq!(on.read(file, 12_345_678, 4).as_deref(), Ok(&[0; 4][..]));
}

fn a_truncate_forgets_for_good(on: &Subject) {
    let file = on.file(on.root, "a").ino;
    on.write(file, 0, b"abcdefgh").expect("a write");
    assert_eq!(on.set(file, size(3)).size, 3);
    assert_eq!(on.contents(file), b"abc");
    assert_eq!(on.set(file, size(6)).size, 6);
    assert_eq!(on.contents(file), b"abc\0\0\0");
    on.write(file, 7, b"z").expect("a write beyond the end");
    assert_eq!(on.contents(file), b"abc\0\0\0\0z");
}

fn a_truncate_to_nothing(on: &Subject) {
    let file = on.file(on.root, "a").ino;
    for round in 0..3 {
        on.write(file, round, b"abc").expect("a write");
        assert_eq!(on.set(file, size(0)).size, 0);
        assert_eq!(on.contents(file), b"");
    }
    on.set(file, size(2));
    assert_eq!(on.contents(file), b"\0\0");
}

fn growing_adds_zeros(on: &Subject) {
    let file = on.file(on.root, "a").ino;
    on.set(file, size(1_000_000));
    assert_eq!(on.contents(file), vec![0; 1_000_000]);
    on.set(file, size(FILE_BYTES_MAX));
    assert_eq!(on.read(file, FILE_BYTES_MAX - 1, 2).as_deref(), Ok(&[0][..]));
}

fn a_write_of_nothing(on: &Subject) {
    let file = on.file(on.root, "a").ino;
    let before = on.attr(file).expect("it exists");
    assert_eq!(on.write(file, 100, b"").map(|written| written.attr), Ok(before));
    assert_eq!(on.attr(file), Ok(before));
}

fn only_regular_files_have_bytes(on: &Subject) {
    refused(on.read(on.root, 0, 1), TreeError::IsADirectory);
    refused(on.write(on.root, 0, b"x"), TreeError::IsADirectory);
    let root = Caller::root();
    refused(on.set_as(&root, on.root, size(0)), TreeError::IsADirectory);
    refused(on.open(on.root, Access::Write), TreeError::IsADirectory);
    let target = b"t".to_vec();
    let link = on.make_as(&root, on.root, "l", crate::types::NewNode::Symlink { target });
    let link = link.expect("a link").ino;
    invalid(on.write(link, 0, b"x"));
    invalid(on.set_as(&root, link, size(0)));
}

fn the_largest_file_has_a_limit(on: &Subject) {
    let file = on.file(on.root, "a").ino;
    refused(on.write(file, u64::MAX, b"x"), TreeError::TooLarge);
    refused(on.write(file, FILE_BYTES_MAX, b"x"), TreeError::TooLarge);
    refused(on.set_as(&Caller::root(), file, size(FILE_BYTES_MAX + 1)), TreeError::TooLarge);
    assert_eq!(on.attr(file).map(|attr| attr.size), Ok(0));
}

fn a_write_touches_the_times(on: &Subject) {
    let file = on.file(on.root, "a").ino;
    let made = on.attr(file).expect("it exists");
    let written = on.write(file, 0, b"x").expect("a write").attr;
    assert!(written.mtime > made.mtime && written.ctime > made.ctime);
    on.read(file, 0, 1).expect("a read");
    let read = on.attr(file).expect("it exists");
    assert_eq!((read.mtime, read.ctime), (written.mtime, written.ctime));
    let cut = on.set(file, size(0));
    assert!(cut.mtime > written.mtime && cut.ctime > written.ctime);
}

fn times_can_be_set(on: &Subject) {
    let file = on.file(on.root, "a").ino;
    let made = on.attr(file).expect("it exists");
    let at = |seconds, nanos| Some(SetTime::At(Timestamp { seconds, nanos }));
    let change =
        SetAttr { atime: at(-5, 7), mtime: at(1 << 40, 999_999_999), ..SetAttr::default() };
    let set = on.set(file, change);
    assert_eq!(set.atime, Timestamp { seconds: -5, nanos: 7 });
    assert_eq!(set.mtime, Timestamp { seconds: 1 << 40, nanos: 999_999_999 });
    assert!(set.ctime > made.ctime);
    let now = on.set(file, SetAttr { mtime: Some(SetTime::Now), ..SetAttr::default() });
    assert_eq!(now.mtime, now.ctime);
    assert_eq!(now.atime, set.atime);
    let change = SetAttr { mtime: at(0, 1_000_000_000), ..SetAttr::default() };
    invalid(on.set_as(&Caller::root(), file, change));
}

fn an_empty_change_changes_nothing(on: &Subject) {
    let file = on.file(on.root, "a").ino;
    let made = on.attr(file).expect("it exists");
    assert_eq!(on.set(file, SetAttr::default()), made);
    assert_eq!(on.attr(file), Ok(made));
}

fn a_commit_names_the_epoch(on: &Subject) {
    let file = on.file(on.root, "a").ino;
    let written = on.write(file, 0, b"x").expect("a write");
    assert!(matches!(written.stability, Stability::Written | Stability::Durable));
    assert_eq!(block_on(on.tree.commit(file)), Ok(written.epoch));
    assert_eq!(block_on(on.tree.commit(on.root)), Ok(written.epoch));
    on.unlink(on.root, "a").expect("the last name");
    refused(block_on(on.tree.commit(file)), TreeError::Stale);
}

fn many_small_writes(on: &Subject) {
    let file = on.file(on.root, "a").ino;
    let mut want = vec![0; 2_000];
    for step in 0..400_u64 {
        let offset = step * 7_919 % 1_990;
        let bytes = step.to_be_bytes();
        on.write(file, offset, &bytes).expect("a write");
        let start = usize::try_from(offset).expect("a small offset");
        want[start..start + 8].copy_from_slice(&bytes);
    }
    let got = on.contents(file);
    assert_eq!(got, want[..got.len()]);
}
