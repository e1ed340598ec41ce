//! The system calls of a worker that runs, each with its reason.
//!
//! Two rules decide what is here. A call is allowed if a worker cannot do its work without it, on a C library and a kernel of the last
//! years; and if its arguments tell harmless uses from others, only the harmless ones are. Pointers cannot be looked behind: what a path
//! or an address says is not known to a filter. So calls with paths are left out as a whole, or answered with an error.

use nix::libc;
use seccompiler::{
    Error, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, SeccompCmpOp::MaskedEq, SeccompCondition,
    SeccompRule,
};
use std::collections::BTreeMap;

/// Where a worker's bytes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Queues of NICs.
    Packets,
    /// Queues of devices that DPDK drives.
    Dpdk,
    /// Sockets of the kernel.
    Sockets,
}

/// A call, and the arguments with which it is allowed: none means any.
type Call = (libc::c_long, Vec<SeccompRule>);

/// Every call that a worker may use.
pub fn allowed(network: Network) -> Result<BTreeMap<i64, Vec<SeccompRule>>, Error> {
    let mut calls: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    let of_network = match network {
        Network::Packets => packets(),
        Network::Dpdk => dpdk(),
        Network::Sockets => sockets()?,
    };
    let lists = [
        opens(),
        memory()?,
        time(),
        descriptors()?,
        channel(),
        beginnings()?,
        ends()?,
        of_network,
    ];
    for (call, rules) in lists.into_iter().flatten() {
        calls.entry(call).or_default().extend(rules);
    }
    Ok(calls)
}

fn any(call: libc::c_long) -> Call {
    (call, Vec::new())
}

/// Argument `index` is one of `values`.
fn one_of(call: libc::c_long, index: u8, values: &[libc::c_int]) -> Result<Call, Error> {
    let rule = |value: &libc::c_int| {
        let value = u64::from(value.cast_unsigned());
        SeccompRule::new(vec![SeccompCondition::new(index, Dword, Eq, value)?])
    };
    Ok((call, values.iter().map(rule).collect::<Result<_, _>>()?))
}

/// Of the bits `mask` of argument `index` those of `value` are set.
fn masked(
    call: libc::c_long,
    index: u8,
    mask: libc::c_int,
    value: libc::c_int,
) -> Result<Call, Error> {
    let (mask, value) = (
        u64::from(mask.cast_unsigned()),
        u64::from(value.cast_unsigned()),
    );
    let condition = SeccompCondition::new(index, Dword, MaskedEq(mask), value)?;
    Ok((call, vec![SeccompRule::new(vec![condition])?]))
}

/// Opening a file, which is refused with an error rather than with death: see [`super::confine`].
pub(super) fn opens() -> Vec<Call> {
    vec![
        #[cfg(target_arch = "x86_64")]
        any(libc::SYS_open),
        any(libc::SYS_openat),
    ]
}

/// The poll loop allocates nothing. The control thread does: for messages, and for all that a changed configuration or a capture asks
/// for, which it builds while the loop goes on.
fn memory() -> Result<Vec<Call>, Error> {
    Ok(vec![
        // Large allocations, and the mapping of shared memory that the manager passes on. Never code: what is mapped cannot be run.
        masked(libc::SYS_mmap, 2, libc::PROT_EXEC, 0)?,
        // The allocator makes reserved memory usable with it. Never code, as above.
        masked(libc::SYS_mprotect, 2, libc::PROT_EXEC, 0)?,
        // Large allocations that are given back.
        any(libc::SYS_munmap),
        // Large allocations that grow: tables of a larger configuration.
        any(libc::SYS_mremap),
        // Small allocations.
        any(libc::SYS_brk),
        // The allocator gives pages back that it keeps addresses for.
        any(libc::SYS_madvise),
        // Shared memory that the worker makes itself, for frames that are captured: a file without a name, of a fixed size.
        any(libc::SYS_memfd_create),
        any(libc::SYS_ftruncate),
        // Keys of hash tables that are made later.
        any(libc::SYS_getrandom),
    ])
}

/// Threads that wait for each other or for a time.
fn time() -> Vec<Call> {
    vec![
        // The log's lock, parking and waking of the thread that writes events.
        any(libc::SYS_futex),
        // A pause of the idle loop gives its core to others.
        any(libc::SYS_sched_yield),
        // Naps of the loop over kernel sockets; the control thread waits before it tries again.
        any(libc::SYS_clock_nanosleep),
        any(libc::SYS_nanosleep),
        // Usually answered without a call, but not on every clock of a virtual machine.
        any(libc::SYS_clock_gettime),
        any(libc::SYS_gettimeofday),
        // A wait that a stop signal interrupted: the kernel goes on with it by this call.
        any(libc::SYS_restart_syscall),
        // A worker moves its own loop to another core when it is told to. The allocator counts cores with the other one, to know how
        // many areas it may have. Without privileges both reach processes of the same user alone.
        any(libc::SYS_sched_setaffinity),
        any(libc::SYS_sched_getaffinity),
    ]
}

