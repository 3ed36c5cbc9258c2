//! The command line: every command, flag, help text and example.
//!
//! Not here: what the commands do (`crate::commands`), and how a flag and the configuration file become one
//! (`crate::settings`).

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::ValueParser;
use clap::{
    Arg, ArgAction, Args, CommandFactory, Parser, Subcommand, ValueEnum, ValueHint, value_parser,
};

use crate::api::Durability;
use crate::commands::consume::From;
use crate::settings::{CacheSize, DATA_DEFAULT, Door, GcEvery, Given, HostPort, PackAfter};
use crate::stores::{StoreSettings, StoreUrl};
use crate::units::{parse_age, parse_size};

/// One server for files and streams, over one durable log.
#[derive(Debug, Parser)]
#[command(name = "strandline", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "Examples:
  strandline serve                       start a server on ./strandline-data
  strandline produce words words.txt     a record per line into the topic `words`
  strandline consume words --follow      print its records as they come
  strandline volume create home          make a volume,
  strandline mount home /mnt             and mount it
  strandline status                      what there is, and how it is

Every command has --help with examples of its own. Exit codes: 0 done, 1 not done (standard error says why),
2 called wrongly. With --json, what is said on standard error when a command fails is JSON, too, but for wrong flags.")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Which server a command talks to.
#[derive(Clone, Debug, Args)]
pub(crate) struct Target {
    /// Data directory of the server [default: ./strandline-data]
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "STRANDLINE_DATA",
        hide_env_values = true
    )]
    #[arg(value_hint = ValueHint::DirPath, help_heading = "Server")]
    pub(crate) data: Option<PathBuf>,
    /// Address of the server's HTTP door, to read from elsewhere instead of through its data directory
    #[arg(long, global = true, value_name = "HOST:PORT", help_heading = "Server")]
    pub(crate) server: Option<HostPort>,
}

impl Target {
    /// The data directory, given or default.
    pub(crate) fn data(&self) -> PathBuf {
        self.data.clone().unwrap_or_else(|| DATA_DEFAULT.into())
    }
}

/// The command line as it is offered: `--server` and `--data` stand only in the help of commands that use them.
///
/// What is hidden is still taken: a command that cannot be asked of a server elsewhere says so in a sentence of its own.
pub(crate) fn command() -> clap::Command {
    let hide = |command, path: &&[&str], id: &'static str| hidden_in(command, path, id);
    let command = WITHOUT_SERVER.iter().fold(Cli::command(), |all, path| hide(all, path, "server"));
    WITHOUT_DATA.iter().fold(command, |all, path| hide(all, path, "data"))
}

/// Commands that change something, or that need no running server.
const WITHOUT_SERVER: &[&[&str]] = &[
    &["serve"],
    &["mount"],
    &["unmount"],
    &["volume", "create"],
    &["volume", "delete"],
    &["topic", "create"],
    &["topic", "delete"],
    &["gc"],
    &["fsck"],
    &["restore"],
    &["inspect"],
    &["completions"],
];
/// Commands that need no data directory.
const WITHOUT_DATA: &[&[&str]] = &[&["unmount"], &["inspect"], &["completions"]];

