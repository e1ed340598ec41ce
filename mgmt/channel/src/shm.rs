//! Shared memory as words. The only `unsafe` of this crate.
//!
//! A mapping is an array of `AtomicU64` and is only ever read and written as such, so that whatever the other process
//! does at the same time is at worst a surprising number, never a data race. The file behind it is sealed against
//! shrinking before it is mapped, because reading behind the end of a truncated file would be a SIGBUS.

use rustix::fs::{MemfdFlags, Mode, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::Ordering;

/// Whoever works on words takes these from here: a model checker puts its own in this module's place.
pub use std::sync::atomic::{AtomicU64, fence};

/// Bytes of a word.
const WORD_BYTES: usize = size_of::<u64>();

/// Why a piece of shared memory could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ShmError {
    /// A system call failed.
    #[error("shared memory: {call}: {error}")]
    System {
        /// The call.
        call: &'static str,
        /// What the kernel said.
        error: rustix::io::Errno,
    },
    /// The file is shorter than the layout.
    #[error(
        "shared memory: the file has {found} bytes, the layout needs {needed}: manager and worker are of different builds"
    )]
    TooShort {
        /// Bytes the layout needs.
        needed: usize,
        /// Bytes the file has.
        found: u64,
    },
    /// The file could shrink while it is mapped.
    #[error("shared memory: the file is not sealed against shrinking")]
    NotSealed,
    /// Somebody else's.
    #[error("shared memory: the file belongs to user {found}, we are {ours}")]
    Foreign {
        /// Whose it is.
        found: u32,
        /// Who we are.
        ours: u32,
    },
    /// A layout of no words.
    #[error("shared memory: an empty layout")]
    Empty,
}

fn system(call: &'static str) -> impl Fn(rustix::io::Errno) -> ShmError {
    move |error| ShmError::System { call, error }
}

/// Makes a memory file of `words` zero words, sealed against any change of its size.
pub fn create(name: &str, words: usize) -> Result<OwnedFd, ShmError> {
    let file = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
        .map_err(system("memfd_create"))?;
    rustix::fs::ftruncate(&file, (words * WORD_BYTES) as u64).map_err(system("ftruncate"))?;
    rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW)
        .map_err(system("fcntl(F_ADD_SEALS)"))?;
    Ok(file)
}

/// Lets nobody but its owner open `file` again, and allows no further seal. Whoever got a descriptor for reading can only read.
pub fn keep_to_owner(file: impl AsFd) -> Result<(), ShmError> {
    let file = file.as_fd();
    rustix::fs::fchmod(file, Mode::RUSR | Mode::WUSR).map_err(system("fchmod"))?;
    rustix::fs::fcntl_add_seals(file, SealFlags::SEAL).map_err(system("fcntl(F_ADD_SEALS)"))
}

/// Whether a process of our own user made `file`: a worker, which is another user, cannot have made it up.
pub fn check_owner(file: impl AsFd) -> Result<(), ShmError> {
    let found = rustix::fs::fstat(file).map_err(system("fstat"))?.st_uid;
    let ours = rustix::process::geteuid().as_raw();
    if found == ours {
        Ok(())
    } else {
        Err(ShmError::Foreign { found, ours })
    }
}

/// A mapping, without a say on who may write.
#[derive(Debug)]
struct Mapping {
    base: NonNull<AtomicU64>,
    words: usize,
    /// It is no mapping but a box of our own.
    boxed: bool,
}

