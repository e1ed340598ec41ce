//! Where a capture goes: a file that nobody else can read, or a device, a pipe or standard output.

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::Uid;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Bytes that are gathered before they are written. Below: a system call for a few frames. Above: a full disk costs more of them.
const GATHERED_BYTES: usize = 64 * 1024;

/// The place of a capture, opened and not yet written to: what was there before is there still.
#[derive(Debug)]
pub struct Place {
    file: File,
    is_ours: bool,
    unused: Unused,
}

/// A new file, which goes again if nothing comes of the capture.
#[derive(Debug)]
struct Unused(Option<PathBuf>);

impl Drop for Unused {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _gone = std::fs::remove_file(path);
        }
    }
}

impl Place {
    /// Opens `path`; `-` is standard output.
    pub fn open(path: &Path) -> io::Result<Self> {
        if path == Path::new("-") {
            let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
            // What somebody has opened for us stays as they made it.
            return Ok(Self {
                file,
                is_ours: false,
                unused: Unused(None),
            });
        }
        let mut options = OpenOptions::new();
        options.write(true).mode(0o600);
        match options.clone().create_new(true).open(path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            made => {
                return Ok(Self {
                    file: made?,
                    is_ours: true,
                    unused: Unused(Some(path.to_owned())),
                });
            }
        }
        let no_follow = OFlag::O_NOFOLLOW.bits();
        let (file, by_link) = match options.clone().custom_flags(no_follow).open(path) {
            Err(error) if error.raw_os_error() == Some(Errno::ELOOP as i32) => {
                (options.open(path)?, true)
            }
            file => (file?, false),
        };
        let about = file.metadata()?;
        let refused = |why| Err(io::Error::new(ErrorKind::PermissionDenied, why));
        if about.is_file() && by_link {
            return refused("it is a link to a file: name the file itself");
        }
        if about.is_file() && about.uid() != Uid::effective().as_raw() {
            return refused("it belongs to another user, who could read it: name another file");
        }
        Ok(Self {
            file,
            is_ours: about.is_file(),
            unused: Unused(None),
        })
    }

    /// From here on it is written: of a file, what was there before is gone, and what comes is for its owner alone.
    pub fn begin(mut self) -> io::Result<Output> {
        if self.is_ours {
            self.file.set_permissions(Permissions::from_mode(0o600))?;
            self.file.set_len(0)?;
        }
        self.unused.0 = None;
        Ok(Output {
            file: self.file,
            is_ours: self.is_ours,
            blocks: Vec::with_capacity(GATHERED_BYTES),
            written: 0,
        })
    }
}

/// Takes blocks of a pcapng file, each in one call. When the disk is full, the file ends with the last whole one.
#[derive(Debug)]
pub struct Output {
    file: File,
    is_ours: bool,
    /// Whole blocks that are not written yet.
    blocks: Vec<u8>,
    /// Bytes in the file.
    written: u64,
}

impl Output {
    fn pass_on(&mut self) -> io::Result<()> {
        let mut passed = 0;
        while passed < self.blocks.len() {
            match self.file.write(&self.blocks[passed..]) {
                Ok(0) => return self.cut(passed, ErrorKind::WriteZero.into()),
                Ok(bytes) => passed += bytes,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return self.cut(passed, error),
            }
        }
        self.written += passed as u64;
        self.blocks.clear();
        Ok(())
    }

    /// The file takes no more than `passed` of the blocks: half a block would make it unreadable.
    fn cut(&mut self, passed: usize, error: io::Error) -> io::Result<()> {
        if self.is_ours {
            let whole = whole_blocks(&self.blocks[..passed]);
            self.file.set_len(self.written + whole as u64)?;
        }
        self.blocks.clear();
        Err(error)
    }
}

impl Write for Output {
    fn write(&mut self, block: &[u8]) -> io::Result<usize> {
        if self.blocks.len() + block.len() > GATHERED_BYTES {
            self.pass_on()?;
        }
        self.blocks.extend_from_slice(block);
        Ok(block.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.pass_on()
    }
}

/// Bytes of the whole blocks at the front. The second word of each is its length.
fn whole_blocks(bytes: &[u8]) -> usize {
    let mut whole = 0;
    while let Some(length) = bytes.get(whole + 4..whole + 8) {
        let length = length.try_into().map_or(0, u32::from_le_bytes) as usize;
        if length == 0 || length > bytes.len() - whole {
            break;
        }
        whole += length;
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let name = format!("tidegate-capture-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _gone = std::fs::remove_dir_all(&self.0);
        }
    }

    fn block(bytes: usize) -> Vec<u8> {
        let mut block = vec![7; bytes];
        block[4..8].copy_from_slice(&(bytes as u32).to_le_bytes());
        block
    }

    #[test]
    fn a_file_that_others_could_read_is_theirs_no_more() {
        let directory = Directory::new("mode");
        let file = directory.0.join("a.pcapng");
        std::fs::write(&file, "before").unwrap();
        std::fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
        let place = Place::open(&file).unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"before", "not yet");
        let mut output = place.begin().unwrap();
        output.write_all(&block(16)).unwrap();
        output.flush().unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), block(16));
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn links_to_files_are_refused_and_devices_are_not() {
        let directory = Directory::new("link");
        let (file, link) = (directory.0.join("a"), directory.0.join("b"));
        std::fs::write(&file, "before").unwrap();
        symlink(&file, &link).unwrap();
        let fault = Place::open(&link).unwrap_err().to_string();
        assert!(fault.contains("a link to a file"), "{fault}");
        assert_eq!(std::fs::read(&file).unwrap(), b"before");
        std::fs::remove_file(&link).unwrap();
        symlink("/dev/null", &link).unwrap();
        for device in [link.as_path(), Path::new("/dev/null")] {
            let mut output = Place::open(device).unwrap().begin().unwrap();
            output.write_all(&block(16)).unwrap();
            output.flush().unwrap();
        }
    }

    #[test]
    fn what_nothing_came_of_leaves_no_file() {
        let directory = Directory::new("unused");
        let file = directory.0.join("a.pcapng");
        drop(Place::open(&file).unwrap());
        assert!(!file.exists());
        drop(Place::open(&file).unwrap().begin().unwrap());
        assert!(file.exists());
    }

    #[test]
    fn only_whole_blocks_stay() {
        let two = [block(16), block(20)].concat();
        for (bytes, whole) in [(0, 0), (7, 0), (15, 0), (16, 16), (35, 16), (36, 36)] {
            assert_eq!(whole_blocks(&two[..bytes]), whole, "{bytes}");
        }
        assert_eq!(whole_blocks(&[0; 64]), 0);
        let directory = Directory::new("cut");
        let file = directory.0.join("a.pcapng");
        let mut output = Place::open(&file).unwrap().begin().unwrap();
        output.write_all(&two).unwrap();
        output.flush().unwrap();
        // The disk takes a block and a half more.
        output.blocks.extend_from_slice(&two);
        let taken = output.blocks[..30].to_vec();
        output.file.write_all(&taken).unwrap();
        assert!(output.cut(30, ErrorKind::StorageFull.into()).is_err());
        assert_eq!(std::fs::metadata(&file).unwrap().len(), 36 + 16);
    }

    #[test]
    fn a_full_device_is_told() {
        let mut output = Place::open(Path::new("/dev/full"))
            .unwrap()
            .begin()
            .unwrap();
        output.write_all(&block(16)).unwrap();
        let error = output.flush().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
    }
}
