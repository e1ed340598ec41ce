use super::*;
use crate::test_support::{OTHER_MAC, OUR_V4, PEER_MAC, PEER_V4, SECOND_US, START_US};

fn neighbour() -> Neighbour {
    Neighbour::new(PEER_V4.into(), OUR_V4.into(), START_US)
}

fn says(mac: Mac, solicited: bool, overrides: bool) -> Evidence {
    Evidence {
        mac: Some(mac),
        solicited,
        overrides,
    }
}

const ANSWER: Evidence = Evidence {
    mac: Some(PEER_MAC),
    solicited: true,
    overrides: true,
};

/// The seconds, from `from_us` on, at which it is asked, and at which link address.
fn asked(neighbour: &mut Neighbour, from_us: u64, times: usize) -> Vec<(u64, Option<Mac>)> {
    let ask = |_| {
        let at_us = neighbour.due_us;
        let second = (at_us - from_us) / SECOND_US;
        (second, neighbour.ask(at_us))
    };
    (0..times).map(ask).collect()
}

#[test]
fn one_that_is_silent_is_asked_ever_less_often() {
    let times = asked(&mut neighbour(), START_US, 12);
    let seconds: Vec<u64> = times.iter().map(|(second, _)| *second).collect();
    assert_eq!(seconds, [0, 1, 2, 3, 4, 5, 7, 11, 19, 27, 35, 43]);
    assert!(times.iter().all(|(_, mac)| mac.is_none()));
}

#[test]
fn one_that_was_silent_for_years_is_still_asked() {
    let mut neighbour = neighbour();
    neighbour.asked = u32::MAX - 1;
    let seconds: Vec<u64> = asked(&mut neighbour, START_US, 4)
        .iter()
        .map(|(second, _)| *second)
        .collect();
    assert_eq!(seconds, [0, 8, 16, 24]);
}

#[test]
fn one_that_answers_is_probed_every_30_s_and_stays() {
    let mut neighbour = neighbour();
    neighbour.heard(START_US, ANSWER);
    let mut now_us = START_US;
    for _ in 0..5 {
        assert_eq!(neighbour.due_us, now_us + REACHABLE_US);
        now_us = neighbour.due_us;
        assert_eq!(neighbour.ask(now_us), Some(PEER_MAC));
        now_us += 100;
        neighbour.heard(now_us, ANSWER);
    }
}

#[test]
fn one_that_falls_silent_is_lost_after_three_probes_and_asked_by_broadcast() {
    let mut neighbour = neighbour();
    neighbour.heard(START_US, ANSWER);
    let probe = Some(PEER_MAC);
    let expected = [
        (30, probe),
        (31, probe),
        (32, probe),
        (33, None),
        (34, None),
        (35, None),
    ];
    assert_eq!(asked(&mut neighbour, START_US, 6), expected);
    assert_eq!(neighbour.mac, None);
    neighbour.heard(START_US + 36 * SECOND_US, ANSWER);
    assert_eq!(neighbour.mac, Some(PEER_MAC));
    assert_eq!(neighbour.due_us, START_US + 66 * SECOND_US);
}

#[test]
fn one_that_moves_is_followed_at_once_and_probed_there() {
    let mut neighbour = neighbour();
    neighbour.heard(START_US, ANSWER);
    let moved_us = START_US + 5 * SECOND_US;
    neighbour.heard(moved_us, says(OTHER_MAC, false, true));
    assert_eq!(neighbour.mac, Some(OTHER_MAC));
    assert_eq!(neighbour.due_us, moved_us);
    assert_eq!(neighbour.ask(moved_us), Some(OTHER_MAC));
    neighbour.heard(moved_us + 100, says(OTHER_MAC, true, true));
    assert_eq!(neighbour.due_us, moved_us + 100 + REACHABLE_US);
}

#[test]
fn a_lie_about_where_it_is_is_found_out() {
    let mut neighbour = neighbour();
    neighbour.heard(START_US, ANSWER);
    neighbour.heard(START_US, says(OTHER_MAC, false, true));
    let lie = Some(OTHER_MAC);
    let expected = [(0, lie), (1, lie), (2, lie), (3, None)];
    assert_eq!(asked(&mut neighbour, START_US, 4), expected);
}

#[test]
fn what_says_nothing_new_changes_nothing() {
    let mut neighbour = neighbour();
    neighbour.heard(START_US, ANSWER);
    for overrides in [false, true] {
        neighbour.heard(START_US + 10 * SECOND_US, says(PEER_MAC, false, overrides));
    }
    assert_eq!(neighbour.due_us, START_US + REACHABLE_US);
}

#[test]
fn another_address_without_override_raises_a_doubt_only() {
    let mut neighbour = neighbour();
    neighbour.heard(START_US, ANSWER);
    let doubt_us = START_US + 2 * SECOND_US;
    for solicited in [false, true] {
        neighbour.heard(doubt_us, says(OTHER_MAC, solicited, false));
        assert_eq!(neighbour.mac, Some(PEER_MAC));
        assert_eq!(neighbour.due_us, doubt_us);
    }
    assert_eq!(neighbour.ask(doubt_us), Some(PEER_MAC));
    // While it is probed, a further doubt adds nothing.
    neighbour.heard(doubt_us + 10, says(OTHER_MAC, false, false));
    assert_eq!(neighbour.due_us, doubt_us + ASK_INTERVAL_US);
}

#[test]
fn nothing_is_learned_from_an_answer_without_address_unless_it_is_known() {
    let mut neighbour = neighbour();
    let confirms = Evidence {
        mac: None,
        ..ANSWER
    };
    neighbour.heard(START_US, confirms);
    assert_eq!((neighbour.mac, neighbour.due_us), (None, START_US));
    neighbour.heard(START_US, ANSWER);
    neighbour.heard(START_US + SECOND_US, confirms);
    assert_eq!(neighbour.mac, Some(PEER_MAC));
    assert_eq!(neighbour.due_us, START_US + SECOND_US + REACHABLE_US);
}

#[test]
fn one_that_is_unknown_takes_any_address_without_override() {
    let mut neighbour = neighbour();
    neighbour.ask(START_US);
    neighbour.heard(START_US + 10, says(PEER_MAC, false, false));
    assert_eq!(neighbour.mac, Some(PEER_MAC));
    assert_eq!(
        neighbour.due_us,
        START_US + SECOND_US,
        "it was asked just now"
    );
}

#[test]
fn strangers_cannot_make_us_ask_more_than_once_a_second() {
    let mut neighbour = neighbour();
    neighbour.heard(START_US, ANSWER);
    let mut asks = 0;
    for step in 0..10_000_u64 {
        let now_us = START_US + step * 1_000;
        let mac = if step % 2 == 0 { OTHER_MAC } else { PEER_MAC };
        neighbour.heard(now_us, says(mac, step % 7 == 0, step % 3 != 0));
        if neighbour.due_us <= now_us {
            neighbour.ask(now_us);
            asks += 1;
        }
    }
    assert!(asks <= 10, "{asks} in 10 s");
}
