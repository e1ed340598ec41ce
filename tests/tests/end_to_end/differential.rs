//! The proxy against the real thing: the same random requests, cut into random segments, have to bring the same bytes. How it is
//! done is told in `tidegate_tests::differential`; `scripts/differential` does more of it.

use tidegate_tests::both_drivers;
use tidegate_tests::differential::{Dialect, Stand};
use tidegate_tests::scene::Scene;

/// Batches of each dialect.
const BATCHES: u64 = 8;
const TURNS: usize = 400;

/// Plays every batch; a dialect that the proxy does not speak at all is said to be left out.
fn play(scene: &Scene, dialect: Dialect) {
    let dialogue = Stand::of(scene).dialogue(dialect);
    for seed in 0..BATCHES {
        if dialogue.has_any()
            && let Err(difference) = dialogue.batch(seed, TURNS)
        {
            panic!("{difference}");
        }
    }
    println!("{dialect}, not compared: {:?}", dialogue.left_out());
}

macro_rules! dialects {
    ($($name:ident $dialect:ident,)*) => {
        $(
            both_drivers!($name, Stand::options(), Stand::configure, |scene| play(scene, Dialect::$dialect));
        )*
    };
}

dialects! {
    random_resp2_requests_bring_the_same_bytes_as_the_server_itself Resp2,
    random_resp3_requests_bring_the_same_bytes_as_the_server_itself Resp3,
    random_memcached_text_requests_bring_the_same_bytes_as_the_server_itself Text,
    random_memcached_meta_requests_bring_the_same_bytes_as_the_server_itself Meta,
    random_memcached_binary_requests_bring_the_same_bytes_as_the_server_itself Binary,
}
