//! What the events of a scenario do.

use super::World;
use crate::agenda::What;
use crate::link::Weather;
use crate::scenario::Act;
use anyhow::Result;

impl World<'_> {
    pub(super) fn begins(&mut self, index: usize) -> Result<()> {
        let event = self.scenario.events[index];
        let end_us = self.now_us + event.lasts_us;
        self.trace
            .note(self.now_us, 200 + index as u64, || format!("{event:?}"));
        match event.act {
            Act::Ask {
                client,
                requests,
                seed,
            } => self.ask(client, requests, seed),
            Act::Deafen(client) => self.clients[client].is_deaf = true,
            Act::Finish(client) => {
                self.clients[client].finishes = true;
                self.run_all(client);
            }
            Act::Reset(client) => {
                self.clients[client].reset(&mut self.hosts[client], &mut self.books);
                self.run_all(client);
            }
            Act::Vanish(client) => {
                self.hosts[client].connections.clear();
                self.hosts[client].is_dead = true;
                self.clients[client].end(&mut self.books);
            }
            Act::Weather { host, weather } => self.change_weather(host, weather),
            Act::Trouble { server, trouble } => {
                let host = self.clients.len() + server;
                self.servers[server].begin(trouble, &mut self.hosts[host]);
                self.run_all(host);
            }
            Act::Kill(worker) => self.appliance.kill(worker, self.now_us),
            Act::Suspend(worker) => self.appliance.suspend(worker, end_us),
            Act::Drain(worker) => {
                self.appliance.drain(worker, event.lasts_us);
                self.wants_turn(worker, self.now_us + 1);
            }
            Act::Reload(setting) => {
                self.appliance.reload(setting)?;
                for worker in 0..self.scenario.workers {
                    self.wants_turn(worker, self.now_us + 1);
                }
            }
        }
        Ok(())
    }

    pub(super) fn ends(&mut self, index: usize) -> Result<()> {
        let event = self.scenario.events[index];
        self.trace.note(self.now_us, 201 + index as u64, || {
            format!("over: {event:?}")
        });
        match event.act {
            Act::Deafen(client) => {
                self.clients[client].is_deaf = false;
                self.run_all(client);
            }
            Act::Vanish(client) => self.hosts[client].is_dead = false,
            Act::Weather { host, .. } => self.change_weather(host, Weather::default()),
            Act::Trouble { server, trouble } => {
                let host = self.clients.len() + server;
                self.servers[server].end(trouble, &mut self.hosts[host]);
                self.run_all(host);
            }
            Act::Kill(worker) => self.restart(worker)?,
            Act::Drain(worker) => {
                self.appliance.kill(worker, self.now_us);
                self.restart(worker)?;
            }
            Act::Ask { .. } | Act::Finish(_) | Act::Reset(_) | Act::Suspend(_) | Act::Reload(_) => {
            }
        }
        Ok(())
    }

    fn restart(&mut self, worker: usize) -> Result<()> {
        self.appliance.start(worker, self.now_us)?;
        self.wants_turn(worker, self.now_us + 1);
        Ok(())
    }

    fn change_weather(&mut self, host: Option<usize>, weather: Weather) {
        let hosts = match host {
            Some(host) => host..host + 1,
            None => 0..self.hosts.len(),
        };
        for host in hosts {
            let [there, back] = &mut self.links[host];
            let held = [there.change(weather), back.change(weather)];
            for (way, frames) in held.into_iter().enumerate() {
                for frame in frames {
                    let agenda = &mut self.agenda;
                    self.links[host][way].send(self.now_us, frame, |at_us, frame| {
                        let what = match way {
                            0 => What::ToAppliance(frame),
                            _ => What::ToHost(host, frame),
                        };
                        agenda.add(at_us, what);
                    });
                }
            }
        }
    }
}
