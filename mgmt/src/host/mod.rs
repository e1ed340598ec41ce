//! This machine as `tidegate configure` and `tidegate doctor` see it: files of /proc and /sys, and interfaces.
//!
//! All looking and all changing goes through one trait, so that tests work on a tree of files and on invented interfaces
//! instead of the machine that they run on.

#[cfg(test)]
pub mod fake;
#[cfg(test)]
pub mod fake_pci;

use crate::netlink::answer::TableEntry;
use crate::netlink::query::Query;
use nix::errno::Errno;
use std::fs::OpenOptions;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tidegate_port::nic::settings::{self, Channels, Counts, Feature, RingSizes, Rings};

/// Longest file that is read and longest answer of a service: those of interest have a few kilobytes.
const TEXT_BYTES_MAX: u64 = 1 << 20;
/// How long a service on this machine may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a moment is in which an interface may come.
const MOMENT: Duration = Duration::from_millis(50);
/// Where modprobe may be when nobody says so: a service has a short search path.
const MODPROBES: [&str; 2] = ["/usr/sbin/modprobe", "/sbin/modprobe"];

/// Everything that is asked of a machine and done to it.
pub trait Host {
    /// The text of a file.
    fn read(&self, path: &str) -> io::Result<String>;
    /// Says each line of a file, however long the file is.
    fn lines(&self, path: &str, say: &mut dyn FnMut(&str)) -> io::Result<()>;
    /// All bytes of a file; `None`: it cannot be read, or has more than `most`.
    fn bytes(&self, path: &str, most: u64) -> Option<Vec<u8>>;
    /// Where a symbolic link leads, as it is written there.
    fn link(&self, path: &str) -> Option<String>;
    /// Writes to a file that exists.
    fn write(&self, path: &str, text: &str) -> io::Result<()>;
    /// The names in a directory in ascending order; none when it is not there.
    fn list(&self, directory: &str) -> Vec<String>;
    /// Says `message` to a service that listens on a Unix socket, and returns all that it answers.
    fn ask(&self, socket: &str, message: &str) -> io::Result<String>;
    /// Whether a process has the file of a device open that only one can have open.
    fn is_taken(&self, path: &str) -> bool;
    /// Loads a module of the kernel.
    fn load(&self, module: &str) -> io::Result<()>;
    /// Waits a moment.
    fn wait(&self);
    /// All addresses with the indexes of their interfaces.
    fn addresses(&self) -> io::Result<Vec<(u32, IpAddr)>>;
    /// The routes of all tables.
    fn routes(&self) -> io::Result<Vec<TableEntry>>;
    /// The index of the interface that leads to an address; `None`: none does.
    fn towards(&self, address: IpAddr) -> io::Result<Option<u32>>;
    /// Whether an XDP program is attached to an interface.
    fn has_xdp(&self, interface: &str) -> io::Result<bool>;
    /// Gives an interface, which has to be down, another name.
    fn rename(&self, interface: &str, name: &str) -> io::Result<()>;
    /// The index of an interface; `None`: there is none of this name.
    fn index(&self, interface: &str) -> Option<u32>;
    /// Channels; `None`: the driver has none.
    fn channels(&self, interface: &str) -> io::Result<Option<Channels>>;
    /// Changes the numbers of channels.
    fn set_channels(&self, interface: &str, to: Counts) -> io::Result<()>;
    /// Rings; `None`: the driver has none.
    fn rings(&self, interface: &str) -> io::Result<Option<Rings>>;
    /// Changes the sizes of rings.
    fn set_rings(&self, interface: &str, to: RingSizes) -> io::Result<()>;
    /// Features that the kernel knows.
    fn features(&self, interface: &str) -> io::Result<Vec<Feature>>;
    /// Switches one feature.
    fn set_feature(&self, interface: &str, feature: &str, wanted: bool) -> io::Result<()>;
}

/// Files below a directory, and the interfaces of the network namespace that we are in.
#[derive(Debug, Default)]
pub struct System {
    root: PathBuf,
}

impl System {
    /// The machine itself.
    pub fn new() -> Self {
        Self {
            root: PathBuf::from("/"),
        }
    }

    #[cfg(test)]
    pub fn below(root: PathBuf) -> Self {
        Self { root }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }
}

