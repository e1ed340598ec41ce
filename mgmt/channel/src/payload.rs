//! What does not fit a packet travels as a sealed memory file: written once, then unchangeable for both sides.

use rustix::fs::{MemfdFlags, SealFlags};
use serde::{Serialize, de::DeserializeOwned};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};

/// Most bytes of a payload. Why: a configuration from the longest file takes 19 MiB, and what a worker left open 20 at most
/// ([`crate::flows::ORPHANS_MAX`]). Too low: a worker whose start is larger is never started. Too high: memory of manager and worker.
pub const PAYLOAD_BYTES_MAX: u64 = 64 * 1024 * 1024;

const SEALS: SealFlags = SealFlags::SHRINK
    .union(SealFlags::GROW)
    .union(SealFlags::WRITE)
    .union(SealFlags::SEAL);

/// Why a payload could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// A system call failed.
    #[error("payload: {0}")]
    System(#[from] std::io::Error),
    /// It could change while it is read.
    #[error("payload: the file is not sealed")]
    NotSealed,
    /// Beyond [`PAYLOAD_BYTES_MAX`].
    #[error("payload: {bytes} bytes, at most {PAYLOAD_BYTES_MAX} are allowed")]
    TooLarge {
        /// Its size.
        bytes: u64,
    },
    /// Not what was expected.
    #[error("payload: {0}: manager and worker are of different builds")]
    Malformed(#[from] serde_json::Error),
}

/// Writes `value` into a new sealed memory file.
pub fn write<T: Serialize>(value: &T) -> Result<OwnedFd, PayloadError> {
    let text = serde_json::to_vec(value)?;
    if text.len() as u64 > PAYLOAD_BYTES_MAX {
        return Err(PayloadError::TooLarge {
            bytes: text.len() as u64,
        });
    }
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = rustix::fs::memfd_create("tidegate-payload", flags).map_err(std::io::Error::from)?;
    let mut file = File::from(file);
    file.write_all(&text)?;
    file.rewind()?;
    rustix::fs::fcntl_add_seals(&file, SEALS).map_err(std::io::Error::from)?;
    Ok(file.into())
}

/// Reads what [`write()`] wrote.
pub fn read<T: DeserializeOwned>(file: OwnedFd) -> Result<T, PayloadError> {
    let seals = rustix::fs::fcntl_get_seals(file.as_fd()).map_err(std::io::Error::from)?;
    if !seals.contains(SEALS) {
        return Err(PayloadError::NotSealed);
    }
    let mut file = File::from(file);
    let bytes = file.metadata()?.len();
    if bytes > PAYLOAD_BYTES_MAX {
        return Err(PayloadError::TooLarge { bytes });
    }
    file.rewind()?;
    Ok(serde_json::from_slice(&read_at_most(file, bytes)?)?)
}

/// The position is shared with whoever has the file too, and may be moved all the time: then the text is none, but no longer than this.
fn read_at_most(file: impl Read, bytes: u64) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::with_capacity(bytes as usize);
    file.take(bytes).read_to_end(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_cannot_be_changed() {
        let file = write(&vec![1_u32, 2, 3]).unwrap();
        let mut vandal = File::from(file.try_clone().unwrap());
        assert!(vandal.write_all(b"x").is_err());
        assert_eq!(read::<Vec<u32>>(file).unwrap(), [1, 2, 3]);
    }

    /// Whoever goes back to the beginning of an open file that we read makes it one without an end.
    #[test]
    fn reading_ends_although_the_file_does_not() {
        let text = read_at_most(std::io::repeat(b'x'), 100_000).unwrap();
        assert_eq!(text.len(), 100_000);
    }

    #[test]
    fn an_unsealed_or_malformed_file_is_refused() {
        let file = rustix::fs::memfd_create("test", MemfdFlags::ALLOW_SEALING).unwrap();
        assert!(matches!(read::<u32>(file), Err(PayloadError::NotSealed)));
        let file = write(&"text").unwrap();
        assert!(matches!(read::<u32>(file), Err(PayloadError::Malformed(_))));
    }
}
