//! What RFCs say of TCP, played against the stack sentence by sentence.
//!
//! The scripts lie in folders by subject. Each begins with the sentence that it checks, and is played over IPv4 and IPv6 and, unless
//! it is about one of them, with both ways to acknowledge. Where the stack does something else than its RFC asks for, the script says
//! both: what is asked for has to fail, or the mark is out of date, and what is seen instead has to be seen. `docs/tcp.md` explains
//! each of these deviations. `README.md` beside this file tells the scripts' language.

#[path = "../common/mod.rs"]
mod common;
mod documented;
mod options;
mod parse;
mod parse_segment;
mod parse_tests;
mod player;
mod script;
mod segments;

use player::{Staging, play};
use script::{Script, Side};
use std::collections::BTreeSet;
use std::path::Path;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance");

/// Makes a test of each script, and the list of all.
macro_rules! scripts {
    ($($folder:ident { $($name:ident)* })*) => {
        const SCRIPTS: &[&str] = &[
            $($(concat!(stringify!($folder), "/", stringify!($name), ".pkt"),)*)*
        ];

        $(mod $folder {
            $(#[test]
            fn $name() {
                crate::perform(concat!(stringify!($folder), "/", stringify!($name), ".pkt"));
            })*
        })*
    };
}

scripts! {
    acknowledgements {
        an_unfinished_request_is_not_held
        at_once
        every_second_full_segment
        held_for_the_reply
        servers_are_acknowledged_with_the_next_request
        the_reply_carries_it
    }
    closing {
        a_peer_that_never_closes
        a_repeated_fin_is_acknowledged_in_close_wait
        a_repeated_fin_is_acknowledged_in_time_wait
        an_old_syn_in_time_wait
        bytes_and_end_before_the_handshake_is_over
        bytes_do_not_put_the_end_off
        data_after_close
        everything_is_sent_before_the_fin
        fin_in_fin_wait_1_that_acknowledges_ours
        fin_waits_for_the_window
        fin_with_data_acknowledged_in_parts
        half_closed_connections_go_on
        last_ack_is_the_end
        no_sends_after_close
        simultaneous
        simultaneous_and_the_fin_is_lost
        the_peer_closes_first
        time_wait_gives_way
        time_wait_is_reopened
        time_wait_lasts
        unread_data
        we_close_first
        we_go_on_receiving
    }
    handshake {
        a_reused_port_begins_behind_the_last_numbers
        active_open
        bytes_that_waited_hold_nothing_up
        bytes_wait_for_the_connection
        closed_while_connecting
        connecting_is_given_up
        data_on_a_syn
        data_with_the_last_ack
        ecn_is_declined
        fin_with_the_last_ack
        half_open_table_is_full
        handshake_is_given_up
        illegal_option_length
        initial_numbers_follow_a_clock
        listener_gets_a_reset
        listener_gets_an_ack
        new_syn_in_a_handshake
        numbers_wrap
        passive_open
        refused
        refused_while_draining
        repeated_syn
        reset_ends_a_handshake
        reset_with_another_number_is_challenged
        reset_without_an_acceptable_ack
        simultaneous_open
        simultaneous_open_with_both_syn_acks
        syn_ack_is_repeated
        syn_ack_repeated_after_its_ack_was_lost
        syn_sent_gets_a_wrong_ack
        syn_sent_gets_no_syn
        syn_with_fin
        unknown_options_are_ignored
        wrong_ack_in_a_handshake
    }
    keepalive {
        a_forgotten_connection_is_found
        four_lost_answers_are
        off_by_default
        one_lost_answer_is_no_end
        only_when_silent
        only_with_nothing_outstanding
        probe
        servers_are_probed
    }
    mss {
        announced
        default_of_ipv4
        default_of_ipv6
        only_on_a_syn
        options_take_room
        the_smaller_of_two
        tiny
        zero
    }
    reset {
        a_challenge_says_what_is_expected_next
        abort
        abort_before_the_syn_left
        abort_in_time_wait
        abort_while_connecting
        abort_while_repeating
        after_abort_the_peer_is_told_again
        challenges_are_throttled
        exact_number_resets
        half_open_connection_is_discovered
        number_in_the_window_is_challenged
        number_outside_the_window_is_dropped
        number_outside_while_connecting_is_dropped
        old_segments_do_not_end_time_wait
        reset_in_close_wait
        reset_in_fin_wait
        reset_in_time_wait
        reset_into_a_closed_window
        reset_with_data
        syn_ack_in_the_window_is_challenged
        syn_in_the_window_is_challenged
        syn_on_a_server_connection_is_challenged
        syn_while_closing_is_challenged
        unknown_flow_with_ack
        unknown_flow_with_reset
        unknown_flow_without_ack
    }
    retransmission {
        a_second_at_least
        after_a_lost_syn
        after_a_timeout_one_segment
        after_a_timeout_one_segment_of_a_large_buffer
        an_ack_of_everything_stops_the_timer
        an_ack_of_new_data_restarts_the_timer
        backs_off
        data_is_no_duplicate
        fin_is_repeated
        gives_up
        initial_window
        limited_transmit
        repeated_segments_are_not_measured
        restart_after_idle
        selective_acknowledgements_are_used
        slow_start
        the_round_trip_is_measured
        the_second_round_trip
        the_timer_runs_from_the_first_segment
        three_duplicates
        two_holes
        window_updates_are_no_duplicates
    }
    sack {
        as_many_blocks_as_fit
        not_without_permission
        on_every_ack_below_a_gap
        only_if_offered
        the_first_block_is_the_newest
    }
    scale {
        a_challenge_before_the_first_segment
        fourteen_at_most
        not_offered
        only_on_a_syn
        the_servers_answer_decides
        used_by_both
        windows_of_syns_are_not_scaled
    }
    timestamps {
        a_fresh_syn_echoes_nothing
        a_reset_without
        a_segment_without
        an_early_segment_is_not_echoed
        echoed
        of_the_peer_wrap
        on_every_segment
        only_if_both_offer
        outdated_after_a_long_silence
        protect_against_wrapped_numbers
        the_server_declines
    }
    urgent {
        invalid_pointers_harm_nothing
        stays_in_line
        the_application_is_told
    }
    window {
        a_burst_gets_one_ack
        a_filled_gap_is_acknowledged_at_once
        a_gap_is_acknowledged_at_once
        a_reset_behind_an_end_at_the_edge
        ack_before_the_fin_left
        ack_far_below
        ack_of_what_waits_to_be_sent
        ack_of_what_was_not_sent
        acks_count_in_a_closed_window
        an_older_segment_does_not_set_the_window
        beyond
        beyond_an_unscaled_window
        closed_window_is_told
        damaged
        fin_behind_a_gap
        fin_in_a_closed_window
        fin_partly_beyond
        half_the_numbers_ahead
        half_the_numbers_ahead_of_a_closed_window
        half_the_numbers_ahead_with_bytes
        half_the_numbers_behind
        half_the_numbers_behind_with_bytes
        in_order
        many_gaps
        no_ack_bit
        old_ack_with_new_data
        old_duplicate
        partly_beyond
        partly_old
        probes_of_the_peer_are_answered
        push_is_set_on_the_last
    }
    zero {
        a_probe_announces_what_is_remembered
        closed_and_nobody_answers
        closed_behind_bytes_and_stays_so
        closed_behind_bytes_that_were_lost
        peer_shrinks_the_window
        probe
        probed_as_long_as_it_is_answered
        probes_are_given_up_when_nobody_answers
        receiver_avoids_silly_windows
        sender_avoids_silly_windows
        window_closes_with_data_on_the_way
        window_opens_by_half
    }
}

