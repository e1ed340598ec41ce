//! What a worker must not do it does not survive. Each case is a process of its own: this program again, told which case.

use nix::libc;
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::ioctl_fionbio;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use tidegate_channel::payload;
use tidegate_config::Seccomp;
use tidegate_dataplane::seccomp::calls::Network;
use tidegate_dataplane::seccomp::confine;
use tidegate_port::doorbell::Doorbell;

const CASE: &str = "TIDEGATE_SECCOMP_CASE";
/// Exit code of a case that went on to its end.
const SURVIVED: i32 = 42;

/// Runs the case named `case` in a process of its own; returns its exit code, or its signal.
fn play(case: &str) -> (Option<i32>, Option<i32>) {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_process_of_a_case", "--nocapture"])
        .env(CASE, case)
        .output()
        .unwrap()
        .status;
    (status.code(), status.signal())
}

/// Not a test by itself: what the others start.
#[test]
fn the_process_of_a_case() {
    let Ok(case) = std::env::var(CASE) else {
        return;
    };
    let (network, what) = case.split_once(' ').unwrap();
    let network = match network {
        "packets" => Network::Packets,
        "dpdk" => Network::Dpdk,
        _ => Network::Sockets,
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let mode = match what {
        "off" => Seccomp::Off,
        "log" => Seccomp::Log,
        _ => Seccomp::Kill,
    };
    // A thread that is there before the filter is held by it too.
    let (begin, begun) = std::sync::mpsc::channel::<fn()>();
    let early = std::thread::spawn(move || {
        if let Ok(what) = begun.recv() {
            what();
        }
    });
    // Payload files are made by the manager.
    let payload = payload::write(&vec![1_u32; 100_000]).unwrap();
    let bell = Doorbell::new().unwrap();
    confine(network, mode).unwrap();
    match what {
        "nothing" => {}
        "open" => {
            let refused = std::fs::File::open("/dev/null").unwrap_err();
            assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
        }
        "exec" => drop(Command::new("true").status()),
        "thread" => drop(std::thread::spawn(|| {}).join()),
        "early thread" => {
            begin.send(open_datagram_socket).unwrap();
            early.join().unwrap();
        }
        "memory of a thread" => {
            begin.send(grow_and_shrink).unwrap();
            early.join().unwrap();
        }
        "datagram" | "off" | "log" => open_datagram_socket(),
        "flags of a bell" => drop(fcntl_setfl(&bell, OFlags::empty())),
        "ioctl on a bell" => drop(ioctl_fionbio(&bell, false)),
        "flags of a listener" => drop(fcntl_setfl(&listener, OFlags::empty())),
        "ioctl on a listener" => drop(listener.set_nonblocking(false)),
        "connect" => {
            let mut client = TcpStream::connect(address).unwrap();
            let (server, _) = listener.accept().unwrap();
            drop(server);
            assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
        }
        "kill" => drop(nix::sys::signal::kill(nix::unistd::getppid(), None)),
        "memory" => {
            let mut large: Vec<u64> = vec![7; 1 << 20];
            large.resize(1 << 22, 8);
            let read: Vec<u32> = payload::read(payload).unwrap();
            assert_eq!(read.len() + large.len(), 100_000 + (1 << 22));
        }
        "abort" => std::process::abort(),
        other => panic!("{other}"),
    }
    std::process::exit(SURVIVED);
}

fn open_datagram_socket() {
    drop(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)));
}

/// The area of memory that the C library gives each thread becomes several, and then gives back what it can: it opens a file to know how.
fn grow_and_shrink() {
    for _ in 0..4 {
        let blocks: Vec<Vec<u8>> = (0..2_000).map(|_| vec![1; 100_000]).collect();
        drop(blocks);
    }
}

fn dies(case: &str) {
    for network in ["packets", "dpdk", "sockets"] {
        let end = play(&format!("{network} {case}"));
        assert_eq!(end, (None, Some(libc::SIGSYS)), "{network} {case}");
    }
}

fn lives(case: &str) {
    let end = play(case);
    assert_eq!(end, (Some(SURVIVED), None), "{case}");
}

#[test]
fn programs_threads_signals_and_other_sockets_are_out_of_reach() {
    for case in ["exec", "thread", "early thread", "kill", "datagram"] {
        dies(case);
    }
}

#[test]
fn what_others_share_cannot_be_made_to_keep_them_waiting() {
    for shared in ["bell", "listener"] {
        dies(&format!("flags of a {shared}"));
        dies(&format!("ioctl on a {shared}"));
    }
}

#[test]
fn what_a_worker_does_is_allowed() {
    for case in ["nothing", "memory", "memory of a thread"] {
        lives(&format!("packets {case}"));
        lives(&format!("sockets {case}"));
    }
    lives("sockets connect");
    let end = play("packets connect");
    assert_eq!(
        end,
        (None, Some(libc::SIGSYS)),
        "on NICs there is no socket to open"
    );
}

#[test]
fn files_cannot_be_opened_and_that_is_no_reason_to_die() {
    lives("packets open");
    lives("sockets open");
}

#[test]
fn a_mistake_of_its_own_ends_a_worker_by_its_own_signal() {
    assert_eq!(play("sockets abort"), (None, Some(libc::SIGABRT)));
}

#[test]
fn the_filter_can_be_taken_off_by_configuration() {
    lives("sockets off");
    lives("packets log");
}
