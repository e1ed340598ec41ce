//! Random requests for memcached, text and meta.
//!
//! Everything has one right answer: what tells the time or the state of the server is not here. Nor are two things of memcached that
//! depend on whether earlier replies of a pipeline have left: a key that is too long, for which it drops those that have not, and
//! numbers that lose a digit, which it pads with a blank if nobody reads them. Nor is `flush_all` with a delay: it takes back earlier
//! ones that are done with, and brings back those of their items that nobody, the server's own cleaning included, has met since.

use super::{Peer, Turn, choose, value};
use crate::client::memcached::{Memcached, items};
use crate::random::Random;
use std::io;

/// Something that makes requests.
struct Template {
    name: &'static str,
    weight: usize,
    make: fn(&mut Random) -> Vec<u8>,
}

/// Keys are few, so that requests meet each other's traces.
fn key(random: &mut Random) -> String {
    format!("k{}", random.below(16))
}

fn noreply(random: &mut Random) -> &'static str {
    if random.below(6) == 0 { " noreply" } else { "" }
}

fn exptime(random: &mut Random) -> &'static str {
    let times = ["0", "0", "0", "1000", "2000000000", "-1"];
    times[random.below(times.len())]
}

fn with_block(head: &str, value: &[u8]) -> Vec<u8> {
    [head.as_bytes(), b"\r\n", value, b"\r\n"].concat()
}

fn storage(verb: &str, random: &mut Random) -> Vec<u8> {
    let value = value(random);
    let (key, flags) = (key(random), *random.pick(&[0, 1, 77, u32::MAX]));
    let (exptime, bytes, noreply) = (exptime(random), value.len(), noreply(random));
    with_block(
        &format!("{verb} {key} {flags} {exptime} {bytes}{noreply}"),
        &value,
    )
}

fn keys(random: &mut Random) -> String {
    let most = [6, 6, 6, 6, 60][random.below(5)];
    let count = 1 + random.below(most);
    let keys: Vec<String> = (0..count).map(|_| key(random)).collect();
    keys.join(" ")
}

fn line(text: String) -> Vec<u8> {
    (text + "\r\n").into_bytes()
}

macro_rules! template {
    ($name:literal, $weight:literal, $make:expr) => {
        Template {
            name: $name,
            weight: $weight,
            make: $make,
        }
    };
}

const TEXT: &[Template] = &[
    template!("set", 20, |random| storage("set", random)),
    template!("add", 5, |random| storage("add", random)),
    template!("replace", 5, |random| storage("replace", random)),
    template!("append", 3, |random| storage("append", random)),
    template!("prepend", 3, |random| storage("prepend", random)),
    template!("set a number", 5, |random| {
        let value = random.below(1_000_000).to_string();
        let head = format!("set {} 0 0 {}", key(random), value.len());
        with_block(&head, value.as_bytes())
    }),
    template!("cas", 5, |random| {
        // Cas numbers grow by one with each store: a low one is sometimes right.
        let (value, cas) = (value(random), random.below(60));
        let (key, noreply) = (key(random), noreply(random));
        with_block(
            &format!("cas {key} 5 0 {} {cas}{noreply}", value.len()),
            &value,
        )
    }),
    template!("get", 20, |random| line(format!("get {}", keys(random)))),
    template!("gets", 8, |random| line(format!("gets {}", keys(random)))),
    template!("gat", 4, |random| line(format!(
        "gat 1000 {}",
        keys(random)
    ))),
    template!("gats", 4, |random| line(format!("gats 0 {}", keys(random)))),
    template!("delete", 5, |random| {
        line(format!("delete {}{}", key(random), noreply(random)))
    }),
    template!("delete with a zero", 1, |random| {
        line(format!("delete {} 0{}", key(random), noreply(random)))
    }),
    template!("incr", 5, |random| {
        let (key, by) = (key(random), random.below(100));
        line(format!("incr {key} {by}{}", noreply(random)))
    }),
    template!("set a number to count down", 3, |random| {
        let value = NUMBER + random.below(1_000);
        let head = format!("set {} 0 0 7", number_key(random));
        with_block(&head, value.to_string().as_bytes())
    }),
    template!("decr", 5, |random| {
        let (key, by) = (number_key(random), random.below(100));
        line(format!("decr {key} {by}{}", noreply(random)))
    }),
    template!("touch", 4, |random| {
        let (key, exptime) = (key(random), exptime(random));
        line(format!("touch {key} {exptime}{}", noreply(random)))
    }),
    template!("version", 1, |_| line("version".into())),
    template!("verbosity", 1, |random| {
        line(format!("verbosity 0{}", noreply(random)))
    }),
    template!("flush_all", 1, |random| {
        line(format!("flush_all{}", noreply(random)))
    }),
    template!("cache_memlimit", 1, |random| {
        line(format!("cache_memlimit 100{}", noreply(random)))
    }),
    template!("an unknown name", 1, |_| line("nosuch a b".into())),
    template!("an empty line", 1, |_| line(String::new())),
    template!("get without a key", 1, |_| line("get".into())),
    template!("incr by a word", 1, |random| {
        line(format!("incr {} word", key(random)))
    }),
    template!("the longest key", 1, |_| {
        line(format!("get {0} {0}", "k".repeat(250)))
    }),
];

