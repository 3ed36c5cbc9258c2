//! Goal: names, attributes and kinds of files behave as programs expect.

use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::{CWD, FileType, Mode, RenameFlags, mknodat, renameat_with, statvfs};

use crate::lab::{Lab, errno, names};

#[test]
fn directories_are_made_listed_and_removed() {
    let Some(lab) = Lab::two() else { return };
    fs::create_dir(lab.path("dir")).unwrap();
    fs::write(lab.path("dir/file"), "").unwrap();
    assert_eq!(names(&lab.path_on(1, "")), ["dir"]);
    assert_eq!(names(&lab.path_on(1, "dir")), ["file"]);
    assert_eq!(errno(fs::remove_dir(lab.path_on(1, "dir"))), libc::ENOTEMPTY);
    assert_eq!(errno(fs::create_dir(lab.path_on(1, "dir"))), libc::EEXIST);
    fs::remove_file(lab.path_on(1, "dir/file")).unwrap();
    fs::remove_dir(lab.path_on(1, "dir")).unwrap();
    assert_eq!(errno(fs::metadata(lab.path("dir"))), libc::ENOENT);
    assert!(names(&lab.path("")).is_empty());
}

#[test]
fn a_missing_name_is_not_remembered_as_missing() {
    let Some(lab) = Lab::two() else { return };
    assert_eq!(errno(fs::metadata(lab.path("later"))), libc::ENOENT);
    fs::write(lab.path_on(1, "later"), "").unwrap();
    fs::metadata(lab.path("later")).unwrap();
}

#[test]
fn a_directory_of_many_names_is_listed_whole() {
    let Some(lab) = Lab::new() else { return };
    let mut want: Vec<String> = (0..3000).map(|n| format!("a file with number {n}")).collect();
    for name in &want {
        File::create(lab.path(name)).unwrap();
    }
    want.sort();
    assert_eq!(names(&lab.path("")), want);
}

#[test]
fn files_removed_while_a_directory_is_listed_do_not_upset_it() {
    let Some(lab) = Lab::new() else { return };
    for n in 0..1000 {
        File::create(lab.path(&format!("{n}"))).unwrap();
    }
    for entry in fs::read_dir(lab.path("")).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    assert!(names(&lab.path("")).is_empty());
}

#[test]
fn a_rename_replaces_keeps_or_swaps() {
    let Some(lab) = Lab::two() else { return };
    let rename = |from: &str, to: &str, flags| {
        renameat_with(CWD, lab.path(from), CWD, lab.path(to), flags).map_err(std::io::Error::from)
    };
    fs::write(lab.path("a"), "a").unwrap();
    fs::write(lab.path("b"), "b").unwrap();
    assert_eq!(errno(rename("a", "b", RenameFlags::NOREPLACE)), libc::EEXIST);
    rename("a", "b", RenameFlags::EXCHANGE).unwrap();
    assert_eq!(fs::read(lab.path_on(1, "a")).unwrap(), b"b");
    assert_eq!(errno(rename("a", "c", RenameFlags::WHITEOUT)), libc::EINVAL);
    rename("a", "c", RenameFlags::NOREPLACE).unwrap();
    fs::rename(lab.path_on(1, "b"), lab.path_on(1, "c")).unwrap();
    assert_eq!(names(&lab.path("")), ["c"]);
    assert_eq!(fs::read(lab.path("c")).unwrap(), b"a");
    fs::create_dir(lab.path("d")).unwrap();
    assert_eq!(errno(fs::rename(lab.path("d"), lab.path("d/inside"))), libc::EINVAL);
}

#[test]
fn symbolic_links_are_followed_and_read() {
    let Some(lab) = Lab::two() else { return };
    fs::write(lab.path("target"), "through").unwrap();
    symlink("target", lab.path("link")).unwrap();
    assert_eq!(fs::read(lab.path_on(1, "link")).unwrap(), b"through");
    assert_eq!(fs::read_link(lab.path_on(1, "link")).unwrap().to_str(), Some("target"));
    assert!(fs::symlink_metadata(lab.path_on(1, "link")).unwrap().is_symlink());
    // Another mount puts another link there: it is not remembered.
    fs::remove_file(lab.path_on(1, "link")).unwrap();
    symlink("elsewhere", lab.path_on(1, "link")).unwrap();
    assert_eq!(fs::read_link(lab.path("link")).unwrap().to_str(), Some("elsewhere"));
}