fn read(path: &str) -> Script {
    let text = std::fs::read_to_string(Path::new(FOLDER).join(path))
        .unwrap_or_else(|error| panic!("{path}: {error}"));
    Script::parse(&text).unwrap_or_else(|fault| panic!("{path}:{fault}"))
}

/// Plays a script in all the ways that it is for.
fn perform(path: &str) {
    let script = read(path);
    let says = format!("{}: {}", script.rfcs.join(" and "), script.says);
    for &ipv6 in &script.families {
        for &ack in &script.acks {
            let staging = |side| Staging { ipv6, ack, side };
            let seen = play(&script, staging(Side::Seen));
            if let Err(fault) = seen {
                panic!("{path}:{fault}\nipv6 {ipv6}, ack {ack:?}\n{says}");
            }
            let Some(mark) = &script.deviation else {
                continue;
            };
            let Err(fault) = play(&script, staging(Side::Asked)) else {
                panic!(
                    "{path} deviates no more: its mark {} and docs/tcp.md are out of date",
                    mark.name
                );
            };
            let asked = script.steps.iter().filter(|step| step.side == Side::Asked);
            assert!(
                asked.clone().any(|step| step.line == fault.line),
                "{path}:{fault}\nipv6 {ipv6}, ack {ack:?}\nThis is not where the deviation is said to be."
            );
        }
    }
}

/// Every script below the folder, as `folder/name.pkt`.
fn files() -> BTreeSet<String> {
    let mut files = BTreeSet::new();
    let entries = |path: &Path| std::fs::read_dir(path).expect("the folder is there");
    for folder in entries(Path::new(FOLDER)) {
        let folder = folder.expect("the folder can be read").path();
        if !folder.is_dir() {
            continue;
        }
        for file in entries(&folder) {
            let file = file.expect("the folder can be read").path();
            let path = file.strip_prefix(FOLDER).expect("it lies below");
            files.insert(path.to_string_lossy().into_owned());
        }
    }
    files
}

#[test]
fn every_script_is_played() {
    let played: BTreeSet<String> = SCRIPTS.iter().map(|path| (*path).to_owned()).collect();
    assert_eq!(played.len(), SCRIPTS.len(), "a script is listed twice");
    assert_eq!(files(), played);
}

#[test]
fn every_script_says_something_of_its_own() {
    let mut said = BTreeSet::new();
    for path in SCRIPTS {
        let script = read(path);
        let steps = format!(
            "{:?}",
            script
                .steps
                .iter()
                .map(|step| &step.action)
                .collect::<Vec<_>>()
        );
        assert!(
            said.insert(steps),
            "{path} is played already under another name"
        );
    }
}