// SAFETY: the mapping is plain memory that lives until drop and is reached only through atomics; no thread owns it.
unsafe impl Send for Mapping {}
// SAFETY: as above, shared access is by atomics alone.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn map(file: BorrowedFd<'_>, words: usize, protection: ProtFlags) -> Result<Self, ShmError> {
        let needed = words * WORD_BYTES;
        if needed == 0 {
            return Err(ShmError::Empty);
        }
        let seals = rustix::fs::fcntl_get_seals(file).map_err(system("fcntl(F_GET_SEALS)"))?;
        if !seals.contains(SealFlags::SHRINK) {
            return Err(ShmError::NotSealed);
        }
        let found = rustix::fs::fstat(file).map_err(system("fstat"))?.st_size as u64;
        if found < needed as u64 {
            return Err(ShmError::TooShort { needed, found });
        }
        // SAFETY: a null hint lets the kernel choose the place, so no existing mapping is replaced.
        let address = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                needed,
                protection,
                MapFlags::SHARED,
                file,
                0,
            )
        }
        .map_err(system("mmap"))?;
        let base = NonNull::new(address.cast::<AtomicU64>()).ok_or(ShmError::Empty)?;
        Ok(Self {
            base,
            words,
            boxed: false,
        })
    }

    /// The same from the heap, for nobody else to see.
    fn private(words: usize) -> Self {
        let zeros: Box<[AtomicU64]> = (0..words).map(|_| AtomicU64::new(0)).collect();
        let first: NonNull<[AtomicU64]> = NonNull::from(Box::leak(zeros));
        Self {
            base: first.cast(),
            words,
            boxed: true,
        }
    }

    #[inline]
    fn slice(&self) -> &[AtomicU64] {
        // SAFETY: base is the start of so many words that live as long as self, cannot shrink, and are only reached as atomics.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.words) }
    }

    #[inline]
    fn word(&self, index: usize) -> &AtomicU64 {
        assert!(
            index < self.words,
            "word {index} of a mapping of {}",
            self.words
        );
        // SAFETY: the index is inside the mapping, which is page-aligned, lives as long as self and cannot shrink.
        unsafe { self.base.add(index).as_ref() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.boxed {
            let words = NonNull::slice_from_raw_parts(self.base, self.words);
            // SAFETY: the box was leaked by `private` of this value, with this length, and no reference into it outlives self.
            drop(unsafe { Box::from_raw(words.as_ptr()) });
            return;
        }
        // SAFETY: base and length are those of the mmap of this value, and no reference into it outlives self.
        let unmapped =
            unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.words * WORD_BYTES) };
        debug_assert!(unmapped.is_ok(), "munmap of our own mapping");
    }
}

/// Words that can be read.
pub trait LoadWords {
    /// One word. Panics when `index` is outside the layout, which is our own mistake.
    fn load(&self, index: usize, ordering: Ordering) -> u64;
    /// Number of words.
    fn words(&self) -> usize;
}

/// A mapping that this process only reads; a write would be a fault, so there is no way to write.
#[derive(Debug)]
pub struct ReadableWords(Mapping);

impl ReadableWords {
    /// Maps the first `words` words of `file`.
    pub fn map(file: impl AsFd, words: usize) -> Result<Self, ShmError> {
        Mapping::map(file.as_fd(), words, ProtFlags::READ).map(Self)
    }
}

impl LoadWords for ReadableWords {
    #[inline]
    fn load(&self, index: usize, ordering: Ordering) -> u64 {
        self.0.word(index).load(ordering)
    }

    fn words(&self) -> usize {
        self.0.words
    }
}

/// A mapping that this process reads and writes.
#[derive(Debug)]
pub struct WritableWords(Mapping);

impl WritableWords {
    /// Maps the first `words` words of `file`.
    pub fn map(file: impl AsFd, words: usize) -> Result<Self, ShmError> {
        Mapping::map(file.as_fd(), words, ProtFlags::READ | ProtFlags::WRITE).map(Self)
    }

    /// Zero words that nobody else sees, for those who count without a page.
    pub fn private(words: usize) -> Self {
        Self(Mapping::private(words))
    }

    /// All words, for whoever uses several at once.
    #[inline]
    pub fn slice(&self) -> &[AtomicU64] {
        self.0.slice()
    }

    /// Writes one word. Panics when `index` is outside the layout, which is our own mistake.
    #[inline]
    pub fn store(&self, index: usize, value: u64, ordering: Ordering) {
        self.0.word(index).store(value, ordering);
    }

    /// Writes one word and returns what stood there.
    #[inline]
    pub fn swap(&self, index: usize, value: u64, ordering: Ordering) -> u64 {
        self.0.word(index).swap(value, ordering)
    }
}

