//! A worker allocates nothing per request: not for whole requests, not for large ones, not for connections that come and go.
//!
//! The counting allocator is that of the whole test binary; only what happens inside a turn of the worker is counted.

use tidegate_config::AckMode;
use tidegate_port::{Port, wire};
use tidegate_wire_bench::plan::{LOAD, WORKER};
use tidegate_wire_bench::{BenchWorker, CacheProtocol, Load, Plan};

fn allocations(plan: Plan, ack: AckMode) -> u64 {
    let (a, b) = wire::pair_in_process(4096, WORKER, LOAD).expect("memory");
    allocations_between(a, b, plan, ack)
}

fn allocations_between<P: Port>(a: P, b: P, plan: Plan, ack: AckMode) -> u64 {
    let mut now_us = 1_000_000;
    let mut worker = BenchWorker::new(&plan, a, ack, now_us).expect("the plan is right");
    let mut load = Load::new(plan, b, now_us).expect("the plan is right");
    let mut counted = 0;
    let mut started = false;
    while load.answered < plan.requests {
        now_us += 10;
        load.turn(now_us).expect("every reply is right");
        counted += allocation_counter::measure(|| {
            worker.measured_turn(now_us);
        })
        .count_total;
        if !started && load.is_open() {
            started = true;
            load.start();
        }
    }
    counted
}

fn plan(protocol: CacheProtocol) -> Plan {
    Plan {
        slowlog_us: 10_000,
        protocol,
        connections: 200,
        active: 200,
        requests: 20_000,
        pipeline: 1,
        value_bytes: 100,
        short: false,
        servers: 4,
    }
}

#[test]
fn requests_connections_and_handshakes_allocate_nothing() {
    for protocol in [CacheProtocol::Memcached, CacheProtocol::Redis] {
        let plan = plan(protocol);
        assert_eq!(allocations(plan, AckMode::Immediate), 0);
        assert_eq!(allocations(plan, AckMode::WithReply), 0);
        let deep = Plan {
            pipeline: 16,
            ..plan
        };
        assert_eq!(allocations(deep, AckMode::Immediate), 0);
        let large = Plan {
            value_bytes: 20_000,
            requests: 4_000,
            connections: 20,
            active: 20,
            ..plan
        };
        assert_eq!(allocations(large, AckMode::Immediate), 0);
        let short = Plan {
            short: true,
            active: 50,
            requests: 3_000,
            ..plan
        };
        assert_eq!(allocations(short, AckMode::Immediate), 0);
    }
}

/// DPDK's own memory is not Rust's, so what is counted is ours: the port, and everything above it.
#[cfg(feature = "dpdk")]
#[test]
fn a_port_of_dpdk_allocates_nothing_either() {
    let plan = plan(CacheProtocol::Redis);
    let counted = tidegate_wire_bench::dpdk::on_loops(move |a, b| {
        Ok(allocations_between(a, b, plan, AckMode::Immediate))
    });
    assert_eq!(counted.expect("DPDK starts"), 0);
}
