//! The configuration of a scenario, as an operator would write it.

use crate::scenario::{Scenario, Setting};
use crate::{listen, server_address};
use std::fmt::Write;

/// The configuration as an operator would write it.
pub(super) fn config_text(scenario: &Scenario, setting: Setting) -> String {
    let mut text = String::from("name = \"sim\"\n[[port]]\ninterface = \"sim0\"\nqueues = {");
    for queue in 0..scenario.workers {
        let comma = if queue > 0 { "," } else { "" };
        // Writing to a string cannot fail.
        let _ok = write!(text, "{comma} {queue} = {queue}");
    }
    let ack = if scenario.ack_with_reply {
        "with-reply"
    } else {
        "immediate"
    };
    let _ok = writeln!(text, " }}\nack = \"{ack}\"");
    for (pool, protocol) in ["redis", "memcached"].into_iter().enumerate() {
        let (address, port) = listen(pool);
        let servers = (0..scenario.servers).filter(|server| setting.servers >> server & 1 == 1);
        let servers = servers.map(|server| {
            let (address, port) = server_address(scenario, pool * scenario.servers + server);
            format!("\"{address}:{port}:1 s{server}\"")
        });
        let _ok = writeln!(
            text,
            "[[pool]]\nname = \"{protocol}\"\nprotocol = \"{protocol}\"\nlisten = \"{address}:{port}\"\nhash = \"murmur\"\n\
             servers = [{}]\nserver_connections = {}\ntimeout_ms = {}\npreconnect = {}\nauto_eject_hosts = {}\n\
             server_retry_timeout_ms = 200\nserver_failure_limit = 2\nclient_keepalive_s = 5",
            servers.collect::<Vec<_>>().join(", "),
            setting.connections,
            setting.timeout_ms,
            scenario.preconnects,
            setting.ejects,
        );
        if let Some(clients) = setting.pool_clients_max {
            let _ok = writeln!(text, "clients_max = {clients}");
        }
    }
    let _ok = writeln!(
        text,
        "[worker]\nclients_max = {}\nhalf_open_max = {}\nclient_buffer_bytes = 2048\nserver_connections_max = {}\n\
         server_buffer_bytes = {}\nrequests_max = {}\nclient_requests_max = {}\nsplit_keys_max = 256\nrequest_hold_bytes = 4096\n\
         reply_hold_bytes = 524288\nclient_reply_hold_bytes = {}\nclient_stall_ms = {}\nsource_ports = \"40000-40999\"",
        scenario.clients_max,
        scenario.clients_max.min(8),
        scenario.server_connections_max,
        scenario.server_buffer_bytes,
        setting.requests_max,
        setting.client_requests_max,
        scenario.client_reply_hold_bytes,
        scenario.client_stall_ms,
    );
    text
}