impl LoadWords for WritableWords {
    #[inline]
    fn load(&self, index: usize, ordering: Ordering) -> u64 {
        self.0.word(index).load(ordering)
    }

    fn words(&self) -> usize {
        self.0.words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_see_the_same_words() {
        let file = create("test", 8).unwrap();
        let writer = WritableWords::map(&file, 8).unwrap();
        let reader = ReadableWords::map(&file, 8).unwrap();
        writer.store(7, 42, Ordering::Relaxed);
        assert_eq!(reader.load(7, Ordering::Relaxed), 42);
        assert_eq!(writer.swap(7, 1, Ordering::Relaxed), 42);
        assert_eq!((reader.words(), writer.words()), (8, 8));
    }

    #[test]
    fn private_words_are_zero_and_as_many_as_were_asked_for() {
        let words = WritableWords::private(3);
        assert_eq!(words.slice().len(), 3);
        words.store(2, 9, Ordering::Relaxed);
        let read = words
            .slice()
            .iter()
            .map(|word| word.load(Ordering::Relaxed));
        assert_eq!(read.collect::<Vec<_>>(), [0, 0, 9]);
        assert_eq!(WritableWords::private(0).slice().len(), 0);
    }

    #[test]
    fn private_words_can_be_swapped_and_read_on_another_thread() {
        let words = WritableWords::private(2);
        std::thread::scope(|scope| {
            scope.spawn(|| words.store(1, 7, Ordering::Release));
            while words.load(1, Ordering::Acquire) != 7 {
                std::thread::yield_now();
            }
        });
        assert_eq!(words.swap(1, 8, Ordering::Relaxed), 7);
        assert_eq!((words.load(1, Ordering::Relaxed), words.words()), (8, 2));
    }

    #[test]
    #[should_panic(expected = "word 2 of a mapping of 2")]
    fn a_private_word_outside_the_layout_is_our_own_mistake() {
        WritableWords::private(2).store(2, 1, Ordering::Relaxed);
    }

    #[test]
    fn a_file_that_could_shrink_is_refused() {
        let file = rustix::fs::memfd_create("test", MemfdFlags::ALLOW_SEALING).unwrap();
        rustix::fs::ftruncate(&file, 4096).unwrap();
        assert!(matches!(
            ReadableWords::map(&file, 8),
            Err(ShmError::NotSealed)
        ));
    }

    #[test]
    fn a_file_cannot_be_truncated_under_its_reader() {
        let file = create("test", 8).unwrap();
        assert_eq!(
            rustix::fs::ftruncate(&file, 0),
            Err(rustix::io::Errno::PERM)
        );
    }

    #[test]
    fn a_file_shorter_than_the_layout_is_refused() {
        let file = create("test", 8).unwrap();
        assert!(matches!(
            ReadableWords::map(&file, 9),
            Err(ShmError::TooShort {
                needed: 72,
                found: 64
            })
        ));
        assert!(matches!(WritableWords::map(&file, 0), Err(ShmError::Empty)));
    }

    #[test]
    fn a_file_that_is_kept_to_its_owner_is_ours_and_cannot_be_sealed_again() {
        let file = create("test", 8).unwrap();
        keep_to_owner(&file).unwrap();
        check_owner(&file).unwrap();
        assert_eq!(
            rustix::fs::fcntl_add_seals(&file, SealFlags::WRITE),
            Err(rustix::io::Errno::PERM)
        );
        let ours = rustix::process::geteuid().as_raw();
        let nobody = 65_534;
        if ours == 0 {
            let uid = rustix::fs::Uid::from_raw(nobody);
            rustix::fs::fchown(&file, Some(uid), None).unwrap();
            assert!(matches!(
                check_owner(&file),
                Err(ShmError::Foreign { found, ours: 0 }) if found == nobody
            ));
        }
    }

    #[test]
    #[should_panic(expected = "word 8 of a mapping of 8")]
    fn a_word_outside_the_layout_is_our_own_mistake() {
        let file = create("test", 8).unwrap();
        ReadableWords::map(&file, 8)
            .unwrap()
            .load(8, Ordering::Relaxed);
    }
}
