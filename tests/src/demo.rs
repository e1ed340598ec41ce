//! What `scripts/quickstart` shows: a lab, real servers, real load, a table of what happened, and a verdict.

use crate::appliance::{Appliance, Status};
use crate::client::memcached::Memcached;
use crate::client::resp::{Redis, Value};
use crate::config::LabConfig;
use crate::lab::addresses::Family;
use crate::lab::servers::ServerKind;
use crate::lab::{Lab, LabOptions, program};
use crate::load::{Load, Report};
use crate::netns::finish;
use crate::scene::{memcached_vip, redis_vip};
use anyhow::{Context, Result};

/// Connections of each load: both queues get their share, and a small machine can still run a thread for each.
const CONNECTIONS: usize = 50;

/// Requests of each connection.
const REQUESTS: usize = 2_000;

/// Servers of each kind.
const SERVERS: usize = 3;

/// What was found wrong. An empty list is success.
pub type Faults = Vec<String>;

/// Raises the lab, drives the load, prints the tables. With `stay` the lab remains and the way to use it is printed.
/// Returns whether everything was right.
pub fn run(stay: bool) -> Result<bool> {
    say(
        "Raising the lab: a client, an appliance with two queues, 3 memcached and 3 Redis servers …",
    );
    let options = LabOptions {
        memcached: SERVERS,
        redis: SERVERS,
        can_stay: stay,
        ..LabOptions::default()
    };
    let lab = Lab::raise(options)?;
    let config = LabConfig::new(&lab, Family::V4);
    let mut appliance = Appliance::start(&lab, &config)?;

    say("Driving load through the virtual addresses, over IPv4 and IPv6 …");
    let mut faults = Faults::new();
    let targets = Family::BOTH;
    let plan = [
        ("memcached 100 B", ServerKind::Memcached, 100),
        ("memcached 4 KiB", ServerKind::Memcached, 4_096),
        ("redis 100 B", ServerKind::Redis, 100),
        ("redis 4 KiB", ServerKind::Redis, 4_096),
    ];
    println!("\n{}", Report::head());
    for (name, kind, value_bytes) in plan {
        let vip = if kind == ServerKind::Redis {
            redis_vip
        } else {
            memcached_vip
        };
        let targets = targets.map(vip).to_vec();
        let load = Load {
            kind,
            targets,
            connections: CONNECTIONS,
            requests: REQUESTS,
            value_bytes,
        };
        let report = lab.hosts.client.run(|| load.run())?;
        print_report(
            &format!("{name}, {CONNECTIONS} connections"),
            &report,
            &mut faults,
        );
    }
    redis_benchmark(&lab, &mut faults)?;
    redis_cli(&lab, &mut faults)?;

    let status = appliance.wait_for("counters of all requests", |status| {
        counted(status, "redis") && counted(status, "memcached")
    })?;
    print_queues(&status, &mut faults);
    print_losses(&status);
    print_servers(&lab, &mut faults)?;
    print_verdict(&faults);
    if stay {
        print_how_to_use(&lab, &appliance)?;
        appliance.stay();
        lab.stay()?;
    } else {
        say("Removing the lab.");
    }
    Ok(faults.is_empty())
}

fn say(text: &str) {
    eprintln!("{text}");
}

/// Workers publish their counters a little after the fact.
fn counted(status: &Status, pool: &str) -> bool {
    status.pool_total(pool, "requests") >= (2 * CONNECTIONS * REQUESTS) as u64
}

fn print_report(name: &str, report: &Report, faults: &mut Faults) {
    println!("{}", report.row(name));
    if let Some(first) = &report.first_wrong {
        faults.push(format!(
            "{name}: {} wrong, the first: {first}",
            report.wrong
        ));
    }
}

