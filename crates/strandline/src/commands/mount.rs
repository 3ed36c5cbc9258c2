//! `strandline mount` and `unmount`: a volume of a running server as a directory.
//!
//! The mount is a process of its own that talks to the server's file door, so it outlives a restart of the server.
//! With `--daemon` this process starts itself again, before it has any thread, and waits on a pipe until the other one
//! says that the volume is mounted; the other one has by then told on the terminal what went wrong, if anything did.

use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use mount::{Mounted, UnmountError, Unmounted};
use remote::ConnectError;
use remote::wire::RefusalCode;
use rustix::fs::{Mode, OFlags};

use crate::api;
use crate::cli::{MountArgs, Target};
use crate::client::Client;
use crate::data_dir::FILES_NAME;
use crate::failure::{Failure, Outcome};
use crate::logging;
use crate::output::Out;
use crate::stop::Signals;

/// What the background half prints when it is done with the terminal.
const MOUNTED: &str = "mounted";
/// Event loop threads of a mount: one that waits for the server, one for the kernel.
const WORKERS: usize = 2;

/// Mounts a volume, and returns when it is unmounted or, with `--daemon`, when it is mounted.
pub(crate) fn run(target: &Target, args: &MountArgs) -> Outcome {
    if target.server.is_some() {
        let why = "a mount goes through the server's data directory; name it with --data instead of --server";
        return Err(Failure::Usage(why.to_owned()));
    }
    let absolute = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let (data, dir) = (absolute(&target.data()), absolute(&args.dir));
    if args.daemon {
        return start_in_background(args, &data, &dir);
    }
    logging::start(args.log.as_deref().unwrap_or("warn"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name("strandline-io")
        .enable_all()
        .build()
        .map_err(|error| Failure::because("cannot start the event loop", error))?;
    let ended = runtime.block_on(serve(args, &data, &dir));
    runtime.shutdown_background();
    ended
}

/// Unmounts what is mounted on `dir`.
pub(crate) fn unmount(dir: &Path) -> Outcome {
    let unmounted = mount::unmount(dir).map_err(|error| refusal(&error))?;
    tell_if_in_use(dir, unmounted);
    Ok(())
}

fn start_in_background(args: &MountArgs, data: &Path, dir: &Path) -> Outcome {
    let cannot = |error| Failure::because("cannot start the mount in the background", error);
    let mut command = Command::new(std::env::current_exe().map_err(cannot)?);
    command.arg("mount").arg("--in-background").arg("--data").arg(data);
    for (flag, wanted) in [("--read-only", args.read_only), ("--allow-other", args.allow_other)] {
        command.args(wanted.then_some(flag));
    }
    if let Some(filter) = &args.log {
        command.arg("--log").arg(filter);
    }
    command.arg("--").arg(&args.name).arg(dir);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(cannot)?;
    let mut said = String::new();
    if let Some(pipe) = child.stdout.take() {
        BufReader::new(pipe).read_line(&mut said).map_err(cannot)?;
    }
    if said.trim_end() == MOUNTED {
        return Ok(());
    }
    child.wait().map_err(cannot)?;
    Err(Failure::AlreadyTold)
}

async fn serve(args: &MountArgs, data: &Path, dir: &Path) -> Outcome {
    // Before the mount is there, so that no signal leaves it behind.
    let mut signals = Signals::new()?;
    let socket = data.join(FILES_NAME);
    let options = remote::Options::default();
    let tree = remote::Client::connect(&socket, &args.name, options).await;
    let tree = tree.map_err(|error| not_connected(&error, args, data))?;
    let mounted = mount::mount(Arc::new(tree), dir, &mount_options(args))
        .map_err(|error| Failure::new(error.to_string()))?;
    if args.in_background {
        leave_terminal()?;
    } else {
        let mut out = Out::stdout();
        out.line(format!(
            "{} is mounted on {}; unmount it with Ctrl-C or `strandline unmount`",
            args.name,
            dir.display()
        ))?;
        out.flush()?;
    }
    tokio::select! {
        ended = mounted.wait() => return ended.map_err(|error| broken(dir, error)),
        () = signals.next() => {}
    }
    signals.end_at_the_next();
    unmount_own(&mounted).await
}

/// Unmounts, and waits until nobody uses what was mounted.
async fn unmount_own(mounted: &Mounted) -> Outcome {
    match mounted.unmount() {
        Ok(unmounted) => tell_if_in_use(mounted.dir(), unmounted),
        // Somebody else did it meanwhile.
        Err(UnmountError::NotMounted(_)) => {}
        Err(error) => return Err(refusal(&error)),
    }
    mounted.wait().await.map_err(|error| broken(mounted.dir(), error))
}

fn mount_options(args: &MountArgs) -> mount::Options {
    let mut options = mount::Options::new(&args.name);
    options.read_only = args.read_only;
    options.allow_other |= args.allow_other;
    options
}

/// Says on the pipe that the volume is mounted, and keeps nothing of the caller's: neither its session, nor its
/// directory, nor its terminal. Standard error stays when it goes to a file, for it is the log then.
fn leave_terminal() -> Outcome {
    let cannot = |error: rustix::io::Errno| Failure::because("cannot leave the terminal", error);
    rustix::process::setsid().map_err(cannot)?;
    rustix::process::chdir("/").map_err(cannot)?;
    let mut out = Out::stdout();
    out.line(MOUNTED)?;
    out.flush()?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(cannot)?;
    rustix::stdio::dup2_stdout(&null).map_err(cannot)?;
    if !is_file(io::stderr()) {
        rustix::stdio::dup2_stderr(&null).map_err(cannot)?;
    }
    Ok(())
}

fn is_file(stream: impl std::os::fd::AsFd) -> bool {
    rustix::fs::fstat(stream)
        .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file())
}

fn tell_if_in_use(dir: &Path, unmounted: Unmounted) {
    if unmounted == Unmounted::WhenUnused {
        use std::io::Write;
        let sentence =
            "programs still use it: it has no name any more and ends when they close their files";
        // Standard error may be closed; then there is nobody to tell.
        let _nobody = writeln!(io::stderr(), "{}: {sentence}", dir.display());
    }
}

fn not_connected(error: &ConnectError, args: &MountArgs, data: &Path) -> Failure {
    match error {
        ConnectError::NoServer(error) => Client::Control(PathBuf::from(data)).unreachable(error),
        ConnectError::Refused { code: RefusalCode::NoSuchVolume, .. } => {
            Failure::new(api::missing("volume", &args.name))
        }
        ConnectError::Refused { .. }
        | ConnectError::Version(_)
        | ConnectError::BadName
        | ConnectError::Protocol(_)
        | ConnectError::Lost
        | ConnectError::Slow
        | ConnectError::Replaced => Failure::because(format!("cannot mount {}", args.name), error),
    }
}

fn refusal(error: &UnmountError) -> Failure {
    Failure::new(error.to_string())
}

fn broken(dir: &Path, error: io::Error) -> Failure {
    Failure::because(format!("the mount on {} broke", dir.display()), error)
}
