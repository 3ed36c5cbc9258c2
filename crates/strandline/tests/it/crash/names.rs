//! Someone who makes, renames and removes names, and the model of which names there must be.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use file_tree::{Caller, FileTree, Ino, Name, NewNode, RenameMode, TreeError};
use remote::{Client, Options};
use tokio::runtime::Runtime;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use super::{Dice, Stage};
use crate::harness::PATIENCE;

const NAMES: u64 = 40;
const PAUSE: Duration = Duration::from_millis(5);

/// Which file a name leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// Answered: it leads here, or nowhere.
    Sure(Option<Ino>),
    /// An answer never came: it may or may not be there.
    Unsure,
}

type Model = BTreeMap<u64, Known>;

/// The one who names, and what it knows.
pub(super) struct Namer {
    stage: Arc<Stage>,
    model: Arc<Mutex<Model>>,
    task: JoinHandle<()>,
}

impl Namer {
    pub(super) fn start(runtime: &Runtime, stage: &Arc<Stage>, seed: u64) -> Self {
        let model = Arc::new(Mutex::new(Model::new()));
        let work =
            name_until_over(Arc::clone(stage), Arc::clone(&model), Dice::new(seed ^ (3 << 40)));
        Self { stage: Arc::clone(stage), model, task: runtime.spawn(work) }
    }

    /// Looks every name up, through a client that knows nothing.
    pub(super) async fn check(&self) {
        check(&self.stage, &mut *self.model.lock().await).await;
    }

    /// Waits for the end of the work, then looks once more.
    pub(super) async fn finish(self) {
        tokio::time::timeout(PATIENCE, self.task).await.expect("the namer ends").unwrap();
        check(&self.stage, &mut *self.model.lock().await).await;
    }
}

async fn check(stage: &Stage, model: &mut Model) {
    let options = Options { wait_max: PATIENCE, ..Options::default() };
    let client = Client::connect(&stage.data.join("files.sock"), "v", options)
        .await
        .expect("the server is up");
    for (&number, known) in model {
        let found = match client.lookup(&Caller::root(), client.root(), &name(number)).await {
            Ok(attr) => Some(attr.ino),
            Err(TreeError::NotFound) => None,
            Err(error) => panic!("name {number}: {error}"),
        };
        if let Known::Sure(expected) = *known {
            assert_eq!(found, expected, "name {number}");
        }
        // What was seen was answered.
        *known = Known::Sure(found);
    }
}

fn name(number: u64) -> Name {
    Name::new(format!("name-{number}").as_bytes()).unwrap()
}

async fn name_until_over(stage: Arc<Stage>, model: Arc<Mutex<Model>>, mut dice: Dice) {
    while !stage.is_over() {
        let options = Options { wait_max: Duration::from_millis(1), ..Options::default() };
        if let Ok(client) = Client::connect(&stage.data.join("files.sock"), "v", options).await {
            while !stage.is_over() {
                let mut model = model.lock().await;
                match step(&client, &mut model, &mut dice).await {
                    Ok(()) => {}
                    Err(TreeError::Unreachable(_)) => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// One random change. While it is on its way its names are unsure.
async fn step(client: &Client, model: &mut Model, dice: &mut Dice) -> Result<(), TreeError> {
    let (one, other) = (dice.roll(NAMES), dice.roll(NAMES));
    let (caller, root) = (Caller::root(), client.root());
    match model.get(&one).copied().unwrap_or(Known::Sure(None)) {
        Known::Unsure => {
            let found = match client.lookup(&caller, root, &name(one)).await {
                Ok(attr) => Some(attr.ino),
                Err(TreeError::NotFound) => None,
                Err(error) => return Err(error),
            };
            model.insert(one, Known::Sure(found));
        }
        Known::Sure(None) => {
            model.insert(one, Known::Unsure);
            let made =
                client.make(&caller, root, &name(one), NewNode::File { mode: 0o600 }).await?;
            model.insert(one, Known::Sure(Some(made.ino)));
        }
        Known::Sure(Some(_)) if one == other || dice.roll(2) == 0 => {
            model.insert(one, Known::Unsure);
            client.unlink(&caller, root, &name(one)).await?;
            model.insert(one, Known::Sure(None));
        }
        Known::Sure(Some(ino)) => {
            model.insert(one, Known::Unsure);
            model.insert(other, Known::Unsure);
            let (from, to) = (name(one), name(other));
            client.rename(&caller, (root, &from), (root, &to), RenameMode::Replace).await?;
            model.insert(one, Known::Sure(None));
            model.insert(other, Known::Sure(Some(ino)));
        }
    }
    Ok(())
}
