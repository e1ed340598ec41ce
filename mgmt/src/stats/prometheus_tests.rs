use super::*;
use crate::stats::model::{CommandStats, QueueRates, QueueStats, Rates, TotalStats, WorkerRates};
use crate::status::report::PortReport;
use std::collections::BTreeSet;
use tidegate_channel::histogram::bucket;
use tidegate_channel::message::ObtainedMode;

fn histogram() -> Histogram {
    let mut counts = vec![0; bucket(5_000) + 1];
    counts[bucket(120)] = 990;
    counts[bucket(5_000)] = 10;
    Histogram::from_counts(990 * 120 + 10 * 5_000, counts)
}

fn windows<T: Clone>(rates: T) -> Windows<T> {
    Windows {
        second: rates.clone(),
        ten_seconds: rates.clone(),
        minute: rates.clone(),
        start: rates,
    }
}

fn rates() -> Windows<Rates> {
    windows(Rates {
        seconds: 10.0,
        requests_per_s: 100.0,
        latency: Latency::of(&histogram()),
        ..Rates::default()
    })
}

/// An instance with one of each.
pub(in crate::stats) fn stats() -> Stats {
    Stats {
        name: "edge".into(),
        version: "0.1.0".into(),
        host: "appliance".into(),
        pid: 4700,
        state: "running".into(),
        unix_ms: 1_700_000_000_000,
        uptime_s: 90_000,
        total: TotalStats {
            clients: 2,
            server_connections: 1,
            client_connections: 9,
            server_connects: 1,
            requests: 1_000,
            errors: 3,
            rates: rates(),
        },
        pools: vec![PoolStats {
            name: "sessions".into(),
            protocol: "redis".into(),
            listen: vec!["10.0.0.10:6379".into()],
            counters: PoolCounters {
                clients: 2,
                requests: 1_000,
                ..PoolCounters::default()
            },
            errors: 3,
            request_bytes: 30_000,
            reply_bytes: 7_000,
            rates: rates(),
            latency: histogram(),
            commands: vec![CommandStats {
                name: "get".into(),
                requests: 1_000,
                errors: 3,
                request_bytes: 30_000,
                reply_bytes: 7_000,
                rates: rates(),
                latency: histogram(),
            }],
            servers: vec![ServerStats {
                name: "cache-b".into(),
                address: "10.0.1.12:6379".into(),
                unreachable: Some("no route".into()),
                ejected_unix_ms: 0,
                counters: ServerCounters::default(),
                rates: windows(Rates::default()),
                latency: Histogram::default(),
            }],
        }],
        workers: vec![WorkerStats {
            worker: 1,
            pid: Some(4711),
            core: Some(3),
            state: "running".into(),
            uptime_s: 75,
            restarts: 2,
            hung: 0,
            forbidden_calls: 4,
            last_exit: None,
            rates: windows(WorkerRates {
                seconds: 10.0,
                busy_percent: 37.0,
                requests_per_s: 100.0,
            }),
            poll_loop: LoopCounters {
                busy_ns: 1_500_000_000,
                ..LoopCounters::default()
            },
            stack: StackCounters::default(),
            sockets: SocketCounters::default(),
            link: LinkCounters::default(),
            queues: vec![QueueStats {
                interface: "eth1".into(),
                queue: 1,
                mode: Some(ObtainedMode::ZeroCopy),
                rates: windows(QueueRates {
                    seconds: 10.0,
                    rx_frames_per_s: 12.0,
                    tx_frames_per_s: 13.0,
                    ..QueueRates::default()
                }),
                counters: QueueCounters::default(),
            }],
        }],
        ports: vec![PortReport {
            interface: "eth1".into(),
            steering: "native".into(),
            bypassed: None,
            link_down: false,
            verdicts: [("pass".to_owned(), 4)].into(),
            device: [("tx_dropped".to_owned(), 9)].into(),
        }],
        control: crate::control::server::ControlCounters::default(),
    }
}

fn line<'a>(text: &'a str, start: &str) -> &'a str {
    let found = text.lines().find(|line| line.starts_with(start));
    found.unwrap_or_else(|| panic!("{start:?} is not in\n{text}"))
}

