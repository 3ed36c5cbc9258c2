//! Random calls on a tree and on the model, compared after each one.
//!
//! Numbers and times differ between the two: numbers are mapped (one to one, and never reused), and a time
//! must change exactly when the model's does: to a moment not before the last one seen, or to the moment
//! that was asked for.
//!
//! Not here: what the calls are and how they are drawn ([`calls`]).

mod calls;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use self::calls::{Answer, Call, Draw};
use super::block_on;
use crate::error::TreeError;
use crate::model::Model;
use crate::tree::FileTree;
use crate::types::{Attr, Caller, DirItem, FileKind, Ino, Timestamp};

/// Files up to this size are compared byte by byte, larger ones at both ends.
const WHOLE_BYTES_MAX: u32 = 256 * 1024;
/// Items of a directory asked for at a time when all are compared.
const LIST_ITEMS: u32 = 7;

/// A tree, the model, and what links the two.
#[derive(Debug)]
pub struct Comparison {
    tree: Arc<dyn FileTree>,
    model: Model,
    draw: Draw,
    seed: u64,
    /// The calls so far, for the report.
    calls: Vec<Call>,
    /// Number in the model to number in the tree, of every file ever seen.
    numbers: BTreeMap<Ino, Ino>,
    /// Attributes when last compared, in the model and in the tree.
    seen: BTreeMap<Ino, (Attr, Attr)>,
    /// The latest change time seen in the tree.
    latest: Timestamp,
}

type Compared = Result<(), String>;

impl Comparison {
    /// Compares `tree`, which must be empty, with a new model.
    pub fn new(tree: Arc<dyn FileTree>, seed: u64) -> Self {
        let model = Model::new();
        let numbers = BTreeMap::from([(model.root(), tree.root())]);
        let seen = BTreeMap::new();
        let draw = Draw::new(seed, model.root());
        let latest = Timestamp { seconds: i64::MIN, nanos: 0 };
        Self { tree, model, draw, seed, calls: Vec::new(), numbers, seen, latest }
    }

    /// Makes `count` random calls.
    ///
    /// # Panics
    ///
    /// At the first difference, with the seed and the calls so far.
    pub fn run(&mut self, count: u32) {
        if self.calls.is_empty() {
            self.report_if_different(Self::compare_attributes);
            self.step(Call::open_root(self.model.root()));
        }
        for _ in 0..count {
            let call = self.draw.call(&self.model);
            self.step(call);
        }
    }

    /// Compares everything that can be seen: names, attributes, contents, counts.
    ///
    /// # Panics
    ///
    /// At the first difference, with the seed and the calls so far.
    pub fn verify(&mut self) {
        self.report_if_different(|this| {
            this.compare_attributes()?;
            this.compare_all()
        });
    }

    /// Goes on with `tree`, the same tree after a restart of its server: nothing is open any more.
    ///
    /// # Panics
    ///
    /// At the first difference, with the seed and the calls so far.
    pub fn restarted(&mut self, tree: Arc<dyn FileTree>) {
        self.tree = tree;
        self.model.restart();
        self.draw.forget_opens();
        self.calls.push(Call::Restart);
        self.verify();
    }

    /// A copy of the model as it is now, to go back to with [`Comparison::crashed`].
    pub fn snapshot(&self) -> Model {
        self.model.snapshot()
    }

    /// Goes on with `tree` after a crash that took away some of the last calls: it must be as one of
    /// `candidates` (of [`Comparison::snapshot`]) was. Returns which.
    ///
    /// # Panics
    ///
    /// When it is like none, with the difference to each.
    pub fn crashed(&mut self, tree: Arc<dyn FileTree>, candidates: Vec<Model>) -> usize {
        self.tree = tree;
        self.draw.forget_opens();
        self.calls.push(Call::Restart);
        let mut differences = Vec::new();
        for (place, model) in candidates.into_iter().enumerate().rev() {
            model.restart();
            self.model = model;
            // What was taken away may be minted again, with other times.
            self.forget_what_is_gone();
            match self.compare_all() {
                Ok(()) => return place,
                Err(difference) => differences.push(format!("not candidate {place}: {difference}")),
            }
        }
        panic!("{}", self.report(&differences.join("\n")));
    }

    fn forget_what_is_gone(&mut self) {
        let exists = |ino: &Ino| block_on(self.model.attr(*ino)).is_ok();
        self.numbers.retain(|ino, _| exists(ino));
        self.seen.clear();
    }

    fn report_if_different(&mut self, compare: impl FnOnce(&mut Self) -> Compared) {
        if let Err(difference) = compare(self) {
            panic!("{}", self.report(&difference));
        }
    }

