//! The one table that declares every counter.
//!
//! Each scope becomes a struct of `u64` fields that its owner increments in plain memory, a list of rows with kinds, units and help
//! texts, and a conversion to the words that the worker publishes in shared memory. A row added here appears in `tidegate status`,
//! `tidegate stats`, `/metrics` and the docs without further work. The end of a name is its unit.

pub use crate::counter_row::CounterRow;
use crate::counter_row::{Kind, Unit};

macro_rules! scope {
    ($(#[$doc:meta])* $name:ident in $scope:literal { $($field:ident: $($kind:ident)? $help:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[serde(default)]
        pub struct $name { $(#[doc = $help] pub $field: u64,)* }
        impl $name {
            /// What each counter is, in the order of [`Self::words`].
            pub const ROWS: &'static [CounterRow] = &[$(CounterRow {
                scope: $scope,
                name: stringify!($field),
                kind: scope!(@kind $($kind)?),
                unit: Unit::of(stringify!($field)),
                help: $help,
            },)*];
            /// Number of counters.
            pub const WORDS: usize = Self::ROWS.len();
            /// The values in declaration order.
            pub fn words(&self) -> [u64; Self::WORDS] { [$(self.$field,)*] }
            /// The reverse of [`Self::words`].
            pub fn from_words(words: &[u64; Self::WORDS]) -> Self {
                let mut rest = words.iter().copied();
                Self { $($field: rest.next().unwrap_or(0),)* }
            }
            /// Adds another set, field by field. The page is another process's, so a sum may be too large.
            pub fn add(&mut self, other: &Self) { $(self.$field = self.$field.saturating_add(other.$field);)* }
            /// What became of `frames_in`, where there is one: the sum of the other `frames_*`.
            pub fn frames_told(&self) -> u64 {
                [$(if const { is_fate(stringify!($field)) } { self.$field } else { 0 },)*].iter().sum()
            }
            /// What an ended process leaves: how things stood with it is over.
            #[must_use]
            pub fn without_gauges(mut self) -> Self {
                $(if scope!(@kind $($kind)?).is_gauge() { self.$field = 0; })*
                self
            }
        }
    };
    (@kind) => { Kind::Counter };
    (@kind gauge) => { Kind::Gauge };
}

/// Whether a counter tells what became of some of the frames that `frames_in` counts.
const fn is_fate(name: &str) -> bool {
    match name.as_bytes() {
        [b'f', b'r', b'a', b'm', b'e', b's', b'_', rest @ ..] => !matches!(rest, [b'i', b'n']),
        _ => false,
    }
}

scope! {
    /// One queue of one port.
    QueueCounters in "queue" {
        rx_frames: "frames received",
        rx_bytes: "bytes received",
        tx_frames: "frames handed to the device",
        tx_bytes: "bytes handed to the device",
        tx_kicks: "system calls that started transmission",
        tx_kick_retries: "kicks answered with EAGAIN, EBUSY or ENOBUFS and repeated",
        rx_dropped: "frames the kernel dropped before our ring for another reason than those below",
        rx_ring_full: "frames the kernel dropped because the RX ring was full",
        rx_fill_ring_empty: "times the kernel found the fill ring empty",
        tx_invalid: "descriptors the kernel refused",
        tx_dropped: "frames the device dropped instead of sending",
        link_down: gauge "1 while a device of DPDK says that it has no link; only the first queue asks it",
    }
}

