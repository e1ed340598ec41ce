//! Connections to servers: source ports whose replies come back to us, and bytes that wait for the connection to open.

use crate::config::Path;
use crate::flow::Role;
use crate::flow_table::FlowKey;
use crate::frame::wire_address;
use crate::limits::{CONNECT_US, SERVER_KEEPALIVE_US, SOURCE_PORT_TRIES};
use crate::slot_lists::List;
use crate::stack::Stack;
use std::net::SocketAddr;
use tidegate_proxy::streams::{ConnectError, ServerId};

impl Stack {
    /// Starts a connection; its SYN leaves in the next egress pass.
    pub(crate) fn open_server(&mut self, server: ServerId) -> Result<u32, ConnectError> {
        let path = self
            .paths
            .get(usize::from(server.0))
            .copied()
            .flatten()
            .ok_or(ConnectError::NoRoute)?;
        let local = self.source(&path).ok_or(ConnectError::NoPort)?;
        let slot = self
            .free_slot(List::FreeServers, List::TimeWaitServers)
            .ok_or(ConnectError::NoSlot)?;
        let link = self.link_to(&path);
        let key = FlowKey::new(local, path.destination);
        self.choose_initial_number(&key, usize::from(path.port));
        let interface = &mut self.ports[usize::from(path.port)].interface;
        let flow = &mut self.flows[slot as usize];
        flow.open(Role::Server(server.0), path.port, link, self.now_us);
        flow.keepalive_us = SERVER_KEEPALIVE_US;
        let remote = (wire_address(path.destination.ip()), path.destination.port());
        let source = (wire_address(local.ip()), local.port());
        if flow
            .socket_mut()
            .connect(interface.context(), remote, source)
            .is_err()
        {
            self.free(slot);
            return Err(ConnectError::NoRoute);
        }
        flow.attached = true;
        flow.owner = crate::flow::Owner::Proxy;
        self.table.insert(key, slot);
        self.wait_in(List::Connecting, slot, CONNECT_US);
        self.mark_dirty(slot);
        Ok(slot)
    }

    /// An address and port of ours that no connection to this server uses and whose replies arrive on our queue. The search
    /// goes on where the last one ended, so a port that was just given up rests for a whole turn of the range.
    fn source(&mut self, path: &Path) -> Option<SocketAddr> {
        let oracle = &self.ports[usize::from(path.port)].oracle;
        let partitioned = oracle.partitions_ports();
        let (first, ports) = if partitioned {
            self.partition.share(self.worker)
        } else {
            (self.partition.first, self.partition.ports())
        };
        for _ in 0..ports.min(SOURCE_PORT_TRIES) {
            let local = SocketAddr::new(path.source, first + (self.next_port % ports) as u16);
            self.next_port = self.next_port.wrapping_add(1);
            let returns = partitioned || oracle.owner(local, path.destination) == Some(self.worker);
            let key = FlowKey::new(local, path.destination);
            if returns && self.table.get(&key).is_none() && !self.orphans.has(&key) {
                return Some(local);
            }
        }
        None
    }

    fn staging_offset(&self, slot: u32) -> usize {
        (slot - self.clients) as usize * self.server_buffer_bytes
    }

    /// Keeps bytes until the connection is open; returns how many there was room for.
    pub(crate) fn stage(&mut self, slot: u32, bytes: &[u8]) -> usize {
        let staged = self.flows[slot as usize].staged as usize;
        let room = self.server_buffer_bytes - staged;
        let taken = bytes.len().min(room);
        let at = self.staging_offset(slot) + staged;
        self.staging[at..at + taken].copy_from_slice(&bytes[..taken]);
        self.flows[slot as usize].staged += taken as u32;
        taken
    }

    /// The connection is open: what waited for it goes into its send buffer, which is as large and still empty.
    pub(crate) fn send_staged(&mut self, slot: u32) {
        let at = self.staging_offset(slot);
        let flow = &mut self.flows[slot as usize];
        let staged = std::mem::take(&mut flow.staged) as usize;
        if staged > 0 {
            let sent = flow.queue(&self.staging[at..at + staged]);
            debug_assert!(sent == staged, "the send buffer was empty");
        }
        if std::mem::take(&mut flow.finish_wanted) {
            flow.socket_mut().close();
            self.wait_for_end(slot);
        }
    }
}
