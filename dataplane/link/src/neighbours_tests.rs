use super::*;
use crate::test_support::{OTHER_MAC, OUR_V4, PEER_MAC, START_US};
use std::net::Ipv4Addr;

fn address(number: usize) -> IpAddr {
    Ipv4Addr::from_bits(0x0a00_0000 + number as u32).into()
}

fn pairs(numbers: impl IntoIterator<Item = usize>) -> Vec<(IpAddr, IpAddr)> {
    let pair = |number| (address(number), IpAddr::V4(OUR_V4));
    numbers.into_iter().map(pair).collect()
}

fn neighbours(numbers: impl IntoIterator<Item = usize>) -> Neighbours {
    let mut neighbours = Neighbours::default();
    assert_eq!(neighbours.replace(pairs(numbers), usize::MAX, START_US), 0);
    neighbours
}

fn answers(neighbours: &mut Neighbours, number: usize, mac: Mac) -> bool {
    let evidence = Evidence {
        mac: Some(mac),
        solicited: true,
        overrides: true,
    };
    let due_us = neighbours.heard(START_US, address(number), evidence);
    due_us.is_some()
}

/// Asks up to `most` that are due, and says which.
fn ask(neighbours: &mut Neighbours, now_us: u64, most: usize) -> (Vec<IpAddr>, Asked) {
    let mut asked = Vec::new();
    let outcome = neighbours.ask_due(
        now_us,
        &mut asked,
        |asked| asked.len() < most,
        |asked, neighbour, _| asked.push(neighbour.address),
    );
    (asked, outcome)
}

fn all_news(neighbours: &mut Neighbours) -> Vec<(IpAddr, Option<Mac>)> {
    std::iter::from_fn(|| neighbours.take_news()).collect()
}

#[test]
fn strangers_are_not_kept() {
    let mut neighbours = neighbours([1, 3]);
    assert!(!answers(&mut neighbours, 2, PEER_MAC));
    assert_eq!(neighbours.len(), 2);
    assert_eq!(neighbours.take_news(), None);
}

#[test]
fn those_that_stay_keep_what_is_known_of_them() {
    let mut neighbours = neighbours([1, 3, 5]);
    for number in [1, 3, 5] {
        assert!(answers(&mut neighbours, number, PEER_MAC));
    }
    let told = neighbours.take_news();
    assert_eq!(told, Some((address(1), Some(PEER_MAC))));
    let beyond = neighbours.replace(pairs([5, 2, 1, 2, 9]), usize::MAX, START_US + 1);
    assert_eq!(beyond, 0);
    assert_eq!(neighbours.len(), 4);
    let told = all_news(&mut neighbours);
    assert_eq!(told, [(address(5), Some(PEER_MAC))], "1 was told before");
    let (asked, _) = ask(&mut neighbours, START_US + 1, usize::MAX);
    assert_eq!(asked, [address(2), address(9)]);
}

#[test]
fn those_beyond_the_room_are_counted() {
    let mut neighbours = Neighbours::default();
    assert_eq!(neighbours.replace(pairs([4, 1, 1, 2, 3]), 3, START_US), 1);
    assert_eq!(neighbours.len(), 3);
}

#[test]
fn a_change_is_told_once_and_several_as_the_last() {
    let mut neighbours = neighbours([1, 2]);
    answers(&mut neighbours, 2, PEER_MAC);
    answers(&mut neighbours, 2, OTHER_MAC);
    assert_eq!(all_news(&mut neighbours), [(address(2), Some(OTHER_MAC))]);
    answers(&mut neighbours, 2, OTHER_MAC);
    assert_eq!(neighbours.take_news(), None);
    answers(&mut neighbours, 2, PEER_MAC);
    answers(&mut neighbours, 2, OTHER_MAC);
    assert_eq!(neighbours.take_news(), None, "it is back where it was");
    assert_eq!(neighbours.untold, 0, "looking for news costs nothing now");
}

#[test]
fn one_that_always_changes_does_not_keep_the_others_from_being_told() {
    let mut neighbours = neighbours(0..4);
    for number in 0..4 {
        answers(&mut neighbours, number, PEER_MAC);
    }
    let mut told = Vec::new();
    for turn in 0..4 {
        let mac = if turn % 2 == 0 { OTHER_MAC } else { PEER_MAC };
        answers(&mut neighbours, 0, mac);
        told.push(neighbours.take_news().unwrap().0);
    }
    assert_eq!(told, [0, 1, 2, 3].map(address));
}

#[test]
fn those_in_front_do_not_take_all_turns() {
    let mut neighbours = neighbours(0..10);
    let mut seen = Vec::new();
    // Four are asked at a time, and each is due again before the last had its turn.
    for turn in 0..3 {
        let (asked, outcome) = ask(&mut neighbours, START_US + turn * 1_000_000, 4);
        assert_eq!(outcome, Asked::Interrupted);
        seen.extend(asked);
    }
    let expected: Vec<IpAddr> = (0..12).map(|number| address(number % 10)).collect();
    assert_eq!(seen, expected);
}

#[test]
fn asking_ends_when_none_is_due() {
    let mut neighbours = neighbours([1, 2]);
    let (asked, outcome) = ask(&mut neighbours, START_US, 2);
    assert_eq!(asked.len(), 2);
    assert_eq!(outcome, Asked::Until(START_US + 1_000_000));
    let (asked, _) = ask(&mut neighbours, START_US, 2);
    assert!(asked.is_empty());
    assert_eq!(
        ask(&mut Neighbours::default(), START_US, 2).1,
        Asked::Until(u64::MAX)
    );
}

#[test]
fn the_loss_of_one_is_news() {
    let mut neighbours = neighbours([1]);
    answers(&mut neighbours, 1, PEER_MAC);
    assert!(neighbours.take_news().is_some());
    for second in 30..33 {
        ask(&mut neighbours, START_US + second * 1_000_000, 1);
        assert_eq!(neighbours.take_news(), None, "probing");
    }
    ask(&mut neighbours, START_US + 33_000_000, 1);
    assert_eq!(all_news(&mut neighbours), [(address(1), None)]);
}
