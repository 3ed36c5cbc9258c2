//! The requests themselves: each is sent once and either answered or [`Trouble`].
//!
//! Not here: the objects (`super::objects`), the store made of this (`super`).

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, TryStreamExt, stream};
use host::{Host, Random};
use object_store::aws::AwsCredential;
use object_store::path::Path;
use object_store::{
    CredentialProvider, GetOptions, GetRange, GetResult, ObjectStore, PutMode, PutPayload,
};

use super::runtime::Runtime;
use super::{FetchError, Page, Put, Trouble, advice};
use crate::format::{BLOCK_FILE_BYTES_MAX, Chunks, HEADER_BYTES, Layout, TRAILER_BYTES, header};
use crate::recent::Recent;
use crate::{Block, BlockName, Footer, FormatError, Listed, OpenRemoteError};

/// Most names in one request to delete or to list.
pub(crate) const BATCH: usize = 1000;

/// How long a machine may take to say which role it has.
const ROLE_PATIENCE: Duration = Duration::from_secs(3);

/// How much of a block's end is asked for at once in the hope that it holds the footer.
const TAIL_GUESS_BYTES: u64 = 8 * 1024;

/// How often something damaged is looked at again before it is called damaged.
const LOOKS_MAX: usize = 3;

/// Memory for the checksums of blocks.
const FOOTERS_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Most of what a store says about an error that is repeated.
const WHY_CHARS_MAX: usize = 400;

/// A bucket.
#[derive(Debug)]
pub(crate) struct Bucket {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) place: String,
    pub(super) prefix: String,
    pub(super) random: Arc<dyn Random>,
    /// How long a request may take.
    patience: Duration,
    runtime: Runtime,
    footers: Mutex<Recent<BlockName, Arc<Chunks>>>,
}

impl Bucket {
    pub(super) fn new(
        host: &Host,
        store: Arc<dyn ObjectStore>,
        prefix: &str,
        place: String,
        patience: Duration,
    ) -> Result<Self, OpenRemoteError> {
        if !is_prefix(prefix) {
            let why = "the prefix has empty parts or characters that no name has";
            return Err(OpenRemoteError::BadAddress { address: place, why });
        }
        Ok(Self {
            store,
            place,
            prefix: if prefix.is_empty() { String::new() } else { format!("{prefix}/") },
            random: Arc::clone(&host.random),
            patience,
            runtime: Runtime::start().map_err(OpenRemoteError::Thread)?,
            footers: Mutex::new(Recent::new(FOOTERS_BYTES_MAX)),
        })
    }

    /// The address without secrets, for people.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// How long a request may take.
    pub(crate) fn patience(&self) -> Duration {
        self.patience
    }

    /// Ends all requests, those that are under way too.
    pub(crate) fn stop(&self) {
        self.runtime.stop();
    }

    pub(super) fn run<T>(
        &self,
        request: impl Future<Output = Result<T, Trouble>>,
    ) -> Result<T, Trouble> {
        self.runtime.run(self.patience, advice::heeded(request))
    }

    /// Finds out whether this machine has a role, by the service that Amazon's machines have for that.
    pub(super) fn ask_for_role(
        &self,
        role: &dyn CredentialProvider<Credential = AwsCredential>,
    ) -> Result<(), OpenRemoteError> {
        let asked = async {
            let got = role.get_credential().await.map(drop);
            got.map_err(|error| trouble(&error))
        };
        self.runtime.run(ROLE_PATIENCE, asked).map_err(|trouble| {
            tracing::debug!(%trouble, "this machine has no role");
            OpenRemoteError::NoCredentials { place: self.place.clone() }
        })
    }

    pub(super) fn path(&self, name: BlockName) -> Path {
        let BlockName { domain, epoch, counter } = name;
        let prefix = &self.prefix;
        Path::from(format!("{prefix}blocks/{domain:08x}-{epoch:016x}/{counter:016x}.blk"))
    }

    pub(super) fn block_place(&self, name: BlockName) -> String {
        format!("{} ({})", self.path(name), self.place)
    }

    /// The name of the block that lies at `path`, if one does.
    fn recognise(&self, path: &Path) -> Option<BlockName> {
        let rest = path.as_ref().strip_prefix(&self.prefix)?.strip_prefix("blocks/")?;
        let (folder, file) = rest.split_once('/')?;
        let name = format!("{folder}-{}", file.strip_suffix(".blk")?);
        name.parse().ok()
    }

