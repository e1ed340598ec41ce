//! From a scenario that breaks a promise to a short one that still does.

use crate::link::Weather;
use crate::runner::{Verdict, try_out};
use crate::scenario::{Act, Scenario};

/// Scenarios tried at the most.
const TRIES_MAX: u32 = 600;

struct Shrinking {
    best: Scenario,
    tries: u32,
}

impl Shrinking {
    /// Keeps `next` if it still fails.
    fn attempt(&mut self, next: Scenario) -> bool {
        if self.tries == 0 || next == self.best {
            return false;
        }
        self.tries -= 1;
        let fails = matches!(try_out(&next, false), Verdict::Broken { .. });
        if fails {
            self.best = next;
        }
        fails
    }

    /// Takes events away, many at once while that works.
    fn drop_events(&mut self) {
        let mut some = self.best.events.len() / 2;
        while some > 0 {
            let mut at = 0;
            while at < self.best.events.len() {
                let mut next = self.best.clone();
                let end = (at + some).min(next.events.len());
                next.events.drain(at..end);
                if !self.attempt(next) {
                    at += some;
                }
            }
            some /= 2;
        }
    }

    fn lower_requests(&mut self) {
        for index in 0..self.best.events.len() {
            while let Some(event) = self.best.events.get(index)
                && let Act::Ask {
                    client,
                    requests,
                    seed,
                } = event.act
                && requests > 1
            {
                let mut next = self.best.clone();
                next.events[index].act = Act::Ask {
                    client,
                    requests: requests / 2,
                    seed,
                };
                if !self.attempt(next) {
                    break;
                }
            }
        }
    }

    /// Takes one kind of weather after the other away.
    fn lighten_weather(&mut self) {
        let lighten: [fn(&mut Weather); 7] = [
            |weather| weather.lost = 0,
            |weather| weather.doubled = 0,
            |weather| weather.late = 0,
            |weather| weather.damaged = 0,
            |weather| weather.delay_us = 0,
            |weather| weather.parted = false,
            |weather| weather.clogged = false,
        ];
        for index in 0..self.best.events.len() {
            for lighten in lighten {
                let mut next = self.best.clone();
                if let Some(event) = next.events.get_mut(index)
                    && let Act::Weather { weather, .. } = &mut event.act
                {
                    lighten(weather);
                    self.attempt(next);
                }
            }
        }
    }

    fn simplify_world(&mut self) {
        let simplify: [fn(&mut Scenario); 7] = [
            |scenario| scenario.workers = 1,
            |scenario| scenario.misrouted = 0,
            |scenario| scenario.software_rss = false,
            |scenario| scenario.ack_with_reply = false,
            |scenario| scenario.preconnects = false,
            |scenario| scenario.setting.ejects = false,
            |scenario| scenario.setting.pool_clients_max = None,
        ];
        for simplify in simplify {
            let mut next = self.best.clone();
            simplify(&mut next);
            let workers = next.workers;
            let has = |act: &Act| match act {
                Act::Kill(worker) | Act::Suspend(worker) | Act::Drain(worker) => *worker < workers,
                _ => true,
            };
            next.events.retain(|event| has(&event.act));
            self.attempt(next);
        }
    }
}

/// The shortest scenario that was found to fail as well.
pub fn shrink(scenario: &Scenario) -> Scenario {
    let mut shrinking = Shrinking {
        best: scenario.clone(),
        tries: TRIES_MAX,
    };
    loop {
        let before = shrinking.best.clone();
        shrinking.drop_events();
        shrinking.simplify_world();
        shrinking.lower_requests();
        shrinking.lighten_weather();
        if shrinking.best == before {
            return before;
        }
    }
}
