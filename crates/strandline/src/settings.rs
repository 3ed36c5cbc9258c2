//! What the server is told: flags over the configuration file over defaults, every value read by the same code.
//!
//! The file is TOML with the flags' names as keys. An unknown key, a value of a wrong kind or one that cannot be
//! read is refused with file and line: a setting that is silently ignored is worse than a server that does not start.
//!
//! Not here: which flags exist and their help texts (`crate::cli`).

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use host::{Host, OpenMode};
use toml::de::{DeTable, DeValue};

use crate::failure::{Failure, Outcome};
use crate::stores::StoreSettings;
use crate::units::{nearest, parse_age, parse_size, show_age, show_size};

/// Where data is kept when nothing else is said: the same for `serve` and for every other command.
pub(crate) const DATA_DEFAULT: &str = "./strandline-data";
/// How old a block must be before collection takes it.
const GC_GRACE_DEFAULT: Duration = Duration::from_secs(60 * 60);
/// A configuration file is a page, not a book.
const CONFIG_BYTES_MAX: u64 = 1024 * 1024;
const KEYS: &[&str] = &[
    "data",
    "kafka",
    "kafka-advertise",
    "http",
    "pack-after",
    "store",
    "s3-endpoint",
    "s3-region",
    "s3-path-style",
    "s3-allow-http",
    "staging",
    "disk-cache",
    "cache",
    "gc-every",
    "gc-grace",
    "log",
];

/// Everything `serve` needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// The data directory.
    pub(crate) data: PathBuf,
    /// Where Kafka clients connect.
    pub(crate) kafka: Door,
    /// The address that Kafka clients are told to use; the door's own when absent.
    pub(crate) kafka_advertise: Option<HostPort>,
    /// Where health, metrics and status are read.
    pub(crate) http: Door,
    /// When old data moves from the journal into blocks.
    pub(crate) pack_after: PackAfter,
    /// Where blocks lie.
    pub(crate) store: StoreSettings,
    /// Whether to take the store over from another data directory.
    pub(crate) take_over: bool,
    /// When collection runs.
    pub(crate) gc_every: GcEvery,
    /// Collection leaves younger blocks alone.
    pub(crate) gc_grace: Duration,
    /// Memory for blocks; the data path's own default when absent.
    pub(crate) cache: Option<CacheSize>,
    /// What is logged to standard error.
    pub(crate) log: String,
}

/// The part of the settings that one source (the flags, or the file) gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) data: Option<PathBuf>,
    pub(crate) kafka: Option<Door>,
    pub(crate) kafka_advertise: Option<HostPort>,
    pub(crate) http: Option<Door>,
    pub(crate) pack_after: Option<PackAfter>,
    pub(crate) cache: Option<CacheSize>,
    pub(crate) store: StoreSettings,
    /// Only a flag: a file would say it again at each start.
    pub(crate) take_over: bool,
    pub(crate) gc_every: Option<GcEvery>,
    pub(crate) gc_grace: Option<Duration>,
    pub(crate) log: Option<String>,
}

impl Given {
    /// These settings, with those of `fallback` where there are none.
    pub(crate) fn or(self, fallback: Self) -> Self {
        Self {
            data: self.data.or(fallback.data),
            kafka: self.kafka.or(fallback.kafka),
            kafka_advertise: self.kafka_advertise.or(fallback.kafka_advertise),
            http: self.http.or(fallback.http),
            pack_after: self.pack_after.or(fallback.pack_after),
            cache: self.cache.or(fallback.cache),
            store: self.store.or(fallback.store),
            take_over: self.take_over || fallback.take_over,
            gc_every: self.gc_every.or(fallback.gc_every),
            gc_grace: self.gc_grace.or(fallback.gc_grace),
            log: self.log.or(fallback.log),
        }
    }

    /// These settings, with defaults where there are none.
    pub(crate) fn or_defaults(self) -> Settings {
        Settings {
            data: self.data.unwrap_or_else(|| DATA_DEFAULT.into()),
            kafka: self.kafka.unwrap_or_else(|| Door::loopback(9092)),
            kafka_advertise: self.kafka_advertise,
            http: self.http.unwrap_or_else(|| Door::loopback(8080)),
            pack_after: self.pack_after.unwrap_or_default(),
            cache: self.cache,
            store: self.store,
            take_over: self.take_over,
            gc_every: self.gc_every.unwrap_or_default(),
            gc_grace: self.gc_grace.unwrap_or(GC_GRACE_DEFAULT),
            log: self.log.unwrap_or_else(|| "warn".to_owned()),
        }
    }

