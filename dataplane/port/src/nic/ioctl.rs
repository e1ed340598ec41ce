//! `ioctl` on interfaces: the classic ones and ethtool's.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::settings::{Channels, Counts, Feature, RingSizes, Rings};
use super::{Rss, RssFunction};

/// `linux/sockios.h`
const SIOCETHTOOL: libc::Ioctl = 0x8946;

/// Commands of `linux/ethtool.h`.
const ETHTOOL_GDRVINFO: u32 = 0x0000_0003;
const ETHTOOL_GRINGPARAM: u32 = 0x0000_0010;
const ETHTOOL_SRINGPARAM: u32 = 0x0000_0011;
const ETHTOOL_GSTRINGS: u32 = 0x0000_001b;
const ETHTOOL_GSSET_INFO: u32 = 0x0000_0037;
const ETHTOOL_GFEATURES: u32 = 0x0000_003a;
const ETHTOOL_SFEATURES: u32 = 0x0000_003b;
const ETHTOOL_GCHANNELS: u32 = 0x0000_003c;
const ETHTOOL_SCHANNELS: u32 = 0x0000_003d;
const ETHTOOL_GRSSH: u32 = 0x0000_0046;
const ETHTOOL_SRSSH: u32 = 0x0000_0047;

/// `ETH_RSS_HASH_TOP`
const HASH_TOEPLITZ: u8 = 1;

/// `struct ethtool_drvinfo` is 196 bytes: the command, the driver's name in 32, and what is of no interest here.
const DRVINFO_WORDS: usize = 49;
const DRVINFO_NAME_WORDS: usize = 8;

/// `struct ethtool_channels`: command, four maxima (rx, tx, other, combined), four counts.
const CHANNELS_WORDS: usize = 9;

/// `struct ethtool_ringparam`: command, four maxima (rx, mini, jumbo, tx), four sizes.
const RINGPARAM_WORDS: usize = 9;

/// `ETH_SS_FEATURES`: the names of features.
const STRINGS_OF_FEATURES: u32 = 4;
/// `struct ethtool_sset_info` with one count: command, reserved, a mask of 64 bits, the count.
const SSET_INFO_WORDS: usize = 5;
/// `struct ethtool_gstrings` before the names: command, set, number of names.
const GSTRINGS_WORDS: usize = 3;
/// `ETH_GSTRING_LEN`
const NAME_WORDS: usize = 8;
/// Most features that are believed; Linux has 70.
const FEATURES_MAX: u32 = 1_024;
/// `struct ethtool_gfeatures` and `struct ethtool_sfeatures` before their blocks: command, number of blocks.
const FEATURES_WORDS: usize = 2;
/// A block of 32 features as it is read: available, requested, active, never changed.
const GFEATURES_BLOCK: usize = 4;
/// The same as it is written: valid, requested.
const SFEATURES_BLOCK: usize = 2;

/// `struct ethtool_rxfh` before its table: command, context, table size, key size, functions, reserved.
const RXFH_WORDS: usize = 6;

/// Most entries of a table and most bytes of a key that are believed; the largest NICs have 4,096 and 60.
const RSS_SIZE_MAX: u32 = 65_536;

