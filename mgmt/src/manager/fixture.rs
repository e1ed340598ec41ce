//! A manager for tests: over kernel sockets, with a configuration file and a control socket of its own. Its workers are stand-ins, which
//! say what a test lets them say.

use super::{Manager, Parts};
use crate::control::Answer;
use crate::control::request::Request;
use crate::control::server::ControlServer;
use crate::plan::{self, Facts};
use crate::reload::Source;
use crate::runtime_dir::{Record, RuntimeDir};
use crate::shared::{Network, Shared};
use crate::sockets::listeners::SharedListeners;
use crate::worker_process::{Stage, WorkerProcess};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::SignalFd;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidegate_channel::control::{ControlError, ControlSocket};
use tidegate_channel::message::{Envelope, FromWorker, ToWorker};
use tidegate_channel::statistics::StatisticsReader;
use tidegate_port::doorbell::Doorbell;

/// Turns a hang into a failure.
const PATIENCE: Duration = Duration::from_secs(30);

/// The manager and its place.
pub struct Fixture {
    /// The manager.
    pub manager: Manager,
    place: PathBuf,
}

impl Fixture {
    /// Two workers, with the pools of [`Fixture::text`].
    pub fn new(name: &str) -> Self {
        Self::of(name, &Self::text(""))
    }

    /// The same with another configuration.
    pub fn of(name: &str, text: &str) -> Self {
        let place = format!("tidegate-manager-{name}-{}", std::process::id());
        let place = std::env::temp_dir().join(place);
        std::fs::create_dir_all(&place).unwrap();
        let file = place.join("tidegate.toml");
        std::fs::write(&file, text).unwrap();
        let source = Source {
            file,
            maps: Vec::new(),
        };
        let config = source.read().unwrap();
        let plan = plan::make(&config, &Facts::gather(&config)).unwrap();
        let runtime = RuntimeDir::claim(&place.join("run"), &config.name).unwrap();
        let bells = plan.cores.iter().map(|_| Doorbell::new().unwrap());
        let bells = bells.collect();
        let network = Network::Sockets(SharedListeners::default());
        let mut manager = Manager::new(Parts {
            shared: Shared::new(config, plan, None, network, bells),
            control: ControlServer::listen(&runtime.control_socket()).unwrap(),
            program: PathBuf::from("/proc/self/exe"),
            set_log_filter: Arc::new(|_| Ok(())),
            told: None,
            http: None,
            signals: SignalFd::new(&SigSet::empty()).unwrap(),
            recorder: runtime.recorder(),
            record: Record::default(),
            source: Some(source),
        });
        manager.slots.iter_mut().for_each(|slot| slot.drain(0));
        Self { manager, place }
    }

    /// A configuration whose `[worker]` ends with `worker`.
    pub fn text(worker: &str) -> String {
        format!(
            "name = \"fixture\"\n[[port]]\ndriver = \"kernel\"\nworkers = 2\n[[pool]]\nname = \"sessions\"\nprotocol = \"redis\"\n\
             listen = \"127.84.250.1:22121\"\nservers = [\"127.84.250.1:6379:1 a\", \"127.84.250.1:6380:1 b\"]\n[worker]\n{worker}"
        )
    }

    /// The same with both workers on cores.
    pub fn text_on(cores: [u32; 2]) -> String {
        let map = format!("queues = {{ 0 = {}, 1 = {} }}", cores[0], cores[1]);
        Self::text("").replace("workers = 2", &map)
    }

    /// The configuration file.
    pub fn file(&self) -> PathBuf {
        self.place.join("tidegate.toml")
    }

    /// Writes the configuration file.
    pub fn write(&self, text: &str) {
        std::fs::write(self.file(), text).unwrap();
    }

    /// A turn of the manager's loop, without what wakes it.
    pub fn turn(&mut self) {
        self.manager.do_what_is_due(Instant::now());
        for worker in 0..self.manager.slots.len() {
            self.manager.listen(worker);
        }
        self.manager.do_what_is_due(Instant::now());
    }

    /// Turns until something is so.
    pub fn turn_until(&mut self, what: &str, is_so: impl Fn(&Manager) -> bool) {
        let began = Instant::now();
        while !is_so(&self.manager) {
            assert!(began.elapsed() < PATIENCE, "no {what}");
            self.turn();
            std::thread::yield_now();
        }
    }

    /// Kills the process of a worker, and waits until the manager has seen it.
    pub fn kill(&mut self, worker: usize) {
        let pid = self.pid(worker);
        let process = self.manager.slots[worker].process.as_ref();
        process.unwrap().kill();
        self.wait_for_the_end_of(worker, pid);
    }

    /// Waits until the manager has seen the end of a process that it killed itself.
    pub fn wait_until_killed(&mut self, worker: usize) {
        self.wait_for_the_end_of(worker, self.pid(worker));
    }