fn read_text(from: impl Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    from.take(TEXT_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

impl Host for System {
    fn read(&self, path: &str) -> io::Result<String> {
        read_text(std::fs::File::open(self.path(path))?)
    }

    fn lines(&self, path: &str, say: &mut dyn FnMut(&str)) -> io::Result<()> {
        for line in BufReader::new(std::fs::File::open(self.path(path))?).lines() {
            say(&line?);
        }
        Ok(())
    }

    fn bytes(&self, path: &str, most: u64) -> Option<Vec<u8>> {
        let path = self.path(path);
        let size = std::fs::metadata(&path).ok()?.len();
        (size <= most).then(|| std::fs::read(path).ok())?
    }

    fn link(&self, path: &str) -> Option<String> {
        let target = std::fs::read_link(self.path(path)).ok()?;
        Some(target.to_string_lossy().into_owned())
    }

    fn write(&self, path: &str, text: &str) -> io::Result<()> {
        // Truncation means nothing to files of the kernel; one that is not there must not come into being.
        let mut options = OpenOptions::new();
        let mut file = options.write(true).truncate(true).open(self.path(path))?;
        // One system call: the kernel takes each as a value of its own.
        match file.write(text.as_bytes())? {
            written if written == text.len() => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }

    fn list(&self, directory: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(directory));
        let entries = entries.into_iter().flatten().flatten();
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }

    fn ask(&self, socket: &str, message: &str) -> io::Result<String> {
        let mut stream = UnixStream::connect(self.path(socket))?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        stream.write_all(message.as_bytes())?;
        read_text(stream)
    }

    fn is_taken(&self, path: &str) -> bool {
        let mut options = OpenOptions::new();
        let opened = options.read(true).write(true).open(self.path(path));
        opened.is_err_and(|error| error.raw_os_error() == Some(Errno::EBUSY as i32))
    }

    fn load(&self, module: &str) -> io::Result<()> {
        // The kernel's own setting, which it uses itself.
        let own = self.read("/proc/sys/kernel/modprobe").unwrap_or_default();
        let own = own.trim();
        let program = std::iter::once(own)
            .chain(MODPROBES)
            .find(|path| path.starts_with('/') && Path::new(path).exists())
            .unwrap_or("modprobe");
        let mut command = Command::new(program);
        let said = command.arg(module).stdin(Stdio::null()).output()?;
        if said.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&said.stderr);
        Err(io::Error::other(format!(
            "modprobe {module}: {}",
            text.trim()
        )))
    }

    fn wait(&self) {
        std::thread::sleep(MOMENT);
    }

    fn addresses(&self) -> io::Result<Vec<(u32, IpAddr)>> {
        Query::open()?.addresses()
    }

    fn routes(&self) -> io::Result<Vec<TableEntry>> {
        Query::open()?.routes()
    }

    fn towards(&self, address: IpAddr) -> io::Result<Option<u32>> {
        let route = Query::open()?.route(address)?;
        Ok(route.map(|route| route.ifindex))
    }

    fn has_xdp(&self, interface: &str) -> io::Result<bool> {
        Query::open()?.has_xdp(settings::index(interface)?)
    }

    fn rename(&self, interface: &str, name: &str) -> io::Result<()> {
        Query::open()?.rename(settings::index(interface)?, name)
    }

    fn index(&self, interface: &str) -> Option<u32> {
        settings::index(interface).ok()
    }

    fn channels(&self, interface: &str) -> io::Result<Option<Channels>> {
        settings::channels(interface)
    }

    fn set_channels(&self, interface: &str, to: Counts) -> io::Result<()> {
        settings::set_channels(interface, to)
    }

    fn rings(&self, interface: &str) -> io::Result<Option<Rings>> {
        settings::rings(interface)
    }

    fn set_rings(&self, interface: &str, to: RingSizes) -> io::Result<()> {
        settings::set_rings(interface, to)
    }

    fn features(&self, interface: &str) -> io::Result<Vec<Feature>> {
        settings::features(interface)
    }

    fn set_feature(&self, interface: &str, feature: &str, wanted: bool) -> io::Result<()> {
        settings::set_feature(interface, feature, wanted)
    }
}

/// The text of a file without the blanks around it; `None`: it cannot be read.
pub fn value(host: &dyn Host, path: &str) -> Option<String> {
    host.read(path).ok().map(|text| text.trim().to_owned())
}

/// The directory of an interface in sysfs. `None`: there is none, or sysfs shows another network namespace than ours.
pub fn interface_directory(host: &dyn Host, interface: &str) -> Option<String> {
    let directory = format!("/sys/class/net/{interface}");
    let shown: u32 = value(host, &format!("{directory}/ifindex"))?.parse().ok()?;
    (Some(shown) == host.index(interface)).then_some(directory)
}

/// An interrupt of a card and the words that the driver gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interrupt {
    /// Its number.
    pub number: u32,
    /// Such as `ice-eth1-TxRx-0`.
    pub action: String,
}

/// The interrupts of an interface's card; none for an interface without a card.
pub fn interrupts(host: &dyn Host, interface: &str) -> Vec<Interrupt> {
    let Some(directory) = interface_directory(host, interface) else {
        return Vec::new();
    };
    // A virtio card has its interrupts one level above, at the bus.
    let numbers = ["device/msi_irqs", "device/../msi_irqs"]
        .iter()
        .map(|place| host.list(&format!("{directory}/{place}")))
        .find(|numbers| !numbers.is_empty());
    let numbers = numbers.unwrap_or_default();
    let mut interrupts: Vec<Interrupt> = numbers
        .iter()
        .filter_map(|number| number.parse().ok())
        .filter_map(|number| {
            let action = action(host, number)?;
            Some(Interrupt { number, action })
        })
        .collect();
    interrupts.sort_by_key(|interrupt| interrupt.number);
    interrupts
}

/// What an interrupt is for; `None`: nobody uses it.
pub fn action(host: &dyn Host, number: u32) -> Option<String> {
    value(host, &format!("/sys/kernel/irq/{number}/actions")).filter(|action| !action.is_empty())
}

/// Numbers as the kernel writes them: `0-3,8`. What is not a number or a range is left out.
pub fn numbers(list: &str) -> Vec<u32> {
    let mut numbers = Vec::new();
    for item in list.split(',').map(str::trim) {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        if let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>())
            && last.saturating_sub(first) < NUMBERS_MAX
        {
            numbers.extend(first..=last);
        }
    }
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

/// Longest range that is believed: all ports. There are fewer cores and fewer interrupts.
const NUMBERS_MAX: u32 = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_numbers_are_read_as_the_kernel_writes_them() {
        assert_eq!(numbers("0-3,8\n"), [0, 1, 2, 3, 8]);
        assert_eq!(numbers(""), Vec::<u32>::new());
        assert_eq!(numbers("9-7,x,5,5,0-4294967295"), [5]);
    }

    #[test]
    fn a_file_that_is_not_there_is_not_made() {
        let host = System::new();
        let path = format!("/tmp/tidegate-not-there-{}", std::process::id());
        assert!(host.write(&path, "1").is_err());
        assert!(!std::path::Path::new(&path).exists());
        assert!(host.list("/no/such/directory").is_empty());
        assert_eq!(host.index("tg-nowhere0"), None);
    }
}