    /// Reads a configuration file.
    pub(crate) fn from_file(host: &Host, path: &Path) -> Outcome<Self> {
        let text = read_text(host, path)?;
        Self::from_toml(&text).map_err(|complaint| {
            Failure::new(format!("{}:{}: {}", path.display(), complaint.line, complaint.sentence))
        })
    }

    fn from_toml(text: &str) -> Result<Self, Complaint> {
        let at = |start: usize| 1 + text.bytes().take(start).filter(|&byte| byte == b'\n').count();
        let table = DeTable::parse(text).map_err(|error| Complaint {
            line: at(error.span().map_or(0, |span| span.start)),
            sentence: error.message().to_owned(),
        })?;
        let mut given = Self::default();
        for (key, value) in table.get_ref() {
            let complain =
                |start: usize| move |sentence: String| Complaint { line: at(start), sentence };
            if KEYS.contains(&key.get_ref().as_ref()) {
                given.set(key.get_ref(), value.get_ref()).map_err(complain(value.span().start))?;
            } else {
                return Err(complain(key.span().start)(unknown_key(key.get_ref())));
            }
        }
        Ok(given)
    }

    fn set(&mut self, key: &str, value: &DeValue<'_>) -> Result<(), String> {
        match key {
            "pack-after" => self.pack_after = Some(parsed(key, &listed(key, value)?)?),
            "data" => self.data = Some(plain(key, value)?.into()),
            "kafka" => self.kafka = Some(parsed(key, plain(key, value)?)?),
            "kafka-advertise" => self.kafka_advertise = Some(parsed(key, plain(key, value)?)?),
            "cache" => self.cache = Some(parsed(key, plain(key, value)?)?),
            "http" => self.http = Some(parsed(key, plain(key, value)?)?),
            "gc-every" => self.gc_every = Some(parsed(key, plain(key, value)?)?),
            "gc-grace" => self.gc_grace = Some(age(key, plain(key, value)?)?),
            "store" => self.store.store = Some(parsed(key, plain(key, value)?)?),
            "s3-endpoint" => self.store.s3_endpoint = Some(plain(key, value)?.to_owned()),
            "s3-region" => self.store.s3_region = Some(plain(key, value)?.to_owned()),
            "s3-path-style" => self.store.s3_path_style = Some(yes_or_no(key, value)?),
            "s3-allow-http" => self.store.s3_allow_http = Some(yes_or_no(key, value)?),
            "staging" => self.store.staging_bytes = Some(size(key, plain(key, value)?)?),
            "disk-cache" => self.store.disk_cache_bytes = Some(size(key, plain(key, value)?)?),
            "log" => self.log = Some(plain(key, value)?.to_owned()),
            other => return Err(unknown_key(other)),
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Complaint {
    line: usize,
    sentence: String,
}

fn unknown_key(key: &str) -> String {
    match nearest(key, KEYS) {
        Some(known) => format!("unknown key `{key}`; did you mean `{known}`?"),
        None => format!("unknown key `{key}`; the known keys are {}", KEYS.join(", ")),
    }
}

fn plain<'v>(key: &str, value: &'v DeValue<'_>) -> Result<&'v str, String> {
    value
        .as_str()
        .ok_or_else(|| format!("`{key}` must be text in quotes, not {}", value.type_str()))
}

fn yes_or_no(key: &str, value: &DeValue<'_>) -> Result<bool, String> {
    value
        .as_bool()
        .ok_or_else(|| format!("`{key}` must be true or false, not {}", value.type_str()))
}

fn age(key: &str, text: &str) -> Result<Duration, String> {
    let age = parse_age(text);
    age.ok_or_else(|| format!("`{key}` cannot be `{text}`: expected an age, for example 1h"))
}

fn size(key: &str, text: &str) -> Result<u64, String> {
    let size = parse_size(text);
    size.ok_or_else(|| format!("`{key}` cannot be `{text}`: expected a size, for example 4GiB"))
}

/// Text, or a list of texts joined as the flag would be given.
fn listed(key: &str, value: &DeValue<'_>) -> Result<String, String> {
    match value.as_array() {
        None => plain(key, value).map(str::to_owned),
        Some(items) => {
            let items: Result<Vec<_>, _> =
                items.iter().map(|item| plain(key, item.get_ref())).collect();
            Ok(items?.join(","))
        }
    }
}

fn parsed<T: FromStr<Err = String>>(key: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|why| format!("`{key}` cannot be `{text}`: {why}"))
}

fn read_text(host: &Host, path: &Path) -> Outcome<String> {
    let cannot =
        |why: &dyn fmt::Display| Failure::because(format!("cannot read {}", path.display()), why);
    let file = host.disk.open(path, OpenMode::Read).map_err(|error| cannot(&error))?;
    let size = file.size().map_err(|error| cannot(&error))?;
    if size > CONFIG_BYTES_MAX {
        return Err(cannot(&format!("{size} bytes is too long for a configuration file")));
    }
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut bytes, 0).map_err(|error| cannot(&error))?;
    String::from_utf8(bytes).map_err(|error| cannot(&error))
}

/// An address to listen on, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// The door is not there.
    Off,
    /// It listens here; port 0 picks a free one.
    At(HostPort),
}