    /// Asks something small, so that an answer shows that the store is there.
    pub(crate) fn probe(&self) -> Result<(), Trouble> {
        let path = Path::from(format!("{}objects/owner", self.prefix));
        self.run(async { self.head(&path).await.map(drop) })
    }

    /// Stores a block if there is none of its name.
    pub(crate) fn put_block(&self, block: &Block) -> Result<Put, Trouble> {
        let path = self.path(block.name());
        let put = self.run(async {
            let payload = PutPayload::from(block.bytes().clone());
            match self.store.put_opts(&path, payload, PutMode::Create.into()).await {
                Ok(_) => Ok(true),
                Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
                Err(error) => Err(trouble(&error)),
            }
        })?;
        if put {
            return Ok(Put::Done);
        }
        self.whose(block)
    }

    /// Whether the block that was in the way is an earlier request of ours, whose reply was lost.
    fn whose(&self, block: &Block) -> Result<Put, Trouble> {
        for _ in 0..LOOKS_MAX {
            match self.raw(block.name()) {
                Ok(there) if there == *block.bytes() => return Ok(Put::Done),
                Ok(there) if Block::decode(there.clone()).is_ok() => return Ok(Put::Taken),
                // Damaged there, or on its way to here.
                Ok(_) | Err(FetchError::Format(_) | FetchError::OutOfRange { .. }) => {}
                // Another request for the name was under way, and failed.
                Err(FetchError::Missing) => {
                    return Err(Trouble::Away("a block was there and then was not".to_owned()));
                }
                Err(FetchError::Trouble(trouble)) => return Err(trouble),
            }
        }
        Ok(Put::Taken)
    }

    /// Gets a whole block, every checksum verified.
    pub(crate) fn block(&self, name: BlockName) -> Result<Block, FetchError> {
        let block = Block::decode(self.raw(name)?).map_err(FetchError::Format)?;
        if block.name() != name {
            let why = "the object holds another block";
            return Err(FetchError::Format(FormatError::Damaged { at: 12, why }));
        }
        self.keep(name, block.footer().clone());
        Ok(block)
    }

    /// The bytes of a whole block as they are there, not verified.
    fn raw(&self, name: BlockName) -> Result<Bytes, FetchError> {
        let path = self.path(name);
        let found = self.run(async {
            let Some(result) = self.get(&path, None).await? else { return Ok(None) };
            let size = result.meta.size;
            if size > BLOCK_FILE_BYTES_MAX as u64 {
                return Ok(Some(Err(size)));
            }
            Ok(Some(Ok(collect(result, 0..size).await?)))
        })?;
        match found {
            None => Err(FetchError::Missing),
            Some(Ok(bytes)) => Ok(bytes),
            Some(Err(size)) => Err(FetchError::Format(too_long(size))),
        }
    }

    /// Gets `range` of a block's payload, its checksums verified.
    pub(crate) fn range(&self, name: BlockName, range: &Range<u32>) -> Result<Bytes, FetchError> {
        let chunks = match self.kept(name) {
            Some(chunks) => chunks,
            None => self.keep(name, self.footer_of(name)?),
        };
        let payload_len = chunks.payload_len();
        if range.start > range.end || range.end > payload_len {
            return Err(FetchError::OutOfRange { payload_len });
        }
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let wide = chunks.widen(range);
        let from = |at: u32| HEADER_BYTES as u64 + u64::from(at);
        let asked = from(wide.start)..from(wide.end);
        let path = self.path(name);
        let bytes = self.run(async {
            let wanted = Some(GetRange::Bounded(asked.clone()));
            match self.get(&path, wanted).await? {
                Some(result) => collect(result, asked.clone()).await.map(Some),
                None => Ok(None),
            }
        })?;
        let Some(bytes) = bytes else {
            self.forget(name);
            return Err(FetchError::Missing);
        };
        chunks.verify(wide.start, &bytes).map_err(FetchError::Format)?;
        let start = (range.start - wide.start) as usize;
        Ok(bytes.slice(start..start + range.len()))
    }

