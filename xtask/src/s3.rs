//! `cargo xtask s3`: an S3 server to try the product against, the same one that tests use.

use std::process::ExitCode;

use anyhow::Context;
use testbed::Moto;

const BUCKET: &str = "strandline";

/// Runs a server on `port` (0: one that the system picks) with one empty bucket until somebody ends it.
pub(crate) fn run(port: &str) -> anyhow::Result<ExitCode> {
    let port = port.parse().context("a port is a number from 0 to 65535")?;
    let moto = Moto::start(port)?;
    let bucket = moto.bucket(BUCKET);
    println!("moto {} keeps bucket {} in memory, until interrupted", moto.version(), bucket.name());
    println!("export AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_REGION=us-east-1");
    println!("--store s3://{BUCKET}/blocks --s3-endpoint http://{}", moto.addr());
    let ended = moto.wait().context("wait for the server")?;
    Ok(if ended.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