/// A meta command with some of these flags.
fn meta(name: &str, random: &mut Random, flags: &[&str]) -> String {
    let key = key(random);
    format!("{name} {key}{}", some_of(flags, random))
}

/// Some of these flags.
fn some_of(flags: &[&str], random: &mut Random) -> String {
    let mut text = String::new();
    for flag in flags {
        if random.below(4) == 0 {
            text += " ";
            text += flag;
            if *flag == "O" {
                text += &random.below(1_000_000).to_string();
            }
        }
    }
    text
}

/// What numbers start from: they never lose a digit.
const NUMBER: usize = 1_500_000;

/// A key of a number, which `md` with the flag `I` never meets.
fn number_key(random: &mut Random) -> String {
    format!("d{}", random.below(4))
}

/// Two things of `ma` are not here. A number that was marked as stale stays so only if its new value is written in the place of the old
/// one, and that depends on whether replies that show the old one have left. And with `q` and `N` memcached before 1.6.40 shows that it
/// created a number, though it hides every other success: the proxy, whose servers never hear of `q`, hides all, as later versions do.
const META: &[Template] = &[
    template!("mn", 4, |_| line("mn".into())),
    template!("mg", 20, |random| {
        line(meta("mg", random, &["v", "f", "s", "k", "c", "O", "q"]))
    }),
    template!("mg of a value", 10, |random| {
        line(meta("mg", random, &["k", "s", "O"]) + " v")
    }),
    template!("mg that touches or makes", 4, |random| {
        line(meta("mg", random, &["v", "T1000", "N1000", "R0", "q", "k"]))
    }),
    template!("ms", 20, |random| {
        let value = value(random);
        let modes = ["MS", "MA", "ME", "MP", "MR", "I"];
        let flags = ["F7", "T1000", "O", "q", "k", "c", modes[random.below(6)]];
        let flags = some_of(&flags, random);
        with_block(
            &format!("ms {} {}{flags}", key(random), value.len()),
            &value,
        )
    }),
    template!("ms of a number", 4, |random| {
        let value = (NUMBER + random.below(1_000)).to_string();
        let head = format!("ms {} {}", number_key(random), value.len());
        with_block(&head, value.as_bytes())
    }),
    template!("mg of a number", 4, |random| {
        line(format!("mg {} v c", number_key(random)))
    }),
    template!("md of a number", 2, |random| {
        line(format!("md {}", number_key(random)))
    }),
    template!("ms with cas", 4, |random| {
        let (value, cas) = (value(random), random.below(60));
        with_block(
            &format!("ms {} {} C{cas}", key(random), value.len()),
            &value,
        )
    }),
    template!("md", 6, |random| {
        line(meta("md", random, &["q", "O", "k", "T0", "I"]))
    }),
    template!("ma", 6, |random| {
        let made = format!("N0 J{NUMBER}");
        let first = if random.below(2) == 0 { "q" } else { &made };
        let flags = [first, "O", "k", "v", "D7", "MD", "c"];
        let key = number_key(random);
        line(format!("ma {key}{}", some_of(&flags, random)))
    }),
    template!("ma of anything", 2, |random| {
        line(meta("ma", random, &["q", "O", "k", "v", "D7", "c"]))
    }),
    template!("base64 keys", 4, |random| {
        let name = *random.pick(&["mg", "md", "ma"]);
        // k1, a key that is no text, and what is no base64.
        let key = *random.pick(&["azE=", "AAECAw==", "a2s"]);
        let flags = *random.pick(&[" b", " b k", " b k v"]);
        line(format!("{name} {key}{flags}"))
    }),
    template!("ms with a base64 key", 3, |random| {
        let key = *random.pick(&["azE=", "AAECAw=="]);
        with_block(&format!("ms {key} 2 b k"), b"ab")
    }),
    template!("me without a key", 1, |_| line("me".into())),
    template!("mg without a key", 1, |_| line("mg".into())),
    template!("ms without a length", 1, |random| {
        line(format!("ms {} word", key(random)))
    }),
    template!("mg with a flag twice", 1, |random| {
        line(format!("mg {} v v", key(random)))
    }),
];

