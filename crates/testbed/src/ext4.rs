//! A real file system that loses power: ext4 in a file, shut down in the middle (`EXT4_IOC_SHUTDOWN`).
//!
//! What the kernel holds of the file system is lost then, as in a power cut; what the block device itself has in its
//! cache is not: that is for a simulated disk.
//!
//! Everything is mounted in a private namespace, on top of a file system in memory, so that nothing is left behind
//! however the test ends. Needs root, loop devices and ext4.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{Mode, OFlags};
use rustix::ioctl;

use crate::second_process;

const IMAGE_BYTES: u64 = 192 << 20;
/// The part of the process that mounts.
const CONDUCTOR: &str = "conductor";

/// Runs `conduct` with a file system of its own, in a second process that plays that part of `test` in a private
/// namespace; `ground` is an empty directory. Where that cannot be, prints why in a line that begins with
/// `skipped:`.
///
/// # Panics
///
/// If `conduct` does.
pub fn with_ext4(test: &str, ground: &Path, conduct: impl FnOnce(Ext4)) {
    if second_process::is_asked(CONDUCTOR) {
        return conduct(Ext4::make(&PathBuf::from(second_process::argument("ground"))));
    }
    if let Err(why) = can_mount(ground) {
        println!("skipped: power cuts need root, loop devices and ext4: {why}");
        return;
    }
    let arguments = [("ground", ground.as_os_str().to_owned())];
    let private = ["unshare", "--mount", "--propagation", "private"];
    let mut conductor = second_process::command(&private, test, CONDUCTOR, &arguments);
    let ran = conductor.output().unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    println!("{said}");
    assert!(ran.status.success(), "{}: {said}", ran.status);
}

/// Tries what is needed, on a small file.
fn can_mount(ground: &Path) -> Result<(), String> {
    let script = "mount -t tmpfs tmpfs \"$0\" && cd \"$0\" && truncate -s 8M image \
        && mkfs.ext4 -q -F image && mkdir disk && mount -t ext4 -o loop image disk && umount disk";
    let mut private = Command::new("unshare");
    private.args(["--mount", "--propagation", "private", "sh", "-c", script]).arg(ground);
    let ran = private.output().map_err(|error| format!("unshare: {error}"))?;
    let why = || String::from_utf8_lossy(&ran.stderr).trim().replace('\n', "; ");
    if ran.status.success() { Ok(()) } else { Err(why()) }
}

/// What the file system still does when it is shut down (`EXT4_GOING_FLAGS_*`).
#[derive(Clone, Copy, Debug)]
pub enum Flush {
    /// It writes all that it has.
    Everything = 0,
    /// It writes its journal.
    Journal = 1,
    /// It writes nothing more.
    Nothing = 2,
}

/// A file system in a file, in memory.
#[derive(Debug)]
pub struct Ext4 {
    image: PathBuf,
    point: PathBuf,
    gone: PathBuf,
}

impl Ext4 {
    /// How the file system may treat data, for [`Ext4::mount`].
    pub const MOUNT_OPTIONS: [&str; 4] =
        ["loop", "loop,data=writeback", "loop,nodelalloc", "loop,data=journal"];

    fn make(ground: &Path) -> Self {
        run("mount", &[&"-t", &"tmpfs", &"tmpfs", &ground]);
        let disk = Self {
            image: ground.join("image"),
            point: ground.join("disk"),
            gone: ground.join("gone"),
        };
        fs::File::create_new(&disk.image).unwrap().set_len(IMAGE_BYTES).unwrap();
        fs::create_dir(&disk.point).unwrap();
        run("mkfs.ext4", &[&"-q", &"-F", &disk.image]);
        disk
    }

    /// Mounts it, which replays its journal.
    ///
    /// # Panics
    ///
    /// If that does not work, as everywhere here.
    pub fn mount(&self, options: &str) {
        run("rm", &[&"-f", &self.gone]);
        run("mount", &[&"-t", &"ext4", &"-o", &options, &self.image, &self.point]);
    }

    /// Unmounts it, which gives its loop device back.
    pub fn unmount(&self) {
        run("umount", &[&self.point]);
    }

    /// Where it is mounted.
    pub fn point(&self) -> &Path {
        &self.point
    }

    /// A file that is there once the power is gone, to be seen by another process.
    pub fn gone(&self) -> &Path {
        &self.gone
    }

    /// From now on nothing reaches the device, as if the power had gone.
    ///
    /// # Panics
    ///
    /// If the kernel refuses.
    pub fn shut_down(&self, flush: Flush) {
        const SHUTDOWN: ioctl::Opcode = ioctl::opcode::read::<u32>(b'X', 125);
        let root = rustix::fs::open(&self.point, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty());
        #[expect(unsafe_code, reason = "only this request stops a file system like a power cut")]
        // SAFETY: the request takes a pointer to a u32 and only reads it.
        let done = unsafe {
            ioctl::ioctl(root.unwrap(), ioctl::Setter::<SHUTDOWN, u32>::new(flush as u32))
        };
        done.unwrap();
        fs::File::create_new(&self.gone).unwrap();
    }
}

fn run(program: &str, arguments: &[&dyn AsRef<OsStr>]) {
    let ran = Command::new(program).args(arguments).output().unwrap();
    let why = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{program}: {why}");
}
