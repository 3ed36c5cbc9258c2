//! Goal: a mount of a tree on a server outlives the server: programs wait a moment and go on.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use file_tree::FileTree;
use file_tree::model::Model;
use remote::{Client, Limits, OpenVolumeError, Options, Volumes, serve, unix};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::lab::{Lab, can_mount};

#[derive(Debug)]
struct OneVolume(Arc<Model>);

impl Volumes for OneVolume {
    fn open(&self, _name: &str) -> Result<Arc<dyn FileTree>, OpenVolumeError> {
        Ok(self.0.clone())
    }
}

/// A server that can be stopped and started.
struct Server {
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

impl Server {
    fn start(runtime: &Runtime, socket: &Path, model: &Arc<Model>) -> Self {
        let _runtime = runtime.enter();
        let listener = unix::bind(socket).unwrap();
        let (stop, stopped) = oneshot::channel();
        let volumes = Arc::new(OneVolume(model.clone()));
        let stopped = async { drop(stopped.await) };
        let serving =
            runtime.spawn(serve(listener, volumes, Limits::default(), Arc::default(), stopped));
        Self { stop, serving }
    }

    fn stop(self, runtime: &Runtime) {
        self.stop.send(()).unwrap();
        runtime.block_on(self.serving).unwrap();
    }
}

#[test]
fn open_files_and_unsynced_writes_outlive_a_restart_of_the_server() {
    if !can_mount() {
        return;
    }
    let (dir, runtime) = (tempfile::tempdir().unwrap(), Runtime::new().unwrap());
    let socket = dir.path().join("files.sock");
    let model = Arc::new(Model::new());
    let server = Server::start(&runtime, &socket, &model);
    let client = runtime.block_on(Client::connect(&socket, "any", Options::default())).unwrap();
    let Some(lab) = Lab::with(Arc::new(client), 2) else { return };

    let path = lab.path("file");
    let mut file = File::create(&path).unwrap();
    file.write_all(b"before, ").unwrap();
    server.stop(&runtime);
    model.restart();
    let server = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| (&file).write_all(b"after"));
        let server = Server::start(&runtime, &socket, &model);
        waiting.join().unwrap().unwrap();
        server
    });
    file.sync_all().unwrap();
    assert_eq!(fs::read_to_string(lab.path_on(1, "file")).unwrap(), "before, after");
    let second = OpenOptions::new().read(true).open(&path).unwrap();
    fs::remove_file(&path).unwrap();
    drop(file);
    let mut bytes = [0; 6];
    second.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"before");
    drop(second);
    drop(lab);
    server.stop(&runtime);
}
