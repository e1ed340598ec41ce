//! A changed file in the place of the old one: written beside it first, so that a full disk costs nothing, and moved there once what
//! it says is in force.

use nix::errno::Errno;
use nix::unistd::{Gid, Uid, fchown};
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use tidegate_config::limits::FILE_BYTES_MAX;
use tidegate_config::regular_file;

/// A file that is written and not yet in its place. Removed if it never gets there.
#[derive(Debug)]
pub struct Draft {
    new: PathBuf,
    place: PathBuf,
    /// What it is to replace.
    old: Version,
}

/// Tells versions of a file apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    device: u64,
    inode: u64,
    bytes: u64,
    /// When it was written: seconds and nanoseconds.
    written: (i64, i64),
}

impl Version {
    fn of(file: &Metadata) -> Self {
        Self {
            device: file.dev(),
            inode: file.ino(),
            bytes: file.size(),
            written: (file.mtime(), file.mtime_nsec()),
        }
    }
}

/// What a file says, and in which version. It never waits: the manager reads files while it serves.
pub fn read(file: &Path) -> io::Result<(String, Version)> {
    let (text, found) = regular_file::read(file, FILE_BYTES_MAX)?;
    Ok((text, Version::of(&found)))
}

impl Draft {
    /// Writes `text` beside `file`, with its mode and owner. It was made of the version `old`.
    pub fn write(file: &Path, old: Version, text: &str) -> Result<Self, String> {
        // A link stays one: what it names is replaced.
        let place = file.canonicalize().unwrap_or_else(|_| file.to_owned());
        let mut name = place.file_name().unwrap_or_default().to_owned();
        name.push(".tidegate-new");
        let draft = Self {
            new: place.with_file_name(name),
            place,
            old,
        };
        draft.fill(text).map_err(|error| {
            format!(
                "nothing was changed, since it could not be saved: {}: {error}",
                draft.new.display()
            )
        })?;
        Ok(draft)
    }

    fn fill(&self, text: &str) -> io::Result<()> {
        let like = std::fs::metadata(&self.place)?;
        // One that nobody may change cannot be exchanged either. That its mode forbids it does not matter: a new one takes its place.
        match OpenOptions::new().write(true).open(&self.place) {
            Err(error) if error.raw_os_error() == Some(Errno::EPERM as i32) => return Err(error),
            _ => {}
        }
        match std::fs::remove_file(&self.new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&self.new)?;
        file.write_all(text.as_bytes())?;
        let ours = file.metadata()?;
        if (ours.uid(), ours.gid()) != (like.uid(), like.gid()) {
            let (user, group) = (Uid::from_raw(like.uid()), Gid::from_raw(like.gid()));
            fchown(&file, Some(user), Some(group)).map_err(|_| {
                let text = "the file belongs to another user, and only root could keep it so";
                io::Error::new(io::ErrorKind::PermissionDenied, text)
            })?;
        }
        // Last: it may hold passwords, and nobody else may read it meanwhile.
        file.set_permissions(like.permissions())?;
        // The manager waits for the disk here, on purpose: whoever saves is told that it is saved, and after a loss of power the file
        // has to be the old one or the new one. It is rare, and workers do not notice.
        file.sync_all()
    }

    /// Puts it in its place, unless somebody has edited what is there meanwhile.
    pub fn put(self) -> Result<(), String> {
        self.replace().map_err(|error| {
            let place = self.place.display();
            format!("it is in force, but not saved: {place}: {error}")
        })
    }

