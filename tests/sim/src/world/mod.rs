//! A world: everybody, the ways between them, and the clock.

mod events;

use crate::agenda::{Agenda, What};
use crate::appliance::Appliance;
use crate::books::{Books, Broken, Tally};
use crate::client::Client;
use crate::host::{Habits, Host, ends};
use crate::link::Link;
use crate::random::Random;
use crate::scenario::Scenario;
use crate::server::Server;
use crate::trace::Trace;
use crate::{client_address, server_address};
use anyhow::Result;

/// The time at the start, in microseconds.
const START_US: u64 = 1_000_000;
/// How long everything may take to settle once nothing happens any more. The longest that has an end: a connection to a machine that
/// is gone, given up by the stack and then by the client.
const SETTLE_US: u64 = 90_000_000;
/// How often it is looked at whether it has.
const LOOK_US: u64 = 250_000;

/// How a scenario went.
#[derive(Debug)]
pub struct Outcome {
    /// The sums.
    pub tally: Tally,
    /// The promise that was broken, if one was.
    pub broken: Option<Broken>,
    /// A hash over everything that happened.
    pub hash: u64,
    /// How long it took, in simulated microseconds.
    pub took_us: u64,
    /// The last that happened, if it was recorded.
    pub lines: Vec<String>,
}

struct World<'a> {
    scenario: &'a Scenario,
    now_us: u64,
    agenda: Agenda,
    appliance: Appliance,
    /// Clients first, then servers.
    hosts: Vec<Host>,
    /// To the appliance and back.
    links: Vec<[Link; 2]>,
    /// When each host is woken next, as far as the agenda knows.
    wakes: Vec<u64>,
    clients: Vec<Client>,
    servers: Vec<Server>,
    books: Books,
    trace: Trace,
    sent: Vec<Vec<u8>>,
}

