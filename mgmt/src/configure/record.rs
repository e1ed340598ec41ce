//! What `init` changed, so that `fini` can undo exactly that: `configure-<name>.json` among the runtime directories.
//!
//! A change is recorded before it is made, and the file is replaced as a whole: whenever we are killed, the record says at least
//! all that was done. It belongs to one boot: what was changed before is gone by itself.

use super::setting::Change;
use crate::host::{Host, value};
use crate::runtime_dir::{self, RuntimeError, write_whole};
use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// Changes at most: some for each queue and core of the largest machine.
const CHANGES_MAX: usize = 16_384;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Content {
    /// The boot that the changes were made in.
    boot: String,
    /// The directory was made for this file.
    made_directory: bool,
    /// The changes, in the order in which they were made.
    changes: Vec<Change>,
}

/// The record of one instance, and the lock that keeps a second `configure` away.
#[derive(Debug)]
pub struct Record {
    path: PathBuf,
    content: Content,
    _lock: File,
}

impl Record {
    /// Reads what there is, for as long as this value lives.
    ///
    /// # Errors
    /// The directory is not ours alone, another `configure` is at work, or the file says nothing that we understand.
    pub fn open(root: &Path, name: &str, host: &dyn Host) -> anyhow::Result<Self> {
        let made_directory = runtime_dir::claim_root(root)?;
        let lock = File::open(root).with_context(|| format!("cannot open {}", root.display()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                anyhow::bail!("another `tidegate configure` is at work: wait until it has ended")
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", root.display()));
            }
        }
        let path = file(root, name);
        let boot = value(host, "/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let fresh = Content {
            boot: boot.clone(),
            made_directory,
            changes: Vec::new(),
        };
        let content = match read(&path)? {
            Some(content) if content.boot == boot => content,
            // Nothing of it has survived.
            Some(_) | None => fresh,
        };
        Ok(Self {
            path,
            content,
            _lock: lock,
        })
    }

    /// The changes, in the order in which they were made.
    pub fn changes(&self) -> &[Change] {
        &self.content.changes
    }

    /// Adds a change that is about to be made.
    pub fn add(&mut self, change: &Change) -> anyhow::Result<()> {
        let changes = &mut self.content.changes;
        changes.retain(|known| known != change);
        anyhow::ensure!(
            changes.len() < CHANGES_MAX,
            "{} holds {CHANGES_MAX} changes already: `tidegate configure fini` first",
            self.path.display()
        );
        changes.push(change.clone());
        self.write()
    }

    /// Replaces the newest change by what it came to.
    pub fn amend(&mut self, change: &Change) -> anyhow::Result<()> {
        self.content.changes.pop();
        self.content.changes.push(change.clone());
        self.write()
    }

    /// Forgets a change that was undone or never made.
    pub fn forget(&mut self, change: &Change) -> anyhow::Result<()> {
        self.content.changes.retain(|known| known != change);
        self.write()
    }

    /// Ends with the file if nothing is in it, and with the directory if it was made for the file.
    pub fn close(self) -> anyhow::Result<()> {
        if !self.content.changes.is_empty() {
            return Ok(());
        }
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(unwritable(&self.path, error).into());
            }
            _ => {}
        }
        if self.content.made_directory
            && let Some(directory) = self.path.parent()
        {
            let _instances_are_in_it = std::fs::remove_dir(directory);
        }
        Ok(())
    }

    fn write(&self) -> anyhow::Result<()> {
        let text = serde_json::to_vec_pretty(&self.content);
        Ok(write_whole(&self.path, text)?)
    }
}

fn unwritable(path: &Path, error: io::Error) -> RuntimeError {
    RuntimeError::Unwritable {
        path: path.to_owned(),
        error,
    }
}

fn read(path: &Path) -> anyhow::Result<Option<Content>> {
    let text = match std::fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.with_context(|| format!("cannot read {}", path.display()))?,
    };
    let content = serde_json::from_slice(&text).with_context(|| {
        format!(
            "{} is damaged, or of another version: undo by hand what it says, then remove it",
            path.display()
        )
    })?;
    Ok(Some(content))
}

/// Where the record of an instance is.
pub fn file(root: &Path, name: &str) -> PathBuf {
    root.join(format!("configure-{name}.json"))
}
