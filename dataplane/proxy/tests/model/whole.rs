//! What model servers say of themselves as a whole.

use std::collections::HashMap;

type Store = HashMap<Vec<u8>, Vec<u8>>;

/// In front of what is no key: scripts.
const SCRIPT: &[u8] = b"\0script:";

/// What a model server's cursors are multiplied by: real ones use high bits as well.
const CURSOR_STEP: usize = 1 << 40;

fn bulk(content: &[u8]) -> Vec<u8> {
    [
        format!("${}\r\n", content.len()).as_bytes(),
        content,
        b"\r\n",
    ]
    .concat()
}

fn keys(store: &Store) -> Vec<&Vec<u8>> {
    let mut keys: Vec<_> = store
        .keys()
        .filter(|key| !key.starts_with(SCRIPT))
        .collect();
    keys.sort();
    keys
}

fn array(keys: &[&Vec<u8>]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", keys.len()).into_bytes();
    for key in keys {
        out.extend(bulk(key));
    }
    out
}

fn script(name: &[u8]) -> Vec<u8> {
    [SCRIPT, name].concat()
}

/// The text of INFO: fields of every kind that are joined.
pub fn info(store: &Store) -> String {
    let keys = keys(store).len();
    format!(
        "# Server\r\nredis_version:7.0.15\r\nuptime_in_seconds:{}\r\n\r\n\
         # Memory\r\nused_memory:{}\r\nused_memory_human:1B\r\nmaxmemory_policy:noeviction\r\nmem_fragmentation_ratio:{}.50\r\n\r\n\
         # Persistence\r\nloading:0\r\nrdb_last_bgsave_status:{}\r\n\r\n\
         # Replication\r\nrole:{}\r\n\r\n# CPU\r\nused_cpu_sys:0.25{}\r\n\r\n\
         # Keyspace\r\n{}db3:keys={keys},expires={keys},avg_ttl={}\r\n",
        100 + keys,
        1024 * (1 + keys),
        1 + keys,
        if keys % 2 == 1 { "err" } else { "ok" },
        if keys % 2 == 1 { "slave" } else { "master" },
        keys % 10,
        if keys > 0 {
            format!("db0:keys={keys},expires=1,avg_ttl=0\r\n")
        } else {
            String::new()
        },
        10 * keys,
    )
}

/// The reply to a request that is about a whole Redis server.
pub fn redis(store: &mut Store, name: &[u8], args: &[&[u8]]) -> Option<Vec<u8>> {
    let reply = match (name, args) {
        (b"DBSIZE", []) => format!(":{}\r\n", keys(store).len()).into_bytes(),
        (b"KEYS", [pattern]) => {
            let prefix = pattern.strip_suffix(b"*").unwrap_or(pattern);
            let found: Vec<_> = keys(store)
                .into_iter()
                .filter(|key| key.starts_with(prefix))
                .collect();
            array(&found)
        }
        (b"FLUSHALL" | b"FLUSHDB", _) => {
            store.clear();
            b"+OK\r\n".to_vec()
        }
        (b"RANDOMKEY", []) => match keys(store).first() {
            Some(key) => bulk(key),
            None => b"$-1\r\n".to_vec(),
        },
        (b"INFO", _) => bulk(info(store).as_bytes()),
        (b"SCRIPT", [what, text]) if what.eq_ignore_ascii_case(b"load") => {
            store.insert(script(text), Vec::new());
            bulk(text)
        }
        (b"SCRIPT", [what, names @ ..]) if what.eq_ignore_ascii_case(b"exists") => {
            let mut out = format!("*{}\r\n", names.len()).into_bytes();
            for name in names {
                let known = u8::from(store.contains_key(&script(name)));
                out.extend(format!(":{known}\r\n").bytes());
            }
            out
        }
        (b"SCRIPT", [what]) if what.eq_ignore_ascii_case(b"flush") => {
            store.retain(|key, _| !key.starts_with(SCRIPT));
            b"+OK\r\n".to_vec()
        }
        (b"SCAN", [cursor, options @ ..]) => {
            let cursor: usize = std::str::from_utf8(cursor).unwrap().parse().unwrap();
            let count = options
                .chunks(2)
                .find(|option| option[0].eq_ignore_ascii_case(b"count"))
                .map_or(10, |option| {
                    std::str::from_utf8(option[1]).unwrap().parse().unwrap()
                });
            let at = cursor / CURSOR_STEP;
            let all = keys(store);
            let found: Vec<_> = all.iter().copied().skip(at).take(count).collect();
            let next = if at + count < all.len() {
                (at + count) * CURSOR_STEP
            } else {
                0
            };
            [
                b"*2\r\n".to_vec(),
                bulk(next.to_string().as_bytes()),
                array(&found),
            ]
            .concat()
        }
        _ => return None,
    };
    Some(reply)
}

/// The reply to a request that is about a whole memcached server.
pub fn memcached(store: &mut Store, words: &[&[u8]]) -> Option<Vec<u8>> {
    let reply = match words {
        [b"flush_all", ..] => {
            store.clear();
            "OK\r\n".to_owned()
        }
        [b"verbosity" | b"cache_memlimit", _] => "OK\r\n".to_owned(),
        [b"stats", b"reset"] => "RESET\r\n".to_owned(),
        [b"stats", b"settings"] => "STAT maxbytes 64\r\nEND\r\n".to_owned(),
        [b"stats"] => format!(
            "STAT pid 7\r\nSTAT uptime {}\r\nSTAT version 1.6.18\r\nSTAT rusage_user 0.{:06}\r\nSTAT curr_items {}\r\nEND\r\n",
            50 - store.len(),
            store.len(),
            store.len()
        ),
        _ => return None,
    };
    Some(reply.into_bytes())
}