fn make(templates: &[Template], random: &mut Random, known: &[bool]) -> Turn {
    let index = choose(random, templates, known, |template| template.weight);
    Turn {
        bytes: (templates[index].make)(random),
        requests: 1,
        from: templates[index].name,
    }
}

fn example(templates: &[Template], index: usize, number: u64) -> Turn {
    Turn {
        bytes: (templates[index].make)(&mut Random::new(number)),
        requests: 1,
        from: templates[index].name,
    }
}

fn names(templates: &[Template]) -> Vec<&'static str> {
    templates.iter().map(|template| template.name).collect()
}

/// Random text requests.
pub fn text_turn(random: &mut Random, known: &[bool]) -> Turn {
    make(TEXT, random, known)
}

/// What text requests there are.
pub fn text_templates() -> Vec<&'static str> {
    names(TEXT)
}

/// One of them.
pub fn text_example(index: usize, number: u64) -> Turn {
    example(TEXT, index, number)
}

/// Random meta requests, now and then a text request among them.
pub fn meta_turn(random: &mut Random, known: &[bool]) -> Turn {
    if random.below(5) == 0 {
        let plain = ["set", "get", "gets", "delete", "incr"];
        let known: Vec<bool> = names(TEXT)
            .iter()
            .map(|name| plain.contains(name))
            .collect();
        return make(TEXT, random, &known);
    }
    make(META, random, known)
}

/// What meta requests there are.
pub fn meta_templates() -> Vec<&'static str> {
    names(META)
}

/// One of them.
pub fn meta_example(index: usize, number: u64) -> Turn {
    example(META, index, number)
}

/// Requests that bring back what nothing else does.
pub fn ending(seed: u64) -> (Vec<u8>, Vec<u8>) {
    let mark = format!("the-end-of-{seed:020}-{:016x}", Random::new(seed).bits());
    let set = with_block(&format!("set end 0 0 {}", mark.len()), mark.as_bytes());
    let get = line("get end".into());
    let end = format!("{mark}\r\nEND\r\n").into_bytes();
    ([set, get].concat(), end)
}

/// What empties a server.
pub fn emptying() -> Vec<u8> {
    line("flush_all".into())
}

/// Brings the cas numbers of two servers to the same count: the one that is behind stores something as often as it is behind.
pub fn level(servers: [&Peer; 2]) -> io::Result<()> {
    let mut counts = [0; 2];
    let mut clients = Vec::new();
    for (server, count) in servers.into_iter().zip(&mut counts) {
        let mut client = server.host.run(|| Memcached::open(server.address))?;
        client.set(b"level", 0, b"")?;
        let found = items(&client.ask(b"gets level\r\n")?)?;
        *count = found.first().and_then(|item| item.cas).unwrap_or(0);
        clients.push(client);
    }
    let most = counts[0].max(counts[1]);
    for (client, count) in clients.iter_mut().zip(counts) {
        for _ in count..most {
            client.set(b"level", 0, b"")?;
        }
        client.line("delete level")?;
    }
    Ok(())
}
