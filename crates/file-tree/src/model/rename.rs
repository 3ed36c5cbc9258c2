//! Renames of the model: the checks of `renameat2(2)` in the kernel's order, then the change.

use super::{Body, State};
use crate::error::TreeError;
use crate::rules::{self, NLINK_MAX, Want};
use crate::types::{Caller, Ino, Name, RenameMode};

impl State {
    pub(super) fn rename(
        &mut self,
        caller: &Caller,
        from: (Ino, &Name),
        to: (Ino, &Name),
        mode: RenameMode,
    ) -> Result<(), TreeError> {
        let moved = self.find(caller, from.0, from.1)?;
        let target = self.find(caller, to.0, to.1)?;
        let moved = moved.ok_or(TreeError::NotFound)?;
        match (mode, target) {
            (RenameMode::NoReplace, Some(_)) => return Err(TreeError::Exists),
            (RenameMode::Exchange, None) => return Err(TreeError::NotFound),
            _ => {}
        }
        self.check_loops(moved, from.0, target, to.0, mode)?;
        if target == Some(moved) {
            return Ok(());
        }
        self.check_rename(caller, from, to, moved, target, mode)?;
        self.set_entry(to.0, to.1, Some(moved));
        match (mode, target) {
            (RenameMode::Exchange, target) => self.set_entry(from.0, from.1, target),
            (RenameMode::Replace | RenameMode::NoReplace, target) => {
                self.set_entry(from.0, from.1, None);
                target.into_iter().for_each(|ino| self.drop_name(ino));
            }
        }
        let now = self.now();
        for ino in [Some(moved), target].into_iter().flatten() {
            if let Some(node) = self.nodes.get_mut(&ino) {
                node.attr.ctime = now;
            }
        }
        Ok(())
    }

    /// A directory must not end up below itself, nor be replaced by something below it.
    fn check_loops(
        &self,
        moved: Ino,
        from_dir: Ino,
        target: Option<Ino>,
        to_dir: Ino,
        mode: RenameMode,
    ) -> Result<(), TreeError> {
        if self.is_at_or_below(to_dir, moved) {
            return Err(TreeError::Invalid("a directory cannot move into itself"));
        }
        match (target.is_some_and(|target| self.is_at_or_below(from_dir, target)), mode) {
            (false, _) => Ok(()),
            (true, RenameMode::Exchange) => {
                Err(TreeError::Invalid("a directory cannot move into itself"))
            }
            (true, RenameMode::Replace | RenameMode::NoReplace) => Err(TreeError::NotEmpty),
        }
    }

    fn is_at_or_below(&self, dir: Ino, ancestor: Ino) -> bool {
        let mut at = dir;
        loop {
            if at == ancestor {
                return true;
            }
            match self.nodes.get(&at).map(|node| &node.body) {
                Some(Body::Directory { parent, .. }) if *parent != at => at = *parent,
                _ => return false,
            }
        }
    }

    fn check_rename(
        &self,
        caller: &Caller,
        from: (Ino, &Name),
        to: (Ino, &Name),
        moved: Ino,
        target: Option<Ino>,
        mode: RenameMode,
    ) -> Result<(), TreeError> {
        self.check_remove(caller, from.0, from.1)?;
        let moved_is_dir = self.is_directory(moved);
        let target_is_dir = target.is_some_and(|ino| self.is_directory(ino));
        let exchange = mode == RenameMode::Exchange;
        match target {
            None => self.check_add(caller, to.0, to.1)?,
            Some(_) => {
                self.check_remove(caller, to.0, to.1)?;
                match (moved_is_dir, target_is_dir) {
                    (true, false) if !exchange => return Err(TreeError::NotADirectory),
                    (false, true) if !exchange => return Err(TreeError::IsADirectory),
                    _ => {}
                }
            }
        }
        if from.0 != to.0 {
            // A directory's own `..` changes, which is a write to it.
            if moved_is_dir {
                rules::check_access(&self.node(moved)?.attr, caller, Want::Write)?;
            }
            if let Some(target) = target.filter(|_| exchange && target_is_dir) {
                rules::check_access(&self.node(target)?.attr, caller, Want::Write)?;
            }
            let is_full = |dir: Ino| Ok(self.node(dir)?.attr.nlink >= NLINK_MAX);
            if moved_is_dir && !target_is_dir && is_full(to.0)? {
                return Err(TreeError::TooManyLinks);
            }
            if exchange && target_is_dir && !moved_is_dir && is_full(from.0)? {
                return Err(TreeError::TooManyLinks);
            }
        }
        match target {
            Some(target) if !exchange && target_is_dir && !self.is_empty(target) => {
                Err(TreeError::NotEmpty)
            }
            _ => Ok(()),
        }
    }
}
