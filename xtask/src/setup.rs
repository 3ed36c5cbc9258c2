//! Brings the machine to where every test can run: Debian's packages, and Python packages in a private
//! environment under `.test-env/`.
//!
//! What cannot be installed is said, with the command that would do it, and is not an error: the tests
//! that need it say `skipped:` themselves, and a run in CI fails for that.
//!
//! `.test-env/venv` is a Python environment with what `test-requirements.txt` lists.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::process;

/// Something that tests use and that a bare machine lacks.
struct Need {
    what: &'static str,
    /// Debian's packages that bring it.
    packages: &'static [&'static str],
    present: fn() -> bool,
}

const NEEDS: &[Need] = &[
    Need {
        what: "rustfmt and clippy",
        packages: &[],
        present: || cargo_has("fmt") && cargo_has("clippy"),
    },
    Need {
        what: "kcat (a Kafka client on librdkafka)",
        packages: &["kcat"],
        present: || on_path("kcat"),
    },
    Need { what: "fusermount3 (mounts)", packages: &["fuse3"], present: || on_path("fusermount3") },
    Need {
        what: "mkfs.ext4, mount and unshare (power cuts)",
        packages: &["e2fsprogs", "mount", "util-linux"],
        present: || ["mkfs.ext4", "mount", "unshare"].into_iter().all(on_path),
    },
    Need {
        what: "a list of words",
        packages: &["wamerican"],
        present: || Path::new("/usr/share/dict/words").exists(),
    },
    Need {
        what: "Python with venv",
        packages: &["python3", "python3-venv"],
        present: || python().is_some(),
    },
];

/// Installs what is missing, where it can, and says what is missing still.
pub(crate) fn prepare(root: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(root.join(".test-env")).context("create .test-env")?;
    if !cargo_has("fmt") || !cargo_has("clippy") {
        process::run(Command::new("rustup").args(["component", "add", "rustfmt", "clippy"]))
            .unwrap_or(false);
    }
    let missing: Vec<&str> = NEEDS
        .iter()
        .filter(|need| !(need.present)())
        .flat_map(|need| need.packages)
        .copied()
        .collect();
    if !missing.is_empty() {
        install(&missing)?;
    }
    let venv = python_packages(root)?;
    for need in NEEDS.iter().filter(|need| !(need.present)()) {
        println!("still missing: {}; tests that need it are skipped", need.what);
    }
    if !venv {
        println!("still missing: the Python packages of xtask/test-requirements.txt");
    }
    if !Path::new("/dev/fuse").exists() {
        println!(
            "still missing: /dev/fuse; tests that mount are skipped (modprobe fuse, or allow the device)"
        );
    }
    Ok(())
}

fn install(packages: &[&str]) -> anyhow::Result<()> {
    let by_hand = format!("apt-get update && apt-get install -y {}", packages.join(" "));
    if !on_path("apt-get") {
        println!("no apt-get here: install what your system calls {}", packages.join(", "));
        return Ok(());
    }
    if !rustix::process::geteuid().is_root() {
        println!("to install what the tests need, run: sudo sh -c '{by_hand}'");
        return Ok(());
    }
    let updated = process::run(apt_get().arg("update"))?;
    let install = ["install", "-y", "--no-install-recommends"];
    if !(updated && process::run(apt_get().args(install).args(packages))?) {
        println!("could not install; by hand: {by_hand}");
    }
    Ok(())
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").stdin(std::process::Stdio::null());
    command
}

/// Makes `.test-env/venv` hold exactly what `test-requirements.txt` asks for; false if it could not.
fn python_packages(root: &Path) -> anyhow::Result<bool> {
    let wanted = root.join("xtask/test-requirements.txt");
    let venv = root.join(".test-env/venv");
    let stamp = venv.join("requirements.txt");
    let text = fs::read_to_string(&wanted).context("read xtask/test-requirements.txt")?;
    // The interpreter that an environment was made with may be gone.
    let works =
        process::succeeds(Command::new(venv.join("bin/python")).args(["-c", "import kafka, moto"]));
    if works && fs::read_to_string(&stamp).is_ok_and(|have| have == text) {
        return Ok(true);
    }
    let Some(python) = python() else { return Ok(false) };
    let made = process::run(Command::new(python).args(["-m", "venv", "--clear"]).arg(&venv))?
        && process::run(
            Command::new(venv.join("bin/pip"))
                .args(["install", "--quiet", "--disable-pip-version-check", "--requirement"])
                .arg(&wanted),
        )?;
    if made {
        fs::write(&stamp, text).context("mark the Python environment as complete")?;
    }
    Ok(made)
}

/// A Python that can make environments.
fn python() -> Option<PathBuf> {
    let candidates = ["python3", "/usr/bin/python3"].map(PathBuf::from);
    candidates.into_iter().find(|python| {
        process::succeeds(Command::new(python).args(["-c", "import venv, ensurepip"]))
    })
}

fn cargo_has(command: &str) -> bool {
    process::succeeds(Command::new("cargo").args([command, "--version"]))
}

fn on_path(program: &str) -> bool {
    // An ordinary user's path on Debian lacks the folders where mount helpers may lie.
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .any(|dir| dir.join(program).is_file())
}