/// What is done with descriptors that are open already. New ones come from the manager, or from the calls below.
fn descriptors() -> Result<Vec<Call>, Error> {
    Ok(vec![
        // Bells, the log, payload files.
        any(libc::SYS_read),
        any(libc::SYS_write),
        // The log writes a line in pieces.
        any(libc::SYS_writev),
        any(libc::SYS_close),
        // Sleeping until a frame, a bell or a message comes.
        #[cfg(target_arch = "x86_64")]
        any(libc::SYS_poll),
        any(libc::SYS_ppoll),
        // Size and position of payload files and shared memory. Of the two that could take a path one is held to the descriptor by a
        // flag; of both the answer is all that is to be had.
        any(libc::SYS_fstat),
        any(libc::SYS_newfstatat),
        masked(libc::SYS_statx, 2, libc::AT_EMPTY_PATH, libc::AT_EMPTY_PATH)?,
        any(libc::SYS_lseek),
        // Duplicates for the next manager, seals of shared memory. No owner and no lease, which send signals. And no flags (nor ioctl,
        // the other way to them): bells and listeners are shared, and others would wait for ever on one that waits. All that a worker
        // opens or accepts does not wait from the beginning.
        one_of(
            libc::SYS_fcntl,
            1,
            &[
                libc::F_DUPFD_CLOEXEC,
                libc::F_GETFD,
                libc::F_GETFL,
                libc::F_GET_SEALS,
                libc::F_ADD_SEALS,
            ],
        )?,
    ])
}

/// The manager's messages, and the next manager that knocks.
fn channel() -> Vec<Call> {
    vec![
        // Descriptors travel with messages in both directions: new configurations in, what the next manager needs out.
        any(libc::SYS_recvmsg),
        any(libc::SYS_sendmsg),
        // The door of the worker; clients, over kernel sockets.
        any(libc::SYS_accept4),
        // Who knocks; what became of a connection; what the kernel dropped before an AF_XDP ring.
        any(libc::SYS_getsockopt),
        // The next manager is told our number.
        any(libc::SYS_getpid),
    ]
}

/// A thread that was started just before the filter came may not have gone through its beginning. No call starts another one.
fn beginnings() -> Result<Vec<Call>, Error> {
    Ok(vec![
        // What the C library registers for each thread.
        any(libc::SYS_rseq),
        any(libc::SYS_set_robust_list),
        // Its name.
        one_of(libc::SYS_prctl, 0, &[libc::PR_SET_NAME])?,
    ])
}

/// The end of a thread, of the process in order, and of one that found a mistake of its own.
fn ends() -> Result<Vec<Call>, Error> {
    Ok(vec![
        any(libc::SYS_exit),
        any(libc::SYS_exit_group),
        // The stack for signals of a thread that ends is given back.
        any(libc::SYS_sigaltstack),
        // A thread that ends, or aborts, takes no signals meanwhile.
        any(libc::SYS_rt_sigprocmask),
        // abort() sees to it that nobody catches it.
        any(libc::SYS_rt_sigaction),
        any(libc::SYS_rt_sigreturn),
        any(libc::SYS_gettid),
        // A panic ends the process by SIGABRT. No other signal, to whomever.
        one_of(libc::SYS_tgkill, 2, &[libc::SIGABRT])?,
    ])
}

/// AF_XDP: the rings are memory, and a call is only needed to wake the kernel. Sockets are open and bound.
fn packets() -> Vec<Call> {
    vec![
        // Wakes the kernel for what is in the TX ring. The sockets have no peers, so an address would be in vain.
        any(libc::SYS_sendto),
        // Wakes the kernel for what is in the fill ring.
        any(libc::SYS_recvfrom),
    ]
}

/// DPDK: a card is memory, and no call is needed for frames. The virtual devices are sockets of the kernel.
fn dpdk() -> Vec<Call> {
    vec![
        // The executor that turns our loops looks for events of its own, and the main thread waits for signals.
        #[cfg(target_arch = "x86_64")]
        any(libc::SYS_epoll_wait),
        any(libc::SYS_epoll_pwait),
        any(libc::SYS_epoll_ctl),
        // Packet sockets and AF_XDP sockets: wakes the kernel for what is in the TX ring and in the fill ring.
        any(libc::SYS_sendto),
        any(libc::SYS_recvfrom),
        // Drivers of cards: alarms for what the card does by itself, such as a link that comes and goes, and registers that vfio has not
        // mapped.
        any(libc::SYS_timerfd_settime),
        any(libc::SYS_pread64),
        any(libc::SYS_pwrite64),
    ]
}

/// Kernel sockets: connections to servers are opened at any time, those of clients accepted.
fn sockets() -> Result<Vec<Call>, Error> {
    // TCP and Unix sockets for streams; neither raw ones nor netlink, nor any of the families that hardly anybody uses or looks at.
    let stream = |family: libc::c_int| {
        let family = SeccompCondition::new(0, Dword, Eq, u64::from(family.cast_unsigned()))?;
        let kind = SeccompCondition::new(1, Dword, MaskedEq(0xf), libc::SOCK_STREAM as u64)?;
        SeccompRule::new(vec![family, kind])
    };
    let families = [libc::AF_INET, libc::AF_INET6, libc::AF_UNIX];
    let socket = families.into_iter().map(stream).collect::<Result<_, _>>()?;
    Ok(vec![
        (libc::SYS_socket, socket),
        any(libc::SYS_connect),
        // The source address that the configuration asks for.
        any(libc::SYS_bind),
        // A listening address of a changed configuration, which the manager has bound; and another backlog.
        any(libc::SYS_listen),
        // Keep-alive, Nagle, quick acknowledgements, lingering.
        any(libc::SYS_setsockopt),
        // The bytes: one buffer or two, where a ring wraps.
        any(libc::SYS_recvfrom),
        any(libc::SYS_sendto),
        any(libc::SYS_readv),
        // No more is sent to a client that was answered.
        any(libc::SYS_shutdown),
        any(libc::SYS_getsockname),
        any(libc::SYS_getpeername),
        // Which connections are ready. Libraries differ in the call that they wait with.
        #[cfg(target_arch = "x86_64")]
        any(libc::SYS_epoll_wait),
        any(libc::SYS_epoll_pwait),
        any(libc::SYS_epoll_pwait2),
        any(libc::SYS_epoll_ctl),
    ])
}
