//! Goal: a mounted volume is a directory like any other, whose synced bytes outlive the server and the mount.

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Ended, PATIENCE, Server, fresh, lines_of, run, strandline, wait, wait_until};

/// A mount in the foreground; unmounted when dropped.
pub(crate) struct Mount {
    child: Child,
    dir: PathBuf,
}

impl Mount {
    #[track_caller]
    pub(crate) fn new(server: &Server, volume: &str, dir: &Path) -> Self {
        fs::create_dir_all(dir).unwrap();
        let mut command = strandline();
        command.arg("mount").arg(volume).arg(dir).arg("--data").arg(server.data());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = lines_of(child.stdout.take().unwrap());
        let said = lines.recv_timeout(PATIENCE).expect("the mount says that it is there");
        assert!(said.starts_with(&format!("{volume} is mounted on ")), "{said}");
        Self { child, dir: dir.to_owned() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Unmounts as a user does, and waits for the process.
    #[track_caller]
    pub(crate) fn unmount(mut self) {
        let ended = run(strandline().arg("unmount").arg(&self.dir), b"");
        assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
        assert_eq!(wait(&mut self.child).code(), Some(0));
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = strandline().arg("unmount").arg(&self.dir).output();
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A server with one volume, and a place to mount it; `None` where there is no FUSE.
fn volume() -> Option<(tempfile::TempDir, Server, PathBuf)> {
    if !Path::new("/dev/fuse").exists() {
        println!("skipped: /dev/fuse missing");
        return None;
    }
    let (temp, data) = fresh();
    let server = Server::start_with(&data, &["--pack-after", "4MiB"]);
    server.ok(&["volume", "create", "v"]);
    let dir = temp.path().join("mnt");
    Some((temp, server, dir))
}

/// Some hundreds of real files with links and modes among them.
fn make_tree(dir: &Path) {
    fs::create_dir_all(dir.join("deep/er/still")).unwrap();
    for n in 0..200_u32 {
        let bytes: Vec<u8> =
            (0..n * 97).map(|at| (at.wrapping_mul(n + 7) >> 3).to_le_bytes()[0]).collect();
        fs::write(dir.join(format!("deep/file-{n:03}")), bytes).unwrap();
    }
    fs::write(dir.join("deep/er/still/ä name with spaces"), "x").unwrap();
    fs::write(dir.join("large"), vec![0xa5; 6 << 20]).unwrap();
    std::os::unix::fs::symlink("deep/file-001", dir.join("link")).unwrap();
    fs::hard_link(dir.join("large"), dir.join("deep/large too")).unwrap();
    fs::set_permissions(dir.join("deep/file-002"), fs::Permissions::from_mode(0o4711)).unwrap();
}

#[track_caller]
fn copy_tree(from: &Path, to: &Path) {
    check(&run(Command::new("cp").arg("-a").arg(from).arg(to), b""));
}

#[track_caller]
fn assert_same_tree(one: &Path, other: &Path) {
    check(&run(Command::new("diff").args(["-r", "--no-dereference"]).arg(one).arg(other), b""));
}

#[track_caller]
fn check(ended: &Ended) {
    assert_eq!(ended.status.code(), Some(0), "{} {}", ended.stdout, ended.stderr);
}

/// fsync of every file and directory below `dir`.
fn sync_tree(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            sync_tree(&entry.path());
        } else if kind.is_file() {
            fs::File::open(entry.path()).unwrap().sync_all().unwrap();
        }
    }
    fs::File::open(dir).unwrap().sync_all().unwrap();
}

#[test]
fn a_tree_outlives_the_server_and_the_mount() {
    let Some((temp, server, dir)) = volume() else { return };
    let original = temp.path().join("tree");
    make_tree(&original);
    let mount = Mount::new(&server, "v", &dir);
    copy_tree(&original, &dir);
    assert_same_tree(&original, &mount.path("tree"));
    sync_tree(&mount.path("tree"));
    let data = server.data().to_owned();
    server.kill9();
    let server = Server::start_with(&data, &["--pack-after", "4MiB"]);
    assert_same_tree(&original, &mount.path("tree"));
    mount.unmount();
    let mount = Mount::new(&server, "v", &dir);
    assert_same_tree(&original, &mount.path("tree"));
    assert_eq!(mount.path("tree/deep/file-002").metadata().unwrap().mode() & 0o7777, 0o4711);
    assert_eq!(mount.path("tree/large").metadata().unwrap().nlink(), 2);
    server.wait_for_status("the tree is packed", |status| {
        status["blocks"]["count"].as_u64() >= Some(1)
    });
    assert_same_tree(&original, &mount.path("tree"));
    mount.unmount();
}

#[test]
fn the_operations_of_a_directory_work() {
    let Some((_temp, server, dir)) = volume() else { return };
    let mount = Mount::new(&server, "v", &dir);
    let file = mount.path("file");
    fs::write(&file, "hello").unwrap();
    let open = fs::OpenOptions::new().read(true).write(true).open(&file).unwrap();
    open.write_at(b"world", 10_000).unwrap();
    assert_eq!(open.metadata().unwrap().len(), 10_005);
    let mut hole = [1; 16];
    open.read_exact_at(&mut hole, 5000).unwrap();
    assert_eq!(hole, [0; 16]);
    open.set_len(3).unwrap();
    assert_eq!(fs::read(&file).unwrap(), b"hel");
    open.sync_all().unwrap();
    fs::create_dir(mount.path("dir")).unwrap();
    fs::rename(&file, mount.path("dir/moved")).unwrap();
    assert!(fs::remove_dir(mount.path("dir")).is_err(), "not empty");
    std::os::unix::fs::symlink("dir/moved", mount.path("sym")).unwrap();
    assert_eq!(fs::read(mount.path("sym")).unwrap(), b"hel");
    fs::hard_link(mount.path("dir/moved"), mount.path("hard")).unwrap();
    fs::set_permissions(mount.path("hard"), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(mount.path("dir/moved").metadata().unwrap().mode() & 0o777, 0o600);
    let then = std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 123_456_789);
    open.set_modified(then).unwrap();
    assert_eq!(mount.path("hard").metadata().unwrap().modified().unwrap(), then);
    fs::remove_file(mount.path("dir/moved")).unwrap();
    fs::remove_file(mount.path("hard")).unwrap();
    let mut open = open;
    open.seek(SeekFrom::Start(0)).unwrap();
    let mut text = String::new();
    open.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hel", "an open file outlives its last name");
    drop(open);
    fs::remove_dir(mount.path("dir")).unwrap();
    assert_eq!(fs::read_dir(&mount.dir).unwrap().count(), 1, "only the link is left");
    let statfs = run(Command::new("df").arg(&mount.dir), b"");
    check(&statfs);
    mount.unmount();
}

#[test]
fn several_mounts_see_one_volume() {
    let Some((temp, server, dir)) = volume() else { return };
    let one = Mount::new(&server, "v", &dir);
    let two = Mount::new(&server, "v", &temp.path().join("mnt2"));
    fs::write(one.path("a"), "from one").unwrap();
    assert_eq!(fs::read_to_string(two.path("a")).unwrap(), "from one");
    fs::rename(two.path("a"), two.path("b")).unwrap();
    assert!(!one.path("a").exists());
    fs::OpenOptions::new()
        .append(true)
        .open(two.path("b"))
        .unwrap()
        .write_all(b", and two")
        .unwrap();
    assert_eq!(fs::read_to_string(one.path("b")).unwrap(), "from one, and two");
    one.unmount();
    two.unmount();
}

#[test]
fn a_file_open_across_a_restart_keeps_its_bytes() {
    let Some((_temp, server, dir)) = volume() else { return };
    let mount = Mount::new(&server, "v", &dir);
    let mut file = fs::File::create(mount.path("log")).unwrap();
    file.write_all(b"before, ").unwrap();
    let data = server.data().to_owned();
    server.kill9();
    let _server = Server::start(&data);
    file.write_all(b"after").unwrap();
    file.sync_all().unwrap();
    assert_eq!(fs::read_to_string(mount.path("log")).unwrap(), "before, after");
    drop(file);
    mount.unmount();
}

#[test]
fn a_mount_in_the_background_returns_when_it_is_there() {
    let Some((_temp, server, dir)) = volume() else { return };
    fs::create_dir(&dir).unwrap();
    let missing = server.refused(&["mount", "nix", dir.to_str().unwrap(), "--daemon"]);
    assert!(missing.contains("strandline volume list"), "{missing}");
    assert_eq!(missing.lines().count(), 1, "told once: {missing}");
    server.ok(&["mount", "v", dir.to_str().unwrap(), "--daemon"]);
    fs::write(dir.join("x"), "y").unwrap();
    let twice = server.refused(&["mount", "v", dir.to_str().unwrap(), "--daemon"]);
    assert!(twice.starts_with("error: "), "{twice}");
    server.ok(&["unmount", dir.to_str().unwrap()]);
    assert!(!dir.join("x").exists());
    let gone = server.refused(&["unmount", dir.to_str().unwrap()]);
    assert!(gone.contains("no volume is mounted"), "{gone}");
}

#[test]
fn an_interrupt_unmounts() {
    let Some((_temp, server, dir)) = volume() else { return };
    let mut mount = Mount::new(&server, "v", &dir);
    fs::write(mount.path("x"), "y").unwrap();
    kill_process(Pid::from_child(&mount.child), Signal::INT).unwrap();
    assert_eq!(wait(&mut mount.child).code(), Some(0));
    wait_until("the directory is empty again", || !dir.join("x").exists());
}

#[test]
fn a_read_only_mount_allows_no_changes() {
    let Some((_temp, server, dir)) = volume() else { return };
    let writable = Mount::new(&server, "v", &dir);
    fs::write(writable.path("x"), "y").unwrap();
    writable.unmount();
    server.ok(&["mount", "v", dir.to_str().unwrap(), "--daemon", "--read-only"]);
    assert_eq!(fs::read_to_string(dir.join("x")).unwrap(), "y");
    let refused = fs::write(dir.join("x"), "z").unwrap_err();
    server.ok(&["unmount", dir.to_str().unwrap()]);
    assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
}

#[test]
fn a_deleted_volume_is_gone_for_those_who_have_it_mounted() {
    let Some((_temp, server, dir)) = volume() else { return };
    let mount = Mount::new(&server, "v", &dir);
    fs::write(mount.path("x"), "y").unwrap();
    server.ok(&["volume", "delete", "v", "--yes"]);
    assert!(fs::read(mount.path("x")).is_err());
    mount.unmount();
}

#[test]
fn what_one_mount_synced_is_not_overwritten_by_what_another_had_not_when_the_server_restarts() {
    let (temp, data) = fresh();
    let server = Server::start(&data);
    server.ok(&["volume", "create", "v"]);
    let one = Mount::new(&server, "v", &temp.path().join("one"));
    let other = Mount::new(&server, "v", &temp.path().join("other"));
    let unsynced = fs::File::create(one.dir.join("file")).unwrap();
    unsynced.write_all_at(b"old", 0).unwrap();
    let synced = fs::OpenOptions::new().write(true).open(other.dir.join("file")).unwrap();
    synced.write_all_at(b"new", 0).unwrap();
    synced.sync_all().unwrap();
    server.kill9();
    let _server = Server::start(&data);
    unsynced.sync_all().unwrap();
    assert_eq!(fs::read(one.dir.join("file")).unwrap(), b"new");
    assert_eq!(fs::read(other.dir.join("file")).unwrap(), b"new");
}
