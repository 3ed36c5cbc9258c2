//! A bucket of its own for each test, the proxy before it, and stores on top.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use block_store::{Block, BlockName, Remote, S3Options};
use host::Host;
use testbed::{Bucket, Fault, Kind, Moto, Proxy, Rule};

/// What all names of the store in the bucket begin with.
pub(crate) const PREFIX: &str = "some/prefix";

pub(crate) struct Lab {
    pub(crate) proxy: Proxy,
    pub(crate) bucket: Bucket,
}

/// Nothing, if there is no S3 server here; then a line that says so was printed.
pub(crate) fn lab() -> Option<Lab> {
    static LABS: AtomicU32 = AtomicU32::new(0);
    let moto = Moto::shared()?;
    let bucket = moto.bucket(&format!("lab-{}", LABS.fetch_add(1, Ordering::Relaxed)));
    Some(Lab { proxy: Proxy::start(moto.addr()), bucket })
}

impl Lab {
    pub(crate) fn options(&self) -> S3Options {
        let address = format!("s3://{}/{PREFIX}", self.bucket.name());
        S3Options {
            endpoint: Some(self.proxy.endpoint()),
            path_style: true,
            region: Some("us-east-1".to_owned()),
            access_key: Some(("test".to_owned(), "test".to_owned())),
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(50),
            ..S3Options::parse(&address).unwrap()
        }
    }

    pub(crate) fn remote(&self) -> Remote {
        Remote::s3(&Host::real(), &self.options()).unwrap()
    }

    /// The next request of this kind meets `fault`.
    pub(crate) fn next(&self, kind: Kind, fault: Fault) {
        self.proxy.add(Rule::new(fault).on(kind));
    }

    /// The block's bytes as the bucket has them.
    pub(crate) fn stored(&self, name: BlockName) -> Option<Vec<u8>> {
        self.bucket.get(&key(name))
    }

    pub(crate) fn has(&self, block: &Block) -> bool {
        self.stored(block.name()).is_some_and(|bytes| bytes == block.bytes()[..])
    }
}

/// Where a block lies in the bucket.
pub(crate) fn key(name: BlockName) -> String {
    let BlockName { domain, epoch, counter } = name;
    format!("{PREFIX}/blocks/{domain:08x}-{epoch:016x}/{counter:016x}.blk")
}

/// Ways to lose the answer to what was done, all that a client can tell apart.
pub(crate) fn done_but_not_answered() -> Vec<Fault> {
    vec![
        Fault::LoseReply,
        Fault::CloseUnanswered,
        Fault::ServeButSay(500),
        Fault::ServeButSay(503),
        Fault::ResetReply,
        Fault::TruncateReply,
    ]
}

/// Ways to fail that leave nothing done.
pub(crate) fn not_done() -> Vec<Fault> {
    vec![Fault::ResetRequest, Fault::BUSY, Fault::TOO_MANY, Fault::INTERNAL]
}
