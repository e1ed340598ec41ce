//! The model of an instance that does not exist, for tests.

use crate::control::server::ControlCounters;
use crate::stats::model::{
    CommandStats, Latency, PoolStats, QueueRates, QueueStats, Rates, ServerStats, Stats,
    TotalStats, Windows, WorkerRates, WorkerStats,
};
use tidegate_channel::counters::{
    LinkCounters, LoopCounters, PoolCounters, QueueCounters, ServerCounters, SocketCounters,
    StackCounters,
};
use tidegate_channel::histogram::Histogram;
use tidegate_channel::message::ObtainedMode;

fn windows<T: Clone>(value: &T) -> Windows<T> {
    Windows {
        second: value.clone(),
        ten_seconds: value.clone(),
        minute: value.clone(),
        start: value.clone(),
    }
}

fn rates(requests_per_s: f64, p50_us: u64) -> Windows<Rates> {
    let latency = Latency {
        count: requests_per_s as u64,
        mean_us: p50_us + p50_us / 8,
        p50_us,
        p90_us: p50_us * 2,
        p95_us: p50_us * 3,
        p98_us: p50_us * 4,
        p99_us: p50_us * 6,
        p99_9_us: p50_us * 20,
        max_us: p50_us * 90,
    };
    windows(&Rates {
        seconds: 1.0,
        requests_per_s,
        errors_per_s: requests_per_s / 1e4,
        request_bytes_per_s: requests_per_s * 61.0,
        reply_bytes_per_s: requests_per_s * 733.0,
        latency: (requests_per_s > 0.0).then_some(latency),
    })
}

fn server(name: &str, address: &str, requests_per_s: f64) -> ServerStats {
    ServerStats {
        name: name.into(),
        address: address.into(),
        unreachable: None,
        ejected_unix_ms: 0,
        counters: ServerCounters {
            connections: 2,
            in_flight: 7,
            requests: 1_234_567,
            replies: 1_234_560,
            ..ServerCounters::default()
        },
        rates: rates(requests_per_s, 90),
        latency: Histogram::default(),
    }
}

fn command(name: &str, requests_per_s: f64, p50_us: u64) -> CommandStats {
    CommandStats {
        name: name.into(),
        requests: (requests_per_s * 3_600.0) as u64,
        errors: 3,
        request_bytes: 61_000,
        reply_bytes: 733_000,
        rates: rates(requests_per_s, p50_us),
        latency: Histogram::default(),
    }
}

fn pool(name: &str, protocol: &str, servers: Vec<ServerStats>, per_s: f64) -> PoolStats {
    PoolStats {
        name: name.into(),
        protocol: protocol.into(),
        listen: vec!["10.0.0.10:6379".into(), "[2001:db8::10]:6379".into()],
        counters: PoolCounters {
            clients: 381,
            requests: 98_765_432,
            ..PoolCounters::default()
        },
        errors: 17,
        request_bytes: 61_000_000,
        reply_bytes: 733_000_000,
        rates: rates(per_s, 120),
        latency: Histogram::default(),
        commands: vec![
            command("other", 0.0, 0),
            command("get", per_s * 0.8, 110),
            command("set", per_s * 0.15, 130),
            command("config|get", per_s * 0.05, 210),
        ],
        servers,
    }
}

fn worker(index: u32) -> WorkerStats {
    let queue = |interface: &str, lost: u64| QueueStats {
        interface: interface.into(),
        queue: index,
        mode: Some(ObtainedMode::ZeroCopy),
        rates: windows(&QueueRates {
            seconds: 1.0,
            rx_frames_per_s: 81_234.0,
            rx_bytes_per_s: 9.8e6,
            tx_frames_per_s: 79_000.0,
            tx_bytes_per_s: 61.2e6,
            lost_per_s: lost as f64,
        }),
        counters: QueueCounters {
            rx_frames: 81_234_000,
            rx_ring_full: lost * 100,
            ..QueueCounters::default()
        },
    };
    WorkerStats {
        worker: index,
        pid: Some(4_711 + index),
        core: Some(2 + index),
        state: "running".into(),
        uptime_s: 93_784,
        restarts: index.into(),
        hung: 0,
        forbidden_calls: 0,
        last_exit: (index == 1).then(|| "killed by SIGKILL".to_owned()),
        rates: windows(&WorkerRates {
            seconds: 1.0,
            busy_percent: 40.0 + 22.5 * f64::from(index),
            requests_per_s: 60_000.0,
        }),
        poll_loop: LoopCounters::default(),
        stack: StackCounters::default(),
        sockets: SocketCounters::default(),
        link: LinkCounters::default(),
        queues: vec![queue("eth1", 0), queue("eth2", u64::from(index) * 12)],
    }
}

/// Two workers of two queues, two pools; one server is ejected, one is unreachable.
pub fn stats() -> Stats {
    let mut ejected = server("cache-b", "10.0.1.12:6379", 0.0);
    ejected.counters.ejected = 2;
    let mut unreachable = server("cache-d", "[2001:db8:1::14]:11211", 0.0);
    unreachable.unreachable = Some("no route".into());
    Stats {
        name: "shop".into(),
        version: "0.1.0".into(),
        host: "edge-1".into(),
        pid: 4_700,
        state: "running".into(),
        unix_ms: 1_763_750_000_000,
        uptime_s: 93_790,
        total: TotalStats {
            clients: 762,
            server_connections: 16,
            client_connections: 120_000,
            server_connects: 40,
            requests: 197_530_864,
            errors: 34,
            rates: rates(120_000.0, 115),
        },
        pools: vec![
            pool(
                "sessions",
                "redis",
                vec![
                    server("cache-a", "10.0.1.11:6379", 70_000.0),
                    ejected,
                    server("cache-e", "10.0.1.13:6379", 20_000.0),
                ],
                90_000.0,
            ),
            pool(
                "pages",
                "memcached",
                vec![server("cache-c", "10.0.1.14:11211", 30_000.0), unreachable],
                30_000.0,
            ),
        ],
        workers: vec![worker(0), worker(1)],
        ports: Vec::new(),
        control: ControlCounters::default(),
    }
}

/// The same, with names that somebody chose to do harm.
pub fn hostile() -> Stats {
    let mut stats = stats();
    let name = "<img/src=x/onerror=alert(1)>\u{202e}\u{1b}[2J";
    for pool in &mut stats.pools {
        pool.name.push_str(name);
        pool.commands[0].name = name.into();
        for server in &mut pool.servers {
            server.name.push_str(name);
            server.unreachable = Some(name.into());
        }
    }
    stats.name = name.into();
    stats.host = name.into();
    stats.workers[0].queues[0].interface = name.into();
    stats
}
