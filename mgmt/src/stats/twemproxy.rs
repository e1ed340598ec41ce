//! The model as twemproxy tells it on its statistics port, field by field, for dashboards and scripts that a fleet has already.
//!
//! A field that means nothing here is 0: requests are sent at once, so none waits in an incoming queue, and bytes under way are not
//! counted by server.

use super::model::{PoolStats, ServerStats, Stats};
use serde_json::{Map, Value, json};

/// One line of JSON.
pub fn render(stats: &Stats) -> String {
    let total = &stats.total;
    let mut fields = Fields::default();
    fields.put("service", "nutcracker");
    fields.put("source", stats.host.as_str());
    fields.put("version", stats.version.as_str());
    fields.put("uptime", stats.uptime_s);
    fields.put("timestamp", stats.unix_ms / 1_000);
    fields.put(
        "total_connections",
        total
            .client_connections
            .saturating_add(total.server_connects),
    );
    fields.put(
        "curr_connections",
        total.clients.saturating_add(total.server_connections),
    );
    for pool in &stats.pools {
        fields.put(&pool.name, self::pool(pool));
    }
    format!("{}\n", Value::Object(fields.0))
}

#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }
}

fn pool(pool: &PoolStats) -> Value {
    let counters = &pool.counters;
    let closed = [
        counters.client_errors,
        counters.clients_closed_stalled,
        counters.clients_closed_protocol,
        counters.clients_closed_compat,
        counters.clients_closed_lost,
    ];
    let mut fields = Fields::default();
    fields.put("client_eof", counters.client_eof);
    fields.put("client_err", sum(&closed));
    fields.put("client_connections", counters.clients);
    fields.put("server_ejects", counters.ejects);
    fields.put(
        "forward_error",
        sum(&[counters.forward_errors, counters.timeouts]),
    );
    fields.put("fragments", counters.fragments);
    for server in &pool.servers {
        fields.put(&server.name, self::server(server));
    }
    Value::Object(fields.0)
}

fn server(server: &ServerStats) -> Value {
    let counters = &server.counters;
    json!({
        "server_eof": counters.eof,
        "server_err": sum(&[counters.errors, counters.protocol_errors]),
        "server_timedout": counters.timeouts,
        "server_connections": counters.connections,
        "server_ejected_at": server.ejected_unix_ms.saturating_mul(1_000),
        "requests": counters.requests,
        "request_bytes": counters.request_bytes,
        "responses": counters.replies,
        "response_bytes": counters.reply_bytes,
        "in_queue": 0,
        "in_queue_bytes": 0,
        "out_queue": counters.in_flight,
        "out_queue_bytes": 0,
    })
}

fn sum(numbers: &[u64]) -> u64 {
    numbers
        .iter()
        .fold(0, |sum, number| sum.saturating_add(*number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::prometheus::tests::stats;

    #[test]
    fn it_is_one_line_with_an_object_for_each_pool_and_each_server() {
        let mut model = stats();
        model.pools[0].servers[0].ejected_unix_ms = 1_700_000_000_123;
        let text = render(&model);
        assert_eq!(text.matches('\n').count(), 1);
        let told: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(told["service"], "nutcracker");
        assert_eq!(told["timestamp"], 1_700_000_000);
        assert_eq!(told["curr_connections"], 3);
        assert_eq!(told["sessions"]["client_connections"], 2);
        let server = &told["sessions"]["cache-b"];
        assert_eq!(server["server_ejected_at"], 1_700_000_000_123_000_u64);
        assert_eq!(server.as_object().unwrap().len(), 13);
    }
}
