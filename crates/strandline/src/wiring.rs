//! How the server is put together, on one page: host, stores, data path, services.
//!
//! Not here: the doors (`crate::serve` opens them over a [`Stack`]).

use std::sync::Arc;
use std::time::Duration;

use broker::Broker;
use file_tree::FileTree;
use host::Host;
use meta_store::MetaError;
use remote::OpenVolumeError;
use strands::{CollectOptions, OpenError, Position, Strands};
use volume::{FindError, VolumeName, Volumes};

use crate::data_dir::DataDir;
use crate::failure::{Failure, Outcome};
use crate::settings::{GcEvery, Settings};
use crate::stores::{StoreUrl, Stores};

/// Everything behind the doors.
#[derive(Clone, Debug)]
pub(crate) struct Stack {
    /// The machine.
    pub(crate) host: Host,
    /// Which store it is.
    pub(crate) store: StoreUrl,
    /// What lies below the data path.
    pub(crate) stores: Stores,
    /// The data path.
    pub(crate) strands: Strands,
    /// Streams.
    pub(crate) broker: Broker,
    /// Files.
    pub(crate) volumes: Volumes,
}

/// Why there is no stack.
#[derive(Debug)]
pub(crate) struct NotOpened {
    pub(crate) failure: Failure,
    /// Whether something may have begun: a new data directory that this is said of is one.
    pub(crate) may_have_begun: bool,
}

impl NotOpened {
    /// Nothing was written that anybody else knows of.
    pub(crate) fn before_anything(failure: Failure) -> Self {
        Self { failure, may_have_begun: false }
    }
}

/// What most failures are.
impl From<Failure> for NotOpened {
    fn from(failure: Failure) -> Self {
        Self { failure, may_have_begun: true }
    }
}

impl Stack {
    /// Recovers what the data directory holds and starts the threads behind it. Blocks until done.
    pub(crate) fn open(
        host: &Host,
        data: &DataDir,
        settings: &Settings,
    ) -> Result<Self, NotOpened> {
        let cannot = |what: &str, why: &dyn std::fmt::Display| {
            Failure::because(format!("cannot open the {what} in {}", data.path().display()), why)
        };
        let mut stores = Stores::open_or_mend(host, data, &settings.store)
            .map_err(NotOpened::before_anything)?;
        let mut opened = open_strands(&stores, strands_options(data, settings));
        if let Some(why) = opened.as_ref().err().and_then(of_no_use) {
            stores.begin_meta_anew(data, &why)?;
            opened = open_strands(&stores, strands_options(data, settings));
        }
        let strands = opened.map_err(|error| match &error {
            // The store is somebody else's, and has heard nothing of this directory.
            OpenError::Owner(_) => {
                NotOpened::before_anything(Failure::because("cannot use this store", &error))
            }
            OpenError::Journal(_)
            | OpenError::Commit { .. }
            | OpenError::ViewAhead { .. }
            | OpenError::ViewBehind { .. }
            | OpenError::Meta(_)
            | OpenError::Io { .. }
            | OpenError::FirstCommit(_)
            | OpenError::Row(_) => cannot("journal", &error).into(),
        })?;
        if let Some(rebuilt) = strands.recovery().rebuilt {
            tracing::warn!(
                "the meta store is rebuilt: {} rows of a checkpoint and {} commits of the ledger up to commit {}, and \
                 what the journal has from there",
                rebuilt.checkpoint_rows,
                rebuilt.ledger_commits,
                rebuilt.position
            );
        }
        let broker = Broker::open(strands.clone(), broker::Options::default())
            .map_err(|error| cannot("topics", &error))?;
        let volumes = Volumes::open(strands.clone()).map_err(|error| cannot("volumes", &error))?;
        let store = data.store().clone();
        Ok(Self { host: host.clone(), store, stores, strands, broker, volumes })
    }

    /// Makes everything durable and leaves the mark that makes the next start short. Blocks until done.
    pub(crate) fn close(self) -> Outcome {
        let cannot =
            |why| Failure::because("cannot finish writing, so the next start will recover", why);
        self.strands.close().map_err(cannot)?;
        self.stores.close();
        Ok(())
    }

    /// Whether storage failed, so that nothing more is acknowledged.
    pub(crate) async fn is_failed(&self) -> bool {
        // The durable position never gets there; the wait ends early when there will be no more.
        tokio::select! {
            biased;
            _ = self.strands.wait_durable_beyond(Position::new(u64::MAX)) => true,
            () = std::future::ready(()) => false,
        }
    }
}

fn open_strands(stores: &Stores, options: strands::Options) -> Result<Strands, OpenError> {
    let (meta, blocks) = (Arc::clone(&stores.meta), Arc::clone(&stores.blocks));
    Strands::open(stores.host.clone(), &stores.journal, meta, blocks, options)
}

/// Why the meta store is of no use, if that is what keeps the data path from opening: it is damaged, or has lost what
/// the journal no longer has.
fn of_no_use(error: &OpenError) -> Option<String> {
    match error {
        OpenError::Meta(MetaError::Damaged { why }) => Some(why.clone()),
        OpenError::ViewBehind { applied, .. } if *applied > Position::START => {
            Some(error.to_string())
        }
        _ => None,
    }
}

/// The volumes as the file door offers them.
#[derive(Debug)]
pub(crate) struct OfferedVolumes(pub(crate) Volumes);

impl remote::Volumes for OfferedVolumes {
    fn open(&self, name: &str) -> Result<Arc<dyn FileTree>, OpenVolumeError> {
        let name = VolumeName::new(name).map_err(|_| OpenVolumeError::NotFound)?;
        match self.0.tree(&name) {
            Ok(volume) => Ok(volume),
            Err(FindError::NotFound(_)) => Err(OpenVolumeError::NotFound),
            Err(FindError::Store(error)) => Err(OpenVolumeError::Failed(error.to_string())),
        }
    }
}

fn strands_options(data: &DataDir, settings: &Settings) -> strands::Options {
    let default = strands::Options::default();
    let pack_after = settings.pack_after;
    strands::Options {
        store_id: data.id().store_id(),
        take_over: settings.take_over,
        pack_after_bytes: pack_after.bytes.unwrap_or(default.pack_after_bytes),
        pack_after_age: pack_after.age.or_else(|| match data.store() {
            // What is to outlive this machine, or its disk, should not wait for as much as fills a journal.
            StoreUrl::S3(_) | StoreUrl::Dir(_) => Some(PACK_AFTER_AGE),
            StoreUrl::Memory | StoreUrl::Own => default.pack_after_age,
        }),
        collect_every: match settings.gc_every {
            GcEvery::Off => None,
            GcEvery::Age(age) => Some(age),
        },
        collect: collect_options(settings),
        cache_bytes: match (settings.cache, data.store()) {
            (Some(cache), _) => cache.bytes,
            // It would hold what the store has in memory already.
            (None, StoreUrl::Memory) => 0,
            (None, _) => default.cache_bytes,
        },
        ..default
    }
}

/// How old a change becomes, where blocks lie in a store of their own, before that is told of it.
const PACK_AFTER_AGE: Duration = Duration::from_secs(60);

/// What a round of collection may do, unless it is asked for otherwise.
pub(crate) fn collect_options(settings: &Settings) -> CollectOptions {
    CollectOptions { grace: settings.gc_grace, ..CollectOptions::default() }
}
