//! Other listeners and servers, taken up between two bursts.

use crate::config::{Listener, Path};
use crate::flow::Role;
use crate::slot_lists::List;
use crate::stack::{ListenerState, Stack};
use tidegate_channel::flows::FlowsWriter;
use tidegate_config::AckMode;
use tidegate_proxy::GONE;

/// What a stack is to be from now on, made in advance. Afterwards it has what was replaced.
pub struct StackChange {
    paths: Vec<Option<Path>>,
    listeners: Vec<ListenerState>,
    half_open_max: usize,
    acks: Vec<AckMode>,
    record: FlowsWriter,
}

impl StackChange {
    /// `servers` are configured, and there are at most `servers_max` with those that leave; `acks` are by port; what is open will stand in
    /// `record`.
    pub fn new(
        listeners: &[Listener],
        (servers, servers_max): (usize, usize),
        half_open_max: usize,
        acks: Vec<AckMode>,
        record: FlowsWriter,
    ) -> Self {
        let mut paths = Vec::with_capacity(servers_max.max(servers));
        paths.resize(servers, None);
        Self {
            paths,
            listeners: listeners.iter().map(ListenerState::new).collect(),
            half_open_max,
            acks,
            record,
        }
    }
}

impl Stack {
    /// Takes up another configuration, in which servers and listeners have the numbers that `servers_to` and `listeners_to` say.
    /// Flows stay what they are. A handshake with a listener that is no more is forgotten; its client tries again and is refused.
    pub fn reconfigure(
        &mut self,
        change: &mut StackChange,
        servers_to: &[u16],
        listeners_to: &[u16],
    ) {
        // By their old numbers. Those that stay so are noted again.
        self.silent.clear();
        let configured = change.paths.len();
        std::mem::swap(&mut self.paths, &mut change.paths);
        for (old, path) in change.paths.drain(..).enumerate() {
            let to = usize::from(servers_to.get(old).copied().unwrap_or(GONE));
            if to < configured {
                self.paths[to] = path;
            } else if to != usize::from(GONE) {
                // Those that leave stand behind the others in the order in which they stood.
                debug_assert_eq!(to, self.paths.len(), "numbers without gaps");
                self.paths.push(path);
            }
        }
        std::mem::swap(&mut self.listeners, &mut change.listeners);
        self.half_open_max = change.half_open_max;
        for (port, ack) in self.ports.iter_mut().zip(&change.acks) {
            port.ack = *ack;
        }
        std::mem::swap(&mut self.record, &mut change.record);
        let number = |to: &[u16], old: u16| to.get(usize::from(old)).copied().unwrap_or(GONE);
        for slot in 0..self.flows.len() as u32 {
            let flow = &mut self.flows[slot as usize];
            match &mut flow.role {
                Role::Server(server) => *server = number(servers_to, *server),
                Role::Client(listener) => {
                    *listener = number(listeners_to, *listener);
                    if *listener == GONE && self.lists.is_in(slot, List::HalfOpen) {
                        self.free(slot);
                    }
                }
            }
            self.note_open(slot);
        }
    }
}