#[test]
fn every_counter_of_the_table_is_there() {
    let text = render(&stats(), Format::Text);
    let rows = [
        QueueCounters::ROWS,
        StackCounters::ROWS,
        SocketCounters::ROWS,
        LinkCounters::ROWS,
        PoolCounters::ROWS,
        ServerCounters::ROWS,
        LoopCounters::ROWS,
        ProcessCounters::ROWS,
    ];
    for row in rows.into_iter().flatten() {
        let metric = row.metric();
        line(&text, &format!("# HELP {metric} "));
        line(&text, &format!("# TYPE {metric} {}", row.kind.name()));
        line(&text, &format!("{metric}{{"));
    }
}

#[test]
fn every_counter_of_the_table_is_in_the_model() {
    let json = serde_json::to_value(stats()).unwrap();
    let of = |rows: &[CounterRow], place: &serde_json::Value| {
        for row in rows {
            assert!(place.get(row.name).is_some(), "{}", row.name);
        }
    };
    let worker = &json["workers"][0];
    of(ProcessCounters::ROWS, worker);
    of(LoopCounters::ROWS, &worker["loop"]);
    of(StackCounters::ROWS, &worker["stack"]);
    of(SocketCounters::ROWS, &worker["sockets"]);
    of(LinkCounters::ROWS, &worker["link"]);
    of(QueueCounters::ROWS, &worker["queues"][0]["counters"]);
    of(PoolCounters::ROWS, &json["pools"][0]["counters"]);
    of(
        ServerCounters::ROWS,
        &json["pools"][0]["servers"][0]["counters"],
    );
    assert_eq!(serde_json::from_value::<Stats>(json).unwrap(), stats());
}

#[test]
fn values_are_in_base_units() {
    let text = render(&stats(), Format::Text);
    for expected in [
        "tidegate_info{name=\"edge\",version=\"0.1.0\"} 1",
        "tidegate_loop_busy_seconds_total{worker=\"1\"} 1.5",
        "tidegate_worker_busy_ratio{worker=\"1\"} 0.37",
        "tidegate_worker_restarts_total{worker=\"1\"} 2",
        "tidegate_worker_forbidden_calls_total{worker=\"1\"} 4",
        "tidegate_pool_requests_total{pool=\"sessions\"} 1000",
        "tidegate_command_requests_total{pool=\"sessions\",command=\"get\"} 1000",
        "tidegate_pool_latency_seconds_bucket{pool=\"sessions\",le=\"0.000064\"} 0",
        "tidegate_pool_latency_seconds_bucket{pool=\"sessions\",le=\"0.000128\"} 990",
        "tidegate_pool_latency_seconds_bucket{pool=\"sessions\",le=\"0.008192\"} 1000",
        "tidegate_pool_latency_seconds_bucket{pool=\"sessions\",le=\"+Inf\"} 1000",
        "tidegate_pool_latency_seconds_sum{pool=\"sessions\"} 0.1688",
        "tidegate_pool_latency_seconds_count{pool=\"sessions\"} 1000",
        "tidegate_pool_latency_quantile_seconds{pool=\"sessions\",q=\"0.99\",window=\"10s\"} 0.000127",
        "tidegate_server_unreachable{pool=\"sessions\",server=\"cache-b\",address=\"10.0.1.12:6379\"} 1",
        "tidegate_queue_rx_ring_full_total{interface=\"eth1\",queue=\"1\",worker=\"1\"} 0",
        "tidegate_steering_frames_total{interface=\"eth1\",verdict=\"pass\"} 4",
    ] {
        assert_eq!(line(&text, expected), expected);
    }
}

/// Prometheus' text format, line by line: a family's lines stand together, its head before them, and no series is there twice.
#[test]
fn the_text_is_what_prometheus_reads() {
    let mut model = stats();
    model.pools[0].name = "a \"b\" \\ c\nd".into();
    let mut second = model.pools[0].clone();
    second.name = "second".into();
    model.pools.push(second);
    let text = render(&model, Format::Text);
    assert!(text.contains(r#"pool="a \"b\" \\ c\nd""#));
    let (mut families, mut series) = (BTreeSet::new(), BTreeSet::new());
    let mut family = String::new();
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            family = help.split(' ').next().unwrap().to_owned();
            assert!(families.insert(family.clone()), "{family} is there twice");
            assert!(!help.contains('\\'));
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            assert_eq!(kind.split(' ').next().unwrap(), family);
        } else {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(name.starts_with(&family), "{line} is in {family}");
            assert!(value.parse::<f64>().unwrap().is_finite());
            assert!(series.insert(name.to_owned()), "{name} is there twice");
            let bare = name.split('{').next().unwrap();
            let legal = |character: char| character.is_ascii_alphanumeric() || character == '_';
            assert!(bare.chars().all(legal));
        }
    }
}

