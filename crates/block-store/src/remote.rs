//! Blocks and objects in a bucket, one request at a time.
//!
//! ```text
//! PREFIX/blocks/dddddddd-eeeeeeeeeeeeeeee/cccccccccccccccc.blk     domain-epoch, counter
//! PREFIX/objects/NAME                                              an envelope (`crate::objects`)
//! ```
//!
//! A block is put only if there is none of its name; when a reply was lost, the bytes that are there tell
//! whether it was ours. Objects are always put on the condition that they are what was seen last: so a
//! request that the network delivers late changes nothing any more.
//!
//! Invariant: nothing that comes from the store is believed beyond the limits of a block or an object, and
//! no payload is handed out whose checksums were not verified.
//!
//! Not here: the requests (`bucket`), trying again, waiting, and what is kept on this side (`crate::tiered`).

mod advice;
mod bucket;
mod objects;
mod profile;
mod runtime;
mod s3;

use std::fmt;
use std::io;
use std::ops::{ControlFlow, Range};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use host::Host;
use object_store::ObjectStore;
use object_store::path::Path;

pub(crate) use self::bucket::{BATCH, Bucket};
pub(crate) use self::objects::{
    ObjectTrouble, object_delete_error, object_list_error, object_put_error,
};
pub use self::s3::S3Options;
use crate::tally::Tally;
use crate::{
    Block, BlockName, BlockStore, DeleteError, Footer, FormatError, ListError, Listed, Objects,
    OpenRemoteError, PutError, ReadError, Usage,
};

/// A bucket as a store. Each of its methods asks once, and waits for the answer.
#[derive(Debug)]
pub struct Remote {
    bucket: Bucket,
    tally: Tally,
}

/// Most that is waited because a store asks for it.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(60);

/// A request came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The store did not answer, or said that it cannot now. Whether it did what it was asked is unknown.
    Away(String),
    /// The store said that it cannot now, and how long to wait.
    Busy {
        /// What it said.
        why: String,
        /// At most [`WAIT_MAX`].
        wait: Duration,
    },
    /// The store answered, and the same request will have the same answer.
    Refused(String),
}

impl Trouble {
    /// How long the store asked to be left alone; nothing if it did not.
    pub(crate) fn wait(&self) -> Duration {
        match self {
            Self::Busy { wait, .. } => *wait,
            Self::Away(_) | Self::Refused(_) => Duration::ZERO,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Away(why) | Self::Busy { why, .. } | Self::Refused(why) => f.write_str(why),
        }
    }
}

/// Why there is no payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FetchError {
    /// There is no such block.
    Missing,
    /// What is there is not the block.
    Format(FormatError),
    /// The range ends behind the payload.
    OutOfRange { payload_len: u32 },
    /// The request came to nothing.
    Trouble(Trouble),
}

impl FetchError {
    pub(crate) fn into_read_error(
        self,
        name: BlockName,
        place: &str,
        range: &Range<u32>,
    ) -> ReadError {
        match self {
            Self::Missing => ReadError::Missing { name },
            Self::Format(source) => ReadError::from_format(name, place, source),
            Self::OutOfRange { payload_len } => {
                ReadError::OutOfRange { name, range: range.clone(), payload_len }
            }
            Self::Trouble(Trouble::Away(why) | Trouble::Busy { why, .. }) => {
                ReadError::Away { name, why }
            }
            Self::Trouble(Trouble::Refused(why)) => {
                ReadError::Io { name, source: io::Error::other(why) }
            }
        }
    }
}

impl From<Trouble> for FetchError {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

/// What became of a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Put {
    /// The block is there.
    Done,
    /// Another block of that name is there.
    Taken,
}

/// A part of a listing.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) blocks: Vec<Listed>,
    /// Where the next one begins, if there is one.
    pub(crate) next: Option<Path>,
}

