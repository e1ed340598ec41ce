use proptest::collection::vec;
use proptest::prelude::*;

use super::commands::{KeySpec, Rule};
use super::lookup::Rows;
use super::subcommands::SUBCOMMANDS;
use super::table::COMMANDS;
use super::{frequent, lookup, request, twemproxy};
use crate::request::{Parsed, Resume};

#[test]
fn every_command_is_found_in_any_case_and_stands_once() {
    for (index, command) in COMMANDS.iter().enumerate() {
        let upper = command.name.to_uppercase();
        let mixed: String = command
            .name
            .chars()
            .enumerate()
            .map(|(at, letter)| {
                if at % 2 == 0 {
                    letter.to_ascii_uppercase()
                } else {
                    letter
                }
            })
            .collect();
        for name in [command.name, &upper, &mixed] {
            // With bytes behind it and without: short names are read as a word when there are enough bytes.
            for behind in ["", "\r\n$1\r\nk\r\n"] {
                let buf = format!("$$${name}{behind}");
                assert_eq!(
                    lookup::find(Rows::OWN, buf.as_bytes(), 3, name.len()),
                    Some(index as u16),
                    "{name}"
                );
            }
        }
        assert_eq!(command.name, command.name.to_lowercase());
    }
}

#[test]
fn a_name_that_is_almost_a_command_is_not_found() {
    for command in COMMANDS {
        for name in [
            format!("{}q", command.name),
            format!("q{}", command.name),
            format!("{}\0", command.name),
        ] {
            assert_eq!(
                lookup::find(Rows::OWN, name.as_bytes(), 0, name.len()),
                None,
                "{name}"
            );
        }
    }
    for name in [
        "",
        "g",
        "ge",
        "\0\0\0",
        "get\0\0\0\0\0",
        "georadiusbymember_roxxxxxx",
    ] {
        assert_eq!(
            lookup::find(Rows::OWN, name.as_bytes(), 0, name.len()),
            None,
            "{name}"
        );
    }
}

#[test]
fn the_table_of_names_is_sparse_enough_for_short_searches() {
    let worst = COMMANDS
        .iter()
        .map(|command| lookup::probes(command.name))
        .max();
    assert!(worst <= Some(6), "a name takes {worst:?} looks");
}

#[test]
fn arity_leaves_room_for_what_is_looked_for() {
    for command in COMMANDS.iter().chain(&SUBCOMMANDS) {
        let least = u32::from(command.arity.unsigned_abs());
        let needed = match (command.rule, command.keys) {
            (Rule::Key(position), _) => u32::from(position) + 1,
            (Rule::Split(_), _) | (_, KeySpec::SortStore | KeySpec::Streams(_)) => 2,
            // Those that may have no keys are asked how many they have.
            (_, KeySpec::Range { .. } | KeySpec::Plain) => 1,
            (_, KeySpec::Counted(position) | KeySpec::CountedOrNone(position)) => {
                u32::from(position) + 1
            }
            (_, KeySpec::StoreCounted) => 3,
            (_, KeySpec::GeoStore(from)) => u32::from(from),
        };
        assert!(least >= needed, "{}", command.name);
    }
}

#[test]
fn containers_and_subcommands_find_each_other() {
    let containers = COMMANDS
        .iter()
        .filter(|command| lookup::has_subcommands(command.name));
    let mut found = 0;
    for container in containers {
        let row = lookup::row_named(container.name).unwrap();
        assert!(row.refusal.starts_with("'. Try "), "{}", container.name);
        for subcommand in SUBCOMMANDS
            .iter()
            .filter(|s| s.name.split('|').next() == Some(container.name))
        {
            let name = subcommand.name.split('|').nth(1).unwrap();
            for name in [name.to_owned(), name.to_uppercase()] {
                let index = lookup::find_subcommand(row, name.as_bytes()).unwrap();
                assert_eq!(lookup::command(index).name, subcommand.name);
                assert_eq!(lookup::name_bytes(index), container.name.len());
            }
            assert_eq!(
                lookup::row_named(subcommand.name).unwrap().name,
                subcommand.name
            );
            found += 1;
        }
        assert!(lookup::find_subcommand(row, b"").is_none());
    }
    assert_eq!(found, SUBCOMMANDS.len());
    assert!(
        COMMANDS
            .iter()
            .all(|row| row.rule != Rule::Container || lookup::has_subcommands(row.name))
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    #[test]
    fn the_short_path_says_what_the_general_one_says(
        name in prop::sample::select(vec!["get", "GET", "set", "hset", "mget", "incrbyfloat", "keys", "nosuch", "ping", "geoadd", "zdiff"]),
        words in vec(vec(any::<u8>(), 0..1100), 0..10),
        damage in prop::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u8>())),
    ) {
        let mut wire = format!("*{}\r\n${}\r\n{name}\r\n", words.len() + 1, name.len()).into_bytes();
        for word in &words {
            wire.extend(format!("${}\r\n", word.len()).into_bytes());
            wire.extend(word);
            wire.extend(b"\r\n");
        }
        if let Some((place, byte)) = damage {
            let place = place.index(wire.len());
            wire[place] = byte;
        }
        if let Some(short) = frequent::parse(Rows::OWN, &wire) {
            prop_assert_eq!(Parsed::Whole(short), request::parse_general(Rows::OWN, &wire, &mut Resume::default()));
        }
    }
}

#[test]
fn the_short_path_takes_what_it_is_for() {
    for wire in [
        "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n",
        "*3\r\n$3\r\nset\r\n$1\r\nk\r\n$0\r\n\r\n",
        "*2\r\n$7\r\nHGETALL\r\n$3\r\nabc\r\n*",
    ] {
        assert!(
            frequent::parse(Rows::OWN, wire.as_bytes()).is_some(),
            "{wire:?}"
        );
    }
}

#[test]
fn every_command_of_twemproxy_is_in_the_table_of_commands() {
    let taken = COMMANDS
        .iter()
        .filter(|command| twemproxy::arity_and_rule(command.name).1 != Rule::Refused)
        .count();
    assert_eq!(taken, twemproxy::commands());
}