/// An argument of the command itself goes before the one of that name that all commands have.
fn hidden_in(command: clap::Command, path: &[&str], id: &'static str) -> clap::Command {
    let Some((first, rest)) = path.split_first() else {
        let parser: ValueParser = match id {
            "server" => value_parser!(HostPort).into(),
            _ => value_parser!(PathBuf),
        };
        let arg = Arg::new(id).long(id).hide(true).action(ArgAction::Set);
        return command.arg(arg.value_parser(parser));
    };
    command.mut_subcommand(first, |inner| hidden_in(inner, rest, id))
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the server
    #[command(after_help = "Examples:
  strandline serve
  strandline serve --data /srv/strandline --kafka 0.0.0.0:9092 --kafka-advertise broker.example:9092
  strandline serve --config /etc/strandline.toml --http off
  strandline serve --store dir:/mnt/big/blocks               blocks on another disk
  strandline serve --store s3://bucket/prefix                blocks in a bucket of Amazon's,
  strandline serve --store s3://bucket/prefix --s3-endpoint https://s3.example     or of another service;
                       who asks is said by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment
  strandline serve --store memory --data /tmp/throw-away     nothing is kept when it ends
  strandline serve --store s3://bucket/prefix --take-over    this directory has the bucket from now on
  strandline serve --kafka 127.0.0.1:0 --http 127.0.0.1:0    ports that are free, printed at start")]
    Serve(Box<ServeArgs>),
    /// Mount a volume on a directory
    #[command(after_help = "Examples:
  strandline mount home /mnt             until Ctrl-C or `strandline unmount /mnt`
  strandline mount home /mnt --daemon    returns once the volume is mounted
  strandline mount home /mnt --read-only")]
    Mount(MountArgs),
    /// Unmount a volume
    #[command(
        visible_alias = "umount",
        after_help = "Examples:
  strandline unmount /mnt
  strandline umount ~/files               the same command by its other name"
    )]
    Unmount {
        /// Where it is mounted
        #[arg(value_hint = ValueHint::DirPath)]
        dir: PathBuf,
    },
    /// Create, list and delete volumes
    #[command(
        subcommand,
        after_help = "Examples:
  strandline volume create home
  strandline volume list
  strandline volume delete home"
    )]
    Volume(VolumeCommand),
    /// Create, list, describe and delete topics
    #[command(
        subcommand,
        after_help = "Examples:
  strandline topic create orders --partitions 4
  strandline topic list
  strandline topic describe orders
  strandline topic delete orders --yes"
    )]
    Topic(TopicCommand),
    /// Write lines into a topic, a record per line
    #[command(after_help = "Examples:
  strandline produce words /usr/share/dict/words
  seq 1000 | strandline produce numbers
  echo 'ann=42' | strandline produce ages --key-separator =")]
    Produce(ProduceArgs),
    /// Print a topic's records, a line per record
    #[command(after_help = "Examples:
  strandline consume words                      everything up to now
  strandline consume words --from end --follow  what comes from now on
  strandline consume words --from 1h --json     the last hour, with keys, offsets and times
  strandline consume words --partition 0 --from 100 --count 10")]
    Consume(ConsumeArgs),
    /// Show what the server holds and how it is
    #[command(after_help = "Examples:
  strandline status
  strandline status --json | jq .journal
  strandline status --server 10.0.0.7:8080")]
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Delete blocks that nobody needs any more; the server does it by itself every now and then
    ///
    /// A round of collection in the running server. It is watched until it ends; Ctrl-C stops the watching and not
    /// the round.
    #[command(after_help = "What is printed, and called the same with --json:
  live       blocks that the data needs, and the bytes in them that it needs
  stored     blocks that the store has
  dead       blocks that nothing needs, older than the grace period
  young      blocks that nothing needs, younger than it: kept for now
  missing    blocks that the data needs and the store does not have: a loss; see fsck
  sparse     live blocks of which less than half is needed; they are rewritten
  scattered  stretches of 4 MiB of a file or topic that lie in more than 64 places; they are rewritten
  deleted    dead blocks that are gone now
  rewritten  bytes of sparse blocks and scattered stretches that went into new blocks; the next round
             deletes what they leave behind

Examples:
  strandline gc --dry-run                what a round would delete
  strandline gc                          a round now
  strandline gc --grace 0s --json        also blocks that were written just now
  strandline gc --json | jq .deleted_bytes")]
    Gc(GcArgs),
    /// Check a data directory that no server uses
    ///
    /// The journal against the meta store, every extent against its block, the points to restore from, blocks that
    /// nothing needs. Exit code 0 when all is well, 1 when something is wrong, 2 when it could not be checked.
    #[command(after_help = "Examples:
  strandline fsck --data /srv/strandline
  strandline fsck --scrub                verify the checksums of all blocks, too: reads everything
  strandline fsck --repair               delete blocks that nothing needs, if nothing is wrong
  strandline fsck --json | jq .found
  strandline fsck --data /srv/node --s3-endpoint https://s3.example     the directory knows its bucket")]
    Fsck(Box<FsckArgs>),
    /// Make a data directory of what a store holds
    ///
    /// Everything up to the last round of packing that reached the store comes back; what is printed says up to
    /// which commit and time. The store belongs to the new directory when a server starts on it, so the server of the
    /// old one must be gone.
    #[command(after_help = "Examples:
  strandline restore --store s3://bucket/prefix --data /srv/new
  strandline restore --store s3://bucket/prefix --s3-endpoint https://s3.example --data /srv/new
  strandline restore --store dir:/backup/blocks --data /srv/new
  strandline serve --data /srv/new       then; the new directory knows its store")]
    Restore(Box<RestoreArgs>),
    /// Print a file that the server writes
    ///
    /// All but those in meta/, which are the meta store's own. A range A..B begins with A and ends before B.
    #[command(
        after_help = "Of a segment of the journal it is said what stands where its frames end: room that was reserved, the