    fn wait_for_the_end_of(&mut self, worker: usize, pid: Option<u32>) {
        let began = Instant::now();
        while self.pid(worker) == pid {
            assert!(began.elapsed() < PATIENCE, "it goes on");
            self.manager.reap(Instant::now());
            std::thread::yield_now();
        }
    }

    fn pid(&self, worker: usize) -> Option<u32> {
        let process = self.manager.slots[worker].process.as_ref();
        process.map(WorkerProcess::pid)
    }

    /// Sends a request, which the manager begins with.
    pub fn ask(&mut self, request: &Request) -> Client {
        let path = self.place.join("run/fixture/control.sock");
        let mut socket = UnixStream::connect(path).unwrap();
        let mut line = serde_json::to_vec(request).unwrap();
        line.push(b'\n');
        socket.write_all(&line).unwrap();
        socket.set_nonblocking(true).unwrap();
        let requests = self.manager.parts.control.turn(Instant::now());
        assert_eq!(requests.len(), 1);
        for (ticket, request) in requests {
            self.manager.obey(ticket, &request);
        }
        Client { socket }
    }

    /// Puts a process in the place of a worker's.
    pub fn stand_in(&mut self, worker: usize, stage: Stage) -> StandIn {
        let layout = self.manager.parts.shared.layout;
        let page = layout.create().unwrap();
        let statistics = StatisticsReader::map(&page, layout).unwrap();
        let (control, theirs) = ControlSocket::pair().unwrap();
        control.set_nonblocking().unwrap();
        let theirs = ControlSocket::from_descriptor(theirs).unwrap();
        theirs.set_nonblocking().unwrap();
        let sleeper = Command::new("sleep").arg("1000").spawn().unwrap();
        let process = WorkerProcess::stand_in(sleeper, control, statistics, stage);
        self.manager.slots[worker].take_stand_in(process);
        StandIn {
            control: theirs,
            page,
        }
    }

    /// Both workers, serving.
    pub fn serve(&mut self) -> [StandIn; 2] {
        [0, 1].map(|worker| self.stand_in(worker, Stage::Running))
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        for slot in &mut self.manager.slots {
            slot.kill();
            if let Some(process) = &mut slot.process {
                while process.ended().is_none() {
                    std::thread::yield_now();
                }
            }
        }
        let _gone = std::fs::remove_dir_all(&self.place);
    }
}

/// Somebody who asked.
pub struct Client {
    socket: UnixStream,
}

impl Client {
    /// The answer, if there is one.
    pub fn answer(&mut self) -> Option<Answer> {
        let mut text = Vec::new();
        match self.socket.read_to_end(&mut text) {
            Err(error) if error.kind() == ErrorKind::WouldBlock && text.is_empty() => None,
            // The manager closes in its next turn.
            _ => Some(serde_json::from_slice(&text).unwrap()),
        }
    }

    /// What was refused.
    pub fn faults(&mut self) -> String {
        match self.answer() {
            Some(Answer::Error { faults }) => faults.join("\n"),
            other => panic!("no refusal: {other:?}"),
        }
    }

    /// What a reload came to.
    pub fn outcome(&mut self) -> crate::reload::Outcome {
        match self.answer() {
            Some(Answer::Ok(value)) => serde_json::from_value(value).unwrap(),
            other => panic!("no outcome: {other:?}"),
        }
    }
}

/// The worker's end of a stand-in.
pub struct StandIn {
    control: ControlSocket,
    /// The page that it counts in at first.
    pub page: OwnedFd,
}

impl StandIn {
    /// The next message, and what came with it.
    pub fn hear(&self) -> Option<(Envelope<ToWorker>, Vec<OwnedFd>)> {
        match self.control.receive() {
            Ok(heard) => Some(heard),
            Err(ControlError::WouldBlock) => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// The same of a manager that may have let go of its end, as it does once it has seen the end of the process.
    pub fn hear_to_the_end(&self) -> Option<(Envelope<ToWorker>, Vec<OwnedFd>)> {
        match self.control.receive() {
            Ok(heard) => Some(heard),
            Err(ControlError::WouldBlock | ControlError::Closed) => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Says something.
    pub fn say(&self, said: &FromWorker) {
        self.control.send(said, &[]).unwrap();
    }

    /// Does what the next message asks, which has to be this one. Returns the descriptors.
    pub fn obey(&self, expected: &ToWorker) -> Vec<OwnedFd> {
        let (envelope, descriptors) = self.hear().expect("no message");
        assert_eq!(
            std::mem::discriminant(&envelope.message),
            std::mem::discriminant(expected),
            "{:?}",
            envelope.message
        );
        let generation = envelope.generation;
        self.say(&FromWorker::Acknowledged { generation });
        descriptors
    }
}
