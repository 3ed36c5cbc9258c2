//! Where the blocks lie: how a store is named, what there is to choose, and opening it.
//!
//! | name | blocks | journal and meta store |
//! |---|---|---|
//! | (none) | `blocks/` in the data directory | in the data directory |
//! | `dir:/path` | in that directory | in the data directory |
//! | `s3://bucket/prefix` | in that bucket, behind staging and cache in `blocks/` | in the data directory |
//! | `memory` | in memory | in memory |
//!
//! Not here: that a data directory keeps to its store (`crate::data_dir`).

use std::fmt;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use block_store::{
    BlockStore, Directory, ListError, OpenRemoteError, Remote, S3Options, Tiered, TieredOptions,
};
use host::Host;
use meta_store::{Fjall, MetaStore, OpenError};

use crate::data_dir::DataDir;
use crate::failure::{Failure, Outcome};

/// Which store holds the blocks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum StoreUrl {
    /// `blocks/` in the data directory.
    #[default]
    Own,
    /// Nothing is kept, no journal either.
    Memory,
    /// A directory elsewhere; absolute.
    Dir(PathBuf),
    /// `s3://bucket/prefix`.
    S3(String),
}

impl FromStr for StoreUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "memory" {
            return Ok(Self::Memory);
        }
        if text.starts_with("s3://") {
            let read = S3Options::parse(text).map_err(|error| error.to_string());
            return read.map(|_| Self::S3(text.trim_end_matches('/').to_owned()));
        }
        match text.strip_prefix("dir:") {
            Some("") => Err("expected a path behind dir:, for example dir:/srv/blocks".to_owned()),
            Some(path) if path.contains('\n') => Err("a path of one line is expected".to_owned()),
            Some(path) => {
                let path = std::path::absolute(path).map_err(|error| error.to_string())?;
                Ok(Self::Dir(path))
            }
            None => Err("expected memory, dir:/path or s3://bucket/prefix".to_owned()),
        }
    }
}

impl StoreUrl {
    /// The same store, as the data directory `data` names it.
    pub(crate) fn seen_from(&self, data: &Path) -> Self {
        match self {
            Self::Dir(path) if *path == data.join("blocks") => Self::Own,
            other => other.clone(),
        }
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => f.write_str("own"),
            Self::Memory => f.write_str("memory"),
            Self::Dir(path) => write!(f, "dir:{}", path.display()),
            Self::S3(url) => f.write_str(url),
        }
    }
}

/// What is chosen about the store besides its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StoreSettings {
    /// The store; the one that the data directory has when absent.
    pub(crate) store: Option<StoreUrl>,
    /// Address of the S3 service.
    pub(crate) s3_endpoint: Option<String>,
    /// Its region.
    pub(crate) s3_region: Option<String>,
    /// Whether the bucket stands in the path of an address; so when there is an endpoint, if not said.
    pub(crate) s3_path_style: Option<bool>,
    /// Whether an endpoint elsewhere may be spoken to without TLS.
    pub(crate) s3_allow_http: Option<bool>,
    /// Disk that blocks may take which wait for their upload.
    pub(crate) staging_bytes: Option<u64>,
    /// Disk that copies of uploaded blocks may take.
    pub(crate) disk_cache_bytes: Option<u64>,
}

impl StoreSettings {
    /// These, with those of `fallback` where there are none.
    pub(crate) fn or(self, fallback: Self) -> Self {
        Self {
            store: self.store.or(fallback.store),
            s3_endpoint: self.s3_endpoint.or(fallback.s3_endpoint),
            s3_region: self.s3_region.or(fallback.s3_region),
            s3_path_style: self.s3_path_style.or(fallback.s3_path_style),
            s3_allow_http: self.s3_allow_http.or(fallback.s3_allow_http),
            staging_bytes: self.staging_bytes.or(fallback.staging_bytes),
            disk_cache_bytes: self.disk_cache_bytes.or(fallback.disk_cache_bytes),
        }
    }