/// The tool that everybody knows, pipelined and not. It checks no reply but counts errors.
fn redis_benchmark(lab: &Lab, faults: &mut Faults) -> Result<()> {
    let address = redis_vip(Family::V4);
    for (name, pipeline, requests) in [
        ("redis-benchmark", "1", "50000"),
        ("redis-benchmark -P 16", "16", "200000"),
    ] {
        let mut command = lab.hosts.client.command("redis-benchmark");
        command.args([
            "-h",
            &address.ip().to_string(),
            "-p",
            &address.port().to_string(),
        ]);
        command.args([
            "-t", "set,get", "-d", "100", "-r", "100000", "-c", "50", "-n", requests, "-P",
            pipeline, "--csv",
        ]);
        let output = finish(&mut command)?;
        let mut rows = 0;
        for line in output.lines() {
            // "test","rps","avg","min","p50","p95","p99","max"
            let cells: Vec<&str> = line.split(',').map(|cell| cell.trim_matches('"')).collect();
            let [test, rate, _, _, p50, _, p99, max] = cells[..] else {
                continue;
            };
            if let Ok(rate) = rate.parse::<f64>() {
                println!(
                    "{:<44} {rate:>10.0} {:>8} {p50:>9} {p99:>9} {max:>9}",
                    format!("{name}, {test}"),
                    "-"
                );
                rows += 1;
            }
        }
        if rows != 2 {
            faults.push(format!("{name} did not finish: {output}"));
        }
    }
    Ok(())
}

/// The tool that people use by hand.
fn redis_cli(lab: &Lab, faults: &mut Faults) -> Result<()> {
    let address = redis_vip(Family::V4);
    for (words, expected) in [
        (&["SET", "quickstart", "works"][..], "OK"),
        (&["GET", "quickstart"], "works"),
        (&["MSET", "a", "1", "b", "2", "c", "3"], "OK"),
        (&["MGET", "a", "b", "c"], "1\n2\n3"),
        (&["DEL", "a", "b", "c"], "3"),
    ] {
        let mut command = lab.hosts.client.command("redis-cli");
        command
            .args([
                "-h",
                &address.ip().to_string(),
                "-p",
                &address.port().to_string(),
            ])
            .args(words);
        let reply = finish(&mut command)?;
        if reply.trim() != expected {
            faults.push(format!(
                "redis-cli {}: {:?} instead of {expected:?}",
                words.join(" "),
                reply.trim()
            ));
        }
    }
    Ok(())
}

/// What each queue and each worker had to do. None of them may have had nothing.
pub fn print_queues(status: &Status, faults: &mut Faults) {
    println!(
        "\n{:<12} {:>6} {:>8} {:>12} {:>12} {:>12}  mode",
        "interface", "queue", "worker", "accepted", "rx frames", "tx frames"
    );
    for worker in status.workers() {
        let accepted = status.stack(worker.index as usize, "accepted");
        for queue in status.queues(worker.index as usize) {
            println!(
                "{:<12} {:>6} {:>8} {accepted:>12} {:>12} {:>12}  {}",
                queue.interface,
                queue.queue,
                worker.index,
                queue.rx_frames,
                queue.tx_frames,
                queue.mode
            );
            if queue.rx_frames == 0 || queue.tx_frames == 0 {
                faults.push(format!(
                    "queue {} of {} carried nothing",
                    queue.queue, queue.interface
                ));
            }
        }
        if accepted == 0 {
            faults.push(format!("worker {} accepted no connection", worker.index));
        }
    }
    println!("\n{:<12} {:>12} {:>12}", "worker", "pool", "requests");
    for worker in status.workers() {
        for (pool, requests) in status.requests(worker.index as usize) {
            println!("{:<12} {pool:>12} {requests:>12}", worker.index);
            if requests == 0 {
                faults.push(format!(
                    "worker {} took no request of the pool {pool}",
                    worker.index
                ));
            }
        }
    }
}