#[test]
fn hard_links_are_one_file() {
    let Some(lab) = Lab::two() else { return };
    fs::write(lab.path("a"), "one").unwrap();
    fs::hard_link(lab.path("a"), lab.path("b")).unwrap();
    let (a, b) =
        (fs::metadata(lab.path_on(1, "a")).unwrap(), fs::metadata(lab.path_on(1, "b")).unwrap());
    assert_eq!((a.ino(), a.nlink()), (b.ino(), 2));
    fs::write(lab.path_on(1, "b"), "two").unwrap();
    assert_eq!(fs::read(lab.path("a")).unwrap(), b"two");
    fs::remove_file(lab.path("a")).unwrap();
    assert_eq!(fs::metadata(lab.path_on(1, "b")).unwrap().nlink(), 1);
}

#[test]
fn pipes_and_sockets_are_nodes() {
    let Some(lab) = Lab::two() else { return };
    mknodat(CWD, lab.path("pipe"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
    let meta = fs::metadata(lab.path_on(1, "pipe")).unwrap();
    assert!(meta.file_type().is_fifo());
    assert_eq!(meta.mode() & 0o7777, 0o640);
    let _listener = std::os::unix::net::UnixListener::bind(lab.path("socket")).unwrap();
    assert!(fs::metadata(lab.path_on(1, "socket")).unwrap().file_type().is_socket());
    std::os::unix::net::UnixStream::connect(lab.path("socket")).unwrap();
}

#[test]
fn modes_owners_and_times_are_kept() {
    let Some(lab) = Lab::two() else { return };
    let path = lab.path("a");
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o4751)).unwrap();
    let times = FileTimes::new()
        .set_accessed(UNIX_EPOCH + Duration::new(5, 6))
        .set_modified(UNIX_EPOCH - Duration::new(7, 0));
    File::options().write(true).open(&path).unwrap().set_times(times).unwrap();
    let meta = fs::metadata(lab.path_on(1, "a")).unwrap();
    assert_eq!(meta.mode() & 0o7777, 0o4751);
    assert_eq!((meta.atime(), meta.atime_nsec()), (5, 6));
    assert_eq!((meta.mtime(), meta.mtime_nsec()), (-7, 0));
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root may give files away");
        return;
    }
    chown(&path, Some(1234), Some(5678)).unwrap();
    let meta = fs::metadata(lab.path_on(1, "a")).unwrap();
    assert_eq!((meta.uid(), meta.gid()), (1234, 5678));
    assert_eq!(meta.mode() & 0o7777, 0o751, "a change of owner takes setuid away");
}

#[test]
fn the_mode_of_a_new_file_is_what_was_asked_less_the_umask() {
    let Some(lab) = Lab::new() else { return };
    let before = rustix::process::umask(Mode::from_raw_mode(0o027));
    fs::create_dir(lab.path("dir")).unwrap();
    fs::write(lab.path("file"), "").unwrap();
    rustix::process::umask(before);
    assert_eq!(fs::metadata(lab.path("dir")).unwrap().mode() & 0o7777, 0o750);
    assert_eq!(fs::metadata(lab.path("file")).unwrap().mode() & 0o7777, 0o640);
}

#[test]
fn names_over_the_limit_are_refused() {
    let Some(lab) = Lab::new() else { return };
    assert_eq!(errno(fs::write(lab.path(&"n".repeat(256)), "")), libc::ENAMETOOLONG);
    fs::write(lab.path(&"n".repeat(255)), "").unwrap();
    let odd = "with space, \"quotes\" and\nnewline \u{1f30a}";
    fs::write(lab.path(odd), "").unwrap();
    assert!(names(&lab.path("")).contains(&odd.to_owned()));
}

#[test]
fn the_room_of_the_tree_is_told() {
    let Some(lab) = Lab::new() else { return };
    let room = statvfs(lab.path("")).unwrap();
    assert!(room.f_blocks > 0 && room.f_bavail <= room.f_blocks);
    assert_eq!(room.f_namemax, 255);
}