/// The characters before the first zero byte.
fn text(words: &[u32]) -> String {
    let bytes: Vec<u8> = words
        .iter()
        .flat_map(|word| word.to_ne_bytes())
        .take_while(|byte| *byte != 0)
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

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

    /// An ethtool command over a struct of 32-bit words, the first of which is the command; most commands return 0.
    ///
    /// The caller has to make the struct as long as the kernel will write.
    fn ethtool(&self, words: &mut [u32]) -> io::Result<u32> {
        let mut request = self.request();
        request.ifr_ifru.ifru_data = words.as_mut_ptr().cast();
        // SAFETY: the request is live, and so is the struct it points at; each caller in this file makes it as long as its
        // command writes.
        let outcome =
            unsafe { libc::ioctl(self.socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
        u32::try_from(outcome).map_err(|_negative| io::Error::last_os_error())
    }

    /// The same for a question that a driver need not answer. `None`: this one does not.
    fn question(&self, words: &mut [u32]) -> io::Result<Option<()>> {
        match self.ethtool(words) {
            Ok(_) => Ok(Some(())),
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The driver's name.
    pub(super) fn driver(&self) -> Option<String> {
        let mut info = [0u32; DRVINFO_WORDS];
        info[0] = ETHTOOL_GDRVINFO;
        self.ethtool(&mut info).ok()?;
        let name = text(&info[1..=DRVINFO_NAME_WORDS]);
        (!name.is_empty()).then_some(name)
    }

    /// Channels. `None`: the driver has none.
    pub(super) fn channels(&self) -> io::Result<Option<Channels>> {
        let mut words = [0u32; CHANNELS_WORDS];
        words[0] = ETHTOOL_GCHANNELS;
        let counts = |words: &[u32]| Counts {
            rx: words[0],
            tx: words[1],
            other: words[2],
            combined: words[3],
        };
        Ok(self.question(&mut words)?.map(|()| Channels {
            max: counts(&words[1..5]),
            now: counts(&words[5..9]),
        }))
    }

    /// Changes the number of channels.
    pub(super) fn set_channels(&self, to: Counts) -> io::Result<()> {
        let mut words = [0u32; CHANNELS_WORDS];
        words[0] = ETHTOOL_SCHANNELS;
        words[5..].copy_from_slice(&[to.rx, to.tx, to.other, to.combined]);
        self.ethtool(&mut words).map(drop)
    }

    /// Rings of descriptors. `None`: the driver has none.
    pub(super) fn rings(&self) -> io::Result<Option<Rings>> {
        let mut words = [0u32; RINGPARAM_WORDS];
        words[0] = ETHTOOL_GRINGPARAM;
        let sizes = |words: &[u32]| RingSizes {
            rx: words[0],
            rx_mini: words[1],
            rx_jumbo: words[2],
            tx: words[3],
        };
        Ok(self.question(&mut words)?.map(|()| Rings {
            max: sizes(&words[1..5]),
            now: sizes(&words[5..9]),
        }))
    }

    /// Changes the size of rings.
    pub(super) fn set_rings(&self, to: RingSizes) -> io::Result<()> {
        let mut words = [0u32; RINGPARAM_WORDS];
        words[0] = ETHTOOL_SRINGPARAM;
        words[5..].copy_from_slice(&[to.rx, to.rx_mini, to.rx_jumbo, to.tx]);
        self.ethtool(&mut words).map(drop)
    }

    /// The names of features by their number.
    fn feature_names(&self) -> io::Result<Vec<String>> {
        let mut info = [0u32; SSET_INFO_WORDS];
        info[0] = ETHTOOL_GSSET_INFO;
        let mask = (1u64 << STRINGS_OF_FEATURES).to_ne_bytes();
        for (word, bytes) in info[2..4].iter_mut().zip(mask.chunks_exact(4)) {
            *word = u32::from_ne_bytes(bytes.try_into().unwrap_or_default());
        }
        self.ethtool(&mut info)?;
        let count = info[4];
        if count == 0 || count > FEATURES_MAX {
            return Ok(Vec::new());
        }
        // The kernel writes as many names as it has, and that number never changes while it runs.
        let mut words = vec![0u32; GSTRINGS_WORDS + count as usize * NAME_WORDS];
        words[0] = ETHTOOL_GSTRINGS;
        words[1] = STRINGS_OF_FEATURES;
        words[2] = count;
        self.ethtool(&mut words)?;
        let names = words[GSTRINGS_WORDS..].chunks_exact(NAME_WORDS);
        Ok(names.map(text).collect())
    }

    /// Every feature that has a name.
    pub(super) fn features(&self) -> io::Result<Vec<Feature>> {
        let names = self.feature_names()?;
        let blocks = names.len().div_ceil(32);
        let mut words = vec![0u32; FEATURES_WORDS + blocks * GFEATURES_BLOCK];
        words[0] = ETHTOOL_GFEATURES;
        words[1] = blocks as u32;
        self.ethtool(&mut words)?;
        let bit = |number: usize, which: usize| {
            let block = FEATURES_WORDS + number / 32 * GFEATURES_BLOCK;
            words[block + which] >> (number % 32) & 1 == 1
        };
        let named = names.into_iter().enumerate();
        let features = named.filter(|(_, name)| !name.is_empty());
        Ok(features
            .map(|(number, name)| Feature {
                name,
                changeable: bit(number, 0) && !bit(number, 3),
                wanted: bit(number, 1),
                active: bit(number, 2),
            })
            .collect())
    }

    /// Asks for a feature, or asks for it no longer.
    pub(super) fn set_feature(&self, name: &str, wanted: bool) -> io::Result<()> {
        let names = self.feature_names()?;
        let unsupported = || io::Error::from_raw_os_error(libc::EOPNOTSUPP);
        let number = names.iter().position(|known| known == name);
        let number = number.ok_or_else(unsupported)?;
        let blocks = names.len().div_ceil(32);
        let mut words = vec![0u32; FEATURES_WORDS + blocks * SFEATURES_BLOCK];
        words[0] = ETHTOOL_SFEATURES;
        words[1] = blocks as u32;
        let block = FEATURES_WORDS + number / 32 * SFEATURES_BLOCK;
        words[block] = 1 << (number % 32);
        words[block + 1] = u32::from(wanted) << (number % 32);
        match self.ethtool(&mut words)? {
            0 => Ok(()),
            // Bits that say that it was not, or not altogether, done.
            _ => Err(unsupported()),
        }
    }

    /// Hash function, key and indirection table.
    pub(super) fn rss(&self) -> Option<Rss> {
        let mut sizes = [0u32; RXFH_WORDS];
        sizes[0] = ETHTOOL_GRSSH;
        self.ethtool(&mut sizes).ok()?;
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
        self.ethtool(&mut all).ok()?;
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

    /// Writes key and indirection table, of the sizes that were read; the hash function stays.
    pub(super) fn set_rss(&self, rss: &Rss) -> io::Result<()> {
        let mut words = vec![0u32; RXFH_WORDS];
        words[0] = ETHTOOL_SRSSH;
        words[2] = rss.indirection.len() as u32;
        words[3] = rss.key.len() as u32;
        words.extend(&rss.indirection);
        words.extend(rss.key.chunks(4).map(|bytes| {
            let mut word = [0; 4];
            word[..bytes.len()].copy_from_slice(bytes);
            u32::from_ne_bytes(word)
        }));
        self.ethtool(&mut words).map(drop)
    }
}
