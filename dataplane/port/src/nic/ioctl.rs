//! `ioctl` on interfaces: the classic ones and ethtool's.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::{Rss, RssFunction};

/// `linux/sockios.h`
const SIOCETHTOOL: libc::Ioctl = 0x8946;

/// Commands of `linux/ethtool.h`.
const ETHTOOL_GDRVINFO: u32 = 0x0000_0003;
const ETHTOOL_GCHANNELS: u32 = 0x0000_003c;
const ETHTOOL_GRSSH: u32 = 0x0000_0046;

/// `ETH_RSS_HASH_TOP`
const HASH_TOEPLITZ: u8 = 1;

/// `struct ethtool_drvinfo` is 196 bytes: the command, the driver's name in 32, and what is of no interest here.
const DRVINFO_WORDS: usize = 49;
const DRVINFO_NAME_BYTES: usize = 32;

/// `struct ethtool_channels`: command, four maxima (rx, tx, other, combined), four counts.
const CHANNELS_WORDS: usize = 9;

/// `struct ethtool_rxfh` before its table: command, context, table size, key size, functions, reserved.
const RXFH_WORDS: usize = 6;

/// Most entries of a table and most bytes of a key that are believed; the largest NICs have 4,096 and 60.
const RSS_SIZE_MAX: u32 = 65_536;

/// Questions about one interface.
pub(super) struct Query {
    socket: OwnedFd,
    name: [libc::c_char; libc::IFNAMSIZ],
}

impl Query {
    /// `None`: no interface can have this name.
    pub(super) fn new(name: &str) -> io::Result<Option<Self>> {
        let bytes = name.as_bytes();
        if bytes.is_empty() || bytes.len() >= libc::IFNAMSIZ || bytes.contains(&0) {
            return Ok(None);
        }
        let mut buffer = [0; libc::IFNAMSIZ];
        for (to, from) in buffer.iter_mut().zip(bytes) {
            *to = *from as libc::c_char;
        }
        // SAFETY: takes integers and returns a new descriptor or -1.
        let fd = unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and nobody else owns it.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Some(Self {
            socket,
            name: buffer,
        }))
    }

    fn request(&self) -> libc::ifreq {
        // SAFETY: a struct of integers, arrays and pointers, for which zeroes are valid.
        let mut request = unsafe { std::mem::zeroed::<libc::ifreq>() };
        request.ifr_name = self.name;
        request
    }

    /// One of the ioctls that fill an ifreq and read no pointer from it.
    fn fill(&self, command: libc::Ioctl) -> io::Result<libc::ifreq> {
        let mut request = self.request();
        // SAFETY: the request is live and of the type that the command fills.
        if unsafe { libc::ioctl(self.socket.as_raw_fd(), command, &raw mut request) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(request)
    }

    pub(super) fn index(&self) -> io::Result<u32> {
        let request = self.fill(libc::SIOCGIFINDEX as libc::Ioctl)?;
        // SAFETY: the command has filled this member of the union.
        Ok(unsafe { request.ifr_ifru.ifru_ifindex } as u32)
    }

    pub(super) fn flags(&self) -> io::Result<i32> {
        let request = self.fill(libc::SIOCGIFFLAGS as libc::Ioctl)?;
        // SAFETY: the command has filled this member of the union.
        Ok(i32::from(unsafe { request.ifr_ifru.ifru_flags }))
    }

    pub(super) fn mtu(&self) -> io::Result<usize> {
        let request = self.fill(libc::SIOCGIFMTU as libc::Ioctl)?;
        // SAFETY: the command has filled this member of the union.
        Ok(unsafe { request.ifr_ifru.ifru_mtu }.max(0) as usize)
    }

    /// Kind of hardware and address.
    pub(super) fn hardware_address(&self) -> io::Result<(u16, [u8; 6])> {
        let request = self.fill(libc::SIOCGIFHWADDR as libc::Ioctl)?;
        // SAFETY: the command has filled this member of the union.
        let address = unsafe { request.ifr_ifru.ifru_hwaddr };
        let mut mac = [0; 6];
        for (to, from) in mac.iter_mut().zip(address.sa_data) {
            *to = from as u8;
        }
        Ok((address.sa_family, mac))
    }

    /// An ethtool command over a struct of 32-bit words, the first of which is the command. `None`: not supported.
    ///
    /// The caller has to make the struct as long as the kernel will write.
    fn ethtool(&self, words: &mut [u32]) -> Option<()> {
        let mut request = self.request();
        request.ifr_ifru.ifru_data = words.as_mut_ptr().cast();
        // SAFETY: the request is live, and so is the struct it points at; each caller in this file makes it as long as its
        // command writes.
        let outcome =
            unsafe { libc::ioctl(self.socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
        (outcome >= 0).then_some(())
    }

    /// The driver's name.
    pub(super) fn driver(&self) -> Option<String> {
        let mut info = [0u32; DRVINFO_WORDS];
        info[0] = ETHTOOL_GDRVINFO;
        self.ethtool(&mut info)?;
        let bytes: Vec<u8> = info[1..]
            .iter()
            .flat_map(|word| word.to_ne_bytes())
            .take(DRVINFO_NAME_BYTES)
            .collect();
        let end = bytes.iter().position(|byte| *byte == 0)?;
        let name = String::from_utf8_lossy(&bytes[..end]).into_owned();
        (!name.is_empty()).then_some(name)
    }

    /// Receive queues in use and at most.
    pub(super) fn channels(&self) -> Option<(u32, u32)> {
        let mut channels = [0u32; CHANNELS_WORDS];
        channels[0] = ETHTOOL_GCHANNELS;
        self.ethtool(&mut channels)?;
        let [_, max_rx, _, _, max_combined, rx, _, _, combined] = channels;
        let (now, max) = (rx + combined, max_rx + max_combined);
        (now > 0).then_some((now, max.max(now)))
    }

    /// Hash function, key and indirection table.
    pub(super) fn rss(&self) -> Option<Rss> {
        let mut sizes = [0u32; RXFH_WORDS];
        sizes[0] = ETHTOOL_GRSSH;
        self.ethtool(&mut sizes)?;
        let (entries, key_bytes) = (sizes[2], sizes[3]);
        if entries == 0 || key_bytes == 0 || entries > RSS_SIZE_MAX || key_bytes > RSS_SIZE_MAX {
            return None;
        }
        let table_end = RXFH_WORDS + entries as usize;
        let mut all = vec![0u32; table_end + (key_bytes as usize).div_ceil(4)];
        all[0] = ETHTOOL_GRSSH;
        all[2] = entries;
        all[3] = key_bytes;
        // The kernel writes exactly the sizes it is given, or refuses if they have changed since.
        self.ethtool(&mut all)?;
        let key = all[table_end..]
            .iter()
            .flat_map(|word| word.to_ne_bytes())
            .take(key_bytes as usize)
            .collect();
        let function = match all[4].to_ne_bytes()[0] {
            HASH_TOEPLITZ => RssFunction::Toeplitz,
            other => RssFunction::Other(other),
        };
        Some(Rss {
            function,
            key,
            indirection: all[RXFH_WORDS..table_end].to_vec(),
        })
    }
}
