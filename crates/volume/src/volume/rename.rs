//! Renames: the checks of `renameat2(2)` in the kernel's order, then one commit.

use file_tree::rules::{self, NLINK_MAX, Want};
use file_tree::{Attr, Caller, FileKind, Ino, Name, RenameMode, TreeError};
use strands::Ticket;

use super::Volume;
use super::change::Change;
use super::names::check_free;
use crate::rows::{Body, Dentry};

/// Deepest chain of directories that is followed upwards: longer ones come from damage alone, as a path of
/// that length could not be walked.
const DEPTH_MAX: u32 = 1_000_000;

/// A rename whose names have been looked up.
#[derive(Clone, Copy, Debug)]
struct Rename<'a> {
    from: (Ino, &'a Name),
    to: (Ino, &'a Name),
    moved: Dentry,
    target: Option<Dentry>,
    mode: RenameMode,
}

impl Volume {
    pub(super) fn rename_now(
        &self,
        caller: &Caller,
        from: (Ino, &Name),
        to: (Ino, &Name),
        mode: RenameMode,
    ) -> Result<Option<Ticket>, TreeError> {
        let names = self.names();
        let (moved, target) = (self.dentry(from.0, from.1)?, self.dentry(to.0, to.1)?);
        let entries = [moved, target].into_iter().flatten().map(|entry| entry.ino);
        let inos: Vec<_> = [from.0, to.0].into_iter().chain(entries).collect();
        let mut change = self.change_names(names, &inos)?;
        rules::check_access(&change.directory(from.0)?, caller, Want::Search)?;
        rules::check_access(&change.directory(to.0)?, caller, Want::Search)?;
        let moved = moved.ok_or(TreeError::NotFound)?;
        match (mode, target) {
            (RenameMode::NoReplace, Some(_)) => return Err(TreeError::Exists),
            (RenameMode::Exchange, None) => return Err(TreeError::NotFound),
            _ => {}
        }
        let rename = Rename { from, to, moved, target, mode };
        self.check_loops(rename)?;
        if target.is_some_and(|target| target.ino == moved.ino) {
            return Ok(None);
        }
        self.check_rename(&change, caller, rename)?;
        move_names(&mut change, rename)?;
        Ok(change.apply()?)
    }

    /// A directory must not end up below itself, nor be replaced by something below it.
    fn check_loops(&self, rename: Rename<'_>) -> Result<(), TreeError> {
        let Rename { from, to, moved, target, mode } = rename;
        if self.is_at_or_below(to.0, moved, from.0)? {
            return Err(TreeError::Invalid("a directory cannot move into itself"));
        }
        let Some(target) = target else { return Ok(()) };
        match (self.is_at_or_below(from.0, target, to.0)?, mode) {
            (false, _) => Ok(()),
            (true, RenameMode::Exchange) => {
                Err(TreeError::Invalid("a directory cannot move into itself"))
            }
            (true, RenameMode::Replace | RenameMode::NoReplace) => Err(TreeError::NotEmpty),
        }
    }

    /// Whether `dir` is `entry`, an entry of `parent`, or somewhere below it.
    fn is_at_or_below(&self, dir: Ino, entry: Dentry, parent: Ino) -> Result<bool, TreeError> {
        if entry.kind != FileKind::Directory || dir == parent {
            return Ok(false);
        }
        let mut at = dir;
        for _ in 0..DEPTH_MAX {
            if at == entry.ino {
                return Ok(true);
            }
            match self.inode(at)?.map(|inode| inode.body) {
                Some(Body::Directory { parent, .. }) if parent != at => at = parent,
                _ => return Ok(false),
            }
        }
        Err(TreeError::Damaged(format!("directory {dir} does not lead to the root")))
    }

    fn check_rename(
        &self,
        change: &Change<'_>,
        caller: &Caller,
        rename: Rename<'_>,
    ) -> Result<(), TreeError> {
        let Rename { from, to, moved, target, mode } = rename;
        let (from_dir, to_dir) = (change.directory(from.0)?, change.directory(to.0)?);
        let moved = change.named(moved)?;
        let target = target.map(|target| change.named(target)).transpose()?;
        rules::check_remove(&from_dir, &moved, caller)?;
        match &target {
            None => check_free(caller, &to_dir, None)?,
            Some(target) => rules::check_remove(&to_dir, target, caller)?,
        }
        let exchange = mode == RenameMode::Exchange;
        match (is_directory(Some(&moved)), &target) {
            (true, Some(target)) if !exchange && !is_directory(Some(target)) => {
                return Err(TreeError::NotADirectory);
            }
            (false, Some(target)) if !exchange && is_directory(Some(target)) => {
                return Err(TreeError::IsADirectory);
            }
            _ => {}
        }
        if from.0 != to.0 {
            check_new_parents(caller, (&from_dir, &to_dir), &moved, target.as_ref(), exchange)?;
        }
        match target {
            Some(target)
                if !exchange && is_directory(Some(&target)) && !self.is_empty(target.ino)? =>
            {
                Err(TreeError::NotEmpty)
            }
            _ => Ok(()),
        }
    }
}

/// A directory that gets another parent must be writable (its `..` changes), and the parent must have room.
fn check_new_parents(
    caller: &Caller,
    (from_dir, to_dir): (&Attr, &Attr),
    moved: &Attr,
    target: Option<&Attr>,
    exchange: bool,
) -> Result<(), TreeError> {
    let comes_back = target.filter(|target| exchange && is_directory(Some(target)));
    for moving in
        [Some(moved).filter(|moved| is_directory(Some(moved))), comes_back].into_iter().flatten()
    {
        rules::check_access(moving, caller, Want::Write)?;
    }
    let is_full = |dir: &Attr| dir.nlink >= NLINK_MAX;
    let fills_to = is_directory(Some(moved)) && !is_directory(target) && is_full(to_dir);
    let fills_from = comes_back.is_some() && !is_directory(Some(moved)) && is_full(from_dir);
    if fills_to || fills_from { Err(TreeError::TooManyLinks) } else { Ok(()) }
}

fn is_directory(attr: Option<&Attr>) -> bool {
    attr.is_some_and(|attr| attr.kind == FileKind::Directory)
}

fn move_names(change: &mut Change<'_>, rename: Rename<'_>) -> Result<(), TreeError> {
    let Rename { from, to, moved, target, mode } = rename;
    change.set_entry(to.0, to.1, target, Some((moved.kind, moved.ino)))?;
    let now = change.now;
    change.file_mut(moved.ino)?.attr.ctime = now;
    match (mode, target) {
        (RenameMode::Exchange, Some(target)) => {
            change.set_entry(from.0, from.1, Some(moved), Some((target.kind, target.ino)))?;
            change.file_mut(target.ino)?.attr.ctime = now;
        }
        (_, target) => {
            change.set_entry(from.0, from.1, Some(moved), None)?;
            if let Some(target) = target {
                change.drop_name(target.ino)?;
            }
        }
    }
    Ok(())
}
