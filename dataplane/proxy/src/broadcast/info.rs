//! The proxy's own section of INFO.

use super::join::Writer;
use crate::links::itoa;
use crate::proxy::Proxy;
use crate::state::Pool;
use tidegate_channel::counters::PoolCounters;
use tidegate_protocol::Request;

/// The sections of which the proxy's own is one, and its own name.
const WITH_OWN: [&[u8]; 4] = [b"default", b"all", b"everything", b"tidegate"];

/// What the section tells besides the pool's counts, which are those of the worker that the client is connected to.
pub(super) struct Own {
    pub pool: u16,
    servers: usize,
    ejected: usize,
    answered: usize,
}

/// Whether INFO with these arguments shows the proxy's own section.
pub(super) fn shows_own(request: &Request, bytes: &[u8]) -> bool {
    request.argc == 1
        || request.arguments(bytes).skip(1).any(|section| {
            WITH_OWN
                .iter()
                .any(|name| bytes[section.clone()].eq_ignore_ascii_case(name))
        })
}

impl Proxy {
    pub(super) fn own(&self, client: u32, answered: usize) -> Own {
        let pool = self.clients[client as usize].pool;
        let servers = usize::from(self.pools[pool as usize].servers);
        let is_out = |&index: &usize| self.is_ejected(pool, index);
        Own {
            pool,
            servers,
            ejected: (0..servers).filter(is_out).count(),
            answered,
        }
    }
}

pub(super) fn write_own(out: &mut Writer, own: &Own, pool: &Pool) {
    out.push(b"# Tidegate\r\ntidegate_version:");
    out.push(env!("CARGO_PKG_VERSION").as_bytes());
    out.push(b"\r\ntidegate_pool:");
    out.push(pool.name.as_bytes());
    out.push(b"\r\n");
    write_count(out, "servers", own.servers as u64);
    write_count(out, "servers_ejected", own.ejected as u64);
    write_count(out, "servers_answered", own.answered as u64);
    for (row, value) in PoolCounters::ROWS.iter().zip(pool.counters.words()) {
        write_count(out, row.name, value);
    }
}

fn write_count(out: &mut Writer, name: &str, value: u64) {
    out.push(b"tidegate_");
    out.push(name.as_bytes());
    out.push(b":");
    out.push(itoa(value as usize).bytes());
    out.push(b"\r\n");
}
