//! Slow requests on their way to the manager, a few per message.

use super::Names;
use crate::reports::Reports;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tidegate_channel::message::FromWorker;
use tidegate_channel::slow::{SLOW_BATCH, SlowEnd, SlowEntry};
use tidegate_proxy::SlowRequest;

/// Gathers them, and sends what the manager takes at once.
pub(super) struct SlowReports {
    manager: Reports,
    batch: Vec<SlowEntry>,
    /// Those that never got this far, and those that the manager did not take.
    lost: Arc<AtomicU64>,
}

impl SlowReports {
    pub(super) fn new(manager: Reports, lost: Arc<AtomicU64>) -> Self {
        Self {
            manager,
            batch: Vec::with_capacity(SLOW_BATCH),
            lost,
        }
    }

    /// Where they go.
    pub(super) fn manager(&self) -> &Reports {
        &self.manager
    }

    pub(super) fn add(&mut self, names: &Names, slow: &SlowRequest) {
        self.batch.push(entry(names, slow));
        if self.batch.len() == SLOW_BATCH {
            self.flush();
        }
    }

    /// Sends what is there. A manager that does not read must not hold up the log, and much less the loop: what it does not take now
    /// is lost and counted.
    pub(super) fn flush(&mut self) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if self.batch.is_empty() && lost == 0 {
            return;
        }
        let entries = std::mem::take(&mut self.batch);
        let number = entries.len() as u64;
        let message = FromWorker::Slow { entries, lost };
        if self.manager.tell(&message).is_err() {
            self.lost.fetch_add(lost + number, Ordering::Relaxed);
        }
    }
}

fn entry(names: &Names, slow: &SlowRequest) -> SlowEntry {
    SlowEntry {
        taken_unix_us: slow.taken_unix_us,
        client: client(slow.client),
        pool: names.pool(usize::from(slow.pool)).to_owned(),
        server: slow.server.map(|server| names.server(server).to_owned()),
        command: slow.command.to_owned(),
        key: slow.key.front().escape_ascii().to_string(),
        key_bytes: slow.key.full_bytes(),
        request_bytes: slow.request_bytes,
        reply_bytes: slow.reply_bytes,
        queue_us: slow.queue_us,
        server_us: slow.server_us,
        turn_us: slow.turn_us,
        client_us: slow.client_us,
        end: match slow.end {
            tidegate_proxy::SlowEnd::Replied => SlowEnd::Replied,
            tidegate_proxy::SlowEnd::Failed => SlowEnd::Failed,
            tidegate_proxy::SlowEnd::ClientGone => SlowEnd::ClientGone,
        },
    }
}

/// A client of a Unix socket has no address.
fn client(address: SocketAddr) -> String {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => "unix".into(),
        _ => address.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_channel::control::ControlSocket;
    use tidegate_proxy::NotedKey;
    use tidegate_proxy::streams::ServerId;

    fn names() -> Names {
        Names {
            pools: vec!["cache".into()],
            servers: vec![(0, "cache-a".into(), "10.0.0.1:1".into())],
            addresses: vec![Some([10, 0, 0, 1].into())],
        }
    }

    fn slow(client: &str, server: Option<u16>) -> SlowRequest {
        SlowRequest {
            pool: 0,
            server: server.map(ServerId),
            client: client.parse().unwrap(),
            command: "get",
            key: NotedKey::new(b"a\xff\"b"),
            request_bytes: 1,
            reply_bytes: 2,
            taken_unix_us: 3,
            queue_us: 4,
            server_us: 5,
            turn_us: 6,
            client_us: 7,
            end: tidegate_proxy::SlowEnd::Replied,
        }
    }

    #[test]
    fn numbers_become_names_and_keys_become_text() {
        let told = entry(&names(), &slow("10.0.0.9:7", Some(0)));
        assert_eq!(told.pool, "cache");
        assert_eq!(told.server.as_deref(), Some("cache-a"));
        assert_eq!(told.client, "10.0.0.9:7");
        assert_eq!(told.key, "a\\xff\\\"b");
        assert_eq!((told.key_bytes, told.total_us()), (4, 22));
        let of_several = entry(&names(), &slow("0.0.0.0:0", None));
        assert_eq!(of_several.server, None);
        assert_eq!(of_several.client, "unix");
        let unknown = entry(&names(), &slow("[::1]:7", Some(9)));
        assert_eq!(unknown.server.as_deref(), Some("?"));
    }

    #[test]
    fn a_manager_that_does_not_read_costs_entries_and_not_time() {
        let (manager, worker) = ControlSocket::pair().unwrap();
        let worker = ControlSocket::from_descriptor(worker).unwrap();
        let lost = Arc::new(AtomicU64::new(0));
        let mut reports = SlowReports::new(Reports::to(&worker).unwrap(), lost.clone());
        let mut added = 0;
        while lost.load(Ordering::Relaxed) == 0 {
            reports.add(&names(), &slow("10.0.0.9:7", Some(0)));
            added += 1;
            assert!(added < 1_000_000, "the socket never fills");
        }
        let mut told = 0;
        manager.set_nonblocking().unwrap();
        let mut take = || {
            let mut missing = 0;
            while let Ok((FromWorker::Slow { entries, lost }, _)) = manager.receive() {
                told += entries.len() as u64;
                missing += lost;
            }
            missing
        };
        assert_eq!(take(), 0);
        reports.flush();
        let missing = take();
        assert_eq!(told + missing, added, "each is told or counted");
    }
}
