//! Goal: the simulated disk and the one in memory behave as the real one, as far as programs may rely on it.
//! Method: each check runs on all of them.

use std::io::ErrorKind;
use std::path::Path;

use host::sim::Machine;
use host::{DirEntry, Host, OpenMode};

/// Runs `check` on the real disk, on the simulated one and on one in memory, in a new directory.
fn on_all(check: impl Fn(&Host, &Path)) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    check(&Host::real(), dir.path());
    let machine = Machine::new(1);
    for host in [machine.host(), Host::in_memory()] {
        let dir = Path::new("/some/where");
        host.disk.create_dir_all(dir).expect("an empty disk takes a directory");
        check(&host, dir);
    }
}

#[test]
fn files_open_as_the_mode_says() {
    on_all(|host, dir| {
        let path = dir.join("a");
        let kind = |mode| host.disk.open(&path, mode).map(drop).map_err(|error| error.kind());
        assert_eq!(kind(OpenMode::Read), Err(ErrorKind::NotFound));
        assert_eq!(kind(OpenMode::ReadWrite), Err(ErrorKind::NotFound));
        assert_eq!(kind(OpenMode::CreateNew), Ok(()));
        assert_eq!(kind(OpenMode::CreateNew), Err(ErrorKind::AlreadyExists));
        for mode in [OpenMode::Create, OpenMode::Read, OpenMode::ReadWrite] {
            assert_eq!(kind(mode), Ok(()), "{mode:?}");
        }
        let missing = host.disk.open(&dir.join("none/a"), OpenMode::Create).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
        let through_file = host.disk.open(&path.join("b"), OpenMode::Create).unwrap_err();
        assert_eq!(through_file.kind(), ErrorKind::NotADirectory);
        let directory = host.disk.open(dir, OpenMode::ReadWrite).unwrap_err();
        assert_eq!(directory.kind(), ErrorKind::IsADirectory);
    });
}

#[test]
fn a_file_opened_to_read_is_not_written() {
    on_all(|host, dir| {
        let path = dir.join("a");
        host.disk.open(&path, OpenMode::CreateNew).unwrap().write_all_at(b"kept", 0).unwrap();
        let file = host.disk.open(&path, OpenMode::Read).unwrap();
        assert!(file.write_all_at(b"lost", 0).is_err());
        assert!(file.set_size(1).is_err());
        assert!(file.allocate(10).is_err());
        let mut buf = [0; 4];
        file.read_exact_at(&mut buf, 0).unwrap();
        assert_eq!(&buf, b"kept");
    });
}

#[test]
fn bytes_are_read_as_written_and_holes_are_zeros() {
    on_all(|host, dir| {
        let file = host.disk.open(&dir.join("a"), OpenMode::CreateNew).unwrap();
        file.write_all_at(b"head", 0).unwrap();
        file.write_all_at(b"tail", 10_000).unwrap();
        file.write_all_at(b"", 50_000).unwrap();
        assert_eq!(file.size().unwrap(), 10_004);
        let mut buf = vec![9; 10_004];
        file.read_exact_at(&mut buf, 0).unwrap();
        assert_eq!((&buf[..4], &buf[10_000..]), (&b"head"[..], &b"tail"[..]));
        assert!(buf[4..10_000].iter().all(|byte| *byte == 0));
        assert_eq!(file.read_at(&mut buf, 10_004).unwrap(), 0);
        assert_eq!(file.read_at(&mut buf, u64::from(u32::MAX)).unwrap(), 0);
        assert_eq!(
            file.read_exact_at(&mut buf[..5], 10_000).unwrap_err().kind(),
            ErrorKind::UnexpectedEof
        );
        file.sync_data().unwrap();
    });
}

