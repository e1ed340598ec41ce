//! A client beside those who ask for more than there is gets every reply, on both drivers; `scripts/overload` measures how fast.

use std::time::Duration;
use tidegate_tests::overload::{self, Offender, Options};
use tidegate_tests::scene::turn_or_skip;
use tidegate_tests::stage::Driver;

fn overload(driver: Driver) {
    let Some(_turn) = turn_or_skip() else { return };
    let options = Options {
        driver,
        each: Duration::from_millis(500),
        offenders: Offender::ALL.to_vec(),
        slow_clients: 300,
        receive_apart: false,
    };
    let table = overload::run(&options).unwrap();
    assert_eq!(table.faults(), Vec::<String>::new(), "{}", table.text());
    for row in &table.rows {
        assert_eq!(
            row.beside.is_some(),
            row.done.sent > 0,
            "nobody offended: nothing is proved"
        );
    }
}

#[test]
fn others_are_served_on_afxdp() {
    overload(Driver::Afxdp);
}

#[test]
fn others_are_served_on_kernel_sockets() {
    overload(Driver::Kernel);
}
