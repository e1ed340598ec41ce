//! A server that moves to another station and says nothing.

use super::packet::{Mac, arp};
use super::script::Act;
use super::{MAC, START_US, World};
use tidegate_dataplane::network::Network;
use tidegate_proxy::streams::ServerId;

const SERVER: [u8; 4] = [192, 0, 2, 20];
const OURS: [u8; 4] = [192, 0, 2, 10];
const BEFORE: Mac = [2, 0, 0, 0, 1, 20];
const AFTER: Mac = [2, 0, 0, 0, 1, 99];
const STEP_US: u64 = 100_000;

impl World {
    /// The server says where it is.
    fn says(&mut self, mac: Mac) {
        let reply = arp(MAC, mac, 2, SERVER.into(), OURS.into());
        self.network.ports[0].arrive(&reply);
        self.turn();
    }

    /// Time passes, and nobody answers. The frames that were sent.
    fn unanswered(&mut self, until_us: u64) -> Vec<Vec<u8>> {
        let mut sent = Vec::new();
        while self.now_us < until_us {
            self.now_us += STEP_US;
            self.network.tick(self.now_us);
            self.network.receive();
            self.proxy.tick(self.network.streams(), self.now_us);
            self.proxy.run(self.network.streams(), self.now_us);
            self.network.send();
            while let Some(frame) = self.network.ports[0].take_sent() {
                sent.push(frame);
            }
        }
        sent
    }
}

fn asks(frame: &[u8]) -> bool {
    frame[..6] == [0xff; 6] && frame[12..14] == [8, 6] && frame[38..42] == SERVER
}

/// A client has asked for something of a server that is where it was known to be.
fn asked(mut world: World) -> World {
    world.reach(0, true);
    world.turn();
    world.says(BEFORE);
    for act in [
        Act::Open { who: 0 },
        Act::AcknowledgeAll,
        Act::Say {
            who: 0,
            bytes: b"get a\r\n".to_vec(),
        },
    ] {
        world.act(act);
        world.turn();
    }
    world
}

#[test]
fn is_asked_for_when_it_falls_silent_and_reached_again() {
    let mut world = asked(World::new());
    // Its SYN is repeated after 1 s and after 3 s.
    let sent = world.unanswered(START_US + 2_900_000);
    assert_eq!(sent.iter().filter(|frame| asks(frame)).count(), 0);
    assert_eq!(world.network.counters().servers_silent, 0);
    let sent = world.unanswered(START_US + 3_500_000);
    assert_eq!(sent.iter().filter(|frame| asks(frame)).count(), 1);
    assert_eq!(world.network.counters().servers_silent, 1);
    world.says(AFTER);
    let path = world.paths.get(0).expect("it has answered");
    assert_eq!(path.next_hop_mac, AFTER);
    let sent = world.unanswered(START_US + 20_000_000);
    let mut to_server = sent.iter().filter(|frame| {
        let is_tcp = frame[12..14] == [8, 0] && frame[23] == 6;
        is_tcp && frame[30..34] == SERVER
    });
    assert!(to_server.all(|frame| frame[..6] == AFTER));
}

#[test]
fn is_told_of_where_the_kernel_has_the_neighbours() {
    let mut world = World::new();
    world.network.doubts = None;
    let mut world = asked(world);
    let sent = world.unanswered(START_US + 3_500_000);
    assert_eq!(sent.iter().filter(|frame| asks(frame)).count(), 0);
    assert_eq!(world.network.take_silent(), Some(ServerId(0)));
    assert_eq!(world.network.take_silent(), None);
}
