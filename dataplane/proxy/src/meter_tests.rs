use super::*;
use std::collections::BTreeSet;
use tidegate_channel::counters::ServerCounters;
use tidegate_channel::flows::FlowSlots;
use tidegate_channel::meters::NAME_BYTES_MAX;
use tidegate_channel::statistics::{StatisticsLayout, StatisticsReader, StatisticsWriter};
use tidegate_config::Config;
use tidegate_protocol::{MEMCACHED_COMMANDS, MEMCACHED_OPCODES, redis_commands};

const LAYOUT: StatisticsLayout = StatisticsLayout {
    queues: 0,
    pools: 2,
    servers: 1,
    flows: FlowSlots {
        clients: 0,
        servers: 0,
    },
};

fn all_names() -> BTreeSet<&'static str> {
    let redis = redis_commands()
        .into_iter()
        .filter(|command| command.is_taken)
        .map(|command| command.name);
    let text = MEMCACHED_COMMANDS.iter().map(|command| command.name);
    let binary = MEMCACHED_OPCODES.iter().map(|opcode| opcode.name);
    // A row of memcached's may be several commands.
    let memcached = text.chain(binary).flat_map(str::split_whitespace);
    redis.chain(memcached).collect()
}

#[test]
fn a_command_keeps_its_row_and_those_too_many_share_one() {
    let meters = Meters::private(LAYOUT);
    let mut commands = Commands::new(&meters, 1);
    let names = all_names();
    assert!(names.len() > COMMAND_ROWS);
    let rows: Vec<Row> = names
        .iter()
        .map(|name| commands.row(&meters, name))
        .collect();
    let again: Vec<Row> = names
        .iter()
        .map(|name| commands.row(&meters, name))
        .collect();
    assert_eq!(rows, again);
    let own = rows.iter().filter(|row| **row != commands.other()).count();
    assert_eq!(own, COMMAND_ROWS - 1);
    assert_eq!(rows[0], meters.command(1, 1));
}

#[test]
fn a_name_that_stands_elsewhere_is_the_same_command() {
    let meters = Meters::private(LAYOUT);
    let mut commands = Commands::new(&meters, 0);
    let copy: &'static str = String::from("get").leak();
    let row = commands.row(&meters, "get");
    assert_eq!(commands.row(&meters, copy), row);
    assert_eq!(commands.row(&meters, "get"), row);
    assert_ne!(row, commands.other());
}

#[test]
fn no_name_is_cut_off() {
    for name in all_names() {
        assert!(name.len() <= NAME_BYTES_MAX, "{name}");
    }
}

#[test]
fn errors_are_told_from_other_replies() {
    for line in ["-ERR no\r\n", "!3\r\n", "ERROR\r\n", "SERVER_ERROR x\r\n"] {
        assert!(is_error_line(line.as_bytes()), "{line}");
    }
    for line in ["+OK\r\n", "", "STORED\r\n", "MN\r\n", ":-1\r\n"] {
        assert!(!is_error_line(line.as_bytes()), "{line}");
    }
}

fn configured(text: &str) -> Config {
    let text = format!("[[port]]\ndriver = \"kernel\"\n{text}");
    Config::parse(&text, "test.toml").unwrap()
}

fn pool(name: &str, port: u16, servers: &str) -> String {
    format!(
        "[[pool]]\nname = \"{name}\"\nprotocol = \"redis\"\nlisten = \"127.0.0.1:{port}\"\nservers = [{servers}]\n"
    )
}

#[test]
fn what_stays_configured_counts_on_in_the_new_page() {
    let two = "\"127.0.0.1:1:1\", \"127.0.0.1:2:1\"";
    let old = configured(&(pool("goes", 11, two) + &pool("stays", 12, two)));
    let new = configured(&(pool("comes", 13, two) + &pool("stays", 12, two)));
    let mut proxy = Proxy::new(&old.pools, &old.worker, 4, 1, 0);
    let get = proxy.pools[1].commands.row(&proxy.meters, "get");
    proxy.meters.taken(get, 3, 90);
    proxy.meters.answered(proxy.servers[3].row, 5, 0, Some(7));
    proxy.clients[2].row = get;

    // As a change of the configuration does it: the old pools behind the new ones.
    let mut next = Proxy::new(&new.pools, &new.worker, 4, 1, 0);
    next.pools[1].count_on_from(&mut proxy.pools[1]);
    let left = proxy.pools.remove(0);
    proxy.pools = std::mem::take(&mut next.pools);
    proxy.pools.push(left);
    proxy.servers = std::mem::take(&mut next.servers);
    let layout = StatisticsLayout {
        queues: 0,
        pools: 2,
        servers: 4,
        flows: FlowSlots::default(),
    };
    let file = layout.create().unwrap();
    let page = Meters::map(&file, layout).unwrap();
    proxy.change_meters(page, &[2, 1], &[GONE, 1], &[GONE, GONE, 2, 3]);

    let same = proxy.pools[1].commands.row(&proxy.meters, "get");
    assert_eq!(proxy.clients[2].row, same, "a request under way");
    proxy.meters.taken(same, 1, 10);
    let nobodys = proxy.meters.nobodys();
    let of_left = proxy.pools[2].commands.row(&proxy.meters, "set");
    assert_eq!(of_left, nobodys, "a pool that left has no place");
    let writer = StatisticsWriter::map(&file, layout).unwrap();
    writer.write_server(
        3,
        &ServerCounters {
            replies: 5,
            ..ServerCounters::default()
        },
    );
    let mut reader = StatisticsReader::map(&file, layout).unwrap();
    let read = reader.read();
    let [other, get] = &read.commands[1][..] else {
        panic!("{:?}", read.commands[1]);
    };
    assert_eq!((get.name.as_str(), get.requests), ("get", 4));
    assert_eq!((get.request_bytes, other.requests), (100, 0));
    assert_eq!(read.commands[0].len(), 1, "a new pool has nothing");
    assert_eq!(read.latencies[3].count(), 5);
}