    /// Gets a block's footer. What stands before the payload follows from the name, and the footer's checksum
    /// covers it.
    pub(crate) fn footer_of(&self, name: BlockName) -> Result<Footer, FetchError> {
        let path = self.path(name);
        let tail = |range: GetRange| {
            self.run(async {
                let Some(result) = self.get(&path, Some(range)).await? else { return Ok(None) };
                let (size, range) = (result.meta.size, result.range.clone());
                if range.end != size
                    || range.end - range.start.min(size) > BLOCK_FILE_BYTES_MAX as u64
                {
                    return Err(Trouble::Away("the store answered with another range".to_owned()));
                }
                Ok(Some((size, collect(result, range).await?)))
            })
        };
        let (size, mut bytes) = match tail(GetRange::Suffix(TAIL_GUESS_BYTES)) {
            // Nothing has no end that could be asked for.
            Err(Trouble::Refused(_)) if self.size_of(name)? == Some(0) => {
                return Err(FetchError::Format(FormatError::Damaged { at: 0, why: "it is empty" }));
            }
            found => found?.ok_or(FetchError::Missing)?,
        };
        if size > BLOCK_FILE_BYTES_MAX as u64 {
            return Err(FetchError::Format(too_long(size)));
        }
        let Some(trailer_at) = bytes.len().checked_sub(TRAILER_BYTES) else {
            let why = "the block is shorter than its trailer";
            return Err(FetchError::Format(FormatError::Damaged { at: size, why }));
        };
        let layout = Layout::parse(&bytes[trailer_at..], Some(size)).map_err(FetchError::Format)?;
        if layout.tail_len() > bytes.len() {
            let rest = GetRange::Bounded(layout.footer_at() as u64..size);
            bytes = tail(rest)?.ok_or(FetchError::Missing)?.1;
        }
        let Some(footer_at) = bytes.len().checked_sub(layout.tail_len()) else {
            return Err(Trouble::Away("the store answered with another range".to_owned()).into());
        };
        Footer::parse(&header(name), &bytes[footer_at..]).map_err(FetchError::Format)
    }

    /// The size of a block, if it exists.
    pub(crate) fn size_of(&self, name: BlockName) -> Result<Option<u64>, Trouble> {
        let path = self.path(name);
        Ok(self.run(async { self.head(&path).await })?.map(|meta| meta.size))
    }

    /// Deletes blocks, in requests of at most 1,000. Those that are gone do no harm.
    pub(crate) fn delete_blocks(&self, names: &[BlockName]) -> Result<(), (BlockName, Trouble)> {
        for batch in names.chunks(BATCH) {
            for name in batch {
                self.forget(*name);
            }
            let paths: Vec<_> = batch.iter().map(|name| self.path(*name)).collect();
            self.delete_paths(paths).map_err(|trouble| (batch[0], trouble))?;
        }
        Ok(())
    }

    pub(super) fn delete_paths(&self, paths: Vec<Path>) -> Result<(), Trouble> {
        self.run(async {
            let asked = stream::iter(paths.into_iter().map(Ok)).boxed();
            let mut answers = self.store.delete_stream(asked);
            while let Some(answer) = answers.next().await {
                match answer {
                    Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                    Err(error) => return Err(trouble(&error)),
                }
            }
            Ok(())
        })
    }

    /// The next blocks in order of name: those behind `after`, the `next` of the page before.
    pub(crate) fn page(&self, after: Option<&Path>) -> Result<Page, Trouble> {
        let metas = self.page_of("blocks", after)?;
        let next = (metas.len() == BATCH).then(|| metas[BATCH - 1].location.clone());
        let mut blocks: Vec<Listed> = Vec::with_capacity(metas.len());
        for meta in metas {
            let Some(name) = self.recognise(&meta.location) else {
                tracing::warn!(path = %meta.location, "not a block; left alone");
                continue;
            };
            let modified_ms = meta.last_modified.timestamp_millis();
            blocks.push(Listed { name, bytes: meta.size, modified_ms });
        }
        Ok(Page { blocks, next })
    }

    /// One page of what lies below `folder`.
    pub(super) fn page_of(
        &self,
        folder: &str,
        after: Option<&Path>,
    ) -> Result<Vec<object_store::ObjectMeta>, Trouble> {
        let folder = Path::from(format!("{}{folder}", self.prefix));
        let metas: Vec<object_store::ObjectMeta> = self.run(async {
            let listed = match after {
                Some(after) => self.store.list_with_offset(Some(&folder), after),
                None => self.store.list(Some(&folder)),
            };
            listed.take(BATCH).try_collect().await.map_err(|error| trouble(&error))
        })?;
        let locations = metas.iter().map(|meta| meta.location.as_ref());
        let in_order =
            after.map(Path::as_ref).into_iter().chain(locations).is_sorted_by(|a, b| a < b);
        if in_order {
            Ok(metas)
        } else {
            Err(Trouble::Refused("the store does not list names in their order".to_owned()))
        }
    }

