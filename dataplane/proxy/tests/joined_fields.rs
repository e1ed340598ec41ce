//! What servers tell about themselves, put together.

use crate::model::dialogue::play;
use crate::model::joined::{ask, world};
use crate::model::{Rng, World, limits, pool};
use tidegate_config::Protocol;

/// What INFO gives when the servers say this.
fn info_of(world: &mut World, texts: &[String]) -> String {
    for (server, text) in world.servers.iter_mut().zip(texts) {
        let bulk = format!("${}\r\n{text}\r\n", text.len());
        server.garbage = Some(bulk.into_bytes());
    }
    let got = ask(world, &["INFO server"]);
    let (head, rest) = got.split_once("\r\n").unwrap();
    let bytes: usize = head.strip_prefix('$').unwrap().parse().unwrap();
    assert_eq!(&rest[bytes..], "\r\n");
    rest[..bytes].to_owned()
}

#[test]
fn info_tells_of_the_pool_as_of_one_server() {
    let mut world = world(3);
    for (server, keys) in [(0, 0), (1, 2), (2, 3)] {
        for key in 0..keys {
            world.servers[server]
                .store
                .insert(vec![b'k', key], b"v".to_vec());
        }
    }
    let got = ask(&mut world, &["INFO", "PING"]);
    let (head, rest) = got.split_once("\r\n").unwrap();
    let bytes: usize = head[1..].parse().unwrap();
    assert_eq!(&rest[bytes..], "\r\n+PONG\r\n");
    let info = &rest[..bytes];
    let own: Vec<&str> = info.lines().take_while(|line| !line.is_empty()).collect();
    assert_eq!(own[0], "# Tidegate");
    for line in [
        "tidegate_pool:pool",
        "tidegate_servers:3",
        "tidegate_servers_ejected:0",
        "tidegate_servers_answered:3",
        "tidegate_requests_broadcast:1",
    ] {
        assert!(own.contains(&line), "{line} in {info}");
    }
    let servers = &info[info.find("# Server").unwrap()..];
    assert_eq!(
        servers,
        "# Server\r\nredis_version:7.0.15\r\nuptime_in_seconds:100\r\n\r\n\
         # Memory\r\nused_memory:8192\r\nused_memory_human:8.00K\r\nmaxmemory_policy:noeviction\r\nmem_fragmentation_ratio:4.50\r\n\r\n\
         # Persistence\r\nloading:0\r\nrdb_last_bgsave_status:err\r\n\r\n\
         # Replication\r\nrole:master\r\n\r\n# CPU\r\nused_cpu_sys:0.755\r\n\r\n\
         # Keyspace\r\ndb3:keys=5,expires=5,avg_ttl=26\r\ndb0:keys=5,expires=2,avg_ttl=0\r\n"
    );
    assert!(!ask(&mut world, &["INFO server memory"]).contains("# Tidegate"));
    assert!(ask(&mut world, &["INFO Everything"]).contains("# Tidegate"));
    world.assert_idle("after the last reply");
}

#[test]
fn memcached_servers_are_emptied_and_counted_together() {
    let mut world = World::new(&[pool(Protocol::Memcached, 3)], &limits(), 5);
    for (server, keys) in [(0, 1), (1, 2), (2, 4)] {
        for key in 0..keys {
            world.servers[server]
                .store
                .insert(vec![b'k', key], b"v".to_vec());
        }
    }
    let (got, _) = play(
        &mut world,
        b"stats\r\nstats reset\r\nstats settings\r\nverbosity 1\r\nget x\r\n",
    );
    assert_eq!(
        got,
        "STAT pid 7\r\nSTAT uptime 46\r\nSTAT version 1.6.18\r\nSTAT rusage_user 0.000007\r\nSTAT curr_items 7\r\nEND\r\n\
         RESET\r\nSTAT maxbytes 64\r\nEND\r\nOK\r\nEND\r\n"
    );
    let (got, _) = play(
        &mut world,
        b"flush_all noreply\r\ncache_memlimit 64 noreply\r\nget k\r\nflush_all 0\r\n",
    );
    assert_eq!(got, "END\r\nOK\r\n");
    assert!(world.servers.iter().all(|server| server.store.is_empty()));
    world.assert_idle("after all replies");
}

