//! A stage with Tidegate running on it: what most end-to-end tests start from.

use crate::appliance::{Appliance, Status};
use crate::client::Connection;
use crate::client::memcached::Memcached;
use crate::client::resp::Redis;
use crate::config::LabConfig;
use crate::host::Host;
use crate::lab::addresses::Family;
use crate::lab::process::Process;
use crate::lab::servers::{Server, ServerKind};
use crate::lab::{Lab, LabOptions};
use crate::local::{Local, Permit};
use crate::plan::Plan;
use crate::stage::{Driver, Role, Stage};
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Makes two tests of one body: `name::kernel`, on kernel sockets and this machine's loopback addresses, and `name::afxdp`, in a
/// lab. With a name alone, the body is the function of that name and the stage is the usual one: two workers, three servers
/// of each kind. Otherwise options, configuration and body follow; the crate's root tells how to write a body.
#[macro_export]
macro_rules! both_drivers {
    ($name:ident) => {
        $crate::both_drivers!(
            $name,
            $crate::lab::LabOptions::default(),
            |stage| $crate::config::LabConfig::new(stage, $crate::lab::addresses::Family::V4),
            $name
        );
    };
    ($name:ident, $options:expr, $configure:expr, $body:expr) => {
        $crate::plays!($name, $options, $configure, $body;
            kernel Kernel, afxdp Afxdp, #[cfg(feature = "dpdk")] dpdk_packet DpdkPacket, #[cfg(feature = "dpdk")] dpdk_xdp DpdkXdp);
    };
}

/// Like [`both_drivers!`], for a body that takes workers for processes that end apart from each other: on DPDK they are threads of one.
#[macro_export]
macro_rules! drivers_with_processes {
    ($name:ident) => {
        $crate::drivers_with_processes!(
            $name,
            $crate::lab::LabOptions::default(),
            |stage| $crate::config::LabConfig::new(stage, $crate::lab::addresses::Family::V4),
            $name
        );
    };
    ($name:ident, $options:expr, $configure:expr, $body:expr) => {
        $crate::plays!($name, $options, $configure, $body; kernel Kernel, afxdp Afxdp);
    };
}

/// One test of a body for each of these drivers.
#[doc(hidden)]
#[macro_export]
macro_rules! plays {
    ($name:ident, $options:expr, $configure:expr, $body:expr; $($(#[$only:meta])? $test:ident $driver:ident),+) => {
        mod $name {
            #[allow(
                unused_imports,
                reason = "a body that is spelled out needs what is around it"
            )]
            use super::*;

            $(
                $(#[$only])?
                #[test]
                fn $test() {
                    $crate::scene::play($crate::stage::Driver::$driver, $options, $configure, $body);
                }
            )+
        }
    };
}

/// Raises a scene and runs `body` in it, or says why it is skipped.
pub fn play(
    driver: Driver,
    options: LabOptions,
    configure: impl FnOnce(&dyn Stage) -> LabConfig,
    body: impl FnOnce(&mut Scene),
) {
    if let Some(mut scene) = Scene::raise(driver, options, configure) {
        body(&mut scene);
    }
}

/// A raised stage and the Tidegate on it. Fields are dropped in order: Tidegate ends before its network disappears.
#[derive(Debug)]
pub struct Scene {
    /// Tidegate.
    pub appliance: Appliance,
    /// Records the client's frames, if that was asked for.
    _capture: Option<Capture>,
    ground: Ground,
    _permit: Permit,
    /// Labs of one process take turns: two at once would share the cores and blur each other's load.
    _turn: Option<Turn>,
}

/// The stages there are.
#[derive(Debug)]
enum Ground {
    Lab(Box<Lab>),
    Local(Box<Local>),
}

impl Ground {
    /// The stage that `driver` needs, or why there is none.
    fn raise(driver: Driver, options: LabOptions) -> anyhow::Result<Self> {
        Ok(match driver {
            Driver::Afxdp | Driver::DpdkPacket | Driver::DpdkXdp => {
                let options = LabOptions { driver, ..options };
                Self::Lab(Box::new(Lab::raise(options)?))
            }
            Driver::Kernel => Self::Local(Box::new(Local::raise(options)?)),
        })
    }

    fn lab(&self) -> &Lab {
        match self {
            Self::Lab(lab) => lab,
            Self::Local(_) => panic!("a test that looks into the lab cannot play elsewhere"),
        }
    }

    fn stage(&self) -> &dyn Stage {
        match self {
            Self::Lab(lab) => lab.as_ref(),
            Self::Local(local) => local.as_ref(),
        }
    }

    fn stage_mut(&mut self) -> &mut dyn Stage {
        match self {
            Self::Lab(lab) => lab.as_mut(),
            Self::Local(local) => local.as_mut(),
        }
    }
}

/// The right to raise a lab in this process.
pub type Turn = MutexGuard<'static, ()>;

/// Waits for the right to raise a lab. `None` without root, after saying so: the test is skipped.
pub fn turn_or_skip() -> Option<Turn> {
    static TURN: Mutex<()> = Mutex::new(());
    if !nix::unistd::geteuid().is_root() {
        say_skipped("the lab makes network namespaces and needs root");
        return None;
    }
    // A failed test has poisoned it, which says nothing about the next.
    Some(TURN.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Says that the test on this thread is skipped, and why. The test runner keeps back what a test prints and then succeeds; it does
/// not keep back what goes to standard error past it.
pub fn say_skipped(why: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {why}");
}

impl Scene {
    /// Raises a lab and starts Tidegate in it with the configuration that `configure` makes. `None` without root.
    pub fn raise_lab(
        options: LabOptions,
        configure: impl FnOnce(&Lab) -> LabConfig,
    ) -> Option<Self> {
        Self::on_ground(Driver::Afxdp, options, |ground| configure(ground.lab()))
    }

    /// Raises the stage of `driver` and starts Tidegate on it with the configuration that `configure` makes. `None` where that
    /// cannot be, after saying so: a lab without root, or IPv6 on a machine that has none.
    pub fn raise(
        driver: Driver,
        options: LabOptions,
        configure: impl FnOnce(&dyn Stage) -> LabConfig,
    ) -> Option<Self> {
        Self::on_ground(driver, options, |ground| configure(ground.stage()))
    }

    fn on_ground(
        driver: Driver,
        options: LabOptions,
        configure: impl FnOnce(&Ground) -> LabConfig,
    ) -> Option<Self> {
        let turn = match driver {
            Driver::Afxdp | Driver::DpdkPacket | Driver::DpdkXdp => Some(turn_or_skip()?),
            Driver::Kernel => None,
        };
        let permit = Permit::wait();
        let needs_ipv6 = options.needs_ipv6;
        let ground = Ground::raise(driver, options)
            .unwrap_or_else(|error| panic!("the stage cannot be raised: {error:?}"));
        let stage = ground.stage();
        if needs_ipv6 && !stage.plan().families().contains(&Family::V6) {
            say_skipped("this machine has no IPv6");
            return None;
        }
        let appliance = Appliance::start(stage, &configure(&ground))
            .unwrap_or_else(|error| panic!("Tidegate does not start: {error:?}"));
        let capture = match &ground {
            Ground::Lab(lab) => Capture::start(lab),
            Ground::Local(_) => None,
        };
        Some(Self {
            appliance,
            _capture: capture,
            ground,
            _permit: permit,
            _turn: turn,
        })
    }

    /// The usual lab: two queues, two interfaces, a pool of each protocol.
    pub fn usual() -> Option<Self> {
        Self::raise_lab(LabOptions::default(), |lab| LabConfig::new(lab, Family::V4))
    }

    /// What carries Tidegate's traffic.
    pub fn driver(&self) -> Driver {
        self.stage().driver()
    }

    /// Who listens where.
    pub fn plan(&self) -> Plan {
        self.stage().plan()
    }

    /// What is around Tidegate.
    pub fn stage(&self) -> &dyn Stage {
        self.ground.stage()
    }

    /// The lab, of a scene that was raised for AF_XDP.
    pub fn lab(&self) -> &Lab {
        self.ground.lab()
    }

    /// All servers of a kind.
    pub fn servers(&self, kind: ServerKind) -> &[Server] {
        self.stage().servers(kind)
    }

    /// The server `index` of a kind, to be killed, stopped and started again.
    pub fn server_mut(&mut self, kind: ServerKind, index: usize) -> &mut Server {
        &mut self.ground.stage_mut().servers_mut(kind)[index]
    }

    /// Waits until `condition` holds for Tidegate's status: workers publish their counters many times a second, not at once.
    pub fn wait_for_status(&mut self, what: &str, condition: impl Fn(&Status) -> bool) -> Status {
        self.appliance
            .wait_for(what, condition)
            .unwrap_or_else(|error| panic!("{error:?}"))
    }

    /// The client host, for threads of the test's own.
    pub fn client_host(&self) -> Host {
        self.stage().host(Role::Client)
    }

    /// Runs `work` on the client host.
    pub fn on_client<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.client_host().run(work)
    }

    /// Runs `work` on the server host.
    pub fn on_server<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.stage().host(Role::Server).run(work)
    }

    /// A connection to a pool of either protocol that `worker` of two serves; `number` tells several apart. In the lab its source
    /// port decides. The kernel spreads connections as it likes, so with its sockets they are opened until one is the worker's;
    /// meanwhile nobody else may ask for anything.
    pub fn connection_of(&mut self, worker: u16, number: u16, to: SocketAddr) -> Connection {
        let from = self.plan().client(family_of(to), 0);
        let driver = self.driver();
        let open = |scene: &Self, port| {
            scene.on_client(|| Connection::open_from(from, port, to).expect("the pool accepts"))
        };
        if driver.is_steered() {
            return open(self, source_port(worker, number, to));
        }
        for _ in 0..OPENED_MAX {
            let mut connection = open(self, 0);
            if self.server_of(&mut connection, to) == usize::from(worker) {
                return connection;
            }
        }
        panic!("worker {worker} got none of {OPENED_MAX} connections");
    }

    /// Which of two workers serves `connection`: the only one whose count of requests grows, twice in a row. Once is not enough,
    /// because a worker may publish late what others asked of it before.
    fn server_of(&mut self, connection: &mut Connection, to: SocketAddr) -> usize {
        let is_redis = to == self.plan().pool(ServerKind::Redis, family_of(to));
        let request: &[u8] = if is_redis {
            b"*1\r\n$4\r\nPING\r\n"
        } else {
            b"version\r\n"
        };
        let counts = |status: &Status| {
            [0, 1].map(|worker| -> u64 {
                let pools = status.requests(worker);
                pools.iter().map(|(_, requests)| requests).sum()
            })
        };
        let status = self.appliance.status().expect("Tidegate tells its status");
        let (mut before, mut last) = (counts(&status), None);
        loop {
            connection.send(request).expect("the pool is there");
            connection.line().expect("every request has a reply");
            let status = self.wait_for_status("a count", |status| counts(status) != before);
            let now = counts(&status);
            let grown = match [0, 1].map(|worker| now[worker] != before[worker]) {
                [true, false] => Some(0),
                [false, true] => Some(1),
                _ => None,
            };
            if let (Some(grown), true) = (grown, grown == last) {
                return grown;
            }
            (before, last) = (now, grown);
        }
    }
}

/// Connections after which one of two workers must have got one: the kernel draws evenly.
const OPENED_MAX: u32 = 100;

fn family_of(address: SocketAddr) -> Family {
    if address.is_ipv4() {
        Family::V4
    } else {
        Family::V6
    }
}

/// A tcpdump on the client host: the appliance's own kernel does not see what Tidegate takes. It runs when the environment variable
/// `TIDEGATE_LAB_CAPTURE` names a directory, and its file stays there when the test fails.
#[derive(Debug)]
struct Capture {
    process: Process,
    file: PathBuf,
}

impl Capture {
    fn start(lab: &Lab) -> Option<Self> {
        let directory = PathBuf::from(std::env::var_os("TIDEGATE_LAB_CAPTURE")?);
        let file = directory.join(format!("{}.pcap", lab.name()));
        // Headers and the beginning of each request are enough; full packets of large values would fill the disk.
        let words = [
            "tcpdump",
            "--immediate-mode",
            "-i",
            "eth0",
            "-s",
            "256",
            "-U",
            "-Z",
            "root",
            "-w",
        ];
        let mut command_line: Vec<String> = words.map(str::to_owned).to_vec();
        command_line.push(file.display().to_string());
        let started = Process::start(
            &lab.hosts.client,
            lab.directory(),
            "tcpdump",
            None,
            &command_line,
        );
        let mut process = started
            .map_err(|error| eprintln!("nothing is captured: {error:#}"))
            .ok()?;
        // What is sent before it listens would be missing.
        while !process.log_text().contains("listening on") && process.ended().is_none() {
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(Self { process, file })
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.process.stop(Duration::from_secs(5));
        if std::thread::panicking() {
            eprintln!("the client's frames: {}", self.file.display());
        } else {
            let _ = std::fs::remove_file(&self.file);
        }
    }
}

/// Where clients reach the memcached pool of a lab.
pub fn memcached_vip(family: Family) -> SocketAddr {
    Plan::Lab.pool(ServerKind::Memcached, family)
}

/// Where clients reach the Redis pool of a lab.
pub fn redis_vip(family: Family) -> SocketAddr {
    Plan::Lab.pool(ServerKind::Redis, family)
}

/// A client of the memcached pool of a lab, for a thread on the client host.
pub fn memcached_client(family: Family) -> Memcached {
    Plan::Lab.memcached(family)
}

/// A client of the Redis pool of a lab, for a thread on the client host.
pub fn redis_client(family: Family) -> Redis {
    Plan::Lab.redis(family)
}

/// A source port from which a connection to `to` is given to `worker` of two by the lab's steering; `number` tells several
/// apart.
pub fn source_port(worker: u16, number: u16, to: SocketAddr) -> u16 {
    20_000 + 4 * number + 2 * (worker ^ (to.port() >> 1) & 1)
}