    pub(super) async fn get(
        &self,
        path: &Path,
        range: Option<GetRange>,
    ) -> Result<Option<GetResult>, Trouble> {
        let options = GetOptions { range, ..GetOptions::default() };
        match self.store.get_opts(path, options).await {
            Ok(result) => Ok(Some(result)),
            Err(error) if has_no_bucket(&error) => Err(Trouble::Refused(why(&error))),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) if has_no_range(&error) => Err(Trouble::Refused(why(&error))),
            Err(error) => Err(trouble(&error)),
        }
    }

    /// The store does not say of which it has none, the object or the bucket.
    pub(super) async fn head(
        &self,
        path: &Path,
    ) -> Result<Option<object_store::ObjectMeta>, Trouble> {
        let options = GetOptions { head: true, ..GetOptions::default() };
        match self.store.get_opts(path, options).await {
            Ok(result) => Ok(Some(result.meta)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(trouble(&error)),
        }
    }

    fn kept(&self, name: BlockName) -> Option<Arc<Chunks>> {
        self.footers().get(name).cloned()
    }

    fn keep(&self, name: BlockName, footer: Footer) -> Arc<Chunks> {
        let chunks = Arc::new(footer.into_chunks());
        self.footers().keep(name, Arc::clone(&chunks), chunks.memory_bytes());
        chunks
    }

    pub(super) fn forget(&self, name: BlockName) {
        self.footers().remove(name);
    }

    /// Nothing under the lock panics but for want of memory.
    fn footers(&self) -> MutexGuard<'_, Recent<BlockName, Arc<Chunks>>> {
        self.footers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether names can begin with `prefix` and a slash, as it is.
pub(super) fn is_prefix(prefix: &str) -> bool {
    Path::parse(prefix).is_ok_and(|path| path.as_ref() == prefix)
}

fn too_long(size: u64) -> FormatError {
    FormatError::Damaged { at: size, why: "no block ends" }
}

/// The bytes of an answer, which has to be `range` of the object.
pub(super) async fn collect(result: GetResult, range: Range<u64>) -> Result<Bytes, Trouble> {
    let wrong = || Trouble::Away("the store answered with another range".to_owned());
    if result.range != range {
        return Err(wrong());
    }
    let len = usize::try_from(range.end - range.start).map_err(|_| wrong())?;
    let mut parts = result.into_stream();
    let first = match parts.next().await {
        Some(part) => part.map_err(|error| trouble(&error))?,
        None => Bytes::new(),
    };
    if first.len() == len {
        return Ok(first);
    }
    let mut bytes = BytesMut::with_capacity(len);
    bytes.extend_from_slice(&first);
    while let Some(part) = parts.next().await {
        let part = part.map_err(|error| trouble(&error))?;
        if bytes.len() + part.len() > len {
            return Err(wrong());
        }
        bytes.extend_from_slice(&part);
    }
    if bytes.len() == len { Ok(bytes.freeze()) } else { Err(wrong()) }
}

fn why(error: &object_store::Error) -> String {
    let mut why = error.to_string();
    if let Some((end, _)) = why.char_indices().nth(WHY_CHARS_MAX) {
        why.truncate(end);
    }
    why
}

// The client tells some errors apart in its texts alone; the tests against a real server hold them to that.

/// Whether an error says that there is no bucket.
fn has_no_bucket(error: &object_store::Error) -> bool {
    error.to_string().contains("<Code>NoSuchBucket</Code>")
}

/// Whether the store says of what is there that it has no such range, or gives all of it instead. The next
/// answer would be the same.
fn has_no_range(error: &object_store::Error) -> bool {
    let text = error.to_string();
    ["status code: 416", "non-partial response"].iter().any(|sign| text.contains(sign))
}

/// What an error means for who asked. What is not found, where no object is asked for, is the bucket.
pub(super) fn trouble(error: &object_store::Error) -> Trouble {
    let why = why(error);
    match error {
        _ if has_no_bucket(error) => Trouble::Refused(why),
        object_store::Error::NotFound { .. }
        | object_store::Error::PermissionDenied { .. }
        | object_store::Error::Unauthenticated { .. }
        | object_store::Error::NotImplemented { .. }
        | object_store::Error::NotSupported { .. }
        | object_store::Error::InvalidPath { .. }
        | object_store::Error::UnknownConfigurationKey { .. } => Trouble::Refused(why),
        _ => Trouble::Away(why),
    }
}
