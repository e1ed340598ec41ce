//! Opening an AF_XDP socket: memory, rings, bind. Everything here happens once, at start.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use super::error::{self, AfXdpError};
use super::ring::{ConsumerRing, ProducerRing, RingLayout};
use super::umem::{CHUNK_BYTES, Umem};
use super::{AfXdpConfig, BIND_RETRY_INTERVAL};
use crate::mapping::Mapping;

/// `XDP_MAX_TX_SKB_BUDGET` of `linux/if_xdp.h`, since Linux 6.17.
const XDP_MAX_TX_SKB_BUDGET: i32 = 9;

/// Frames that one kick may send, where the kernel lets us choose: two bursts of answers.
const TX_BUDGET: u32 = 128;

/// What the kernel charges for a frame of up to 1,792 bytes, rounded up: data, headroom and the skb itself.
const SKB_BYTES: usize = 4_096;

/// Frames in flight for which the send buffer is raised, at most 16 MiB: more than any NIC's ring holds.
const IN_FLIGHT_COUNTED_MAX: u32 = 4_096;

/// Frames that one kick sends otherwise (`TX_BATCH_SIZE` of `net/xdp/xsk.c`).
const TX_BUDGET_DEFAULT: u32 = 32;

/// The socket and the memory registered with it. Fields drop in this order: the socket goes first.
pub(super) struct Socket {
    pub(super) fd: OwnedFd,
    pub(super) umem: Umem,
}

/// A bound socket with its four rings.
pub(super) struct Opened {
    pub(super) socket: Arc<Socket>,
    pub(super) fill: ProducerRing<u64>,
    pub(super) completion: ConsumerRing<u64>,
    pub(super) rx: ConsumerRing<libc::xdp_desc>,
    pub(super) tx: ProducerRing<libc::xdp_desc>,
    pub(super) zero_copy: bool,
    /// Frames that one kick sends, in copy modes.
    pub(super) tx_budget: u32,
}

pub(super) fn open(config: &AfXdpConfig) -> Result<Opened, AfXdpError> {
    let size = config.ring_size;
    let bytes = 2 * size as usize * CHUNK_BYTES;
    let setup = |action| move |source| error::of_setup(action, bytes, source);

    // As many chunks on each side as its rings have entries: no ring can overflow, and no chunk waits without a ring. The fill
    // ring has twice the entries: the kernel shows a burst in the RX ring a moment before it gives up the burst's fill entries
    // (xsk_flush() submits the one, then releases the other), so their chunks can be back while the entries still count.
    let fill_size = 2 * size;
    let umem = Umem::new(size, size).map_err(setup("map packet buffers"))?;
    let fd = raw_socket().map_err(setup("open an AF_XDP socket"))?;
    let registration = libc::xdp_umem_reg {
        addr: umem.address(),
        len: umem.bytes() as u64,
        chunk_size: CHUNK_BYTES as u32,
        headroom: 0,
        flags: 0,
        tx_metadata_len: 0,
    };
    set_option(&fd, libc::XDP_UMEM_REG, &registration).map_err(setup("register packet buffers"))?;
    for (option, size) in [
        (libc::XDP_UMEM_FILL_RING, fill_size),
        (libc::XDP_UMEM_COMPLETION_RING, size),
        (libc::XDP_RX_RING, size),
        (libc::XDP_TX_RING, size),
    ] {
        set_option(&fd, option, &size).map_err(setup("size the rings of an AF_XDP socket"))?;
    }
    // An older kernel does not know the option: then a kick sends fewer frames, and flush() kicks more often.
    let wanted = TX_BUDGET.min(size);
    let tx_budget =
        set_option(&fd, XDP_MAX_TX_SKB_BUDGET, &wanted).map_or(TX_BUDGET_DEFAULT, |()| wanted);

    allow_in_flight(&fd, size);

    let offsets = ring_offsets(&fd).map_err(setup("read the ring layout"))?;
    let mut fill = {
        let (mapping, layout) = map_ring::<u64>(
            &fd,
            libc::XDP_UMEM_PGOFF_FILL_RING as i64,
            &offsets.fr,
            fill_size,
        )
        .map_err(setup("map the fill ring"))?;
        ProducerRing::new(mapping, layout, fill_size)
    };
    let completion = {
        let (mapping, layout) = map_ring::<u64>(
            &fd,
            libc::XDP_UMEM_PGOFF_COMPLETION_RING as i64,
            &offsets.cr,
            size,
        )
        .map_err(setup("map the completion ring"))?;
        ConsumerRing::new(mapping, layout, size)
    };
    let rx = {
        let (mapping, layout) =
            map_ring::<libc::xdp_desc>(&fd, libc::XDP_PGOFF_RX_RING, &offsets.rx, size)
                .map_err(setup("map the RX ring"))?;
        ConsumerRing::new(mapping, layout, size)
    };
    let tx = {
        let (mapping, layout) =
            map_ring::<libc::xdp_desc>(&fd, libc::XDP_PGOFF_TX_RING, &offsets.tx, size)
                .map_err(setup("map the TX ring"))?;
        ProducerRing::new(mapping, layout, size)
    };

    // The kernel has every receive chunk before the first frame can arrive.
    for address in umem.rx_addresses() {
        fill.write(address);
    }
    fill.publish(u32::MAX);

    bind(&fd, config, bytes)?;
    let zero_copy = is_zero_copy(&fd).map_err(setup("read the mode of an AF_XDP socket"))?;
    Ok(Opened {
        socket: Arc::new(Socket { fd, umem }),
        fill,
        completion,
        rx,
        tx,
        zero_copy,
        tx_budget,
    })
}

