//! Dialogues of clients with a pool that has `compat = "twemproxy"`.

use super::traffic::resp;
use super::{World, limits, pool};
use tidegate_config::{Compat, PoolConfig, Protocol};

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn compatible(protocol: Protocol, servers: usize) -> PoolConfig {
    PoolConfig {
        compat: Compat::Twemproxy,
        ..pool(protocol, servers)
    }
}

pub fn world(protocol: Protocol, servers: usize) -> World {
    World::new(&[compatible(protocol, servers)], &limits(), 5)
}

/// Commands, one per line, as RESP.
pub fn commands(lines: &[&str]) -> Vec<u8> {
    let words = |line: &&str| resp(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>());
    lines.iter().flat_map(words).collect()
}

/// What a new client gets for `requests`, and whether its connection was closed behind that.
pub fn play(world: &mut World, requests: &[u8]) -> (String, bool) {
    let client = world.connect(requests.to_vec());
    world.settle(20_000);
    let state = &world.clients[client];
    let outcome = (
        text(&state.got),
        state.finished && state.closed.is_none() && state.to_send.is_empty(),
    );
    assert!(
        state.closed.is_none(),
        "{}: nobody is reset, got {outcome:?}",
        requests.escape_ascii()
    );
    outcome
}

/// A dialogue: what is sent, what comes back, and whether the connection is closed then.
pub type Dialogue<'a> = (&'a [&'a str], &'a str, bool);

pub fn assert_dialogues(world: &mut World, dialogues: &[Dialogue]) {
    for (lines, reply, closed) in dialogues {
        let before = world.proxy.pool_counters(0);
        let outcome = play(world, &commands(lines));
        assert_eq!(outcome, ((*reply).to_owned(), *closed), "{lines:?}");
        let after = world.proxy.pool_counters(0);
        assert_eq!(after.clients_closed_protocol, 0, "{lines:?}");
        let quit = lines.iter().any(|line| line.starts_with("QUIT"));
        assert_eq!(
            after.clients_closed_compat - before.clients_closed_compat,
            u64::from(*closed && !quit),
            "{lines:?}"
        );
    }
}

/// Two keys of each of two servers.
pub fn keys_of_both(world: &mut World) -> [[String; 2]; 2] {
    let protocol = world.servers[0].protocol;
    for n in 0..16 {
        let request = match protocol {
            Protocol::Redis => commands(&[&format!("SET k{n} v{n}")]),
            Protocol::Memcached => format!("set k{n} 0 0 2\r\nv{}\r\n", n % 10).into_bytes(),
        };
        let (got, _) = play(world, &request);
        assert!(got == "+OK\r\n" || got == "STORED\r\n", "{got}");
    }
    [0, 1].map(|server| {
        let mut keys: Vec<String> = world.servers[server]
            .store
            .keys()
            .map(|k| text(k))
            .collect();
        keys.sort();
        [keys[0].clone(), keys[1].clone()]
    })
}