impl Remote {
    /// A bucket of S3 or of something that speaks like it. Nothing is sent to it yet; but where nothing else says who
    /// asks, Amazon's own machines are asked for their role, for some seconds at most.
    ///
    /// # Errors
    ///
    /// [`OpenRemoteError`] when the options make no sense, there are no credentials, or no thread can be started.
    pub fn s3(host: &Host, options: &S3Options) -> Result<Self, OpenRemoteError> {
        let built = options.build(host)?;
        // The client has the same limit; this one holds also where it forgets it.
        let patience = options.request_timeout + options.connect_timeout;
        let place = options.place();
        let bucket = Bucket::new(host, built.store, &options.prefix, place, patience)?;
        if let Some(role) = built.role_of_machine {
            bucket.ask_for_role(&*role)?;
        }
        Ok(Self { bucket, tally: Tally::default() })
    }

    /// Any store that can put on a condition, under `prefix`; each request may take `patience`.
    ///
    /// # Errors
    ///
    /// As [`Remote::s3`].
    pub fn over(
        host: &Host,
        store: Arc<dyn ObjectStore>,
        prefix: &str,
        patience: Duration,
    ) -> Result<Self, OpenRemoteError> {
        let place = format!("{store}/{prefix}");
        let bucket = Bucket::new(host, store, prefix, place, patience)?;
        Ok(Self { bucket, tally: Tally::default() })
    }

    /// The address without secrets, for people.
    pub fn place(&self) -> &str {
        self.bucket.place()
    }

    /// The requests.
    pub(crate) fn into_bucket(self) -> Bucket {
        self.bucket
    }
}

impl BlockStore for Remote {
    fn put(&self, block: &Block) -> Result<(), PutError> {
        let name = block.name();
        // Asked first, so that the same block again is refused as by every other store.
        let there = self.bucket.size_of(name).map(|size| size.is_some());
        let put = there
            .and_then(|there| if there { Ok(Put::Taken) } else { self.bucket.put_block(block) });
        match put {
            Ok(Put::Done) => {
                self.tally.added(block.bytes().len() as u64);
                Ok(())
            }
            Ok(Put::Taken) => Err(PutError::AlreadyExists { name }),
            Err(trouble) => {
                Err(PutError::Io { name, source: io::Error::other(trouble.to_string()) })
            }
        }
    }

    fn read(&self, name: BlockName, range: Range<u32>) -> Result<Bytes, ReadError> {
        self.bucket
            .range(name, &range)
            .map_err(|error| error.into_read_error(name, &self.bucket.block_place(name), &range))
    }

    fn footer(&self, name: BlockName) -> Result<Footer, ReadError> {
        self.bucket
            .footer_of(name)
            .map_err(|error| error.into_read_error(name, &self.bucket.block_place(name), &(0..0)))
    }

    fn delete(&self, name: BlockName) -> Result<bool, DeleteError> {
        let size = self.bucket.size_of(name).map_err(|trouble| delete_error(name, trouble))?;
        let Some(bytes) = size else { return Ok(false) };
        self.bucket
            .delete_blocks(&[name])
            .map_err(|(name, trouble)| delete_error(name, trouble))?;
        self.tally.removed(bytes);
        Ok(true)
    }

    fn delete_many(&self, names: &[BlockName]) -> Result<u64, DeleteError> {
        self.bucket.delete_blocks(names).map_err(|(name, trouble)| delete_error(name, trouble))?;
        self.tally.removed_some(names.len() as u64);
        Ok(names.len() as u64)
    }

    fn list(&self, visit: &mut dyn FnMut(Listed) -> ControlFlow<()>) -> Result<(), ListError> {
        let counting = self.tally.count();
        let mut usage = Usage::default();
        let mut after = None;
        loop {
            let page = self.bucket.page(after.as_ref());
            let page = page.map_err(|trouble| list_error(self.place(), trouble))?;
            for listed in page.blocks {
                usage.blocks += 1;
                usage.bytes += listed.bytes;
                if visit(listed).is_break() {
                    return Ok(());
                }
            }
            after = page.next;
            if after.is_none() {
                self.tally.counted(counting, usage);
                return Ok(());
            }
        }
    }