    fn s3_options(&self, url: &str) -> Outcome<S3Options> {
        let mut options = S3Options::parse(url).map_err(|error| refused(&error))?;
        options.path_style = self.s3_path_style.unwrap_or_else(|| self.s3_endpoint.is_some());
        options.endpoint.clone_from(&self.s3_endpoint);
        options.region.clone_from(&self.s3_region);
        options.allow_http = self.s3_allow_http.unwrap_or(false);
        Ok(options)
    }

    fn tiered_options(&self) -> TieredOptions {
        let default = TieredOptions::default();
        TieredOptions {
            staging_bytes_max: self.staging_bytes.unwrap_or(default.staging_bytes_max),
            cache_bytes_max: self.disk_cache_bytes.unwrap_or(default.cache_bytes_max),
            ..default
        }
    }
}

/// What the data path is opened over.
#[derive(Clone, Debug)]
pub(crate) struct Stores {
    /// The machine as the data path sees it.
    pub(crate) host: Host,
    /// Where the journal lies on it.
    pub(crate) journal: PathBuf,
    pub(crate) meta: Arc<dyn MetaStore>,
    pub(crate) blocks: Arc<dyn BlockStore>,
    /// The same blocks, when they lie in a bucket.
    pub(crate) tiered: Option<Arc<Tiered>>,
}

impl Stores {
    /// Opens what the data directory says. Blocks until done.
    pub(crate) fn open(host: &Host, data: &DataDir, settings: &StoreSettings) -> Outcome<Self> {
        Self::open_with(host, data, settings, |data| Fjall::open(data.meta()))
    }

    /// The same, for a server: a meta store that is damaged is set aside and an empty one opened, which the start
    /// fills.
    pub(crate) fn open_or_mend(
        host: &Host,
        data: &DataDir,
        settings: &StoreSettings,
    ) -> Outcome<Self> {
        Self::open_with(host, data, settings, |data| match Fjall::open(data.meta()) {
            Err(OpenError::Damaged { path, why }) => {
                let refused = |source| OpenError::Io { path: path.clone(), source };
                data.set_meta_aside(host, &why).map_err(refused)?;
                Fjall::open(data.meta())
            }
            opened => opened,
        })
    }

    /// Sets the meta store aside, whose damage showed only when it was read, and opens an empty one.
    pub(crate) fn begin_meta_anew(&mut self, data: &DataDir, why: &str) -> Outcome {
        let cannot = |why: &dyn fmt::Display| {
            Failure::because(
                format!("cannot rebuild the meta store in {}", data.path().display()),
                why,
            )
        };
        // The last handle closes it.
        self.meta = Arc::new(meta_store::Memory::new());
        data.set_meta_aside(&self.host, why).map_err(|error| cannot(&error))?;
        self.meta = Arc::new(Fjall::open(data.meta()).map_err(|error| cannot(&error))?);
        Ok(())
    }

    fn open_with(
        host: &Host,
        data: &DataDir,
        settings: &StoreSettings,
        open_meta: impl FnOnce(&DataDir) -> Result<Fjall, OpenError>,
    ) -> Outcome<Self> {
        let cannot = |what: &str, why: &dyn fmt::Display| {
            Failure::because(format!("cannot open the {what} in {}", data.path().display()), why)
        };
        if *data.store() == StoreUrl::Memory {
            let host = Host::in_memory();
            let blocks = Arc::new(block_store::Memory::on(&host));
            let meta = Arc::new(meta_store::Memory::new());
            return Ok(Self { host, journal: "/journal".into(), meta, blocks, tiered: None });
        }
        let meta = Arc::new(open_meta(data).map_err(|error| cannot("meta store", &error))?);
        let (blocks, tiered): (Arc<dyn BlockStore>, _) = match data.store() {
            StoreUrl::Memory | StoreUrl::Own => (open_directory(host, &data.blocks())?, None),
            StoreUrl::Dir(path) => (open_directory(host, path)?, None),
            StoreUrl::S3(url) => {
                let tiered = open_bucket(host, url, &data.blocks(), settings)?;
                (Arc::clone(&tiered) as _, Some(tiered))
            }
        };
        Ok(Self { host: host.clone(), journal: data.journal(), meta, blocks, tiered })
    }

