//! The runtime directory of an instance: its lock, its control socket, and a record of what has to be undone.
//!
//! `/run/tidegate/<name>/`, or a directory of the user's own, holds `lock` (held while the manager lives, so that a second instance of
//! the same name is refused), `control.sock`, `w0.sock` and so on (the doors of workers), `totals.json` (what ended workers counted), and
//! `record.json`. A manager that is killed cannot clean up; the next start of the same name reads the record, adopts the workers that are
//! left, or undoes what it says.

mod in_place;

use crate::reload::edit::Edit;
use crate::remains::programs::ProgramRecord;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{SysconfVar, Uid, geteuid, sysconf};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::{DirBuilder, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where runtime directories of root are, unless the command line says otherwise.
const SYSTEM_ROOT: &str = "/run/tidegate";
/// Longest path of a Unix socket, without its closing zero byte.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// Another manager holds the lock.
    #[error(
        "an instance named {name:?} is running already (process {holder}); give this one another `name` in its configuration"
    )]
    Running {
        /// The instance.
        name: String,
        /// What the lock file says.
        holder: String,
    },
    /// The directory or a file in it cannot be written.
    #[error(
        "runtime directory: cannot write {path}: {error}; free space or make it writable, or choose another with --runtime-dir"
    )]
    Unwritable {
        /// What was to be written.
        path: PathBuf,
        /// What the kernel said.
        error: std::io::Error,
    },
    /// Somebody else could read and change what is in it.
    #[error(
        "runtime directory: {path} is not a directory of user {user} alone; remove it, or choose another with --runtime-dir"
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// Who we are.
        user: u32,
    },
    /// The path is too long for a socket.
    #[error(
        "runtime directory: {path} is too long for a Unix socket (at most {SOCKET_PATH_BYTES_MAX} bytes): shorten `name`"
    )]
    TooLong {
        /// The path of the socket.
        path: PathBuf,
    },
}

/// What a later start has to undo.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Ports that were added to the kernel's reserved ones, as text.
    pub reserved_ports: String,
    /// Workers that were started, each once.
    pub workers: Vec<WorkerRecord>,
    /// The network namespace of the instance: see [`network_namespace`].
    #[serde(default)]
    pub network_namespace: u64,
    /// Files of Unix sockets that clients connect to.
    #[serde(default)]
    pub sockets: Vec<PathBuf>,
    /// The number of the configuration in force.
    #[serde(default)]
    pub generation: u64,
    /// Settings that were changed and are not in the file: whoever adopts the workers adopts them.
    #[serde(default)]
    pub unsaved: Vec<Edit>,
    /// Workers were moved to cores that are not in the file.
    #[serde(default)]
    pub moved: bool,
    /// Programs that DPDK attached to interfaces.
    #[serde(default)]
    pub programs: Vec<ProgramRecord>,
}

/// A worker and what is told of it, also by the manager after this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerRecord {
    /// Its index.
    pub worker: u32,
    /// Its process; `None` while there is none.
    pub process: Option<ProcessId>,
    /// Processes started so far.
    pub starts: u64,
    /// Those that were killed because they hung.
    pub hung: u64,
    /// Those that were killed because of a system call that they must not use.
    #[serde(default)]
    pub forbidden_calls: u64,
    /// The number of the configuration that its process works by.
    #[serde(default)]
    pub generation: u64,
    /// How the process before this one ended.
    pub last_exit: Option<String>,
}

impl Record {
    /// Processes of workers that still live.
    pub fn living(&self) -> impl Iterator<Item = ProcessId> {
        let processes = self.workers.iter().filter_map(|worker| worker.process);
        processes.filter(ProcessId::lives)
    }
}

