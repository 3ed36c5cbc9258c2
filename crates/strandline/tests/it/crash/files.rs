//! Writers of files, and the model of what must be in them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use file_tree::{Attr, Caller, FileTree, Ino, Name, SetAttr, TreeError};
use remote::{Client, ConnectError, Options};
use tokio::runtime::Runtime;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use super::{Dice, Stage};
use crate::harness::PATIENCE;

const FILE_BYTES_MAX: u64 = 300_000;
const WRITE_BYTES_MAX: u64 = 40_000;
const FILES: usize = 4;
const PAUSE: Duration = Duration::from_millis(5);

/// How a writer meets the loss of its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Memory {
    /// One client for the whole test, which sends again what was not synced.
    Keeps,
    /// A new client after each loss: only what the server answered counts.
    Forgets,
}

/// One file as a writer knows it.
#[derive(Debug)]
struct Model {
    name: Name,
    ino: Option<Ino>,
    bytes: Vec<u8>,
    /// Bytes that may be old or new, because an answer never came.
    uncertain: Vec<bool>,
    /// The file's size may be one of these instead, for the same reason.
    other_sizes: BTreeSet<usize>,
}

/// All writers.
pub(super) struct Writers {
    files: Vec<Arc<Mutex<Model>>>,
    stage: Arc<Stage>,
    /// The client of the writer that keeps it.
    kept: Arc<Client>,
    tasks: Vec<JoinHandle<()>>,
}

impl Writers {
    pub(super) fn start(runtime: &Runtime, stage: &Arc<Stage>, seed: u64) -> Self {
        let kept = Arc::new(runtime.block_on(connect(stage)));
        let mut writers =
            Self { files: Vec::new(), stage: Arc::clone(stage), kept, tasks: Vec::new() };
        for (memory, salt) in [(Memory::Keeps, 1_u64 << 40), (Memory::Forgets, 2 << 40)] {
            let files: Vec<_> = (0..FILES)
                .map(|n| Arc::new(Mutex::new(Model::new(&format!("{memory:?}-{n}")))))
                .collect();
            writers.files.extend(files.iter().cloned());
            let writer = Writer { stage: Arc::clone(stage), memory, files };
            let kept = Arc::clone(&writers.kept);
            writers.tasks.push(runtime.spawn(writer.run(kept, Dice::new(seed ^ salt))));
        }
        writers
    }

    /// Compares every file, through a client that knows nothing, with what was answered until now.
    pub(super) async fn check(&self) {
        let client = connect(&self.stage).await;
        for file in &self.files {
            // The writer waits meanwhile, so what is in the file is what the model says...
            let model = file.lock().await;
            // ...once the client that keeps its writes has sent them again: before any other call of its own.
            self.kept.attr(self.kept.root()).await.unwrap();
            model.compare(&client).await;
        }
    }

    /// Waits for the writers' ends, then compares once more.
    pub(super) async fn finish(mut self) {
        for task in self.tasks.drain(..) {
            tokio::time::timeout(PATIENCE, task).await.expect("a writer ends").unwrap();
        }
        self.check().await;
    }
}

/// A client, as soon as there is a server.
async fn connect(stage: &Stage) -> Client {
    let options = Options { wait_max: PATIENCE, ..Options::default() };
    loop {
        match Client::connect(&stage.data.join("files.sock"), "v", options).await {
            Ok(client) => return client,
            Err(ConnectError::NoServer(_) | ConnectError::Lost) => tokio::time::sleep(PAUSE).await,
            Err(error) => panic!("{error}"),
        }
    }
}

struct Writer {
    stage: Arc<Stage>,
    memory: Memory,
    files: Vec<Arc<Mutex<Model>>>,
}