    /// Ends transfers; what is not uploaded stays for the next start.
    pub(crate) fn close(&self) {
        if let Some(tiered) = &self.tiered
            && !tiered.close(UPLOAD_WAIT)
        {
            tracing::info!("some blocks are not uploaded yet; the next start goes on with them");
        }
    }
}

fn open_directory(host: &Host, path: &Path) -> Outcome<Arc<dyn BlockStore>> {
    match Directory::open(host, path) {
        Ok(store) => Ok(Arc::new(store)),
        Err(error) => Err(Failure::because("cannot open the block store", with_causes(&error))),
    }
}

fn open_bucket(
    host: &Host,
    url: &str,
    dir: &Path,
    settings: &StoreSettings,
) -> Outcome<Arc<Tiered>> {
    let options = settings.s3_options(url)?;
    let remote = Remote::s3(host, &options).map_err(|error| refused(&error))?;
    // A bucket that says no is told before anything is written for it. One that is away may come back.
    match remote.list(&mut |_| ControlFlow::Break(())) {
        Ok(()) => {}
        Err(ListError::Away { why }) => {
            tracing::warn!(%why, "the store {} is away; starting without it", remote.place());
        }
        Err(error) => {
            let place = remote.place();
            return Err(Failure::because(
                format!("cannot use {place}"),
                in_short(&with_causes(&error)),
            ));
        }
    }
    let tiered = Tiered::open(host, dir, remote, settings.tiered_options());
    tiered
        .map(Arc::new)
        .map_err(|error| Failure::because("cannot open the block store", with_causes(&error)))
}

fn refused(error: &OpenRemoteError) -> Failure {
    match error {
        // A sentence of its own.
        OpenRemoteError::NoCredentials { .. } | OpenRemoteError::Refused { .. } => {
            Failure::new(error.to_string())
        }
        OpenRemoteError::BadAddress { .. } | OpenRemoteError::Thread(_) => {
            Failure::because("cannot use this store", with_causes(error))
        }
    }
}

/// What a service refuses, by the code in its answer: the answer itself is a page.
fn in_short(why: &str) -> String {
    let code = why.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    match code.map(|(code, _)| code) {
        Some("NoSuchBucket") => "there is no such bucket; make it, or look at the name".to_owned(),
        Some(code @ ("AccessDenied" | "InvalidAccessKeyId" | "SignatureDoesNotMatch")) => {
            format!("the service does not let these credentials in ({code})")
        }
        Some(code) => format!("the service answered {code}"),
        None => why.lines().next().unwrap_or_default().to_owned(),
    }
}

/// An error and what caused it, in one sentence.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// How long a stop waits for uploads.
const UPLOAD_WAIT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    //! Goal: a store's name means what it says, and reads back as it is shown.

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_of_stores_are_read_and_shown_alike() {
        for name in ["memory", "dir:/srv/blocks", "s3://bucket", "s3://bucket/some/prefix"] {
            assert_eq!(name.parse::<StoreUrl>().unwrap().to_string(), name);
        }
        let relative = "dir:blocks".parse::<StoreUrl>().unwrap();
        assert!(matches!(relative, StoreUrl::Dir(path) if path.is_absolute()));
        assert_eq!("s3://b/p/".parse(), Ok(StoreUrl::S3("s3://b/p".to_owned())));
    }

    #[test]
    fn other_names_are_refused_with_what_is_expected() {
        for name in ["", "disk", "dir:", "gs://bucket", "s3:bucket", "own", "Memory"] {
            let why = name.parse::<StoreUrl>().unwrap_err();
            assert!(why.contains("expected"), "{name}: {why}");
        }
        assert!("s3://".parse::<StoreUrl>().unwrap_err().contains("names no bucket"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_without_panic(text in "(memory|dir:|s3://)?.{0,20}") {
            if let Ok(store) = text.parse::<StoreUrl>() {
                prop_assert_eq!(store.to_string().parse(), Ok(store));
            }
        }
    }
}