/// Plays a scenario and judges what came of it; `records` what happened if told to.
pub fn play(scenario: &Scenario, records: bool) -> Result<Outcome> {
    let mut world = World::new(scenario, records)?;
    world.go()?;
    Ok(Outcome {
        tally: world.books.tally,
        broken: world.books.broken,
        hash: world.trace.hash(),
        took_us: world.now_us - START_US,
        lines: world.trace.into_lines(),
    })
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario, records: bool) -> Result<Self> {
        let mut random = Random::new(scenario.seed, 4);
        let keep_alive = !scenario.tells_everybody();
        let mut habits = |sizes: &[usize]| Habits {
            keep_alive,
            buffer_bytes: random.pick(sizes),
            nagle: random.one_in(2),
            ack_delay_ms: random.pick(&[None, Some(10), Some(40)]),
        };
        let mut hosts = Vec::new();
        for client in 0..scenario.clients.len() {
            let habits = habits(&[2_048, 8_192, 65_536]);
            let seed = Random::new(scenario.seed, 0x33_0000 + client as u64).bits();
            let address = client_address(client);
            hosts.push(Host::new(address, 0, false, habits, seed, START_US));
        }
        for server in 0..scenario.pools() * scenario.servers {
            let habits = habits(&[8_192, 65_536]);
            let seed = Random::new(scenario.seed, 0x44_0000 + server as u64).bits();
            let (address, port) = server_address(scenario, server);
            hosts.push(Host::new(address, port, true, habits, seed, START_US));
        }
        let links = (0..hosts.len() as u64)
            .map(|host| [0, 1].map(|way| Link::new(scenario.seed, 2 * host + way)));
        let clients = scenario.clients.iter().enumerate();
        let servers = (0..scenario.pools() * scenario.servers)
            .map(|server| Server::new(server < scenario.servers, scenario.seed, server as u64));
        let mut world = Self {
            scenario,
            now_us: START_US,
            agenda: Agenda::default(),
            appliance: Appliance::new(scenario, START_US)?,
            wakes: vec![u64::MAX; hosts.len()],
            links: links.collect(),
            clients: clients
                .map(|(number, &dialect)| Client::new(number, dialect, scenario.limits_pools()))
                .collect(),
            servers: servers.collect(),
            hosts,
            books: Books::default(),
            trace: Trace::new(records),
            sent: Vec::new(),
        };
        for (index, event) in scenario.events.iter().enumerate() {
            world
                .agenda
                .add(START_US + event.at_us, What::Begins(index));
            if event.lasts_us > 0 {
                let end_us = START_US + event.at_us + event.lasts_us;
                world.agenda.add(end_us, What::Ends(index));
            }
        }
        for worker in 0..scenario.workers {
            world.wants_turn(worker, START_US);
        }
        Ok(world)
    }

    fn wants_turn(&mut self, worker: usize, at_us: u64) {
        if let Some(at_us) = self.appliance.wants_turn(worker, at_us) {
            self.agenda.add(at_us, What::Turn(worker));
        }
    }

    fn is_over(&self) -> bool {
        self.books.broken.is_some()
    }

    /// Everything until then, or until a promise is broken.
    fn run_until(&mut self, until_us: u64) -> Result<()> {
        while let Some((at_us, what)) = self.agenda.next(until_us) {
            self.now_us = at_us;
            self.books.now_us = at_us - START_US;
            match what {
                What::ToAppliance(frame) => self.reach_appliance(frame),
                What::ToHost(host, frame) => self.reach_host(host, &frame),
                What::Turn(worker) => self.turn(worker),
                What::Wake(host) => self.wake(host),
                What::Begins(index) => self.begins(index)?,
                What::Ends(index) => self.ends(index)?,
            }
            if self.is_over() {
                return Ok(());
            }
        }
        self.now_us = until_us;
        self.books.now_us = until_us - START_US;
        Ok(())
    }

    /// Runs until `done`. False: it was not, in time.
    fn run_until_done(&mut self, done: impl Fn(&mut Self) -> bool) -> Result<bool> {
        let end_us = self.now_us + SETTLE_US;
        while self.now_us < end_us && !self.is_over() {
            if done(self) {
                return Ok(true);
            }
            self.run_until(self.now_us + LOOK_US)?;
        }
        Ok(done(self))
    }

    /// The storm; the calm after it, in which everything is answered; the end, at which nothing is left; and a look whether all is
    /// well again.
    fn go(&mut self) -> Result<()> {
        let ends = self.scenario.events.iter();
        let ends = ends.map(|event| event.at_us + event.lasts_us);
        self.run_until(START_US + ends.max().unwrap_or(0) + LOOK_US)?;
        let settled = |world: &mut Self| world.clients.iter().all(Client::is_settled);
        if !self.run_until_done(settled)? {
            let waiting = self.clients.iter().find(|client| !client.is_settled());
            let waits = waiting.map(Client::waits_for).unwrap_or_default();
            self.books.break_promise(waits);
        }
        self.check_calm();
        self.leave()?;
        self.check_outlasted();
        for client in 0..self.clients.len() {
            self.check_recovery(client)?;
        }
        self.leave()
    }

    /// Every client leaves, and nothing is left of it.
    fn leave(&mut self) -> Result<()> {
        for client in 0..self.clients.len() {
            self.clients[client].finishes = true;
            self.run_host(client, None);
        }
        let idle = |world: &mut Self| world.appliance.is_idle();
        self.run_until_done(idle)?;
        if !self.is_over() {
            self.appliance.check_end(&mut self.books);
        }
        for client in &mut self.clients {
            client.end(&mut self.books);
        }
        Ok(())
    }

    /// Where nothing happened that a request may fail for, none did.
    fn check_calm(&mut self) {
        let tally = self.books.tally;
        if self.scenario.is_calm() && (tally.errors > 0 || tally.closed > 0) {
            self.books.break_promise(format!(
                "nothing happened, and {} requests got errors, {} none",
                tally.errors, tally.closed
            ));
        }
    }

    /// Weather passes before TCP gives a connection up.
    fn check_outlasted(&mut self) {
        let given_up = self.appliance.flows_timed_out();
        if self.scenario.is_outlasted() && given_up > 0 {
            self.books.break_promise(format!(
                "{given_up} connections were given up over weather that passed"
            ));
        }
    }

    /// A client that comes now is served.
    fn check_recovery(&mut self, client: usize) -> Result<()> {
        let end_us = self.now_us + SETTLE_US;
        let answers = self.clients[client].answers;
        while !self.is_over() && self.clients[client].answers == answers {
            if self.now_us > end_us {
                self.books.break_promise(format!(
                    "all is well again, but client {client} is not served"
                ));
            }
            if self.clients[client].is_settled() {
                self.ask(client, 1, self.now_us);
            }
            self.run_until(self.now_us + LOOK_US)?;
        }
        self.clients[client].finishes = true;
        self.run_host(client, None);
        Ok(())
    }

    fn reach_appliance(&mut self, frame: Vec<u8>) {
        self.trace.frame(self.now_us, 0, &frame);
        let worker = self.appliance.arrive(frame);
        if let Some(worker) = worker {
            self.wants_turn(worker, self.now_us + 2);
        }
    }

    fn reach_host(&mut self, host: usize, frame: &[u8]) {
        self.trace.frame(self.now_us, 1 + host as u64, frame);
        let connection = self.hosts[host].deliver(frame, self.now_us);
        self.run_host(host, connection);
    }

    fn turn(&mut self, worker: usize) {
        self.trace
            .note(self.now_us, worker as u64, || format!("worker {worker}"));
        let mut sent = std::mem::take(&mut self.sent);
        let next_us = self
            .appliance
            .turn(worker, self.now_us, &mut sent, &mut self.books);
        if let Some(at_us) = next_us {
            self.wants_turn(worker, at_us);
        }
        for frame in sent.drain(..) {
            let to = ends(&frame).map(|ends| ends.to.0);
            let host = self.hosts.iter().position(|host| Some(host.address) == to);
            let Some(host) = host else {
                self.books
                    .break_promise("a frame was sent to nobody".into());
                continue;
            };
            let agenda = &mut self.agenda;
            self.links[host][1].send(self.now_us, frame, |at_us, frame| {
                agenda.add(at_us, What::ToHost(host, frame));
            });
        }
        self.sent = sent;
        for other in self.appliance.handed_over_to() {
            self.wants_turn(other, self.now_us + 2);
        }
    }

    fn wake(&mut self, host: usize) {
        if self.wakes[host] == self.now_us {
            self.wakes[host] = u64::MAX;
            self.trace.note(self.now_us, 100 + host as u64, || {
                format!("host {host} wakes")
            });
            self.run_all(host);
        }
    }

    /// Everything on a host.
    fn run_all(&mut self, host: usize) {
        let serials = self.hosts[host].connections.iter().map(|one| one.serial);
        let serials: Vec<_> = serials.collect();
        if let Some(server) = host.checked_sub(self.clients.len()) {
            self.servers[server].due_us = u64::MAX;
        }
        for serial in serials {
            let connection = self.hosts[host].find(serial);
            self.run_connection(host, connection);
        }
        self.rest(host);
    }

    fn run_host(&mut self, host: usize, connection: Option<usize>) {
        match connection {
            // A client has few of them.
            None if host < self.clients.len() => self.run_all(host),
            connection => {
                self.run_connection(host, connection);
                self.rest(host);
            }
        }
    }

    fn run_connection(&mut self, host: usize, connection: Option<usize>) {
        let now_us = self.now_us;
        let own = &mut self.hosts[host];
        let serial = connection.map(|index| own.connections[index].serial);
        match host.checked_sub(self.clients.len()) {
            None => {
                self.clients[host].run(own, &mut self.books);
                // It may have said something on another connection than the one that was ended.
                (0..own.connections.len()).for_each(|index| own.flush(index, now_us));
                // TCP may have given it up meanwhile.
                self.clients[host].run(own, &mut self.books);
            }
            Some(server) => {
                if let Some(index) = connection {
                    self.servers[server].run(own, index, now_us, &mut self.books);
                }
            }
        }
        if let Some(index) = serial.and_then(|serial| own.find(serial)) {
            own.flush(index, now_us);
            own.sweep(index);
        }
    }

    /// Sends what a host has to send, and sees to it that it is woken.
    fn rest(&mut self, host: usize) {
        let own = &mut self.hosts[host];
        let mut due_us = own.due_us();
        if let Some(server) = host.checked_sub(self.clients.len()) {
            due_us = due_us.min(self.servers[server].due_us);
        }
        let is_dead = own.is_dead;
        for frame in own.out.drain(..) {
            if !is_dead {
                let agenda = &mut self.agenda;
                self.links[host][0].send(self.now_us, frame, |at_us, frame| {
                    agenda.add(at_us, What::ToAppliance(frame));
                });
            }
        }
        let due_us = due_us.max(self.now_us + 1);
        if due_us < self.wakes[host] {
            self.wakes[host] = due_us;
            self.agenda.add(due_us, What::Wake(host));
        }
    }

    fn ask(&mut self, client: usize, requests: u32, seed: u64) {
        let host = &mut self.hosts[client];
        self.clients[client].ask(host, requests, seed, &mut self.books);
        self.run_all(client);
    }
}