impl Door {
    fn loopback(port: u16) -> Self {
        Self::At(HostPort { host: "127.0.0.1".to_owned(), port })
    }
}

impl FromStr for Door {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" { Ok(Self::Off) } else { text.parse().map(Self::At) }
    }
}

/// A host and a port, as in `127.0.0.1:9092`, `[::1]:9092` or `broker.example:9092`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostPort {
    /// A name or an address, without brackets.
    pub(crate) host: String,
    /// The port.
    pub(crate) port: u16,
}

impl FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let want = || "expected HOST:PORT, for example 127.0.0.1:8080".to_owned();
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self { host: address.ip().to_string(), port: address.port() });
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(want)?;
        let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if host.is_empty() || host.len() > 253 || !host.bytes().all(good) {
            return Err(want());
        }
        Ok(Self { host: host.to_owned(), port: port.parse().map_err(|_| want())? })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Time between two rounds of collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GcEvery {
    /// Only when somebody asks for one.
    Off,
    /// So long after the last one.
    Age(Duration),
}

impl Default for GcEvery {
    fn default() -> Self {
        Self::Age(Duration::from_secs(15 * 60))
    }
}

impl FromStr for GcEvery {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        match parse_age(text) {
            Some(age) if !age.is_zero() => Ok(Self::Age(age)),
            _ => Err("expected an age, for example 15m, or `off`".to_owned()),
        }
    }
}

/// How much memory bytes of blocks may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CacheSize {
    /// In bytes; 0: no cache.
    pub(crate) bytes: u64,
}

impl FromStr for CacheSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes = if text == "off" { Some(0) } else { parse_size(text) };
        let bytes = bytes.ok_or_else(|| "expected a size (128MiB) or `off`".to_owned())?;
        Ok(Self { bytes })
    }
}

/// When data that is only in the journal is packed into blocks: as soon as one of the two is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PackAfter {
    /// Unpacked bytes of the journal; the data path's own default when absent.
    pub(crate) bytes: Option<u64>,
    /// Age of the oldest unpacked bytes; the data path's own default when absent.
    pub(crate) age: Option<Duration>,
}

impl FromStr for PackAfter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut after = Self::default();
        for part in text.split(',').map(str::trim) {
            let one = match (parse_size(part), parse_age(part)) {
                (Some(bytes), _) => Self { bytes: Some(bytes), age: None },
                (None, Some(age)) => Self { bytes: None, age: Some(age) },
                (None, None) => {
                    return Err(format!("`{part}` is neither a size (64MiB) nor an age (10s)"));
                }
            };
            after = after.and(one)?;
        }
        Ok(after)
    }
}

impl PackAfter {
    /// Both together.
    ///
    /// # Errors
    ///
    /// A sentence, when both give a size or both give an age.
    pub(crate) fn and(self, other: Self) -> Result<Self, String> {
        match (self.bytes.and(other.bytes), self.age.and(other.age)) {
            (Some(_), _) => Err("give one size, not two".to_owned()),
            (None, Some(_)) => Err("give one age, not two".to_owned()),
            (None, None) => {
                Ok(Self { bytes: self.bytes.or(other.bytes), age: self.age.or(other.age) })
            }
        }
    }
}