scope! {
    /// TCP and below, of one worker.
    StackCounters in "tcp" {
        frames_in: "frames given to the stack: the sum of frames_delivered and every frames_* drop below",
        frames_delivered: "frames that reached a flow or opened one",
        frames_runt: "dropped: shorter than its headers say",
        frames_not_tcp: "dropped: not IPv4 or IPv6 TCP, or a fragment",
        frames_bad_checksum: "dropped: IPv4 header or TCP checksum wrong",
        frames_malformed: "dropped: flags, ports or a source address that no segment can have",
        frames_not_ours: "dropped: neither a listening address nor one of our source ports, or handed over for no reason",
        frames_other_station: "dropped: sent to the link address of another station, by a switch that does not know where it is, or to one that was ours",
        frames_unknown_flow: "answered with RST: no such flow",
        frames_handed_over: "passed to the worker that owns the flow",
        frames_hand_over_full: "dropped: the ring to the owning worker was full",
        frames_no_slot: "dropped: SYN with every client slot taken (limit: clients_max)",
        frames_refused: "answered with RST: a SYN while the worker takes no new clients",
        frames_beyond_window: "dropped: bytes beyond the window that was announced",
        frames_tx_full: "dropped: the RST they deserved found no room in the TX ring",
        answers_tx_full: "immediate answers of a flow that found no room in the TX ring",
        hand_over_faults: "dropped: frames from another worker's ring, or places in it, that no worker writes",
        wrong_queue: "frames that arrived on a queue whose worker does not own the flow",
        accepted: "client connections established",
        connected: "server connections established",
        connects_failed: "server connections refused or timed out",
        half_open_evicted: "handshakes given up for a newer SYN (limit: half_open_max)",
        half_open_expired: "handshakes given up because the client did not finish them",
        time_wait_reused: "connections reopened from TIME_WAIT by a SYN",
        time_wait_recycled: "TIME_WAIT slots taken early for a new connection",
        syn_on_established: "SYN on an open connection: answered by a probe",
        resets_challenged: "RST inside the window at another sequence number than expected: answered by a probe",
        resets_ignored: "RST outside the window: dropped without an answer",
        segments_doubted: "segments whose sequence number, acknowledgement or timestamp cannot be: dropped, the peer is told where we stand",
        resets_received: "connections reset by the peer",
        resets_sent: "connections reset by us",
        flows_timed_out: "connections given up: no acknowledgement in time",
        retransmits: "segments sent again",
        servers_silent: "times a server connection had sent a segment twice in vain: its next hop is asked for",
        acks_alone: "segments sent that carry nothing but an acknowledgement",
        segments_sent: "segments sent",
        acks_held: "acknowledgements that waited for their reply",
        clients_open: gauge "client slots in use",
        servers_open: gauge "server slots in use",
        orphan_probes: "probes sent to the ends of connections that a worker left open when it died, until they say that they have none",
        orphans_ended: "of those connections, those whose end answered and was sent a RST, or has none",
        orphans_silent: "those whose end did not answer any probe, or that are not the worker's to end",
        orphans: gauge "those whose end has not answered yet",
        half_open: gauge "handshakes under way",
        time_wait: gauge "connections in TIME_WAIT",
    }
}

scope! {
    /// The kernel's sockets, of one worker; all zero where a TCP of our own runs.
    SocketCounters in "socket" {
        waits: "times the worker asked the kernel for events",
        events: "events taken",
        reads: "system calls that received",
        read_bytes: "bytes received",
        writes: "system calls that sent",
        write_bytes: "bytes handed to the kernel",
        write_blocked: "times the kernel's send buffer was full",
        quick_acks: "times an immediate acknowledgement was asked for",
        accepts_paused_slots: "times no client was accepted: every client slot was taken (limit: clients_max)",
        accepts_paused_descriptors: "times accepting paused: all file descriptors that clients may have are taken, or out of memory (limit: open files)",
        accept_errors: "clients lost before they were accepted",
    }
}

scope! {
    /// ARP, neighbour discovery and echo, which the first worker does where the kernel does not see the ports (DPDK); all zero elsewhere.
    LinkCounters in "link" {
        frames_in: "frames given to the link layer: the sum of the other frames_* below",
        frames_answered: "ARP requests and neighbour solicitations for our addresses, answered",
        frames_echoed: "echo requests, answered",
        frames_learned: "frames by which a wanted next hop told its link address, and that asked for nothing",
        frames_conflicting: "frames of somebody else who claims one of our addresses",
        frames_malformed: "dropped: lengths, checksums, hop limits or addresses that no such frame can have, our own come back included",
        frames_not_ours: "dropped: about other addresses than ours and our next hops', or sent to another station",
        frames_ignored: "dropped: router advertisements, redirects, other ICMP, other protocols, fragments, IP options, VLAN tags",
        frames_limited: "dropped: echo requests beyond what is answered in a second",
        frames_tx_full: "dropped: the answer they deserved found no room in the TX ring",
        asks_sent: "solicitations, probes and announcements sent",
        asks_tx_full: "times one of them found no room in the TX ring; it is tried again",
    }
}