    fn objects(&self) -> &dyn Objects {
        &self.bucket
    }

    /// As of the last complete listing, and what was put and deleted through this store since.
    fn usage(&self) -> Usage {
        self.tally.usage()
    }

    fn is_remote(&self) -> bool {
        true
    }
}

pub(crate) fn delete_error(name: BlockName, trouble: Trouble) -> DeleteError {
    match trouble {
        Trouble::Away(why) | Trouble::Busy { why, .. } => DeleteError::Away { name, why },
        Trouble::Refused(why) => DeleteError::Io { name, source: io::Error::other(why) },
    }
}

pub(crate) fn list_error(place: &str, trouble: Trouble) -> ListError {
    match trouble {
        Trouble::Away(why) | Trouble::Busy { why, .. } => ListError::Away { why },
        Trouble::Refused(why) => {
            ListError::Io { path: PathBuf::from(place), source: io::Error::other(why) }
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a bucket behaves as every store does, names lie where the format says, and nothing that comes from it
    //! is believed. Method: a bucket in memory, changed behind the store's back.

    use futures_util::{FutureExt, StreamExt};
    use object_store::memory::InMemory;
    use object_store::{ObjectStoreExt, PutPayload};

    use super::*;
    use crate::PutIf;
    use crate::conformance::{check_all, sample};
    use crate::format::{BLOCK_FILE_BYTES_MAX, HEADER_BYTES};

    fn remote() -> (Arc<InMemory>, Remote) {
        let bucket = Arc::new(InMemory::new());
        let store = Arc::clone(&bucket) as Arc<dyn ObjectStore>;
        let patience = Duration::from_secs(10);
        (bucket, Remote::over(&Host::real(), store, "pre/fix", patience).unwrap())
    }

    /// A bucket in memory answers at once.
    fn now<T>(answer: impl Future<Output = object_store::Result<T>>) -> T {
        answer.now_or_never().unwrap().unwrap()
    }

    fn replace(bucket: &InMemory, path: &Path, bytes: impl Into<Bytes>) {
        now(bucket.put(path, PutPayload::from(bytes.into())));
    }

    #[test]
    fn conforms() {
        check_all(&|| Box::new(remote().1));
    }

    #[test]
    fn names_lie_where_the_format_says() {
        let (bucket, remote) = remote();
        remote.put(&sample(0x1234, &[10])).unwrap();
        remote.objects().put("ledger/root", Bytes::new(), PutIf::Always).unwrap();
        let listed = bucket.list(None).map(|meta| meta.unwrap().location.to_string());
        let names: Vec<_> = listed.collect::<Vec<_>>().now_or_never().unwrap();
        assert_eq!(
            names,
            [
                "pre/fix/blocks/00000001-0000000000000001/0000000000001234.blk",
                "pre/fix/objects/ledger/root"
            ]
        );
    }

    #[test]
    fn the_same_block_put_again_is_done_and_another_of_its_name_is_not() {
        let (_, remote) = remote();
        let block = sample(1, &[70_000]);
        assert_eq!(remote.bucket.put_block(&block), Ok(Put::Done));
        assert_eq!(remote.bucket.put_block(&block), Ok(Put::Done));
        let mut other = crate::BlockBuilder::new();
        let piece = crate::Piece { strand: 1, start: 0, generation: 0, len: 1 };
        other.add(piece, &[b"x"]).unwrap();
        assert_eq!(remote.bucket.put_block(&other.finish(block.name())), Ok(Put::Taken));
        assert_eq!(remote.bucket.block(block.name()), Ok(block));
    }

    #[test]
    fn no_flipped_bit_and_no_cut_gets_through() {
        let (bucket, remote) = remote();
        let block = sample(1, &[300]);
        let path = remote.bucket.path(block.name());
        let name = block.name();
        let check = |bytes: Vec<u8>, what: &str| {
            replace(&bucket, &path, bytes);
            remote.bucket.forget(name);
            assert!(remote.bucket.block(name).is_err(), "{what}");
            assert!(remote.bucket.range(name, &(0..300)).is_err(), "{what}");
        };
        for at in 0..block.bytes().len() {
            let mut bytes = block.bytes().to_vec();
            bytes[at] ^= 4;
            // A part is read without what stands before the payload, which follows from the name.
            replace(&bucket, &path, bytes.clone());
            if at >= HEADER_BYTES {
                check(bytes, &format!("byte {at}"));
            } else {
                assert!(remote.bucket.block(name).is_err(), "byte {at}");
            }
        }
        for len in 0..block.bytes().len() {
            check(block.bytes()[..len].to_vec(), &format!("{len} bytes"));
        }
        replace(&bucket, &path, vec![0; BLOCK_FILE_BYTES_MAX + 1]);
        assert!(matches!(remote.bucket.block(name), Err(FetchError::Format(_))));
    }

    #[test]
    fn a_block_under_another_name_is_damage() {
        let (bucket, remote) = remote();
        let (block, other) = (sample(1, &[300]), sample(2, &[300]).name());
        replace(&bucket, &remote.bucket.path(other), block.bytes().clone());
        assert!(matches!(remote.bucket.block(other), Err(FetchError::Format(_))));
        assert!(matches!(remote.bucket.range(other, &(0..1)), Err(FetchError::Format(_))));
        assert!(matches!(remote.bucket.footer_of(other), Err(FetchError::Format(_))));
    }

    #[test]
    fn a_block_of_many_pieces_has_its_footer_read_whole() {
        let (_, remote) = remote();
        let block = sample(1, &vec![3; 2000]);
        remote.put(&block).unwrap();
        assert_eq!(remote.footer(block.name()).unwrap(), *block.footer());
        assert_eq!(remote.read(block.name(), 11..4000).unwrap(), block.payload().slice(11..4000));
    }

    #[test]
    fn more_blocks_than_a_page_are_listed_in_order_and_strangers_are_left_alone() {
        let (bucket, remote) = remote();
        for n in 0..2300_u64 {
            let name = BlockName { domain: 1, epoch: n % 3, counter: n };
            replace(&bucket, &remote.bucket.path(name), vec![0; 7]);
            if n % 100 == 0 {
                replace(&bucket, &Path::from(format!("pre/fix/blocks/{n}/x")), vec![]);
            }
        }
        let mut names = Vec::new();
        let mut visit = |listed: Listed| {
            names.push(listed.name);
            ControlFlow::Continue(())
        };
        remote.list(&mut visit).unwrap();
        assert!(names.is_sorted() && names.len() == 2300);
        assert_eq!(remote.usage(), Usage { blocks: 2300, bytes: 7 * 2300 });
        remote.delete_many(&names[..2100]).unwrap();
        let mut left = 0;
        let mut visit = |_| {
            left += 1;
            ControlFlow::Continue(())
        };
        remote.list(&mut visit).unwrap();
        assert_eq!(left, 200);
    }

    #[test]
    fn a_put_that_is_asked_again_after_a_lost_reply_is_done_once() {
        let (_, remote) = remote();
        let name = "owner".parse().unwrap();
        let stamp = crate::objects::Stamp::new(&*Host::real().random);
        let sealed = crate::objects::seal(stamp, b"me");
        assert_eq!(remote.bucket.put_object(&name, &sealed, stamp, &PutIf::Absent), Ok(true));
        assert_eq!(remote.bucket.put_object(&name, &sealed, stamp, &PutIf::Absent), Ok(true));
        let next = crate::objects::Stamp::new(&*Host::real().random);
        let sealed = crate::objects::seal(next, b"me again");
        let condition = PutIf::Is(stamp.version());
        assert_eq!(remote.bucket.put_object(&name, &sealed, next, &condition), Ok(true));
        assert_eq!(remote.bucket.put_object(&name, &sealed, next, &condition), Ok(true));
        assert_eq!(remote.bucket.put_object(&name, &sealed, stamp, &condition), Ok(false));
    }
}