torn end of a write that nobody was promised, or damage; and from where on a later segment replaces it.
Exit code 1 when a file is damaged or cannot be read; the other files are printed all the same.

Examples:
  strandline inspect strandline-data/FORMAT
  strandline inspect strandline-data/journal/*.seg | less
  strandline inspect strandline-data/journal/*.idx
  strandline inspect strandline-data/blocks/objects/*.obj      who owns the store, points to restore from
  strandline inspect --json strandline-data/blocks/*/*/*.blk | jq ."
    )]
    Inspect {
        /// The files
        #[arg(required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
        files: Vec<PathBuf>,
        /// Print JSON, an object per file
        #[arg(long)]
        json: bool,
    },
    /// Print a completion script for a shell
    #[command(after_help = "Examples:
  strandline completions bash > /etc/bash_completion.d/strandline
  strandline completions zsh > ~/.zfunc/_strandline
  strandline completions fish > ~/.config/fish/completions/strandline.fish")]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Where Kafka clients connect, or `off` [default: 127.0.0.1:9092]
    #[arg(long, value_name = "HOST:PORT|off")]
    pub(crate) kafka: Option<Door>,
    /// The address that Kafka clients are told to connect to [default: the door's own]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) kafka_advertise: Option<HostPort>,
    /// Where /healthz, /metrics and /api/status are read, or `off` [default: 127.0.0.1:8080]
    #[arg(long, value_name = "HOST:PORT|off")]
    pub(crate) http: Option<Door>,
    /// A TOML file with these flags as keys; flags win over it
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,
    /// Move data from the journal into blocks at this SIZE (64MiB) or AGE (10s); both may be given
    /// [default: 256MiB, and 1m over a bucket or another directory]
    #[arg(long, value_name = "SIZE|AGE", value_delimiter = ',')]
    pub(crate) pack_after: Vec<PackAfter>,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// Time between two rounds of collection (15m), or `off` [default: 15m]
    #[arg(long, value_name = "AGE|off")]
    pub(crate) gc_every: Option<GcEvery>,
    /// Collection leaves blocks alone that are younger than this [default: 1h]
    #[arg(long, value_name = "AGE", value_parser = age)]
    pub(crate) gc_grace: Option<Duration>,
    /// Memory for bytes that were read or packed lately, such as 1GiB, or `off` [default: 128MiB]
    #[arg(long, value_name = "SIZE|off")]
    pub(crate) cache: Option<CacheSize>,
    /// What is logged to standard error: error, warn, info, debug, trace, or per part, such as
    /// warn,kafka=debug [default: warn]
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log: Option<String>,
    /// Take the store over from another data directory, which must be gone for good
    #[arg(long)]
    pub(crate) take_over: bool,
}

/// Where blocks lie.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Store")]
pub(crate) struct StoreArgs {
    /// Where blocks lie: memory (nothing at all is kept), dir:/path, or s3://bucket/prefix
    /// [default: in the data directory, or where it says]
    #[arg(long, value_name = "URL", env = "STRANDLINE_STORE", hide_env_values = true)]
    pub(crate) store: Option<StoreUrl>,
    /// Address of the S3 service, http://... or https://... [default: Amazon's]
    #[arg(long, value_name = "URL", env = "STRANDLINE_S3_ENDPOINT", hide_env_values = true)]
    pub(crate) s3_endpoint: Option<String>,
    /// Region of the bucket [default: AWS_REGION, or us-east-1]
    #[arg(long, value_name = "REGION", env = "STRANDLINE_S3_REGION", hide_env_values = true)]
    pub(crate) s3_region: Option<String>,
    /// Name the bucket in the path of an address [default: when there is an --s3-endpoint]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub(crate) s3_path_style: Option<bool>,
    /// Speak to an endpoint on another machine without TLS
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub(crate) s3_allow_http: Option<bool>,
    /// Disk for blocks that wait for their upload; beyond, writers wait [default: 4GiB]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) staging: Option<u64>,
    /// Disk for copies of blocks that the bucket has [default: 16GiB]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) disk_cache: Option<u64>,
}

impl StoreArgs {
    /// The settings among the flags.
    pub(crate) fn given(&self) -> StoreSettings {
        StoreSettings {
            store: self.store.clone(),
            s3_endpoint: self.s3_endpoint.clone(),
            s3_region: self.s3_region.clone(),
            s3_path_style: self.s3_path_style,
            s3_allow_http: self.s3_allow_http,
            staging_bytes: self.staging,
            disk_cache_bytes: self.disk_cache,
        }
    }
}

fn size(text: &str) -> Result<u64, String> {
    parse_size(text).ok_or_else(|| "expected a size, for example 4GiB".to_owned())
}

impl ServeArgs {
    /// The settings among the flags.
    ///
    /// # Errors
    ///
    /// A sentence, when two flags contradict each other.
    pub(crate) fn given(&self, target: &Target) -> Result<Given, String> {
        let pack_after =
            self.pack_after.iter().try_fold(PackAfter::default(), |all, &one| all.and(one))?;
        Ok(Given {
            data: target.data.clone(),
            kafka: self.kafka.clone(),
            kafka_advertise: self.kafka_advertise.clone(),
            http: self.http.clone(),
            pack_after: (!self.pack_after.is_empty()).then_some(pack_after),
            cache: self.cache,
            store: self.store.given(),
            take_over: self.take_over,
            gc_every: self.gc_every,
            gc_grace: self.gc_grace,
            log: self.log.clone(),
        })
    }
}

#[derive(Debug, Args)]
pub(crate) struct GcArgs {
    /// Only say what would be deleted
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Leave blocks alone that are younger than this [default: the server's --gc-grace]
    #[arg(long, value_name = "AGE", value_parser = age)]
    pub(crate) grace: Option<Duration>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct FsckArgs {
    /// Read all blocks and verify their checksums
    #[arg(long)]
    pub(crate) scrub: bool,
    /// Delete blocks that nothing needs, if nothing else is wrong
    #[arg(long)]
    pub(crate) repair: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

fn age(text: &str) -> Result<Duration, String> {
    parse_age(text).ok_or_else(|| "expected an age, for example 1h or 30s".to_owned())
}

#[derive(Debug, Args)]
pub(crate) struct MountArgs {
    /// The volume
    pub(crate) name: String,
    /// The directory to mount it on
    #[arg(value_hint = ValueHint::DirPath)]
    pub(crate) dir: PathBuf,
    /// Return once it is mounted, and stay in the background until it is unmounted
    #[arg(long)]
    pub(crate) daemon: bool,
    /// Allow no changes through this mount
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Let other users of this machine in (as their permissions say)
    #[arg(long)]
    pub(crate) allow_other: bool,
    /// What is logged to standard error [default: warn]
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log: Option<String>,
    /// Report on standard output when the mount is there, then leave the terminal: the background half of --daemon
    #[arg(long, hide = true)]
    pub(crate) in_background: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum VolumeCommand {
    /// Make a new, empty volume
    #[command(after_help = "Examples:
  strandline volume create home
  strandline volume create mail --durability synced")]
    Create {
        /// Its name
        name: String,
        /// When a write is answered; fsync always reaches the disk
        #[arg(long, default_value = "written")]
        durability: DurabilityArg,
    },
    /// List all volumes
    #[command(after_help = "Examples:
  strandline volume list
  strandline volume list --json | jq .")]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Delete a volume with everything in it, also while it is mounted
    #[command(after_help = "Examples:
  strandline volume delete home          asks first
  strandline volume delete home --yes    for scripts")]
    Delete {
        /// Its name
        name: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum TopicCommand {
    /// Make a new topic
    #[command(after_help = "Examples:
  strandline topic create orders --partitions 4
  strandline topic create clicks --durability written")]
    Create {
        /// Its name
        name: String,
        /// How many partitions it has
        #[arg(long, default_value_t = 1, value_name = "N")]
        partitions: u32,
        /// When a record counts as kept
        #[arg(long, default_value = "synced")]
        durability: DurabilityArg,
    },
    /// List all topics
    #[command(after_help = "Examples:
  strandline topic list
  strandline topic list --json | jq .")]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show a topic's settings and partitions
    #[command(after_help = "Examples:
  strandline topic describe orders
  strandline topic describe orders --json | jq .partitions")]
    Describe {
        /// Its name
        name: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Delete a topic with all its records
    #[command(after_help = "Examples:
  strandline topic delete orders          asks first
  strandline topic delete orders --yes    for scripts")]
    Delete {
        /// Its name
        name: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// When a record or a write counts as kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DurabilityArg {
    /// When it is on stable storage: it survives a power cut
    Synced,
    /// When the system has it: it survives the server, and a power cut after a second
    Written,
}

impl DurabilityArg {
    /// The same as the admin API says it.
    pub(crate) fn to_api(self) -> Durability {
        match self {
            Self::Synced => Durability::Synced,
            Self::Written => Durability::Written,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct ProduceArgs {
    /// The topic; made on first use
    pub(crate) topic: String,
    /// The file to read, or - for standard input
    #[arg(default_value = "-", value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// What separates a line's key from its value; lines without it have no key
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) key_separator: Option<String>,
    /// Write into this partition only [default: by key, or spread]
    #[arg(long, value_name = "N")]
    pub(crate) partition: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct ConsumeArgs {
    /// The topic
    pub(crate) topic: String,
    /// Where to begin: beginning, end, an offset (100), a time (2026-01-31T12:00:00Z), or how long ago (1h)
    #[arg(long, default_value = "beginning", value_name = "WHERE")]
    pub(crate) from: From,
    /// Read this partition only [default: all]
    #[arg(long, value_name = "N")]
    pub(crate) partition: Option<u32>,
    /// Stop after this many records
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u64>,
    /// Wait for more records at the end instead of stopping there
    #[arg(long)]
    pub(crate) follow: bool,
    /// Print JSON, an object per record
    #[arg(long)]
    pub(crate) json: bool,
}

impl Command {
    /// Whether its output, and its error, are for a program.
    pub(crate) fn is_json(&self) -> bool {
        match self {
            Self::Status { json }
            | Self::Inspect { json, .. }
            | Self::Volume(VolumeCommand::List { json })
            | Self::Topic(TopicCommand::List { json } | TopicCommand::Describe { json, .. }) => {
                *json
            }
            Self::Gc(args) => args.json,
            Self::Fsck(args) => args.json,
            Self::Restore(args) => args.json,
            Self::Consume(args) => args.json,
            Self::Serve(_)
            | Self::Mount(_)
            | Self::Unmount { .. }
            | Self::Volume(VolumeCommand::Create { .. } | VolumeCommand::Delete { .. })
            | Self::Topic(TopicCommand::Create { .. } | TopicCommand::Delete { .. })
            | Self::Produce(_)
            | Self::Completions { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: the command line is consistent, help shows what a command takes and no more, and flags become settings.

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    /// The help of a command, named by its path.
    fn help(path: &[&str]) -> String {
        let mut command = command();
        command.build();
        let mut inner = &mut command;
        for name in path {
            inner = inner.find_subcommand_mut(name).unwrap();
        }
        inner.render_long_help().to_string()
    }

    #[test]
    fn server_and_data_stand_only_where_they_are_taken() {
        for path in [&["status"][..], &["volume", "list"], &["topic", "describe"], &["consume"]] {
            assert!(help(path).contains("--server"), "{path:?}");
            assert!(help(path).contains("--data"), "{path:?}");
        }
        for path in WITHOUT_SERVER {
            assert!(!help(path).contains("--server"), "{path:?}: {}", help(path));
            assert_eq!(help(path).contains("--data"), !WITHOUT_DATA.contains(path), "{path:?}");
        }
    }

    #[test]
    fn no_line_of_an_example_is_wider_than_a_terminal() {
        let commands = command();
        for command in commands.get_subcommands() {
            let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(text.contains("Examples:"), "{} has no examples", command.get_name());
            let wide = text.lines().find(|line| line.chars().count() > 118);
            assert_eq!(wide, None, "{}", command.get_name());
        }
    }

    #[test]
    fn sizes_and_ages_to_pack_after_may_be_separate_or_joined() {
        for args in
            [vec!["--pack-after", "1MiB,2s"], vec!["--pack-after", "1MiB", "--pack-after", "2s"]]
        {
            let cli = Cli::parse_from(["strandline", "serve"].iter().chain(&args));
            let Command::Serve(serve) = cli.command else { panic!("this is serve") };
            let given = serve.given(&cli.target).unwrap();
            assert_eq!(given.pack_after, Some("1MiB,2s".parse().unwrap()));
        }
    }

    #[test]
    fn the_data_directory_may_come_before_or_after_the_command() {
        for args in
            [["strandline", "--data", "x", "status"], ["strandline", "status", "--data", "x"]]
        {
            assert_eq!(Cli::parse_from(args).target.data(), PathBuf::from("x"));
        }
    }
}
