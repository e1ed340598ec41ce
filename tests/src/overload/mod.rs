//! Overload on real processes: a client that asks little, beside others that ask for more than there is.
//!
//! ```text
//! offender ──▶ the flooded pool ──▶ a Redis of its own
//! quiet    ──▶ the quiet pool   ──▶ another            how long each of its requests takes
//! watch                                                memory, ping, `tidegate status`
//! report: a row for each offender
//! ```
//!
//! One worker serves all, so that they share everything that can be shared. What plays the offenders has the scheduler's idle class, as if it
//! were elsewhere; it still takes caches, memory, what is left of the cores, and the kernel's time for its frames.

mod offender;
mod quiet;
mod report;
mod watch;

pub use offender::Offender;
pub use report::{Row, Table};

use crate::appliance::Appliance;
use crate::client::resp::{Redis, Value};
use crate::config::{LabConfig, PoolText};
use crate::lab::addresses::Family;
use crate::lab::servers::ServerKind;
use crate::lab::state::traces;
use crate::lab::topology::{peers, ports, receive_on};
use crate::lab::{Lab, LabOptions};
use crate::plan::Plan;
use crate::stage::Driver;
use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;
use offender::Ground;
use quiet::Quiet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use watch::{Counts, Watch};

/// Descriptors that this process needs for its connections.
const DESCRIPTORS: u64 = 4_096;

/// The core of the worker.
const WORKER_CORE: u32 = 0;

/// The core of clients and servers.
const OTHER_CORE: u32 = 1;

/// What a slow reader asks for.
pub(crate) const LARGE_KEY: &str = "large";
/// Its size in bytes: more than the buffers between.
const LARGE_BYTES: usize = 32 * 1024;

/// Memory that a process may take beside what its configuration says: code, tables and the like.
const BESIDE_MIB: u64 = 96;

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// What carries Tidegate's traffic.
    pub driver: Driver,
    /// How long each is measured.
    pub each: Duration,
    /// Beside whom; the first row is alone.
    pub offenders: Vec<Offender>,
    /// Slow clients at a time.
    pub slow_clients: usize,
    /// With sockets: each host's kernel takes frames in on the core of that host, not on that of the sender.
    pub receive_apart: bool,
}

/// Raises a lab, measures, and removes it. Says what happens on standard error as it does.
pub fn run(options: &Options) -> Result<Table> {
    raise_descriptors()?;
    let lab = Lab::raise(LabOptions {
        driver: options.driver,
        queues: 1,
        memcached: 0,
        redis: 2,
        server_core: cores().then_some(OTHER_CORE),
        ..LabOptions::default()
    })?;
    if cores() {
        place_receivers(options, &lab)?;
    }
    let name = lab.name().to_owned();
    let table = measure(options, lab);
    let left = traces(&name);
    ensure!(left.is_empty(), "left behind: {left:?}");
    table
}

/// Moves what the kernel does with received frames off the core of who sent them. With sockets that is not the default: the kernel works on a worker's
/// core outside a lab, too, there for what the worker receives, here for what its peers do.
fn place_receivers(options: &Options, lab: &Lab) -> Result<()> {
    let nics = lab.options.nics;
    let sockets = options.driver == Driver::Kernel;
    if sockets && !options.receive_apart {
        return Ok(());
    }
    receive_on(&peers(&lab.hosts, nics), OTHER_CORE)?;
    if sockets {
        receive_on(&ports(&lab.hosts, nics), WORKER_CORE)?;
    }
    Ok(())
}

/// Whether there is a core for the worker and one for the others.
fn cores() -> bool {
    std::thread::available_parallelism().is_ok_and(|cores| cores.get() > OTHER_CORE as usize)
}

fn measure(options: &Options, mut lab: Lab) -> Result<Table> {
    let addresses: Vec<SocketAddr> = lab
        .redis
        .iter()
        .map(|server| server.address(Family::V4))
        .collect();
    // The server of the flood is not to take time from that of the others.
    let flooded = lab.redis[0].process().context("the server is up")?.pid();
    yield_to_all(flooded)?;
    let plan = Plan::Lab;
    let config = LabConfig::without_pools(&lab)
        .worker("clients_max = 4096")
        .worker("reply_hold_bytes = 16777216")
        .worker("client_reply_hold_bytes = 1048576")
        .pool(PoolText::on(
            plan,
            "flooded",
            ServerKind::Redis,
            &addresses[..1],
        ))
        .pool(PoolText::extra(
            plan,
            0,
            "quiet",
            ServerKind::Redis,
            &addresses[1..],
        ));
    let appliance = Appliance::start(&lab, &config)?;
    let ceiling_mib = ceiling_mib(&appliance)?;
    let ground = Ground {
        client: lab.hosts.client.clone(),
        appliance: lab.hosts.appliance.clone(),
        server: lab.hosts.server.clone(),
        flooded_server: addresses[0],
        flooded: plan.pool(ServerKind::Redis, Family::V4),
        slow_clients: options.slow_clients,
    };
    store_large(&ground)?;
    let mut table = Table::new(ceiling_mib);
    for offender in std::iter::once(None).chain(options.offenders.iter().copied().map(Some)) {
        let row = one(options, &appliance, &ground, offender)?;
        eprintln!("{}", row.sentence());
        table.rows.push(row);
    }
    Ok(table)
}