scope! {
    /// One pool in one worker.
    PoolCounters in "pool" {
        clients: gauge "clients connected",
        client_connections: "clients accepted",
        clients_refused: "clients refused with an error: the pool has as many as it may have (limit: clients_max of the pool)",
        client_eof: "clients that closed in order",
        client_errors: "clients that were reset or timed out",
        clients_closed_stalled: "closed by us: no progress for client_stall_ms",
        clients_closed_protocol: "closed by us: framing lost after a malformed request",
        clients_closed_compat: "closed by us as twemproxy does: a request it does not take, or a failed read of several keys (compat)",
        clients_closed_lost: "closed by us: the server connection with their subscriptions was lost",
        pins: gauge "server connections that belong to a client: transactions, commands that wait, subscriptions",
        pins_refused: "requests answered with an error: no server connection of their own left (limit: own_connections_max)",
        transactions: "transactions sent to a server",
        transactions_aborted: "transactions ended by us with -EXECABORT",
        pushes: "messages and confirmations passed on to subscribers",
        requests: "requests taken",
        requests_local: "requests the proxy answered itself",
        requests_refused: "requests not taken: unsupported or malformed",
        requests_split: "requests divided over several servers",
        requests_broadcast: "requests sent to every server of the pool, steps of SCAN included",
        requests_streamed: "requests too large to hold, passed on a connection of their own",
        fragments: "requests sent to servers for divided requests",
        replies: "replies sent to clients",
        replies_held: "replies that had to wait for their turn",
        replies_partial: "replies without the parts of failed servers (setting partial)",
        replies_over_hold: "replies replaced by an error: no room to hold them (limit: reply_hold_bytes)",
        replies_over_client_hold: "replies replaced by an error: too much held for one client (limit: client_reply_hold_bytes)",
        forward_errors: "requests answered with an error: no server could take them",
        timeouts: "requests answered with an error: the server did not reply within timeout_ms",
        late_replies: "replies swallowed because their request was given up",
        slow_requests: "requests that took longer than slowlog_us",
        slow_requests_unlogged: "those that are missing in the slow log: too many at once",
        paused_requests: "times a client was not read: no table entry was free (limits: requests_max, split_keys_max)",
        paused_client_requests: "times a client was not read: it waits for so many replies already (limit: client_requests_max)",
        paused_servers: "times a client was not read: a server connection had no room, or others waited for it before",
        paused_replies: "times a server was not read: a client did not take its reply",
        ejects: "servers taken out of the distribution",
    }
}

scope! {
    /// One server in one worker.
    ServerCounters in "server" {
        connections: gauge "connections open",
        connects: "connections tried",
        eof: "connections the server closed in order",
        errors: "connections reset, refused or timed out",
        timeouts: "requests without a reply within timeout_ms",
        protocol_errors: "connections closed by us: the server did not speak the protocol",
        requests: "requests sent",
        request_bytes: "bytes of them",
        replies: "replies received",
        reply_bytes: "bytes of them",
        error_replies: "replies that were errors",
        in_flight: gauge "requests without a reply so far",
        ejected: gauge "1 while out of the distribution",
    }
}

scope! {
    /// One worker's loop.
    LoopCounters in "loop" {
        started_unix_s: gauge "when the worker started, seconds since 1970",
        turns: "turns of the poll loop",
        busy_turns: "turns that found something to do",
        busy_ns: "nanoseconds spent in busy turns",
        sleeps: "times the worker slept on its queues",
        lingers: "turns that waited for a fuller burst",
        pauses: "turns of more than 1 ms without sleep: somebody else had the core, a process or the hypervisor",
        paused_us: "microseconds of them",
        heartbeat: "changes at least once a second while the loop is alive",
    }
}

scope! {
    /// The processes of one worker, as the manager counts them. They are not in shared memory.
    ProcessCounters in "worker" {
        restarts: "processes started after the first",
        hung: "processes killed because their heartbeat stopped",
        forbidden_calls: "processes killed because of a system call that workers must not use",
    }
}

impl QueueCounters {
    /// Frames lost in either direction, for whatever reason.
    pub fn lost(&self) -> u64 {
        self.rx_dropped
            .saturating_add(self.rx_ring_full)
            .saturating_add(self.tx_invalid)
            .saturating_add(self.tx_dropped)
    }
}
