//! The other end of the veth: a packet socket, and the frames that go through it.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::PATIENCE;
use crate::ETHERNET_HEADER_BYTES;
use crate::nic::Nic;
use crate::test_lab::{Host, Lab};

/// `PACKET_IGNORE_OUTGOING` of `linux/if_packet.h`.
const PACKET_IGNORE_OUTGOING: i32 = 23;

const IPV4: u16 = 0x0800;

/// Where the ports of UDP are, behind an IPv4 header without options.
const PORTS: usize = ETHERNET_HEADER_BYTES + 20;

/// A packet socket on `tg1`.
pub(super) struct Peer {
    socket: OwnedFd,
    own: [u8; 6],
    appliance: [u8; 6],
}

impl Peer {
    pub(super) fn open(lab: &Lab) -> Self {
        quieten(&lab.appliance, "tg0");
        quieten(&lab.peer, "tg1");
        let nic = lab.peer.nic("tg1");
        Self {
            own: nic.mac,
            appliance: lab.appliance.nic("tg0").mac,
            socket: lab.peer.run(|| packet_socket(&nic)).unwrap(),
        }
    }

    /// UDP from 10.9.0.2 to an address that no kernel has. Ports choose the queue.
    pub(super) fn frame(&self, flow: u16, bytes: usize) -> Vec<u8> {
        let mut frame = vec![0x5a; bytes];
        frame[..6].copy_from_slice(&self.appliance);
        frame[6..12].copy_from_slice(&self.own);
        frame[12..14].copy_from_slice(&IPV4.to_be_bytes());
        let packet_bytes = (bytes - ETHERNET_HEADER_BYTES) as u16;
        let header = &mut frame[ETHERNET_HEADER_BYTES..PORTS];
        header.fill(0);
        header[0] = 0x45;
        header[2..4].copy_from_slice(&packet_bytes.to_be_bytes());
        header[8..10].copy_from_slice(&[64, 17]);
        header[12..20].copy_from_slice(&[10, 9, 0, 2, 10, 9, 0, 9]);
        frame[PORTS..PORTS + 2].copy_from_slice(&(40_000 + flow).to_be_bytes());
        frame[PORTS + 2..PORTS + 4].copy_from_slice(&7_u16.to_be_bytes());
        frame
    }

    pub(super) fn send(&self, frame: &[u8]) {
        // SAFETY: a live slice.
        let sent = unsafe {
            libc::send(
                self.socket.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
            )
        };
        assert_eq!(sent, frame.len() as isize, "{}", io::Error::last_os_error());
    }

    pub(super) fn receive(&self) -> Vec<u8> {
        let mut frame = vec![0; 4_096];
        // SAFETY: a live slice of this length.
        let received = unsafe {
            libc::recv(
                self.socket.as_raw_fd(),
                frame.as_mut_ptr().cast(),
                frame.len(),
                0,
            )
        };
        assert!(received > 0, "no frame: {}", io::Error::last_os_error());
        frame.truncate(received as usize);
        frame
    }

    /// Sends a frame of each flow, and waits for the answers, in any order.
    pub(super) fn exchange(&self, flows: u16, bytes: usize) {
        let mut expected: Vec<Vec<u8>> = Vec::new();
        for flow in 0..flows {
            let frame = self.frame(flow, bytes);
            self.send(&frame);
            let mut answer = vec![0; bytes];
            echo(&frame, &mut answer);
            expected.push(answer);
        }
        let mut received: Vec<Vec<u8>> = (0..flows).map(|_| self.receive()).collect();
        expected.sort();
        received.sort();
        assert!(
            expected == received,
            "other frames came back than were sent"
        );
    }
}

/// Not one of the kernel's own.
pub(super) fn is_of_the_test(frame: &[u8]) -> bool {
    frame.len() >= PORTS + 4 && frame[12..14] == IPV4.to_be_bytes()
}

/// What goes back for a frame: addresses and ports change places.
pub(super) fn echo(frame: &[u8], answer: &mut [u8]) {
    answer.copy_from_slice(frame);
    let mut swap = |at: usize, bytes: usize| {
        let (first, second) = answer[at..at + 2 * bytes].split_at_mut(bytes);
        first.swap_with_slice(second);
    };
    swap(0, 6);
    swap(ETHERNET_HEADER_BYTES + 12, 4);
    swap(PORTS, 2);
}

/// No IPv6 of the kernel's own on the link, so that every frame is the test's.
fn quieten(host: &Host, interface: &str) {
    host.ip(&format!("link set {interface} addrgenmode none"));
    host.ip(&format!("-6 addr flush dev {interface}"));
}

fn packet_socket(nic: &Nic) -> io::Result<OwnedFd> {
    let protocol = i32::from(IPV4.to_be());
    // SAFETY: integers in, a new descriptor or -1 out.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, protocol) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: new, and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: all zeroes is a valid address.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = IPV4.to_be();
    address.sll_ifindex = nic.ifindex as i32;
    // SAFETY: a live address of this size.
    let bound = unsafe {
        libc::bind(
            fd,
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as u32,
        )
    };
    let patience = libc::timeval {
        tv_sec: PATIENCE.as_secs() as i64,
        tv_usec: 0,
    };
    let on: i32 = 1;
    // The answers of a whole round, each of which counts with the memory around it.
    let bytes: i32 = 8 << 20;
    // SAFETY: live values of these sizes.
    let set = unsafe {
        libc::setsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_RCVTIMEO,
            (&raw const patience).cast(),
            size_of::<libc::timeval>() as u32,
        ) | libc::setsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            (&raw const bytes).cast(),
            size_of::<i32>() as u32,
        ) | libc::setsockopt(
            fd,
            libc::SOL_PACKET,
            PACKET_IGNORE_OUTGOING,
            (&raw const on).cast(),
            size_of::<i32>() as u32,
        )
    };
    if bound < 0 || set < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(socket)
}
