//! `cargo xtask bench`: builds the product and `bench/` in release mode, then measures.
//!
//! The options are those of the `strandline-bench` binary and are passed on as they are.

use std::path::Path;
use std::process::{Command, ExitCode};

use crate::process;

/// Builds both and runs the benches with `arguments`, in the caller's working directory.
pub(crate) fn run(root: &Path, arguments: &[&str]) -> anyhow::Result<ExitCode> {
    let target = root.join("target");
    for (manifest, package) in
        [("Cargo.toml", "strandline"), ("bench/Cargo.toml", "strandline-bench")]
    {
        let mut build = Command::new("cargo");
        build.args(["build", "--release", "--package", package]);
        build.arg("--manifest-path").arg(root.join(manifest)).arg("--target-dir").arg(&target);
        anyhow::ensure!(process::quietly(&mut build)?, "{package} does not build");
    }
    let measured = process::quietly(
        Command::new(target.join("release/strandline-bench"))
            .args(arguments)
            .env("STRANDLINE_BIN", target.join("release/strandline"))
            .env("STRANDLINE_BENCH_DATA", target.join("bench-data")),
    )?;
    Ok(if measured { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
