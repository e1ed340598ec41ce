//! What Tidegate tells of itself is what its clients did: to the request and to the byte, over all workers and over their deaths.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::AddAssign;
use tidegate_tests::both_drivers;
use tidegate_tests::client::Connection;
use tidegate_tests::client::memcached::Memcached;
use tidegate_tests::client::resp::{Redis, Value};
use tidegate_tests::lab::addresses::Family;
use tidegate_tests::scene::Scene;
use tidegate_tests::stage::Driver;
use tidegate_tests::twins::Twins;

/// Connections of each round: enough that both workers have some.
const CONNECTIONS: usize = 16;
/// Pairs of a write and a read on each.
const PAIRS: usize = 50;

/// What clients of a pool did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Did {
    writes: u64,
    reads: u64,
    others: u64,
    errors: u64,
    sent_bytes: u64,
    received_bytes: u64,
}

impl Did {
    fn requests(&self) -> u64 {
        self.writes + self.reads + self.others
    }

    fn with_bytes_of(mut self, connection: &Connection) -> Self {
        self.sent_bytes = connection.sent_bytes;
        self.received_bytes = connection.received_bytes;
        self
    }
}

impl AddAssign for Did {
    fn add_assign(&mut self, other: Self) {
        self.writes += other.writes;
        self.reads += other.reads;
        self.others += other.others;
        self.errors += other.errors;
        self.sent_bytes += other.sent_bytes;
        self.received_bytes += other.received_bytes;
    }
}

fn redis_round(mut client: Redis, number: usize) -> Did {
    let mut did = Did::default();
    let value = vec![b'v'; 100 + 37 * number];
    for pair in 0..PAIRS {
        let key = format!("stats-{number}-{pair}");
        let stored = client.ask(&[b"SET", key.as_bytes(), &value]).unwrap();
        assert_eq!(stored, Value::ok());
        let read = client.ask(&[b"GET", key.as_bytes()]).unwrap();
        assert_eq!(read, Value::bulk(&value));
        did.writes += 1;
        did.reads += 1;
    }
    // Larger than any buffer on the way.
    let large = vec![b'L'; 1 << 20];
    assert_eq!(
        client.ask(&[b"SET", b"large", &large]).unwrap(),
        Value::ok()
    );
    assert_eq!(client.words("GET large").unwrap(), Value::bulk(&large));
    did.writes += 1;
    did.reads += 1;
    // Divided, answered by the proxy, refused by a server, refused by the proxy.
    let keys: Vec<String> = (0..PAIRS).map(|n| format!("stats-{number}-{n}")).collect();
    let values = client.words(&format!("MGET {}", keys.join(" "))).unwrap();
    assert!(matches!(values, Value::Array(Some(values)) if values.len() == PAIRS));
    client.words("PING").unwrap();
    assert!(client.words("LPUSH large x").unwrap().is_error("WRONGTYPE"));
    assert!(client.words("NONSENSE").unwrap().is_error("ERR"));
    did.others += 4;
    did.errors += 2;
    did.with_bytes_of(&client.connection)
}

fn memcached_round(mut client: Memcached, number: usize) -> Did {
    let mut did = Did::default();
    let value = vec![b'v'; 100 + 37 * number];
    for pair in 0..PAIRS {
        let key = format!("stats-{number}-{pair}");
        assert_eq!(client.set(key.as_bytes(), 0, &value).unwrap(), "STORED");
        let items = client.get(&[key.as_bytes()]).unwrap();
        assert_eq!(items[0].value, value);
        did.writes += 1;
        did.reads += 1;
    }
    let keys: Vec<String> = (0..PAIRS).map(|n| format!("stats-{number}-{n}")).collect();
    let keys: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
    assert_eq!(client.get(&keys).unwrap().len(), PAIRS);
    did.reads += 1;
    // Nobody waits for its reply, so the request behind it says when it is done.
    client
        .connection
        .send(b"set quiet 0 0 1 noreply\r\nx\r\n")
        .unwrap();
    assert_eq!(client.get(&[b"quiet"]).unwrap().len(), 1);
    did.writes += 1;
    did.reads += 1;
    did.with_bytes_of(&client.connection)
}

/// Clients of both pools, one after the other.
fn round(scene: &Scene) -> [Did; 2] {
    let plan = scene.plan();
    scene.on_client(|| {
        let mut did = [Did::default(); 2];
        for number in 0..CONNECTIONS {
            did[0] += redis_round(plan.redis(Family::V4), number);
            did[1] += memcached_round(plan.memcached(Family::V4), number);
        }
        did
    })
}

fn named<'a>(list: &'a Json, name: &str) -> &'a Json {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    let found = list.iter().find(|entry| entry["name"] == name);
    found.unwrap_or(&Json::Null)
}

fn number(value: &Json) -> u64 {
    value.as_u64().unwrap_or(0)
}

/// Replies in a histogram.
fn count(latency: &Json) -> u64 {
    let buckets = latency["buckets"].as_array().into_iter().flatten();
    buckets.map(|bucket| number(&bucket[1])).sum()
}

