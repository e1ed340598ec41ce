//! A changed file in the place of the old one: written beside it first, so that a full disk costs nothing, and moved there once what
//! it says is in force.

use nix::unistd::{Gid, Uid, fchown};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A file that is written and not yet in its place. Removed if it never gets there.
#[derive(Debug)]
pub struct Draft {
    new: PathBuf,
    place: PathBuf,
}

impl Draft {
    /// Writes `text` beside `file`, with its mode and owner.
    pub fn write(file: &Path, text: &str) -> Result<Self, String> {
        // A link stays one: what it names is replaced.
        let place = file.canonicalize().unwrap_or_else(|_| file.to_owned());
        let mut name = place.file_name().unwrap_or_default().to_owned();
        name.push(".tidegate-new");
        let draft = Self {
            new: place.with_file_name(name),
            place,
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
        file.sync_all()
    }

    /// Puts it in its place.
    pub fn put(self) -> Result<(), String> {
        let moved = std::fs::rename(&self.new, &self.place).and_then(|()| {
            let directory = self.place.parent().unwrap_or(Path::new("/"));
            File::open(directory)?.sync_all()
        });
        moved.map_err(|error| {
            let place = self.place.display();
            format!("it is in force, but not saved: {place}: {error}")
        })
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
        let draft = Draft::write(&link, "new").unwrap();
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
        drop(Draft::write(&file, "new").unwrap());
        assert_eq!(std::fs::read_dir(&place).unwrap().count(), 1);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "old");
        std::fs::remove_dir_all(&place).unwrap();
    }

    #[test]
    fn what_cannot_be_written_changes_nothing_and_says_where() {
        let place = place("missing");
        let fault = Draft::write(&place.join("gone.toml"), "new").unwrap_err();
        assert!(fault.starts_with("nothing was changed"), "{fault}");
        assert!(fault.contains("gone.toml.tidegate-new"), "{fault}");
        assert_eq!(std::fs::read_dir(&place).unwrap().count(), 0);
        std::fs::remove_dir_all(&place).unwrap();
    }
}
