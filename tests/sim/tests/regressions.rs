//! Scenarios that broke a promise once, shortened by the simulator. Each line says what was wrong.

use std::path::Path;
use tidegate_sim::runner::{Verdict, try_out};
use tidegate_sim::scenario::Scenario;

fn keeps_every_promise(name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let text = std::fs::read_to_string(folder.join(name)).expect("it can be read");
    let scenario: Scenario = serde_json::from_str(&text).expect("it is a scenario");
    if let Verdict::Broken { how, .. } = try_out(&scenario, false) {
        panic!("{name}: {how}");
    }
}

/// A reload after one that took away servers without connections made the loop take memory: places that such servers still have in the
/// tables were not reserved for.
#[test]
fn reload_after_unused_servers_left() {
    keeps_every_promise("reload-after-unused-servers-left.json");
}

/// An acknowledgement that was overtaken by a later one closed the window behind bytes that were lost: TCP's only timer came up,
/// found no room, and was not set again. The client waited for ever.
#[test]
fn zero_window_behind_lost_bytes() {
    keeps_every_promise("zero-window-behind-lost-bytes.json");
}

/// A RST had the number behind what was being sent again, not behind all that was sent: a client that had received more did not believe
/// it, and waited for ever.
#[test]
fn reset_behind_what_is_repeated() {
    keeps_every_promise("reset-behind-what-is-repeated.json");
}