/// What the configuration lets a worker take for buffers, and what is beside them.
fn ceiling_mib(appliance: &Appliance) -> Result<u64> {
    let file = appliance.config_file().display().to_string();
    let output = appliance.ask(&["check", "-c", &file])?;
    let text = String::from_utf8_lossy(&output.stdout);
    let words = text
        .split("The buffers of each worker take ")
        .nth(1)
        .context("`tidegate check` does not tell what buffers take")?;
    let mib: u64 = words.split(' ').next().unwrap_or_default().parse()?;
    Ok(mib + BESIDE_MIB)
}

fn store_large(ground: &Ground) -> Result<()> {
    let pool = ground.flooded;
    let reply = ground.client.run(|| {
        Redis::open(pool)?.ask(&[b"SET", LARGE_KEY.as_bytes(), &vec![b'v'; LARGE_BYTES]])
    })?;
    ensure!(reply == Value::ok(), "SET: {reply:?}");
    Ok(())
}

/// Measures beside one offender, from before it begins to after it has ended.
fn one(
    options: &Options,
    appliance: &Appliance,
    ground: &Ground,
    offender: Option<Offender>,
) -> Result<Row> {
    let before = Counts::take(appliance)?;
    let memory_before = before.memory()?;
    let (over, offends) = (AtomicBool::new(false), AtomicBool::new(offender.is_none()));
    let pool = Plan::Lab.extra_pool(0, Family::V4);
    let (seen, asked, done) = std::thread::scope(|scope| -> Result<_> {
        let done = scope.spawn(|| {
            let done = offender.map(|offender| {
                ground
                    .client
                    .run(|| offender.offend(ground, &offends, &over))
            });
            // Whether it could begin or not: nobody waits for it any longer.
            offends.store(true, Ordering::Release);
            done.transpose()
        });
        while !offends.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let watch = scope.spawn(|| Watch::until_over(appliance, &ground.client, &before, &over));
        leave_worker_alone()?;
        let asked = ground.client.run(|| Quiet::ask(pool, options.each));
        over.store(true, Ordering::Release);
        let seen = watch.join().ok().context("the watch panicked")??;
        let done = done.join().ok().context("the offender panicked")??;
        Ok((seen, asked, done.unwrap_or_default()))
    })?;
    // Until those are gone who were slow, or their handshakes.
    settle(appliance)?;
    let after = Counts::take(appliance)?;
    if after.pids() != before.pids() {
        bail!("a process was started again beside {offender:?}");
    }
    Ok(Row {
        beside: offender,
        quiet: asked,
        done,
        seen,
        memory_before,
        memory_after: after.memory()?,
        counted: after.since(&before),
    })
}

/// Waits until no client is left but those that the lab does not know of.
fn settle(appliance: &Appliance) -> Result<()> {
    for _ in 0..500 {
        let status = appliance.status()?;
        let clients =
            status.pool_total("flooded", "clients") + status.pool_total("quiet", "clients");
        if clients + status.stack(0, "half_open") == 0 {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    bail!("clients do not go away")
}

fn raise_descriptors() -> Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < DESCRIPTORS {
        setrlimit(Resource::RLIMIT_NOFILE, DESCRIPTORS.min(hard), hard)?;
    }
    Ok(())
}

/// Lets a process or a thread have only what nobody else wants. Less of a niceness would not do: it has a slice now and then, for which a
/// client that is woken waits for milliseconds.
fn yield_to_all(task: i32) -> Result<()> {
    let task = task.to_string();
    crate::netns::finish(std::process::Command::new("chrt").args(["--idle", "--pid", "0", &task]))
        .map(drop)
}

/// Keeps the calling thread off the core of the worker.
fn leave_worker_alone() -> Result<()> {
    if cores() {
        let mut set = CpuSet::new();
        set.set(OTHER_CORE as usize)?;
        sched_setaffinity(Pid::from_raw(0), &set)?;
    }
    Ok(())
}