/// The same numbers as statistics tell them.
fn told(stats: &Json, pool: &str) -> Did {
    let pool = named(&stats["pools"], pool);
    let requests = |command: &str| number(&named(&pool["commands"], command)["requests"]);
    let all = pool["commands"].as_array().into_iter().flatten();
    let all: u64 = all.map(|command| number(&command["requests"])).sum();
    let (writes, reads) = (requests("set"), requests("get"));
    Did {
        writes,
        reads,
        others: all - writes - reads,
        errors: number(&pool["errors"]),
        sent_bytes: number(&pool["request_bytes"]),
        received_bytes: number(&pool["reply_bytes"]),
    }
}

fn is_told(scene: &mut Scene, did: [Did; 2]) -> Json {
    let names = ["redis", "memcached"];
    let pages_are_written = |stats: &Json| {
        names.iter().zip(did).all(|(name, did)| {
            let counters = &named(&stats["pools"], name)["counters"];
            number(&counters["requests"]) == did.requests() && told(stats, name) == did
        })
    };
    let stats = scene
        .appliance
        .wait_for_stats("all that was sent", pages_are_written);
    let stats = stats.unwrap_or_else(|error| panic!("{did:?}: {error:?}"));
    for (name, did) in names.iter().zip(did) {
        let pool = named(&stats["pools"], name);
        assert_eq!(count(&pool["latency"]), did.requests(), "{name}");
        let of_workers = stats["workers"].as_array().into_iter().flatten();
        assert!(of_workers.count() == 2);
        let servers = pool["servers"].as_array().into_iter().flatten();
        for server in servers {
            let replies = number(&server["counters"]["replies"]);
            assert_eq!(count(&server["latency"]), replies, "{name}: {server}");
        }
    }
    let total: u64 = did.iter().map(Did::requests).sum();
    assert_eq!(number(&stats["total"]["requests"]), total);
    stats
}

both_drivers!(sums_are_what_was_sent_and_go_on_when_a_worker_dies);

fn sums_are_what_was_sent_and_go_on_when_a_worker_dies(scene: &mut Scene) {
    let mut did = round(scene);
    is_told(scene, did);
    let worker = scene.appliance.status().unwrap().workers()[0].clone();
    kill(Pid::from_raw(worker.pid), Signal::SIGKILL).unwrap();
    scene.wait_for_status("a new worker 0", |status| {
        let workers = status.workers();
        workers[0].state == "running" && workers[0].pid != worker.pid
    });
    is_told(scene, did);
    for (sum, more) in did.iter_mut().zip(round(scene)) {
        *sum += more;
    }
    let stats = is_told(scene, did);

    // The same for people and for Prometheus.
    let text = scene.appliance.stats_text(&["redis"]).unwrap();
    assert!(
        text.contains("pool redis") && text.contains("mget"),
        "{text}"
    );
    let metrics = scene.appliance.stats_text(&["--metrics"]).unwrap();
    let requests = did[0].writes;
    let line =
        format!("tidegate_command_requests_total{{pool=\"redis\",command=\"set\"}} {requests}");
    assert!(metrics.lines().any(|found| found == line), "{metrics}");
    let p50 = &named(&stats["pools"], "redis")["rates"]["start"]["latency"]["p50_us"];
    assert!(number(p50) > 0);
}

/// What a statistics port says to whoever connects.
fn said(at: SocketAddr) -> Json {
    let said = Connection::open(at).unwrap().rest().unwrap();
    serde_json::from_slice(&said).unwrap()
}

/// The paths of all fields, with the kinds of their values.
fn fields(told: &Json, path: &str, found: &mut BTreeMap<String, &'static str>) {
    let kind = match told {
        Json::Object(inner) => {
            for (name, value) in inner {
                fields(value, &format!("{path}/{name}"), found);
            }
            "object"
        }
        Json::String(_) => "text",
        Json::Number(_) => "number",
        _ => "something else",
    };
    found.insert(path.to_owned(), kind);
}

#[test]
fn the_statistics_port_has_the_fields_of_nutcracker() {
    let Some(mut twins) = Twins::usual(Driver::Kernel) else {
        return;
    };
    let mut redis = Redis::open(twins.tidegate("redis")).unwrap();
    assert_eq!(redis.words("SET a 1").unwrap(), Value::ok());
    let appliance = &mut twins.scene.appliance;
    let is_counted = |stats: &Json| named(&stats["pools"], "redis")["counters"]["clients"] == 1;
    appliance.wait_for_stats("the client", is_counted).unwrap();
    let [own, theirs] = twins.statistics();
    let told = said(own);
    let pool = &told["redis"];
    assert_eq!(pool["client_connections"], 1, "{told:#}");
    for server in ["redis-0", "redis-1"] {
        assert_eq!(pool[server]["server_ejected_at"], 0, "{told:#}");
    }
    if !twins.has_nutcracker() {
        return;
    }
    let (mut ours, mut wanted) = (BTreeMap::new(), BTreeMap::new());
    fields(&told, "", &mut ours);
    fields(&said(theirs), "", &mut wanted);
    assert_eq!(ours, wanted);
}
