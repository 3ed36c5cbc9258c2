//! Goal: mounts are made and ended, and when they cannot be, the reason is one clear sentence.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;

use file_tree::model::Model;
use mount::{MountError, Options, UnmountError, Unmounted};
use rustix::mount::MountFlags;
use tokio::runtime::Runtime;

use crate::lab::{Lab, can_mount, errno};

/// Tries to mount on `dir` and returns the sentence that says why not.
fn refusal(dir: &Path) -> String {
    let runtime = Runtime::new().unwrap();
    let _runtime = runtime.enter();
    mount::mount(Arc::new(Model::new()), dir, &Options::new("test")).unwrap_err().to_string()
}

#[test]
fn a_directory_that_cannot_be_mounted_on_is_refused_with_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().display();
    fs::write(dir.path().join("file"), "").unwrap();
    assert_eq!(
        refusal(&dir.path().join("none")),
        format!("{path}/none does not exist: create the directory first")
    );
    assert_eq!(refusal(&dir.path().join("file")), format!("{path}/file is not a directory"));
    assert_eq!(refusal(dir.path()), format!("{path} is not empty: mount on an empty directory"));
}

#[test]
fn a_mount_ends_by_unmount_and_wait_returns() {
    let Some(lab) = Lab::new() else { return };
    let dir = lab.mounted().dir().to_owned();
    fs::write(lab.path("a"), "").unwrap();
    assert_eq!(
        refusal(&dir),
        format!("something is mounted on {} already: unmount it first", dir.display())
    );
    assert_eq!(mount::unmount(&dir).unwrap(), Unmounted::Now);
    lab.runtime().block_on(lab.mounted().wait()).unwrap();
    assert_eq!(errno(fs::metadata(lab.path("a"))), libc::ENOENT);
    assert!(matches!(mount::unmount(&dir), Err(UnmountError::NotMounted(_))));
}

#[test]
fn an_unmount_takes_nothing_else_away_that_is_mounted_there() {
    if !can_mount() {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can mount a second file system");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let other = || {
        rustix::mount::mount("other", dir.path(), "tmpfs", MountFlags::empty(), None).unwrap();
    };
    let runtime = Runtime::new().unwrap();
    let _runtime = runtime.enter();
    other();
    let mounted = mount::mount(Arc::new(Model::new()), dir.path(), &Options::new("upper")).unwrap();
    assert_eq!(mounted.unmount().unwrap(), Unmounted::Now);
    runtime.block_on(mounted.wait()).unwrap();
    drop(mounted);
    // What was below is there, once.
    rustix::mount::unmount(dir.path(), rustix::mount::UnmountFlags::empty()).unwrap();
    assert!(rustix::mount::unmount(dir.path(), rustix::mount::UnmountFlags::empty()).is_err());
}

#[test]
fn a_mount_in_use_ends_when_it_is_unused() {
    let Some(lab) = Lab::new() else { return };
    fs::write(lab.path("a"), "in use").unwrap();
    let mut file = File::open(lab.path("a")).unwrap();
    assert_eq!(lab.mounted().unmount().unwrap(), Unmounted::WhenUnused);
    assert_eq!(errno(fs::metadata(lab.path("a"))), libc::ENOENT);
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "in use");
    drop(file);
    lab.runtime().block_on(lab.mounted().wait()).unwrap();
}

#[test]
fn nothing_mounted_is_said_so() {
    let dir = tempfile::tempdir().unwrap();
    let error = mount::unmount(dir.path()).unwrap_err();
    assert_eq!(error.to_string(), format!("no volume is mounted on {}", dir.path().display()));
    assert!(matches!(
        mount::unmount(Path::new("/no/such/place")),
        Err(UnmountError::NotMounted(_))
    ));
    // Something else than FUSE is mounted there: hands off.
    assert!(matches!(mount::unmount(Path::new("/proc")), Err(UnmountError::NotMounted(_))));
}

#[test]
fn the_rest_of_a_dead_mount_is_recognised_and_unmounted() {
    if !can_mount() {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can leave a dead mount behind");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let device = File::options().read(true).write(true).open("/dev/fuse").unwrap();
    let data = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
    let data = std::ffi::CString::new(data).unwrap();
    rustix::mount::mount("dead", dir.path(), "fuse", MountFlags::empty(), data.as_c_str()).unwrap();
    drop(device);
    assert_eq!(
        refusal(dir.path()),
        format!(
            "{} is the rest of a mount whose process has ended: unmount it first",
            dir.path().display()
        )
    );
    assert_eq!(mount::unmount(dir.path()).unwrap(), Unmounted::Now);
}

#[test]
fn a_read_only_mount_refuses_changes() {
    let Some(mut lab) = Lab::new() else { return };
    lab.mount(&Options { read_only: true, ..Options::new("test, read-only") });
    fs::write(lab.path("a"), "seen").unwrap();
    assert_eq!(fs::read(lab.path_on(1, "a")).unwrap(), b"seen");
    assert_eq!(errno(fs::write(lab.path_on(1, "a"), "x")), libc::EROFS);
    assert_eq!(errno(fs::remove_file(lab.path_on(1, "a"))), libc::EROFS);
}

#[test]
fn a_mount_on_a_path_with_odd_characters_works() {
    if !can_mount() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let odd = dir.path().join("a b\\c,d");
    fs::create_dir(&odd).unwrap();
    let runtime = Runtime::new().unwrap();
    let _runtime = runtime.enter();
    let mounted = mount::mount(Arc::new(Model::new()), &odd, &Options::new("odd, name")).unwrap();
    fs::write(odd.join("f"), "x").unwrap();
    assert!(matches!(
        mount::mount(Arc::new(Model::new()), &odd, &Options::new("x")),
        Err(MountError::Taken(_))
    ));
    assert_eq!(mounted.unmount().unwrap(), Unmounted::Now);
}