/// OpenMetrics: counters are named by their family, a metric name of a family is nobody else's, and the end is marked.
#[test]
fn the_other_format_is_open_metrics() {
    let text = render(&stats(), Format::OpenMetrics);
    let body = text.strip_suffix("# EOF\n").unwrap();
    let (mut family, mut kind) = (String::new(), String::new());
    let mut names = BTreeSet::new();
    for line in body.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            family = help.split(' ').next().unwrap().to_owned();
        } else if let Some(of) = line.strip_prefix("# TYPE ") {
            let (name, of) = of.split_once(' ').unwrap();
            assert_eq!(name, family);
            kind = of.to_owned();
            assert!(names.insert(family.clone()), "{family}");
        } else {
            let name = line.split(['{', ' ']).next().unwrap();
            let suffix = name.strip_prefix(&family).unwrap();
            let legal: &[&str] = match kind.as_str() {
                "counter" => &["_total"],
                "gauge" => &[""],
                "histogram" => &["_bucket", "_sum", "_count"],
                other => panic!("{other}"),
            };
            assert!(legal.contains(&suffix), "{line} in {family}, a {kind}");
            assert!(suffix.is_empty() || !names.contains(name), "{name}");
        }
    }
    assert_eq!(line(&text, "tidegate_draining"), "tidegate_draining 0");
    line(&text, "# TYPE tidegate_pool_requests counter");
    line(
        &text,
        "tidegate_pool_requests_total{pool=\"sessions\"} 1000",
    );
}

#[test]
fn every_series_is_in_the_page_of_counters() {
    let page = include_str!("../../../docs/counters.md");
    let mut model = stats();
    model.pools[0].servers[0].rates = rates();
    let text = render(&model, Format::Text);
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    for of in types {
        let name = of.split(' ').next().unwrap();
        assert!(page.contains(&format!("`{name}`")), "{name}");
    }
    for series in series::ALL {
        line(
            &text,
            &format!("# TYPE {} {}", series.name, series.kind.name()),
        );
    }
}

/// The label is a summary's: `promtool check metrics` takes it for a mistake elsewhere.
#[test]
fn no_series_has_the_label_quantile() {
    assert!(!render(&stats(), Format::Text).contains("quantile=\""));
}

/// Everything in `text` that looks like a metric of ours.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    let is_name = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let words = text.split(|character| !is_name(character));
    words.filter(|word| word.starts_with("tidegate_")).collect()
}

#[test]
fn what_is_shipped_for_grafana_and_prometheus_asks_for_what_there_is() {
    let text = render(&stats(), Format::Text);
    let there_is = metrics_in(&text);
    let dashboard = include_str!("../../../configs/grafana/tidegate.json");
    let rules = include_str!("../../../configs/prometheus/tidegate.rules.yml");
    for shipped in [dashboard, rules] {
        let asked = metrics_in(shipped);
        assert!(asked.len() > 10);
        for metric in asked {
            assert!(there_is.contains(metric), "there is no {metric}");
        }
    }
}

#[test]
fn the_dashboard_is_one_that_grafana_reads() {
    let text = include_str!("../../../configs/grafana/tidegate.json");
    let dashboard: serde_json::Value = serde_json::from_str(text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<u64> = panels
        .iter()
        .filter_map(|panel| panel["id"].as_u64())
        .collect();
    assert_eq!(
        ids.len(),
        panels.len(),
        "each panel has a number of its own"
    );
    let mut until = 0;
    for panel in panels {
        let place = &panel["gridPos"];
        let [x, y, width, height] = ["x", "y", "w", "h"].map(|side| place[side].as_u64().unwrap());
        assert!(x + width <= 24 && y + height >= until, "{panel}");
        until = y;
        if panel["type"] == "row" {
            continue;
        }
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap();
            for (open, close) in [('(', ')'), ('{', '}'), ('[', ']')] {
                let count = |wanted| expression.chars().filter(|found| *found == wanted).count();
                assert_eq!(count(open), count(close), "{expression}");
            }
            assert!(expression.contains("instance=~"), "{expression}");
        }
    }
}
