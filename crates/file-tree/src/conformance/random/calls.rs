//! The random calls: what they are, how one is drawn from a seed, how one is made on a tree.

use bytes::Bytes;

use crate::conformance::block_on;
use crate::error::TreeError;
use crate::model::Model;
use crate::rules::FILE_BYTES_MAX;
use crate::tree::FileTree;
use crate::types::{
    Access, Attr, Caller, DirItem, FileKind, Ino, Name, NewNode, RenameMode, SetAttr, SetTime,
    Timestamp,
};

const NAMES: [&str; 7] = ["a", "b", "c", "d", "e", "f", "a longer name"];
const MODES: [u32; 10] = [0o755, 0o777, 0o1777, 0o2775, 0o700, 0o644, 0o666, 0o4755, 0o6777, 0];
const WRITE_BYTES_MAX: u64 = 9_000;

/// One call, with the numbers of the model.
#[derive(Clone, Debug)]
pub(super) enum Call {
    Lookup {
        who: Caller,
        dir: Ino,
        name: Name,
    },
    SetAttr {
        who: Caller,
        ino: Ino,
        change: SetAttr,
    },
    ReadLink {
        ino: Ino,
    },
    Make {
        who: Caller,
        dir: Ino,
        name: Name,
        node: NewNode,
    },
    Create {
        who: Caller,
        dir: Ino,
        name: Name,
        mode: u32,
    },
    Link {
        who: Caller,
        ino: Ino,
        dir: Ino,
        name: Name,
    },
    Unlink {
        who: Caller,
        dir: Ino,
        name: Name,
    },
    RemoveDir {
        who: Caller,
        dir: Ino,
        name: Name,
    },
    Rename {
        who: Caller,
        from: (Ino, Name),
        to: (Ino, Name),
        mode: RenameMode,
    },
    Open {
        who: Caller,
        ino: Ino,
        access: Access,
    },
    Release {
        ino: Ino,
    },
    Read {
        ino: Ino,
        offset: u64,
        len: u32,
    },
    Write {
        ino: Ino,
        offset: u64,
        len: u64,
        fill: u8,
    },
    Commit {
        ino: Ino,
    },
    List {
        who: Caller,
        dir: Ino,
    },
    /// Not a call: the tree was reopened here.
    Restart,
}

/// What a call gave back, cut down to what can be compared.
#[derive(Debug)]
pub(super) enum Answer {
    Done,
    Attr(Box<Attr>),
    Bytes(Bytes),
    Items(Vec<DirItem>),
}

impl Call {
    /// Lets everybody change the root, so that users get something to do.
    pub(super) fn open_root(root: Ino) -> Self {
        let change = SetAttr { mode: Some(0o777), ..SetAttr::default() };
        Self::SetAttr { who: Caller::root(), ino: root, change }
    }

    /// Makes the call on `tree`, where file `ino` has the number `number(ino)`.
    pub(super) fn run(
        &self,
        tree: &dyn FileTree,
        number: &dyn Fn(Ino) -> Ino,
    ) -> Result<Answer, TreeError> {
        let attr = |attr| Answer::Attr(Box::new(attr));
        let done = |()| Answer::Done;
        match self {
            Self::Lookup { who, dir, name } => {
                block_on(tree.lookup(who, number(*dir), name)).map(attr)
            }
            Self::SetAttr { who, ino, change } => {
                block_on(tree.set_attr(who, number(*ino), *change)).map(attr)
            }
            Self::ReadLink { ino } => block_on(tree.read_link(number(*ino))).map(Answer::Bytes),
            Self::Make { who, dir, name, node } => {
                block_on(tree.make(who, number(*dir), name, node.clone())).map(attr)
            }
            Self::Create { who, dir, name, mode } => {
                block_on(tree.create(who, number(*dir), name, *mode)).map(attr)
            }
            Self::Link { who, ino, dir, name } => {
                block_on(tree.link(who, number(*ino), number(*dir), name)).map(attr)
            }
            Self::Unlink { who, dir, name } => {
                block_on(tree.unlink(who, number(*dir), name)).map(done)
            }
            Self::RemoveDir { who, dir, name } => {
                block_on(tree.remove_dir(who, number(*dir), name)).map(done)
            }
            Self::Rename { who, from, to, mode } => {
                let (from, to) = ((number(from.0), &from.1), (number(to.0), &to.1));
                block_on(tree.rename(who, from, to, *mode)).map(done)
            }
            Self::Open { who, ino, access } => {
                block_on(tree.open(who, number(*ino), *access)).map(attr)
            }
            Self::Release { ino } => block_on(tree.release(number(*ino))).map(done),
            Self::Read { ino, offset, len } => {
                block_on(tree.read(number(*ino), *offset, *len)).map(Answer::Bytes)
            }
            Self::Write { ino, offset, len, fill } => {
                let bytes =
                    (0..*len).map(|at| fill.wrapping_add((at % 251).to_le_bytes()[0])).collect();
                block_on(tree.write(number(*ino), *offset, bytes)).map(|written| attr(written.attr))
            }
            Self::Commit { ino } => block_on(tree.commit(number(*ino))).map(|_| Answer::Done),
            Self::List { who, dir } => {
                block_on(tree.list(who, number(*dir), 0, u32::MAX)).map(Answer::Items)
            }
            Self::Restart => Ok(Answer::Done),
        }
    }
}