/// Where runtime directories are unless the command line says otherwise: root's in one place, those of a user in a place of his
/// own, unless root's has been given to him.
///
/// # Errors
/// The place is there and is not his.
pub fn default_root() -> Result<PathBuf, RuntimeError> {
    let user = geteuid();
    if user.is_root() {
        return Ok(PathBuf::from(SYSTEM_ROOT));
    }
    // A service manager may have made it for us.
    let system = std::fs::symlink_metadata(SYSTEM_ROOT);
    if system.is_ok_and(|found| is_private(&found, user)) {
        return Ok(PathBuf::from(SYSTEM_ROOT));
    }
    let session = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let path = match session.filter(|path| path.is_absolute() && path.is_dir()) {
        Some(session) => session.join("tidegate"),
        None => PathBuf::from(format!("/tmp/tidegate-{user}")),
    };
    match std::fs::symlink_metadata(&path) {
        Ok(found) if !is_private(&found, user) => Err(RuntimeError::Foreign {
            path,
            user: user.as_raw(),
        }),
        _ => Ok(path),
    }
}

/// Makes the directory of all instances if it is not there. `true`: it was not.
///
/// # Errors
/// It cannot be made, or others may write in it.
pub fn claim_root(root: &Path) -> Result<bool, RuntimeError> {
    let user = geteuid();
    let unwritable = |error| RuntimeError::Unwritable {
        path: root.to_owned(),
        error,
    };
    let missing = !root.exists();
    if missing {
        let mode = if user.is_root() { 0o755 } else { 0o700 };
        let mut builder = DirBuilder::new();
        let made = builder.recursive(true).mode(mode).create(root);
        made.map_err(unwritable)?;
    }
    let found = std::fs::symlink_metadata(root).map_err(unwritable)?;
    if is_private(&found, user) {
        return Ok(missing);
    }
    Err(RuntimeError::Foreign {
        path: root.to_owned(),
        user: user.as_raw(),
    })
}

/// Whether nobody but `user` can put anything there. A symbolic link may lead anywhere.
fn is_private(found: &Metadata, user: Uid) -> bool {
    found.is_dir() && found.uid() == user.as_raw() && found.mode() & 0o022 == 0
}

/// Tells network namespaces apart; 0 where the kernel does not say.
pub fn network_namespace() -> u64 {
    std::fs::metadata("/proc/self/ns/net").map_or(0, |file| file.ino())
}

/// A process that cannot be mistaken for another that got the same number later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its number.
    pub pid: u32,
    /// When it started, in clock ticks since boot.
    pub started: u64,
}

impl ProcessId {
    /// The process that has this number now.
    pub fn of(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (state, started) = parse_stat(&stat)?;
        (state != 'Z').then_some(Self { pid, started })
    }

    /// Whether it still lives.
    pub fn lives(&self) -> bool {
        Self::of(self.pid) == Some(*self)
    }

    /// How long it has lived; zero if that cannot be told.
    pub fn age(&self) -> Duration {
        let uptime = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from);
        let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten();
        match (uptime, ticks.and_then(|ticks| u64::try_from(ticks).ok())) {
            (Ok(uptime), Some(ticks @ 1..)) => {
                let started_ms = self.started.saturating_mul(1_000) / ticks;
                uptime.saturating_sub(Duration::from_millis(started_ms))
            }
            _ => Duration::ZERO,
        }
    }
}

/// State and start time in the text of `/proc/<pid>/stat`. The name, in parentheses, may hold anything.
pub fn parse_stat(stat: &str) -> Option<(char, u64)> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut columns = rest.split(' ');
    let state = columns.next()?.chars().next()?;
    // The state is column 3, the start time column 22.
    let started = columns.nth(18)?.parse().ok()?;
    Some((state, started))
}

/// The directory of a running instance.
#[derive(Debug)]
pub struct RuntimeDir {
    path: PathBuf,
    /// Removed with it.
    _made: Made,
    _lock: File,
}

/// Directories that were made, outermost first; those that are empty are removed with this value.
#[derive(Debug, Default)]
struct Made(Vec<PathBuf>);

