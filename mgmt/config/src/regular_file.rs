//! Files that somebody names. A pipe that nobody writes to would hold up whoever reads it, and a device may have no end.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// `O_NONBLOCK` of Linux, the same on every architecture that Tidegate runs on.
const O_NONBLOCK: i32 = 0o4000;

/// Opens a regular file without waiting for anything.
///
/// # Errors
/// It cannot be opened, or it is something else: a directory, a pipe, a device.
pub fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let mut options = OpenOptions::new();
    let file = options.read(true).custom_flags(O_NONBLOCK).open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    Ok((file, found))
}

/// The text of a regular file, and what the file was when it was read.
///
/// # Errors
/// As of [`open`]; it has more than `most` bytes, or is not UTF-8.
pub fn read(path: &Path, most: usize) -> io::Result<(String, Metadata)> {
    let (file, found) = open(path)?;
    let mut bytes = Vec::new();
    // It may grow while it is read, and files of the kernel do not say how long they are.
    file.take(most as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > most {
        let text = format!("it has more than {most} bytes, the most that is read");
        return Err(io::Error::other(text));
    }
    let text = String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8"))?;
    Ok((text, found))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn only_a_file_that_ends_is_read() {
        let name = format!("tidegate-regular-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, "1234").unwrap();
        assert_eq!(read(&path, 4).unwrap().0, "1234");
        let fault = read(&path, 3).unwrap_err().to_string();
        assert!(fault.contains("more than 3 bytes"), "{fault}");
        std::fs::write(&path, [0xff]).unwrap();
        assert!(read(&path, 4).unwrap_err().to_string().contains("UTF-8"));
        std::fs::remove_file(&path).unwrap();

        let made = Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        for other in [path.as_path(), Path::new("/dev/zero"), Path::new("/")] {
            let fault = read(other, 4).unwrap_err().to_string();
            assert_eq!(fault, "it is no regular file", "{}", other.display());
        }
        std::fs::remove_file(&path).unwrap();
    }
}