    fn report(&self, difference: &str) -> String {
        let calls: Vec<_> =
            self.calls.iter().enumerate().map(|(at, call)| format!("{at:>5}: {call:?}")).collect();
        format!("calls on the tree:\n{}\nseed {}: {difference}", calls.join("\n"), self.seed)
    }

    fn step(&mut self, call: Call) {
        self.calls.push(call.clone());
        self.report_if_different(|this| {
            let before = this.model.now();
            let want = call.run(&this.model, &|ino| ino);
            let numbers = &this.numbers;
            let got = call.run(&*this.tree, &|ino| numbers.get(&ino).copied().unwrap_or(ino));
            this.draw.learn(&call, &want);
            match (&want, &got) {
                (Ok(want), Ok(got)) => this.compare_answers(want, got, before)?,
                (Err(want), Err(got)) if same_error(want, got) => {}
                _ => return Err(format!("model {want:?}\n tree {got:?}")),
            }
            this.compare_attributes_since(before)
        });
    }

    fn compare_answers(&mut self, want: &Answer, got: &Answer, before: Timestamp) -> Compared {
        match (want, got) {
            (Answer::Done, Answer::Done) => Ok(()),
            (Answer::Attr(want), Answer::Attr(got)) => self.compare_attr(want, got, before),
            (Answer::Bytes(want), Answer::Bytes(got)) if want == got => Ok(()),
            (Answer::Bytes(want), Answer::Bytes(got)) => {
                Err(format!("model {}\n tree {}", shown(want), shown(got)))
            }
            (Answer::Items(want), Answer::Items(got)) => self.compare_items(want, got, before),
            _ => Err(format!("answers of different kinds: {want:?} and {got:?}")),
        }
    }

    fn compare_items(&mut self, want: &[DirItem], got: &[DirItem], before: Timestamp) -> Compared {
        let by_name = |items: &[DirItem]| -> BTreeMap<_, _> {
            items.iter().map(|item| (item.name.clone(), item.attr)).collect()
        };
        let (want, got_map) = (by_name(want), by_name(got));
        if !want.keys().eq(got_map.keys()) || got.len() != got_map.len() {
            return Err(format!("model lists {:?}\n tree lists {got:?}", want.keys()));
        }
        if !got.is_sorted_by(|a, b| a.cookie < b.cookie) {
            return Err(format!("cookies do not rise: {got:?}"));
        }
        want.values()
            .zip(got_map.values())
            .try_for_each(|(want, got)| self.compare_attr(want, got, before))
    }

    /// Compares one file's attributes; those that changed must have done so after `before`.
    fn compare_attr(&mut self, want: &Attr, got: &Attr, before: Timestamp) -> Compared {
        match self.numbers.get(&want.ino) {
            Some(known) if *known == got.ino => {}
            Some(known) => return Err(format!("file {} was {known}, now {}", want.ino, got.ino)),
            None if self.numbers.values().any(|taken| *taken == got.ino) => {
                return Err(format!("number {} is used twice", got.ino));
            }
            None => {
                self.numbers.insert(want.ino, got.ino);
            }
        }
        let size = |attr: &Attr| if attr.kind == FileKind::Directory { 0 } else { attr.size };
        let plain = |attr: &Attr| {
            (attr.kind, attr.mode, attr.nlink, attr.uid, attr.gid, size(attr), attr.rdev)
        };
        if plain(want) != plain(got) {
            return Err(format!("model {want:?}\n tree {got:?}"));
        }
        let old = self.seen.get(&want.ino).copied();
        let pairs =
            |of: fn(&Attr) -> Timestamp| (old.map(|(w, g)| (of(&w), of(&g))), of(want), of(got));
        for (what, (old, new, got)) in [
            ("access", pairs(|attr| attr.atime)),
            ("modification", pairs(|attr| attr.mtime)),
            ("change", pairs(|attr| attr.ctime)),
        ] {
            let expected = match old {
                Some((old_want, old_got)) if old_want == new => got == old_got,
                _ if new > before => got >= self.latest,
                // Asked for, or (after a crash) not seen since: an own time of the model says nothing.
                _ => got == new || old.is_none(),
            };
            if !expected {
                let old = old.map(|(_, got)| got);
                return Err(format!("{what} time was {old:?}, is {got:?}; model {want:?}"));
            }
        }
        self.seen.insert(want.ino, (*want, *got));
        Ok(())
    }

    fn compare_attributes(&mut self) -> Compared {
        self.compare_attributes_since(self.model.now())
    }