/// Draws calls from a seed, mostly such that succeed.
#[derive(Debug)]
pub(super) struct Draw {
    state: u64,
    /// Every file ever made, oldest first.
    files: Vec<(Ino, FileKind)>,
    /// Opens not released yet.
    opens: Vec<Ino>,
}

impl Draw {
    pub(super) fn new(seed: u64, root: Ino) -> Self {
        Self { state: seed, files: vec![(root, FileKind::Directory)], opens: Vec::new() }
    }

    pub(super) fn forget_opens(&mut self) {
        self.opens.clear();
    }

    /// Remembers what `call` made, opened or released.
    pub(super) fn learn(&mut self, call: &Call, answer: &Result<Answer, TreeError>) {
        let Ok(answer) = answer else { return };
        match (call, answer) {
            (Call::Make { .. }, Answer::Attr(attr)) => self.files.push((attr.ino, attr.kind)),
            (Call::Create { .. }, Answer::Attr(attr)) => {
                self.files.push((attr.ino, attr.kind));
                self.opens.push(attr.ino);
            }
            (Call::Open { ino, .. }, _) => self.opens.push(*ino),
            (Call::Release { ino }, _) => {
                if let Some(place) = self.opens.iter().position(|open| open == ino) {
                    self.opens.swap_remove(place);
                }
            }
            _ => {}
        }
    }

    pub(super) fn call(&mut self, model: &Model) -> Call {
        let who = self.caller();
        let dir = self.ino(model, |kind| kind == FileKind::Directory);
        let file = self.ino(model, |kind| kind == FileKind::Regular);
        let any = self.ino(model, |_| true);
        let name = self.name();
        match self.below(100) {
            0..4 => Call::Lookup { who, dir, name },
            4..16 => Call::SetAttr { who, ino: any, change: self.change() },
            16..18 => Call::ReadLink { ino: self.ino(model, |kind| kind == FileKind::Symlink) },
            18..32 => Call::Make { who, dir, name, node: self.node() },
            32..38 => Call::Create { who, dir, name, mode: self.mode() },
            38..42 => Call::Link { who, ino: any, dir, name },
            42..48 => Call::Unlink { who, dir, name },
            48..51 => Call::RemoveDir { who, dir, name },
            51..64 => self.rename(who, (dir, name), model),
            64..69 => Call::Open { who, ino: any, access: self.access() },
            69..73 => Call::Release { ino: self.open_one().unwrap_or(any) },
            73..80 => Call::Read { ino: file, offset: self.offset(), len: self.len(20_000) },
            80..94 => {
                let (len, fill) = (self.below(WRITE_BYTES_MAX), self.next().to_le_bytes()[0]);
                let ino = if self.below(4) == 0 { self.open_one().unwrap_or(file) } else { file };
                Call::Write { ino, offset: self.offset(), len, fill }
            }
            94..96 => Call::Commit { ino: any },
            _ => Call::List { who, dir },
        }
    }