/// What was sent twice or dropped, wherever it was counted: the cause of the largest latencies.
pub fn print_losses(status: &Status) {
    for worker in status.workers() {
        let retransmits = status.stack(worker.index as usize, "retransmits");
        if retransmits > 0 {
            println!("worker {} sent {retransmits} segments again", worker.index);
        }
        for queue in status.queues(worker.index as usize) {
            for (reason, frames) in queue.drops {
                println!(
                    "queue {} of {}: {reason} {frames}",
                    queue.queue, queue.interface
                );
            }
        }
    }
}

/// Asks the servers themselves how many keys they hold.
fn print_servers(lab: &Lab, faults: &mut Faults) -> Result<()> {
    let mut rows: Vec<(String, String, u64)> = Vec::new();
    for server in &lab.memcached {
        let address = server.address(Family::V4);
        let keys = lab
            .hosts
            .server
            .run(|| memcached_keys(&mut Memcached::open(address)?))?;
        rows.push((
            format!("memcached {}", server.index),
            address.to_string(),
            keys,
        ));
    }
    for server in &lab.redis {
        let address = server.address(Family::V4);
        let keys = lab
            .hosts
            .server
            .run(|| Redis::open(address)?.words("DBSIZE"))?;
        let Value::Integer(keys) = keys else {
            anyhow::bail!("DBSIZE was answered {keys:?}")
        };
        rows.push((
            format!("redis {}", server.index),
            address.to_string(),
            keys as u64,
        ));
    }
    println!(
        "\n{:<14} {:<20} {:>8} {:>7}",
        "server", "address", "keys", "share"
    );
    for (name, address, keys) in &rows {
        let kind = name.split(' ').next();
        let total: u64 = rows
            .iter()
            .filter(|row| row.0.split(' ').next() == kind)
            .map(|row| row.2)
            .sum();
        println!(
            "{name:<14} {address:<20} {keys:>8} {:>6.1}%",
            100.0 * *keys as f64 / total.max(1) as f64
        );
        if *keys == 0 {
            faults.push(format!("{name} got no key"));
        }
    }
    Ok(())
}

/// Items that a memcached holds, from its own statistics.
pub fn memcached_keys(server: &mut Memcached) -> Result<u64> {
    server.connection.send(b"stats\r\n")?;
    let mut keys = None;
    loop {
        let line = String::from_utf8_lossy(&server.connection.line()?)
            .trim_end()
            .to_owned();
        if line == "END" {
            return keys.context("memcached tells no curr_items");
        }
        keys = keys.or(line
            .strip_prefix("STAT curr_items ")
            .and_then(|count| count.parse().ok()));
    }
}

fn print_verdict(faults: &Faults) {
    println!();
    if faults.is_empty() {
        println!("Every reply was right; every queue and every server had its share.");
        println!(
            "A veth shows that it works, not how fast it is: each frame is copied, and both kernels share these cores."
        );
    } else {
        println!("NOT right:");
        for fault in faults {
            println!("  {fault}");
        }
    }
}

fn print_how_to_use(lab: &Lab, appliance: &Appliance) -> Result<()> {
    let name = lab.name();
    let tool = program("tidegate-lab")?;
    let tool = tool.display();
    let tidegate = program("tidegate")?;
    let tidegate = tidegate.display();
    let (memcached, redis) = (memcached_vip(Family::V4), redis_vip(Family::V4));
    println!(
        "
The lab stays. Talk to it:
  sudo {tool} exec {name} client redis-cli -h {vip} -p {redis_port}
  sudo {tool} exec {name} client bash          # a shell on the client host; memcached is at {memcached}
  sudo {tidegate} status --name {name}
  sudo {tool} exec {name} client tcpdump -ni eth0
Its configuration and its log:
  {config}
  {log}
Remove it:
  sudo {tool} down {name}",
        vip = redis.ip(),
        redis_port = redis.port(),
        config = appliance.config_file().display(),
        log = lab.directory().join("tidegate.log").display(),
    );
    Ok(())
}