    /// Compares the attributes of every file ever seen, also of those that must be gone.
    fn compare_attributes_since(&mut self, before: Timestamp) -> Compared {
        let numbers: Vec<_> = self.numbers.iter().map(|(model, tree)| (*model, *tree)).collect();
        let mut latest = self.latest;
        for (in_model, in_tree) in numbers {
            let (want, got) =
                (block_on(self.model.attr(in_model)), block_on(self.tree.attr(in_tree)));
            match (&want, &got) {
                (Ok(want), Ok(got)) => {
                    self.compare_attr(want, got, before)?;
                    latest = latest.max(got.ctime);
                }
                (Err(want), Err(got)) if want == got => {}
                _ => return Err(format!("attributes: model {want:?}\n tree {got:?}")),
            }
        }
        self.latest = latest;
        Ok(())
    }

    /// Compares names and contents from the root down, then what has no name any more.
    fn compare_all(&mut self) -> Compared {
        let before = self.model.now();
        let root = (
            block_on(self.model.attr(self.model.root())),
            block_on(self.tree.attr(self.tree.root())),
        );
        match root {
            (Ok(want), Ok(got)) => self.compare_attr(&want, &got, before)?,
            (want, got) => return Err(format!("root: model {want:?}\n tree {got:?}")),
        }
        let mut reached = BTreeSet::from([self.model.root()]);
        let mut todo = vec![self.model.root()];
        while let Some(dir) = todo.pop() {
            let want = list_all(&self.model, dir)?;
            let got = list_all(&*self.tree, self.number(dir))?;
            self.compare_items(&want, &got, before)?;
            let new = want.iter().map(|item| item.attr).filter(|attr| reached.insert(attr.ino));
            let (dirs, others): (Vec<_>, Vec<_>) =
                new.partition(|attr| attr.kind == FileKind::Directory);
            todo.extend(dirs.iter().map(|attr| attr.ino));
            others.iter().try_for_each(|attr| self.compare_contents(attr))?;
        }
        let nameless: Vec<_> =
            self.numbers.keys().filter(|ino| !reached.contains(ino)).copied().collect();
        for ino in nameless {
            if let Ok(attr) = block_on(self.model.attr(ino)) {
                self.compare_contents(&attr)?;
            }
        }
        let files = |tree: &dyn FileTree| block_on(tree.stat()).map(|stat| stat.files);
        let (want, got) = (files(&self.model), files(&*self.tree));
        if want == got { Ok(()) } else { Err(format!("model has {want:?} files, tree {got:?}")) }
    }

    fn number(&self, ino: Ino) -> Ino {
        self.numbers.get(&ino).copied().unwrap_or(ino)
    }

    fn compare_contents(&self, attr: &Attr) -> Compared {
        let (model, tree) = (attr.ino, self.number(attr.ino));
        if attr.kind == FileKind::Symlink {
            let (want, got) =
                (block_on(self.model.read_link(model)), block_on(self.tree.read_link(tree)));
            return if want == got { Ok(()) } else { Err(format!("link {want:?}, tree {got:?}")) };
        }
        if attr.kind != FileKind::Regular {
            return Ok(());
        }
        let last = attr.size.saturating_sub(u64::from(WHOLE_BYTES_MAX) - 1);
        for offset in BTreeSet::from([0, last]) {
            let want = block_on(self.model.read(model, offset, WHOLE_BYTES_MAX));
            let got = block_on(self.tree.read(tree, offset, WHOLE_BYTES_MAX));
            if let (Ok(want), Ok(got)) = (&want, &got)
                && want != got
            {
                let at = want.iter().zip(got).take_while(|(a, b)| a == b).count();
                let (want, got) = (shown(&want[at..]), shown(got.get(at..).unwrap_or_default()));
                return Err(format!("file {model} at {offset}+{at}: model {want}, tree {got}"));
            }
            if want.is_err() || got.is_err() {
                return Err(format!("file {model} at {offset}: model {want:?}, tree {got:?}"));
            }
        }
        Ok(())
    }
}

fn same_error(want: &TreeError, got: &TreeError) -> bool {
    want == got || matches!((want, got), (TreeError::Invalid(_), TreeError::Invalid(_)))
}

fn list_all(tree: &dyn FileTree, dir: Ino) -> Result<Vec<DirItem>, String> {
    let mut all: Vec<DirItem> = Vec::new();
    loop {
        let after = all.last().map_or(0, |item| item.cookie);
        match block_on(tree.list(&Caller::root(), dir, after, LIST_ITEMS)) {
            Ok(page) if page.is_empty() => return Ok(all),
            Ok(page) => all.extend(page),
            Err(error) => return Err(format!("listing {dir} after {after}: {error}")),
        }
    }
}

fn shown(bytes: &[u8]) -> String {
    format!("{} bytes, {:02x?}", bytes.len(), &bytes[..bytes.len().min(16)])
}
