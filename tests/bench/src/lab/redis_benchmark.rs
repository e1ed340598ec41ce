//! The load at saturation: redis-benchmark, as everybody has it.

use crate::results::Latency;
use anyhow::{Result, ensure};
use std::net::SocketAddr;
use tidegate_tests::lab::Lab;
use tidegate_tests::netns::finish;

/// One way to call it.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// For tables.
    pub name: &'static str,
    connections: u32,
    pipeline: u32,
    keep_alive: bool,
    /// Requests of each of the two tests: two seconds or so.
    requests: u64,
}

const fn long(name: &'static str, connections: u32, pipeline: u32, requests: u64) -> Load {
    Load {
        name,
        connections,
        pipeline,
        keep_alive: true,
        requests,
    }
}

/// All loads.
pub const LOADS: [Load; 5] = [
    long("c=50", 50, 1, 80_000),
    long("c=50 -P 16", 50, 16, 400_000),
    long("c=8 -P 64", 8, 64, 500_000),
    long("c=500", 500, 1, 80_000),
    Load {
        keep_alive: false,
        ..long("short", 50, 1, 20_000)
    },
];

/// What redis-benchmark saw.
pub struct Outcome {
    /// Replies.
    pub requests: u64,
    /// Mean of its two tests.
    pub rate: f64,
    /// The same for the percentiles; the larger maximum.
    pub latency: Latency,
}

impl Load {
    /// Whether every request has a connection of its own.
    pub fn is_short(&self) -> bool {
        !self.keep_alive
    }

    /// SET, then GET, with values of 100 B, from `cores`.
    pub fn run(
        &self,
        lab: &Lab,
        target: SocketAddr,
        cores: &[usize],
        quick: bool,
    ) -> Result<Outcome> {
        let cores: Vec<String> = cores.iter().map(ToString::to_string).collect();
        let requests = if quick {
            self.requests / 4
        } else {
            self.requests
        };
        let mut command = lab.hosts.client.command("taskset");
        command
            .args(["-c", &cores.join(","), "redis-benchmark", "--csv"])
            .args(["-h", &target.ip().to_string()])
            .args(["-p", &target.port().to_string()])
            .args(["-t", "set,get", "-d", "100", "-r", "100000"])
            .args(["-c", &self.connections.to_string()])
            .args(["-P", &self.pipeline.to_string()])
            .args(["-k", if self.keep_alive { "1" } else { "0" }])
            .args(["-n", &requests.to_string()]);
        let output = finish(&mut command)?;
        let mut tests: Vec<[f64; 4]> = Vec::new();
        for line in output.lines() {
            // "test","rps","avg","min","p50","p95","p99","max"
            let cells: Vec<f64> = line
                .split(',')
                .skip(1)
                .filter_map(|cell| cell.trim_matches('"').parse().ok())
                .collect();
            if let [rate, _, _, p50, _, p99, max] = cells[..] {
                tests.push([rate, p50, p99, max]);
            }
        }
        ensure!(
            tests.len() == 2,
            "redis-benchmark did not finish both tests: {output}"
        );
        let mean = |place: usize| f64::midpoint(tests[0][place], tests[1][place]);
        Ok(Outcome {
            requests: 2 * requests,
            rate: mean(0),
            latency: Latency {
                p50_ms: mean(1),
                p99_ms: mean(2),
                max_ms: tests[0][3].max(tests[1][3]),
            },
        })
    }
}