fn raw_socket() -> io::Result<OwnedFd> {
    // SAFETY: takes integers and returns a new descriptor or -1.
    let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// In copy modes each frame on its way is an skb that counts against the socket's send buffer: the default of 208 KiB holds some
/// 90 frames of full size, after which kicks say EAGAIN. Without `CAP_NET_ADMIN` the limit of `net.core.wmem_max` applies, and
/// `flush()` makes more of smaller kicks.
fn allow_in_flight(fd: &OwnedFd, frames: u32) {
    let bytes = (frames.min(IN_FLIGHT_COUNTED_MAX) as usize * SKB_BYTES) as libc::c_int;
    if set_option_at(fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &bytes).is_err() {
        let _ = set_option_at(fd, libc::SOL_SOCKET, libc::SO_SNDBUF, &bytes);
    }
}

/// Binds to the queue.
///
/// Without `XDP_ZEROCOPY` or `XDP_COPY` the kernel tries zero-copy first and falls back to copying, which is the ladder we want;
/// `XDP_OPTIONS` then tells where it stopped. Behind generic XDP there is nothing but copying.
///
/// A queue is released asynchronously after its owner died, so EBUSY is repeated until the deadline.
fn bind(fd: &OwnedFd, config: &AfXdpConfig, bytes: usize) -> Result<(), AfXdpError> {
    let mode = match (config.require_zero_copy, config.generic) {
        (true, _) => libc::XDP_ZEROCOPY,
        (false, true) => libc::XDP_COPY,
        (false, false) => 0,
    };
    let address = libc::sockaddr_xdp {
        sxdp_family: libc::AF_XDP as u16,
        sxdp_flags: mode | libc::XDP_USE_NEED_WAKEUP,
        sxdp_ifindex: config.ifindex,
        sxdp_queue_id: config.queue,
        sxdp_shared_umem_fd: 0,
    };
    let started = Instant::now();
    loop {
        // SAFETY: the address is a live sockaddr_xdp of the length given.
        let outcome = unsafe {
            libc::bind(
                fd.as_raw_fd(),
                (&raw const address).cast::<libc::sockaddr>(),
                size_of::<libc::sockaddr_xdp>() as u32,
            )
        };
        if outcome == 0 {
            return Ok(());
        }
        let source = io::Error::last_os_error();
        if source.raw_os_error() != Some(libc::EBUSY) {
            return Err(error::of_bind(
                config.ifindex,
                config.queue,
                config.require_zero_copy,
                bytes,
                source,
            ));
        }
        let waited = started.elapsed();
        if waited >= config.bind_deadline {
            let interface = error::interface(config.ifindex);
            return Err(AfXdpError::Busy {
                interface,
                queue: config.queue,
                waited,
            });
        }
        std::thread::sleep(BIND_RETRY_INTERVAL);
    }
}

fn map_ring<T>(
    fd: &OwnedFd,
    page_offset: i64,
    offsets: &libc::xdp_ring_offset,
    size: u32,
) -> io::Result<(Arc<Mapping>, RingLayout)> {
    let layout = RingLayout {
        producer: offsets.producer as usize,
        consumer: offsets.consumer as usize,
        flags: offsets.flags as usize,
        entries: offsets.desc as usize,
    };
    Ok((
        Arc::new(Mapping::of_fd(
            fd.as_fd(),
            layout.bytes::<T>(size),
            page_offset,
        )?),
        layout,
    ))
}

fn ring_offsets(fd: &OwnedFd) -> io::Result<libc::xdp_mmap_offsets> {
    // SAFETY: plain integers, for which zeroes are valid; the option fills this struct.
    unsafe { get_option(fd, libc::XDP_MMAP_OFFSETS) }
}

fn is_zero_copy(fd: &OwnedFd) -> io::Result<bool> {
    // SAFETY: plain integers, for which zeroes are valid; the option fills this struct.
    let options: libc::xdp_options = unsafe { get_option(fd, libc::XDP_OPTIONS) }?;
    Ok(options.flags & libc::XDP_OPTIONS_ZEROCOPY != 0)
}

/// The kernel's counts of the socket.
pub(super) fn statistics(fd: &OwnedFd) -> io::Result<libc::xdp_statistics> {
    // SAFETY: plain integers, for which zeroes are valid; the option fills this struct.
    unsafe { get_option(fd, libc::XDP_STATISTICS) }
}

fn set_option<T: Copy>(fd: &OwnedFd, option: i32, value: &T) -> io::Result<()> {
    set_option_at(fd, libc::SOL_XDP, option, value)
}

fn set_option_at<T: Copy>(fd: &OwnedFd, level: i32, option: i32, value: &T) -> io::Result<()> {
    // SAFETY: passes a live value with its length; the kernel only reads it.
    let outcome = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            option,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as u32,
        )
    };
    if outcome < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// # Safety
///
/// Any bytes must be a valid `T`.
unsafe fn get_option<T: Copy>(fd: &OwnedFd, option: i32) -> io::Result<T> {
    // SAFETY: the caller promises that zeroes are valid.
    let mut value: T = unsafe { std::mem::zeroed() };
    let mut bytes = size_of::<T>() as u32;
    // SAFETY: the kernel writes at most `bytes` bytes into a live local.
    let outcome = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_XDP,
            option,
            (&raw mut value).cast(),
            &raw mut bytes,
        )
    };
    if outcome < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(value)
    }
}
