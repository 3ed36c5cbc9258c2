//! Goal: bytes of files come and go as they should.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt};

use proptest::prelude::*;

use crate::lab::{Lab, appender, errno};

#[test]
fn what_is_written_is_read_on_both_mounts() {
    let Some(lab) = Lab::two() else { return };
    fs::write(lab.path("a"), "hello").unwrap();
    assert_eq!(fs::read_to_string(lab.path_on(1, "a")).unwrap(), "hello");
    // Same size, other bytes: nothing may come from a cache.
    fs::write(lab.path_on(1, "a"), "HELLO").unwrap();
    assert_eq!(fs::read_to_string(lab.path("a")).unwrap(), "HELLO");
}

#[test]
fn a_file_that_stays_open_shows_what_another_mount_writes() {
    let Some(lab) = Lab::two() else { return };
    fs::write(lab.path("a"), "one").unwrap();
    let mut open = File::open(lab.path("a")).unwrap();
    let mut text = String::new();
    open.read_to_string(&mut text).unwrap();
    fs::write(lab.path_on(1, "a"), "two and more").unwrap();
    open.seek(SeekFrom::Start(0)).unwrap();
    text.clear();
    open.read_to_string(&mut text).unwrap();
    assert_eq!(text, "two and more");
}

#[test]
fn writes_far_beyond_the_end_leave_a_hole_of_zeros() {
    let Some(lab) = Lab::new() else { return };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(lab.path("sparse"))
        .unwrap();
    file.write_all_at(b"end", 10_000_000_000).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 10_000_000_003);
    let mut buffer = [7; 8];
    file.read_exact_at(&mut buffer, 9_999_999_995).unwrap();
    assert_eq!(&buffer, b"\0\0\0\0\0end");
}

#[test]
fn a_large_file_comes_back_whole() {
    let Some(lab) = Lab::new() else { return };
    let bytes: Vec<u8> = (0..2_500_000_u32).flat_map(u32::to_le_bytes).collect();
    fs::write(lab.path("large"), &bytes).unwrap();
    assert!(fs::read(lab.path("large")).unwrap() == bytes);
}

#[test]
fn truncation_cuts_and_extends() {
    let Some(lab) = Lab::two() else { return };
    fs::write(lab.path("a"), "0123456789").unwrap();
    let file = OpenOptions::new().write(true).open(lab.path("a")).unwrap();
    file.set_len(4).unwrap();
    assert_eq!(fs::read(lab.path_on(1, "a")).unwrap(), b"0123");
    file.set_len(6).unwrap();
    assert_eq!(fs::read(lab.path_on(1, "a")).unwrap(), b"0123\0\0");
    // Opened with O_TRUNC, without a write.
    File::create(lab.path("a")).unwrap();
    assert_eq!(fs::metadata(lab.path_on(1, "a")).unwrap().len(), 0);
}

#[test]
fn appends_of_two_mounts_go_to_the_end_as_it_is() {
    let Some(lab) = Lab::two() else { return };
    fs::write(lab.path("log"), "").unwrap();
    let (mut one, mut two) = (appender(&lab.path("log")), appender(&lab.path_on(1, "log")));
    for n in 0..20 {
        writeln!(one, "one {n}").unwrap();
        writeln!(two, "two {n}").unwrap();
    }
    let want: String = (0..20).map(|n| format!("one {n}\ntwo {n}\n")).collect();
    assert_eq!(fs::read_to_string(lab.path("log")).unwrap(), want);
    assert_eq!(fs::read_to_string(lab.path_on(1, "log")).unwrap(), want);
}

#[test]
fn exclusive_creation_has_one_winner() {
    let Some(lab) = Lab::two() else { return };
    let create =
        |mount| OpenOptions::new().write(true).create_new(true).open(lab.path_on(mount, "lock"));
    create(0).unwrap();
    assert_eq!(errno(create(1)), libc::EEXIST);
    assert_eq!(errno(create(0)), libc::EEXIST);
}

#[test]
fn many_threads_on_two_mounts_make_each_name_once() {
    let Some(lab) = Lab::two() else { return };
    let made = |mount| {
        let make = |n: &u32| {
            let path = lab.path_on(mount, &format!("n{n}"));
            OpenOptions::new().write(true).create_new(true).open(path).is_ok()
        };
        (0..100).filter(make).count()
    };
    let total: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|n| scope.spawn(move || made(n % 2))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(total, 100);
}

#[test]
fn an_open_file_outlives_its_name() {
    let Some(lab) = Lab::two() else { return };
    let mut file =
        OpenOptions::new().read(true).write(true).create_new(true).open(lab.path("gone")).unwrap();
    file.write_all(b"still").unwrap();
    fs::remove_file(lab.path_on(1, "gone")).unwrap();
    file.write_all(b" here").unwrap();
    file.rewind().unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "still here");
    assert_eq!(file.metadata().unwrap().nlink(), 0);
    assert_eq!(errno(fs::metadata(lab.path("gone"))), libc::ENOENT);
}

#[test]
fn a_read_at_the_end_is_empty_and_a_directory_is_not_read() {
    let Some(lab) = Lab::new() else { return };
    fs::write(lab.path("a"), "x").unwrap();
    let file = File::open(lab.path("a")).unwrap();
    assert_eq!(file.read_at(&mut [0; 10], 1).unwrap(), 0);
    assert_eq!(file.read_at(&mut [0; 10], 1_000_000).unwrap(), 0);
    assert_eq!(errno(fs::read(lab.path(""))), libc::EISDIR);
}

/// A change of one file, on one of two mounts.
#[derive(Clone, Debug)]
enum Step {
    Write { offset: u32, len: u32, byte: u8 },
    Append { len: u32, byte: u8 },
    Truncate { size: u32 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..300_000_u32, 1..200_000_u32, 1..=255_u8)
            .prop_map(|(offset, len, byte)| Step::Write { offset, len, byte }),
        2 => (1..20_000_u32, 1..=255_u8).prop_map(|(len, byte)| Step::Append { len, byte }),
        1 => (0..400_000_u32).prop_map(|size| Step::Truncate { size }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn two_mounts_change_one_file_as_one(steps in prop::collection::vec((0..2_usize, step()), 1..25)) {
        let Some(lab) = Lab::two() else { return Ok(()) };
        fs::write(lab.path("a"), "").unwrap();
        let open = |mount| OpenOptions::new().write(true).open(lab.path_on(mount, "a")).unwrap();
        let writers = [open(0), open(1)];
        let mut appenders = [appender(&lab.path("a")), appender(&lab.path_on(1, "a"))];
        let mut model: Vec<u8> = Vec::new();
        for (mount, step) in steps {
            match step {
                Step::Write { offset, len, byte } => {
                    let (start, end) = (offset as usize, (offset + len) as usize);
                    model.resize(model.len().max(end), 0);
                    model[start..end].fill(byte);
                    writers[mount].write_all_at(&model[start..end], u64::from(offset)).unwrap();
                }
                Step::Append { len, byte } => {
                    model.resize(model.len() + len as usize, byte);
                    appenders[mount].write_all(&vec![byte; len as usize]).unwrap();
                }
                Step::Truncate { size } => {
                    model.resize(size as usize, 0);
                    writers[mount].set_len(u64::from(size)).unwrap();
                }
            }
            prop_assert!(fs::read(lab.path_on(1 - mount, "a")).unwrap() == model);
        }
        prop_assert!(fs::read(lab.path("a")).unwrap() == model);
    }
}