#[test]
fn fields_beyond_the_table_and_lines_beyond_its_length_are_left_out() {
    let mut world = world(2);
    let fields: String = (0..5_000)
        .flat_map(|n| [format!("f{n}:1"), "\r\n".into()])
        .collect();
    let long = format!("long:{}\r\n", "x".repeat(2_000));
    let text = format!("# Stats\r\n{long}{fields}");
    let info = info_of(&mut world, &[text.clone(), text]);
    let lines: Vec<&str> = info.lines().collect();
    assert_eq!(lines[..3], ["# Stats", "f0:2", "f1:2"]);
    assert_eq!(lines.len(), 2_048);
    world.assert_idle("after the reply");
}

#[test]
fn servers_of_different_versions_tell_what_they_have_in_common_and_what_not() {
    let mut world = world(3);
    let texts = [
        "# Server\r\nredis_version:7.0\r\n\r\n# Memory\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n# Keyspace\r\ndb0:keys=1,expires=0,avg_ttl=0\r\n",
        "# Server\r\nredis_version:7.4\r\navailability_zone:a\r\n\r\n# Memory\r\nmaxmemory:100\r\nmaxmemory_policy:3\r\n# Keyspace\r\ndb0:keys=2,expires=1,avg_ttl=8,subexpiry=5\r\n",
        "# Memory\r\nmaxmemory:100\r\nused_memory_peak_perc:99.5%\r\nnonsense\r\n:1\r\n# Later\r\nx:y:z\r\n# Keyspace\r\ndb0:keys=x\r\n",
    ]
    .map(str::to_owned);
    assert_eq!(
        info_of(&mut world, &texts),
        "# Server\r\nredis_version:7.0\r\navailability_zone:a\r\n\r\n\
         # Memory\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\nused_memory_peak_perc:99.5%\r\n\r\n\
         # Keyspace\r\ndb0:keys=3,expires=1,avg_ttl=8\r\n\r\n# Later\r\nx:y:z\r\n"
    );
}

#[test]
fn whatever_servers_tell_about_themselves_makes_a_reply() {
    let words = [
        "# ",
        "#",
        "Memory",
        "Keyspace",
        "Commandstats",
        "\r\n",
        "\r\n",
        "\r\n",
        "\n",
        "\r",
        ":",
        ":",
        "=",
        "=",
        ",",
        "%",
        ".",
        "-",
        "1",
        "99999999999999999999",
        "0.5",
        "db0",
        "avg_ttl",
        "usec_per_call",
        "used_memory",
        "_human",
        "maxmemory",
        "role",
        "x",
        "\u{0}",
        "\u{e9}",
        "_perc",
        " ",
    ];
    let mut rng = Rng::new(11);
    let mut world = world(3);
    for _ in 0..300 {
        let texts = [(); 3].map(|()| {
            let count = rng.below(80);
            (0..count)
                .map(|_| words[rng.below(words.len())])
                .collect::<String>()
        });
        info_of(&mut world, &texts);
    }
    world.assert_idle("after the last reply");
}

#[test]
fn strings_and_nulls_keep_the_form_that_servers_gave_them() {
    let mut world = world(3);
    for server in &mut world.servers {
        server.garbage = Some(b"=27\r\ntxt:# CPU\r\nused_cpu_sys:1\r\n\r\n".to_vec());
    }
    assert_eq!(
        ask(&mut world, &["INFO cpu"]),
        "=27\r\ntxt:# CPU\r\nused_cpu_sys:3\r\n\r\n"
    );
    for server in &mut world.servers {
        server.garbage = Some(b"_\r\n".to_vec());
    }
    assert_eq!(ask(&mut world, &["RANDOMKEY"]), "_\r\n");
    world.servers[1].garbage = Some(b"$1\r\nk\r\n".to_vec());
    assert_eq!(ask(&mut world, &["RANDOMKEY"]), "$1\r\nk\r\n");
    world.assert_idle("after the last reply");
}