impl fmt::Display for PackAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [self.bytes.map(show_size), self.age.map(show_age)];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    //! Goal: a configuration says exactly what was meant or is refused at the right line.

    use proptest::prelude::*;

    use super::*;
    use crate::stores::StoreUrl;

    #[track_caller]
    fn refused(text: &str, line: usize, part: &str) {
        let complaint = Given::from_toml(text).expect_err("this must be refused");
        assert!(complaint.sentence.contains(part), "{}", complaint.sentence);
        assert_eq!(complaint.line, line);
    }

    #[test]
    fn every_key_is_read() {
        let text = "data = \"/srv\"\nkafka = \"0.0.0.0:9\"\nkafka-advertise = \"k.example:9\"\nhttp = \"off\"\n\
                    pack-after = [\"64MiB\", \"10s\"]\ncache = \"1GiB\"\nlog = \"debug\"\n\
                    store = \"s3://b/p\"\ns3-endpoint = \"http://h\"\ns3-region = \"r\"\n\
                    s3-path-style = true\ns3-allow-http = true\nstaging = \"1GiB\"\n\
                    disk-cache = \"2GiB\"\ngc-every = \"off\"\ngc-grace = \"2h\"\n";
        let given = Given::from_toml(text).ok().unwrap();
        assert_eq!(given.data, Some("/srv".into()));
        assert_eq!(given.http, Some(Door::Off));
        let (bytes, age) = (Some(64 << 20), Some(Duration::from_secs(10)));
        assert_eq!(given.pack_after, Some(PackAfter { bytes, age }));
        assert_eq!(given.kafka_advertise.unwrap().to_string(), "k.example:9");
        assert_eq!(given.cache, Some(CacheSize { bytes: 1 << 30 }));
        assert_eq!(given.log.as_deref(), Some("debug"));
        assert_eq!(given.store.store, Some(StoreUrl::S3("s3://b/p".to_owned())));
        assert_eq!(given.store.s3_endpoint.as_deref(), Some("http://h"));
        assert_eq!(
            (given.store.s3_path_style, given.store.s3_allow_http),
            (Some(true), Some(true))
        );
        assert_eq!(given.store.staging_bytes, Some(1 << 30));
        assert_eq!(given.store.disk_cache_bytes, Some(2 << 30));
        assert_eq!(given.gc_every, Some(GcEvery::Off));
        assert_eq!(given.gc_grace, Some(Duration::from_secs(7200)));
        for key in KEYS {
            assert!(text.contains(&format!("{key} = ")), "{key}");
        }
    }

    #[test]
    fn an_unknown_key_names_its_neighbour_and_its_line() {
        refused("# a comment\ndata = \"x\"\nkafak = \"off\"\n", 3, "did you mean `kafka`?");
        refused("[kafka]\nhttp = 1\n", 1, "must be text in quotes, not table");
        refused("colour = \"red\"", 1, "the known keys are data, kafka");
    }

    #[test]
    fn a_bad_value_is_refused_at_its_line() {
        refused("\nhttp = \"here\"", 2, "expected HOST:PORT");
        refused("pack-after = [\"1MiB\", \"2MiB\"]", 1, "give one size, not two");
        refused("data = \"a\"\ndata = \"b\"", 2, "duplicate key");
        refused("cache = \"much\"", 1, "expected a size (128MiB) or `off`");
        refused("kafka = 9092", 1, "must be text in quotes, not integer");
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let flags = Given { http: Some(Door::Off), ..Given::default() };
        let file = Given::from_toml("http = \"127.0.0.1:1\"\nlog = \"info\"").ok().unwrap();
        let settings = flags.or(file).or_defaults();
        assert_eq!(settings.http, Door::Off);
        assert_eq!(settings.log, "info");
        assert_eq!(settings.kafka, "127.0.0.1:9092".parse().unwrap());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_without_panic(text in "[a-z0-9=\"\\[\\],.:\\n -]{0,60}") {
            let _ = Given::from_toml(&text);
        }

        #[test]
        fn an_address_that_is_read_shows_as_it_was(a: [u8; 4], b: [u16; 8], port: u16) {
            for address in [SocketAddr::from((a, port)), SocketAddr::from((b, port))] {
                let read: HostPort = address.to_string().parse().unwrap();
                prop_assert_eq!(read.to_string(), address.to_string());
            }
        }
    }
}
