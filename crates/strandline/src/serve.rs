//! `strandline serve`: settings, data directory, doors, `ready`, and an end within a bounded time.
//!
//! Order: the lock is taken before anything else is touched; ports are taken before recovery, so that a port in use is
//! found at once; doors answer after recovery. A new directory is taken back when it does not come to that. The end
//! goes backwards: doors first, then the data path, then the lock.
//!
//! Not here: what lies behind the doors (`crate::wiring`).

use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use host::{Host, Monotonic};
use strands::CollectOptions;
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;

use crate::admin::{self, Admin, Metrics};
use crate::api;
use crate::cli::{ServeArgs, Target};
use crate::data_dir::{CONTROL_NAME, DataDir, FILES_NAME};
use crate::failure::{Failure, Outcome};
use crate::logging;
use crate::output::Out;
use crate::settings::{Door, Given, HostPort, Settings};
use crate::stop::{self, Signals, Stop};
use crate::stores::StoreUrl;
use crate::wiring::{NotOpened, OfferedVolumes, Stack, collect_options};

/// How long requests that are under way may take after a signal.
const DRAIN_WAIT: Duration = Duration::from_secs(8);
/// Event loop threads: the work is in the kernel and in `strands`, not here.
const WORKERS_MAX: usize = 4;

/// Runs the server until a signal.
pub(crate) fn run(target: &Target, args: &ServeArgs) -> Outcome {
    let host = Host::real();
    let started = host.clock.monotonic();
    let settings = settings(&host, target, args)?;
    logging::start(&settings.log)?;
    raise_open_files();
    let data = DataDir::open(&host, &settings.data, settings.store.store.as_ref())?;
    let workers =
        std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(WORKERS_MAX);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .thread_name("strandline-io")
        .enable_all()
        .build()
        .map_err(|error| Failure::because("cannot start the event loop", error))?;
    let served = runtime.block_on(async {
        let begun = Begun::new(&host, &settings, &data).await?;
        Ok(serve(started, &settings, &data, begun).await)
    });
    // What still waits at this point was given its time.
    runtime.shutdown_background();
    served.unwrap_or_else(|NotOpened { failure, may_have_begun }| {
        if !may_have_begun {
            data.discard(&host);
        }
        Err(failure)
    })
}

/// Ports are taken, and what the directory holds is recovered.
struct Begun {
    kafka: Option<Listening>,
    http: Option<Listening>,
    stack: Stack,
}

impl Begun {
    async fn new(host: &Host, settings: &Settings, data: &DataDir) -> Result<Self, NotOpened> {
        let before = NotOpened::before_anything;
        let kafka = listen("kafka", &settings.kafka).await.map_err(before)?;
        let http = listen("http", &settings.http).await.map_err(before)?;
        // Recovery blocks; there is nothing else to do on this thread until it is through. A signal meanwhile ends
        // the process at once, which recovery survives as it survives everything.
        let stack = tokio::task::block_in_place(|| Stack::open(host, data, settings))?;
        Ok(Self { kafka, http, stack })
    }
}

fn settings(host: &Host, target: &Target, args: &ServeArgs) -> Outcome<Settings> {
    if target.server.is_some() {
        return Err(Failure::Usage(
            "serve starts a server, so it takes no --server; use --http to choose its address"
                .to_owned(),
        ));
    }
    let flags = args.given(target).map_err(|why| Failure::Usage(format!("--pack-after: {why}")))?;
    let file = args
        .config
        .as_ref()
        .map_or_else(|| Ok(Given::default()), |path| Given::from_file(host, path))?;
    Ok(flags.or(file).or_defaults())
}

/// Each connection and each journal segment is an open file; the usual soft limit of 1,024 is for `select`.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) =
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

async fn serve(started: Monotonic, settings: &Settings, data: &DataDir, begun: Begun) -> Outcome {
    let Begun { kafka, http, stack } = begun;
    let mut signals = Signals::new()?;
    let (stopper, stop) = stop::pair();
    let collect = collect_options(settings);
    let advertise = settings.kafka_advertise.clone();
    let doors = DoorsToOpen { started, advertise, collect, kafka, http };
    let mut open = doors.open(data, &stack, &stop)?;
    let asked = tokio::select! {
        () = signals.next() => Ok(()),
        // A server that lost a door is no server: whoever watches over it may start another.
        ended = open.join_next() => Err(Failure::new(format!("a door ended by itself ({ended:?}); see the log"))),
    };
    signals.end_at_the_next();
    stopper.ask();
    if tokio::time::timeout(DRAIN_WAIT, async { while open.join_next().await.is_some() {} })
        .await
        .is_err()
    {
        tracing::warn!("requests under way did not end in time and are cut off");
        open.shutdown().await;
    }
    let closed = tokio::task::spawn_blocking(move || stack.close()).await;
    let closed = closed.unwrap_or_else(|error| {
        Err(Failure::because("cannot finish writing, so the next start will recover", error))
    });
    asked.and(closed)
}

/// Doors whose ports are taken, and what is needed to answer at them.
struct DoorsToOpen {
    started: Monotonic,
    advertise: Option<HostPort>,
    collect: CollectOptions,
    kafka: Option<Listening>,
    http: Option<Listening>,
}