impl Made {
    /// Makes `path` and what is missing above it.
    fn directory(&mut self, path: &Path, mode: u32) -> io::Result<()> {
        let missing: Vec<&Path> = path
            .ancestors()
            .take_while(|path| !path.as_os_str().is_empty() && !path.exists())
            .collect();
        for path in missing.into_iter().rev() {
            match DirBuilder::new().mode(mode).create(path) {
                Ok(()) => self.0.push(path.to_owned()),
                // Another instance was faster.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            // One that is not empty is another instance's as well, or holds a record.
            let _not_empty = std::fs::remove_dir(path);
        }
    }
}

impl RuntimeDir {
    /// Makes the directory and takes its lock.
    pub fn claim(root: &Path, name: &str) -> Result<Self, RuntimeError> {
        let path = root.join(name);
        let socket = control_socket(root, name);
        if socket.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            return Err(RuntimeError::TooLong { path: socket });
        }
        let unwritable = |path: &Path| {
            let path = path.to_owned();
            move |error| RuntimeError::Unwritable { path, error }
        };
        let mut made = Made::default();
        let user = geteuid();
        let mode = if user.is_root() { 0o755 } else { 0o700 };
        made.directory(root, mode).map_err(unwritable(root))?;
        made.directory(&path, 0o700).map_err(unwritable(&path))?;
        let found = std::fs::symlink_metadata(&path).map_err(unwritable(&path))?;
        if !is_private(&found, user) {
            return Err(RuntimeError::Foreign {
                path,
                user: user.as_raw(),
            });
        }
        let lock_path = path.join("lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(unwritable(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _unreadable = lock.read_to_string(&mut holder);
                return Err(RuntimeError::Running {
                    name: name.to_owned(),
                    holder: holder.trim().to_owned(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(unwritable(&lock_path)(error)),
        }
        let written = lock
            .set_len(0)
            .and_then(|()| writeln!(lock, "{}", std::process::id()));
        let claimed = Self {
            path,
            _made: made,
            _lock: lock,
        };
        match written {
            Ok(()) => Ok(claimed),
            Err(error) => {
                claimed.remove_unless_recorded();
                Err(unwritable(&lock_path)(error))
            }
        }
    }

    /// What an earlier instance left behind; one that cannot be read is no record.
    pub fn record(&self) -> Option<Record> {
        let text = std::fs::read(self.path.join("record.json")).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// What replaces the record.
    pub fn recorder(&self) -> Recorder {
        Recorder {
            path: self.path.join("record.json"),
        }
    }

    /// The name of the instance.
    pub fn name(&self) -> &str {
        let name = self.path.file_name().and_then(|name| name.to_str());
        name.unwrap_or_default()
    }

    /// The path of the control socket.
    pub fn control_socket(&self) -> PathBuf {
        self.path.join("control.sock")
    }

    /// The same, unless workers are left: they can be adopted, or ended by `tidegate clean-up`.
    pub fn remove_unless_workers_live(self) {
        let record = self.record().unwrap_or_default();
        if record.living().next().is_none() {
            self.remove();
        }
    }

    /// The same, unless it holds a record of something to undo.
    pub fn remove_unless_recorded(self) {
        if self.record().is_none() {
            self.remove();
        }
    }

    /// Removes everything in the directory, and the directory.
    pub fn remove(self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            tracing::warn!("cannot remove {}: {error}", self.path.display());
        }
    }
}

/// Writes the record of an instance.
#[derive(Debug)]
pub struct Recorder {
    path: PathBuf,
}

impl Recorder {
    /// Where the door of a worker is. Its name is short, so that it fits where the control socket fits.
    pub fn door(&self, worker: usize) -> PathBuf {
        self.path.with_file_name(format!("w{worker}.sock"))
    }

    /// Replaces the record, also on a disk that has become full; a crash leaves the old one or the new one.
    pub fn write(&self, record: &Record) -> Result<(), RuntimeError> {
        put(&self.path, serde_json::to_vec(record))
    }

    /// The same for what processes counted that have ended.
    pub fn write_totals(&self, totals: &impl Serialize) -> Result<(), RuntimeError> {
        put(&self.totals(), serde_json::to_vec(totals))
    }

    /// What an earlier manager wrote so; what cannot be read is nothing.
    pub fn read_totals<T: DeserializeOwned + Default>(&self) -> T {
        let text = std::fs::read(self.totals()).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Nobody goes on with them; room for the next ones is taken now.
    ///
    /// # Errors
    /// There is no room.
    pub fn forget_totals(&self) -> Result<(), RuntimeError> {
        put(&self.totals(), Ok(Vec::new()))
    }

    fn totals(&self) -> PathBuf {
        self.path.with_file_name("totals.json")
    }
}

/// Replaces a text in place, in the room that it has.
fn put(path: &Path, text: serde_json::Result<Vec<u8>>) -> Result<(), RuntimeError> {
    let text = text.map_err(std::io::Error::from);
    let written = text.and_then(|text| in_place::replace(path, &text));
    written.map_err(|error| RuntimeError::Unwritable {
        path: path.to_owned(),
        error,
    })
}

/// Puts another text in the place of a file: whoever is killed leaves the old one or the new one. The kernel's own end may leave neither,
/// but nothing of what is written here outlives that.
///
/// # Errors
/// There is no text, or no room for it.
pub fn write_whole(path: &Path, text: serde_json::Result<Vec<u8>>) -> Result<(), RuntimeError> {
    let new = path.with_extension("new");
    let write = || {
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(&text?)?;
        std::fs::rename(&new, path)
    };
    write().map_err(|error| RuntimeError::Unwritable {
        path: path.to_owned(),
        error,
    })
}

/// Whether an instance of this name runs: whether somebody holds its lock.
pub fn is_running(root: &Path, name: &str) -> bool {
    let lock = File::open(root.join(name).join("lock"));
    lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// Who there is of an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Presence {
    /// Nobody.
    #[default]
    Gone,
    /// Processes of workers that go on without a manager.
    Workers(Vec<u32>),
    /// Its manager.
    Running,
}

impl Presence {
    /// Looks.
    pub fn of(root: &Path, name: &str) -> Self {
        if is_running(root, name) {
            return Self::Running;
        }
        match orphans(root, name) {
            workers if workers.is_empty() => Self::Gone,
            workers => Self::Workers(workers),
        }
    }

    /// Whether anybody serves.
    pub fn serves(&self) -> bool {
        *self != Self::Gone
    }
}

/// What goes on of an instance without a manager, and what there is to be done.
pub fn orphaned(name: &str, workers: &[u32]) -> String {
    let pids: Vec<String> = workers.iter().map(u32::to_string).collect();
    format!(
        "the workers of {name:?} (processes {}) go on without a manager: `tidegate run` adopts them, `tidegate clean-up --name {name}` ends them",
        pids.join(", ")
    )
}

/// The process of the manager of an instance that runs, as its lock says.
pub fn holder(root: &Path, name: &str) -> String {
    let text = std::fs::read_to_string(root.join(name).join("lock"));
    text.unwrap_or_default().trim().to_owned()
}

/// Processes of workers of an instance, as far as its record can be read.
fn orphans(root: &Path, name: &str) -> Vec<u32> {
    let text = std::fs::read(root.join(name).join("record.json")).unwrap_or_default();
    let record: Record = serde_json::from_slice(&text).unwrap_or_default();
    let mut pids: Vec<u32> = record.living().map(|process| process.pid).collect();
    // On DPDK all workers are threads of one process.
    pids.dedup();
    pids
}

/// Where an instance's control socket is.
pub fn control_socket(root: &Path, name: &str) -> PathBuf {
    root.join(name).join("control.sock")
}

/// Whether root's instances are somewhere else than in `root`.
pub fn is_of_a_user(root: &Path) -> bool {
    root != Path::new(SYSTEM_ROOT) && Path::new(SYSTEM_ROOT).is_dir()
}

/// Names of the instances that have a runtime directory.
pub fn instances(root: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter(|entry| entry.path().join("control.sock").exists())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests;