    fn rename(&mut self, who: Caller, from: (Ino, Name), model: &Model) -> Call {
        let dir = self.ino(model, |kind| kind == FileKind::Directory);
        let dir = if self.below(3) == 0 { from.0 } else { dir };
        let mode = self.one_of(&[
            RenameMode::Replace,
            RenameMode::Replace,
            RenameMode::NoReplace,
            RenameMode::Exchange,
        ]);
        Call::Rename { who, from, to: (dir, self.name()), mode }
    }

    fn caller(&mut self) -> Caller {
        let user = |uid, groups| Caller { uid, gid: uid, groups, checks_done: false };
        match self.below(8) {
            0 => user(1_000, vec![50, 60]),
            1 => user(2_000, Vec::new()),
            2 => Caller { checks_done: true, ..user(3_000, Vec::new()) },
            _ => Caller::root(),
        }
    }

    fn name(&mut self) -> Name {
        Name::new(self.one_of(&NAMES).as_bytes()).expect("all of them are valid")
    }

    fn mode(&mut self) -> u32 {
        self.one_of(&MODES)
    }

    fn access(&mut self) -> Access {
        self.one_of(&[Access::Read, Access::Write, Access::ReadWrite])
    }

    fn node(&mut self) -> NewNode {
        match self.below(10) {
            0 => NewNode::Symlink { target: vec![b'x'; usize::from(self.next().to_le_bytes()[0])] },
            1 => {
                let kind = self.one_of(&[FileKind::Fifo, FileKind::CharDevice, FileKind::Regular]);
                NewNode::Special { kind, mode: self.mode(), rdev: self.below(1_000) }
            }
            2..6 => NewNode::Directory { mode: self.mode() },
            _ => NewNode::File { mode: self.mode() },
        }
    }

    fn change(&mut self) -> SetAttr {
        let mut change = SetAttr::default();
        let owner = [0, 1_000, 2_000, 50];
        match self.below(8) {
            0 | 1 => change.mode = Some(self.mode()),
            2 => change.uid = Some(self.one_of(&owner)),
            3 => change.gid = Some(self.one_of(&owner)),
            4 | 5 => change.size = Some(self.offset()),
            6 => change.mtime = Some(self.time()),
            _ => {
                change.size = Some(self.offset());
                change.mode = Some(self.mode());
                change.atime = Some(self.time());
            }
        }
        change
    }

    /// Now, or a moment before the model's own clock begins.
    fn time(&mut self) -> SetTime {
        if self.below(2) == 0 {
            return SetTime::Now;
        }
        let seconds = self.below(1_000).cast_signed() - 500;
        SetTime::At(Timestamp { seconds, nanos: 999_999_999 })
    }

    fn offset(&mut self) -> u64 {
        match self.below(16) {
            0..5 => 0,
            5..14 => self.below(30_000),
            14 => self.below(1 << 33),
            _ => FILE_BYTES_MAX - self.below(10_000),
        }
    }

    fn len(&mut self, limit: u64) -> u32 {
        u32::try_from(self.below(limit)).expect("a small limit")
    }

    fn open_one(&mut self) -> Option<Ino> {
        if self.opens.is_empty() {
            return None;
        }
        let place = self.below_len(self.opens.len());
        Some(self.opens[place])
    }

    /// Mostly a living file that `fits`, preferring recent ones; sometimes any that ever was.
    fn ino(&mut self, model: &Model, fits: impl Fn(FileKind) -> bool) -> Ino {
        if self.below(30) == 0 {
            let place = self.below_len(self.files.len());
            return self.files[place].0;
        }
        let living = |ino: &Ino| block_on(model.attr(*ino)).is_ok();
        let fitting = self.files.iter().rev().filter(|(_, kind)| fits(*kind)).map(|(ino, _)| *ino);
        let recent: Vec<_> = fitting.filter(living).take(12).collect();
        match recent.as_slice() {
            [] => self.files[0].0,
            some => some[self.below_len(some.len())],
        }
    }

    fn one_of<T: Copy>(&mut self, some: &[T]) -> T {
        some[self.below_len(some.len())]
    }

    fn below_len(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("below a length")
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// SplitMix64: a small generator with a good spread, <https://prng.di.unimi.it/splitmix64.c>.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