#[test]
fn sizes_are_cut_and_extended_with_zeros() {
    on_all(|host, dir| {
        let file = host.disk.open(&dir.join("a"), OpenMode::CreateNew).unwrap();
        file.write_all_at(&[7; 9000], 0).unwrap();
        file.set_size(5000).unwrap();
        file.set_size(9000).unwrap();
        let mut buf = vec![1; 9000];
        file.read_exact_at(&mut buf, 0).unwrap();
        assert!(
            buf[..5000].iter().all(|byte| *byte == 7) && buf[5000..].iter().all(|byte| *byte == 0)
        );
        file.allocate(20_000).unwrap();
        assert_eq!(file.size().unwrap(), 20_000);
        file.allocate(100).unwrap();
        assert_eq!(file.size().unwrap(), 20_000);
        assert_eq!(file.allocate(0).unwrap_err().kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn a_rename_replaces_and_open_handles_stay_with_their_file() {
    on_all(|host, dir| {
        let (a, b) = (dir.join("a"), dir.join("b"));
        let old = host.disk.open(&a, OpenMode::CreateNew).unwrap();
        old.write_all_at(b"old", 0).unwrap();
        let new = host.disk.open(&b, OpenMode::CreateNew).unwrap();
        new.write_all_at(b"new", 0).unwrap();
        host.disk.rename(&b, &a).unwrap();
        host.disk.rename(&a, &a).unwrap();
        assert_eq!(host.disk.rename(&b, &a).unwrap_err().kind(), ErrorKind::NotFound);
        let read = |file: &dyn host::File| {
            let mut buf = [0; 3];
            file.read_exact_at(&mut buf, 0).unwrap();
            buf
        };
        assert_eq!(read(&*host.disk.open(&a, OpenMode::Read).unwrap()), *b"new");
        assert_eq!(read(&*old), *b"old");
        host.disk.unlink(&a).unwrap();
        assert_eq!(host.disk.unlink(&a).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(read(&*new), *b"new");
        new.write_all_at(b"NEW", 0).unwrap();
        assert_eq!(read(&*new), *b"NEW");
    });
}

#[test]
fn directories_are_made_with_parents_and_listed_by_name() {
    on_all(|host, dir| {
        host.disk.create_dir_all(&dir.join("x/y/z")).unwrap();
        host.disk.create_dir_all(&dir.join("x/y")).unwrap();
        let file = host.disk.open(&dir.join("x/file"), OpenMode::CreateNew).unwrap();
        file.write_all_at(b"12345", 0).unwrap();
        let entry = |name: &str, is_dir, bytes, modified_ms| DirEntry {
            name: name.into(),
            is_dir,
            bytes,
            modified_ms,
        };
        let listed = host.disk.list(&dir.join("x")).unwrap();
        let modified_ms = listed[0].modified_ms;
        assert_eq!(listed, [entry("file", false, 5, modified_ms), entry("y", true, 0, 0)]);
        // The clocks of file system and process may differ by some ticks; an hour is neither.
        assert!(modified_ms.abs_diff(host.clock.wall().millis()) < 3_600_000);
        assert_eq!(host.disk.list(&dir.join("x/y/z")).unwrap(), []);
        assert_eq!(host.disk.list(&dir.join("none")).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(
            host.disk.create_dir_all(&dir.join("x/file")).unwrap_err().kind(),
            ErrorKind::NotADirectory
        );
        assert_eq!(
            host.disk.create_dir_all(&dir.join("x/file/a")).unwrap_err().kind(),
            ErrorKind::NotADirectory
        );
        assert_eq!(host.disk.unlink(&dir.join("x/y")).unwrap_err().kind(), ErrorKind::IsADirectory);
        host.disk.sync_dir(&dir.join("x/y")).unwrap();
        assert_eq!(host.disk.sync_dir(&dir.join("none")).unwrap_err().kind(), ErrorKind::NotFound);
    });
}

#[test]
fn a_lock_has_one_holder_until_its_guard_is_dropped() {
    on_all(|host, dir| {
        let path = dir.join("lock");
        let guard = host.disk.lock(&path).unwrap().unwrap();
        assert!(host.disk.lock(&path).unwrap().is_none());
        assert!(host.disk.lock(&dir.join("other")).unwrap().is_some());
        drop(guard);
        assert!(host.disk.lock(&path).unwrap().is_some());
    });
}

#[test]
fn space_is_told_of_what_exists() {
    on_all(|host, dir| {
        let space = host.disk.space(dir).unwrap();
        assert!(space.available_bytes > 0 && space.available_bytes <= space.total_bytes);
        assert!(host.disk.space(&dir.join("none")).is_err());
    });
}