    /// Between the look and the move somebody could still write: that is a moment, not the seconds that workers may take.
    fn replace(&self) -> io::Result<()> {
        if Version::of(&std::fs::metadata(&self.place)?) != self.old {
            let text = "somebody else has changed the file meanwhile, and that is kept: reload it, or set it again with --save";
            return Err(io::Error::other(text));
        }
        std::fs::rename(&self.new, &self.place)?;
        let directory = self.place.parent().unwrap_or(Path::new("/"));
        File::open(directory)?.sync_all()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Not there any more once it is in its place.
        let _moved = std::fs::remove_file(&self.new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn place(name: &str) -> PathBuf {
        let path = format!("tidegate-save-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(path);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn a_draft_takes_the_place_mode_and_link_of_the_file() {
        let place = place("put");
        let (file, link) = (place.join("real.toml"), place.join("link.toml"));
        std::fs::write(&file, "old").unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let (text, old) = read(&link).unwrap();
        assert_eq!(text, "old");
        let draft = Draft::write(&link, old, "new").unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "old", "not yet");
        draft.put().unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "new");
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(std::fs::read_dir(&place).unwrap().count(), 2);
        std::fs::remove_dir_all(&place).unwrap();
    }

    #[test]
    fn what_is_given_up_leaves_nothing() {
        let place = place("drop");
        let file = place.join("a.toml");
        std::fs::write(&file, "old").unwrap();
        let (_, old) = read(&file).unwrap();
        drop(Draft::write(&file, old, "new").unwrap());
        assert_eq!(std::fs::read_dir(&place).unwrap().count(), 1);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "old");
        std::fs::remove_dir_all(&place).unwrap();
    }

    #[test]
    fn what_somebody_else_wrote_meanwhile_is_kept() {
        let place = place("edited");
        let (file, moved) = (place.join("a.toml"), place.join("b.toml"));
        std::fs::write(&file, "old").unwrap();
        let edit = || std::fs::write(&file, "a hand's").unwrap();
        let exchange = || {
            // What editors do: of the same size, and another file.
            std::fs::write(&moved, "olD").unwrap();
            std::fs::rename(&moved, &file).unwrap();
        };
        for (other, text) in [(&exchange as &dyn Fn(), "olD"), (&edit, "a hand's")] {
            let (_, old) = read(&file).unwrap();
            let draft = Draft::write(&file, old, "new").unwrap();
            other();
            let fault = draft.put().unwrap_err();
            assert!(fault.contains("in force, but not saved"), "{fault}");
            assert!(fault.contains("somebody else has changed"), "{fault}");
            assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
            assert_eq!(std::fs::read_dir(&place).unwrap().count(), 1);
        }
        std::fs::remove_dir_all(&place).unwrap();
    }

    /// Where `chattr` works, that is as root on a file system that knows it.
    #[test]
    fn a_file_that_may_not_be_changed_is_told_before_anything_changes() {
        let place = place("immutable");
        let file = place.join("a.toml");
        std::fs::write(&file, "old").unwrap();
        let (_, old) = read(&file).unwrap();
        let chattr = |flag: &str| {
            let mut command = std::process::Command::new("chattr");
            let ended = command.arg(flag).arg(&file).output();
            ended.is_ok_and(|output| output.status.success())
        };
        if chattr("+i") {
            let fault = Draft::write(&file, old, "new").map(drop).unwrap_err();
            assert!(chattr("-i"));
            assert!(fault.starts_with("nothing was changed"), "{fault}");
            assert_eq!(std::fs::read_dir(&place).unwrap().count(), 1);
        }
        std::fs::remove_dir_all(&place).unwrap();
    }

    #[test]
    fn what_cannot_be_written_changes_nothing_and_says_where() {
        let place = place("missing");
        let other = place.join("other.toml");
        std::fs::write(&other, "old").unwrap();
        let (_, old) = read(&other).unwrap();
        let fault = Draft::write(&place.join("gone.toml"), old, "new").unwrap_err();
        assert!(fault.starts_with("nothing was changed"), "{fault}");
        assert!(fault.contains("gone.toml.tidegate-new"), "{fault}");
        assert_eq!(std::fs::read_dir(&place).unwrap().count(), 1);
        std::fs::remove_dir_all(&place).unwrap();
    }
}
