//! A file that is replaced where room for it was taken before: a full disk must not keep the next manager from knowing who lives.

use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Bytes of the file, at least. Why: 64 workers with what is told of each, and as much again. Too low: the record of a large instance has
/// to find room whenever it grows. Too high: the runtime directory is memory.
pub const ROOM_BYTES: usize = 32 << 10;

/// Replaces the text of a file that ignores blanks at its end. Whoever is killed leaves the old text or the new one.
///
/// The new text goes into a second file, which then changes places with the first, so that each keeps its room for the next time.
pub fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let spare = path.with_extension("new");
    fill(&spare, text)?;
    if renameat_with(CWD, &spare, CWD, path, RenameFlags::EXCHANGE).is_err() {
        // There was none yet, or the file system cannot do that.
        std::fs::rename(&spare, path)?;
        // If there is no room now there may be later.
        let _next_time = fill(&spare, b"");
    }
    Ok(())
}

/// Writes without giving back any room.
fn fill(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let mut file = options.open(path)?;
    let had = usize::try_from(file.metadata()?.len()).unwrap_or(0);
    let mut text = text.to_vec();
    text.resize(text.len().max(had).max(ROOM_BYTES), b' ');
    file.write_all(&text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_text_is_replaced_without_more_room() {
        let name = format!("tidegate-in-place-{}", std::process::id());
        let place = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&place).unwrap();
        let file = place.join("a.json");
        let files = || {
            let spare = file.with_extension("new");
            let mut found = [&file, &spare].map(|path| {
                let found = std::fs::metadata(path).unwrap();
                (found.ino(), found.len() as usize)
            });
            found.sort_unstable();
            found
        };
        let long = "1".repeat(ROOM_BYTES + 7);
        replace(&file, b"{}").unwrap();
        let before = files();
        assert!(before.iter().all(|(_, bytes)| *bytes == ROOM_BYTES));
        for text in ["12", "", "345"] {
            replace(&file, text.as_bytes()).unwrap();
            let now = std::fs::read_to_string(&file).unwrap();
            assert_eq!(now.trim_end_matches(' '), text);
            assert_eq!(files(), before);
        }
        // Nothing of a longer one is left behind a shorter one.
        for text in [&long, "3", "4", "5"] {
            replace(&file, text.as_bytes()).unwrap();
            let now = std::fs::read_to_string(&file).unwrap();
            assert_eq!(now.trim_end_matches(' '), text);
        }
        std::fs::remove_dir_all(&place).unwrap();
    }
}