impl DoorsToOpen {
    /// Answers at all doors and says so on standard output.
    fn open(self, data: &DataDir, stack: &Stack, stop: &Stop) -> Outcome<JoinSet<()>> {
        let control = private_socket(data, CONTROL_NAME)?;
        let files = private_socket(data, FILES_NAME)?;
        let advertised =
            self.kafka.as_ref().map(|door| advertised(door.address, self.advertise.as_ref()));
        self.warn_of_guess(advertised.as_ref());
        let names = self.names(data, advertised.as_ref());
        let admin = Arc::new(self.admin(data, stack, &names));
        let metrics = admin.metrics.clone();
        let mut doors = JoinSet::new();
        doors.spawn(admin::serve_control(control, Arc::clone(&admin), stop.clone()));
        doors.spawn(serve_files(
            files,
            OfferedVolumes(stack.volumes.clone()),
            metrics.files,
            stop.clone(),
        ));
        if let Some(http) = self.http {
            doors.spawn(admin::serve_http(http.listener, http.address, admin, stop.clone()));
        }
        if let Some((kafka, advertised)) = self.kafka.zip(advertised) {
            let config = kafka::server::Config {
                advertised_host: advertised.host,
                advertised_port: advertised.port,
                cluster_id: data.id().to_string(),
                broker: broker::Options::default(),
                limits: kafka::server::Limits::default(),
            };
            let broker = stack.broker.clone();
            doors.spawn(kafka::server::serve(
                kafka.listener,
                broker,
                config,
                metrics.kafka,
                stop.receiver(),
            ));
        }
        announce(&names, data.store());
        Ok(doors)
    }

    fn admin(&self, data: &DataDir, stack: &Stack, names: &api::Doors) -> Admin {
        let ready_ms = stack.host.clock.monotonic().since(self.started).as_millis();
        Admin {
            stack: stack.clone(),
            data: data.path().to_owned(),
            doors: names.clone(),
            collect: self.collect.clone(),
            metrics: Metrics::default(),
            started: self.started,
            ready_ms: u64::try_from(ready_ms).unwrap_or(u64::MAX),
        }
    }

    /// A door on all addresses has none to tell clients, so the machine's name has to do.
    fn warn_of_guess(&self, advertised: Option<&HostPort>) {
        let on_all = self.kafka.as_ref().is_some_and(|door| door.address.ip().is_unspecified());
        if let (true, None, Some(guess)) = (on_all, &self.advertise, advertised) {
            warn(&format!(
                "Kafka clients are told to connect to {guess}; give the address they know with --kafka-advertise"
            ));
        }
    }

    fn names(&self, data: &DataDir, advertised: Option<&HostPort>) -> api::Doors {
        let path = |name: &str| data.path().join(name).to_string_lossy().into_owned();
        let kafka = self.kafka.as_ref().zip(advertised);
        api::Doors {
            kafka: kafka.map(|(door, advertised)| api::KafkaDoor {
                address: door.address.to_string(),
                advertised: advertised.to_string(),
            }),
            http: self.http.as_ref().map(|door| door.address.to_string()),
            control: path(CONTROL_NAME),
            files: path(FILES_NAME),
        }
    }
}

/// Where Kafka clients are told to connect: as asked for (port 0 means the door's), or the door's own address, or this
/// machine's name when the door listens on all its addresses.
fn advertised(door: SocketAddr, asked: Option<&HostPort>) -> HostPort {
    match asked {
        Some(asked) if asked.port == 0 => HostPort { host: asked.host.clone(), port: door.port() },
        Some(asked) => asked.clone(),
        None if door.ip().is_unspecified() => {
            let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
            HostPort { host: name, port: door.port() }
        }
        None => HostPort { host: door.ip().to_string(), port: door.port() },
    }
}

async fn serve_files(
    listener: UnixListener,
    volumes: OfferedVolumes,
    metrics: Arc<remote::Metrics>,
    mut stop: Stop,
) {
    remote::serve(listener, Arc::new(volumes), remote::Limits::default(), metrics, async move {
        stop.asked().await
    })
    .await;
}

/// A socket that only the owner may connect to, in a directory that only the owner may enter.
fn private_socket(data: &DataDir, name: &str) -> Outcome<UnixListener> {
    let path = data.path().join(name);
    let cannot = |error| Failure::because(format!("cannot listen at {}", path.display()), error);
    let listener = remote::unix::bind(&path).map_err(cannot)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(cannot)?;
    Ok(listener)
}

/// A line per door, then `ready`. A reader that went away does not keep the server from serving.
fn announce(doors: &api::Doors, store: &StoreUrl) {
    let mut text = match store {
        StoreUrl::Own => String::new(),
        StoreUrl::Memory => "store   memory: nothing is kept when this server ends\n".to_owned(),
        store => format!("store   {store}\n"),
    };
    if let Some(kafka) = &doors.kafka {
        text += &format!("kafka   {}\n", kafka.address);
    }
    if let Some(http) = &doors.http {
        text += &format!("http    {http}\n");
    }
    text += &format!("control {}\nfiles   {}\nready\n", doors.control, doors.files);
    let mut out = Out::stdout();
    let _nobody = out.bytes(text.as_bytes()).and_then(|()| out.flush());
}

/// A door that listens.
struct Listening {
    listener: TcpListener,
    address: SocketAddr,
}

async fn listen(door: &str, at: &Door) -> Outcome<Option<Listening>> {
    let Door::At(wanted) = at else { return Ok(None) };
    let cannot = |error: io::Error| {
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => format!(
                "something else listens there; choose another port with --{door}, 0 for any free one, or `off`"
            ),
            _ => error.to_string(),
        };
        Failure::because(format!("cannot open the {door} door at {wanted}"), hint)
    };
    let listener = TcpListener::bind((wanted.host.as_str(), wanted.port)).await.map_err(cannot)?;
    let address = listener.local_addr().map_err(cannot)?;
    if !address.ip().is_loopback() {
        warn(&format!(
            "the {door} door at {address} has no authentication; whoever can reach this address can use it"
        ));
    }
    Ok(Some(Listening { listener, address }))
}

fn warn(sentence: &str) {
    // Standard error may be closed; then there is nobody to warn.
    let _nobody = writeln!(io::stderr(), "warning: {sentence}");
}