impl Writer {
    async fn run(self, kept: Arc<Client>, mut dice: Dice) {
        match self.memory {
            Memory::Keeps => self.write_until_it_breaks(&kept, &mut dice).await,
            Memory::Forgets => {
                while !self.stage.is_over() {
                    let options =
                        Options { wait_max: Duration::from_millis(1), ..Options::default() };
                    let socket = self.stage.data.join("files.sock");
                    if let Ok(client) = Client::connect(&socket, "v", options).await {
                        self.write_until_it_breaks(&client, &mut dice).await;
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn write_until_it_breaks(&self, client: &Client, dice: &mut Dice) {
        while !self.stage.is_over() {
            let which = usize::try_from(dice.roll(FILES as u64)).unwrap();
            let mut model = self.files[which].lock().await;
            match (model.step(client, dice).await, self.memory) {
                (Ok(()), _) => {}
                (Err(TreeError::Unreachable(_)), Memory::Forgets) => return,
                (Err(error), _) => panic!("{:?}: {error}", model.name),
            }
        }
    }
}

impl Model {
    fn new(name: &str) -> Self {
        let name = Name::new(name.as_bytes()).unwrap();
        Self {
            name,
            ino: None,
            bytes: Vec::new(),
            uncertain: Vec::new(),
            other_sizes: BTreeSet::new(),
        }
    }

    /// One random operation.
    async fn step(&mut self, client: &Client, dice: &mut Dice) -> Result<(), TreeError> {
        let ino = match self.ino {
            Some(ino) => ino,
            None => self.create(client).await?,
        };
        match dice.roll(10) {
            0 => self.truncate(client, ino, dice.roll(FILE_BYTES_MAX)).await,
            1..=3 => client.commit(ino).await.map(drop),
            _ => {
                let len = 1 + dice.roll(WRITE_BYTES_MAX);
                self.write(client, ino, dice.roll(FILE_BYTES_MAX - len), len, dice.roll(256)).await
            }
        }
    }

    /// Makes the file, or finds it when an earlier attempt was never answered.
    async fn create(&mut self, client: &Client) -> Result<Ino, TreeError> {
        let (caller, root) = (Caller::root(), client.root());
        let ino = match client.create(&caller, root, &self.name, 0o644).await {
            Ok(Attr { ino, .. }) => {
                client.release(ino).await?;
                ino
            }
            Err(TreeError::Exists) => client.lookup(&caller, root, &self.name).await?.ino,
            Err(TreeError::Unreachable(_)) => client.lookup(&caller, root, &self.name).await?.ino,
            Err(error) => return Err(error),
        };
        self.ino = Some(ino);
        Ok(ino)
    }

    async fn write(
        &mut self,
        client: &Client,
        ino: Ino,
        at: u64,
        len: u64,
        byte: u64,
    ) -> Result<(), TreeError> {
        let fill = (0..len).map(|n| (byte + n / 100).to_le_bytes()[0]);
        let bytes: Bytes = fill.collect();
        let (start, end) = (usize::try_from(at).unwrap(), usize::try_from(at + len).unwrap());
        let written = client.write(ino, at, bytes.clone()).await;
        if written.is_err() {
            // It may have happened, in whole or not at all.
            let longer: Vec<_> = self.sizes().map(|size| size.max(end)).collect();
            self.other_sizes.extend(longer);
            self.uncertain.resize(self.uncertain.len().max(end), true);
            self.uncertain[start..end].fill(true);
        } else {
            self.extend_to(end);
            self.bytes[start..end].copy_from_slice(&bytes);
            self.uncertain[start..end].fill(false);
        }
        written.map(drop)
    }

    async fn truncate(&mut self, client: &Client, ino: Ino, size: u64) -> Result<(), TreeError> {
        let change = SetAttr { size: Some(size), ..SetAttr::default() };
        let cut = client.set_attr(&Caller::root(), ino, change).await;
        let size = usize::try_from(size).unwrap();
        if cut.is_err() {
            self.other_sizes.insert(size);
            let from = size.min(self.bytes.len());
            self.uncertain.resize(self.uncertain.len().max(size), true);
            self.uncertain[from..].fill(true);
        } else {
            self.extend_to(size);
            self.bytes.truncate(size);
            self.uncertain.truncate(size);
            self.other_sizes.clear();
        }
        cut.map(drop)
    }

    /// What the size may be.
    fn sizes(&self) -> impl Iterator<Item = usize> {
        std::iter::once(self.bytes.len()).chain(self.other_sizes.iter().copied())
    }

    /// What an answered change that reaches `end` says about the size: whatever it was, it is at least that.
    fn extend_to(&mut self, end: usize) {
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        if self.uncertain.len() < end {
            self.uncertain.resize(end, false);
        }
        self.other_sizes = self.other_sizes.iter().map(|&size| size.max(end)).collect();
    }

    /// Reads the file and compares it with the model.
    async fn compare(&self, client: &Client) {
        let Some(ino) = self.ino else { return };
        let caller = Caller::root();
        let attr = client.lookup(&caller, client.root(), &self.name).await.unwrap();
        assert_eq!(attr.ino, ino, "{:?} is the file that was made", self.name);
        let size = usize::try_from(attr.size).unwrap();
        let sizes: Vec<_> = self.sizes().collect();
        assert!(sizes.contains(&size), "{:?} has {size} bytes, not one of {sizes:?}", self.name);
        let stored = read_all(client, ino, size).await;
        for (at, (&found, &expected)) in stored.iter().zip(&self.bytes).enumerate() {
            let certain = !self.uncertain[at];
            assert!(
                !certain || found == expected,
                "{:?}, offset {at}: {found}, not {expected}",
                self.name
            );
        }
    }
}

async fn read_all(client: &Client, ino: Ino, size: usize) -> Vec<u8> {
    let mut all = Vec::with_capacity(size);
    while all.len() < size {
        let len = u32::try_from((size - all.len()).min(256 << 10)).unwrap();
        let some = client.read(ino, all.len() as u64, len).await.unwrap();
        assert!(!some.is_empty(), "a file ends where its size says");
        all.extend_from_slice(&some);
    }
    all
}
