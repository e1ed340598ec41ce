//! Redis commands whose keys have to belong to one server, and containers: real servers behind a pool with a hash tag.

use tidegate_tests::both_drivers;
use tidegate_tests::client::resp::Value;
use tidegate_tests::config::LabConfig;
use tidegate_tests::lab::LabOptions;
use tidegate_tests::lab::addresses::Family;
use tidegate_tests::scene::Scene;
use tidegate_tests::stage::Stage;

fn options() -> LabOptions {
    LabOptions {
        memcached: 0,
        ..LabOptions::default()
    }
}

fn config(stage: &dyn Stage) -> LabConfig {
    LabConfig::new(stage, Family::V4).every_pool("hash_tag = \"{}\"")
}

fn bulks(words: &[&str]) -> Value {
    let words = words.iter().map(|word| Value::bulk(word.as_bytes()));
    Value::Array(Some(words.collect()))
}

both_drivers!(
    keys_with_one_hash_tag_are_used_together,
    options(),
    config,
    keys_with_one_hash_tag_are_used_together
);

fn keys_with_one_hash_tag_are_used_together(scene: &mut Scene) {
    let plan = scene.plan();
    scene.on_client(|| {
        let mut client = plan.redis(Family::V4);
        for tag in ["{1}", "{2}", "{3}", "{4}", "{5}"] {
            let dialogue: &[(&str, Value)] = &[
                ("MSETNX a# 1 b# 2", Value::Integer(1)),
                ("MSETNX b# 1 c# 2", Value::Integer(0)),
                ("RENAME a# c#", Value::ok()),
                ("COPY c# d#", Value::Integer(1)),
                (
                    "MGET a# b# c#",
                    Value::Array(Some(vec![
                        Value::Bulk(None),
                        Value::bulk(b"2"),
                        Value::bulk(b"1"),
                    ])),
                ),
                ("BITOP OR e# b# c#", Value::Integer(1)),
                (
                    "EVAL return{KEYS[2],ARGV[1]} 2 a# b# x",
                    bulks(&["b#", "x"]),
                ),
                ("SADD s# 1 2 3", Value::Integer(3)),
                ("SADD t# 2 3 4", Value::Integer(3)),
                ("SINTERSTORE u# s# t#", Value::Integer(2)),
                ("SINTERCARD 2 s# t#", Value::Integer(2)),
                ("SORT u# DESC STORE l#", Value::Integer(2)),
                ("LMOVE l# m# LEFT RIGHT", Value::bulk(b"3")),
                (
                    "LMPOP 2 nosuch# m# LEFT",
                    Value::Array(Some(vec![Value::bulk(b"m#"), bulks(&["3"])])),
                ),
                ("ZADD y# 1 one", Value::Integer(1)),
                ("ZADD z# 2 one", Value::Integer(1)),
                ("ZUNIONSTORE x# 2 y# z#", Value::Integer(1)),
                ("ZSCORE x# one", Value::bulk(b"3")),
                ("PFADD p# a b", Value::Integer(1)),
                ("PFMERGE q# p#", Value::ok()),
                ("PFCOUNT q# p#", Value::Integer(2)),
                ("GEOADD g# 13.361389 38.115556 home", Value::Integer(1)),
                ("GEORADIUS g# 13 38 200 km STORE h#", Value::Integer(1)),
                ("XGROUP CREATE w# group $ MKSTREAM", Value::ok()),
                ("XADD w# 1-1 f v", Value::bulk(b"1-1")),
                ("XACK w# group 1-1", Value::Integer(0)),
                ("XLEN w#", Value::Integer(1)),
                ("OBJECT ENCODING s#", Value::bulk(b"intset")),
            ];
            for (request, expected) in dialogue {
                let request = request.replace('#', tag);
                let expected = tagged(expected, tag);
                assert_eq!(client.words(&request).unwrap(), expected, "{request}");
            }
            let entry = Value::Array(Some(vec![Value::bulk(b"1-1"), bulks(&["f", "v"])]));
            let stream = format!("w{tag}");
            let read = Value::Array(Some(vec![Value::Array(Some(vec![
                Value::bulk(stream.as_bytes()),
                Value::Array(Some(vec![entry])),
            ]))]));
            for request in [
                format!("XREAD STREAMS {stream} none{tag} 0 0"),
                format!("XREADGROUP GROUP group me COUNT 1 STREAMS {stream} >"),
            ] {
                assert_eq!(client.words(&request).unwrap(), read, "{request}");
            }
        }
    });
}

/// The value with the tag in place of each `#`.
fn tagged(value: &Value, tag: &str) -> Value {
    match value {
        Value::Bulk(Some(bytes)) => {
            Value::bulk(String::from_utf8_lossy(bytes).replace('#', tag).as_bytes())
        }
        Value::Array(Some(values)) => Value::Array(Some(
            values.iter().map(|value| tagged(value, tag)).collect(),
        )),
        other => other.clone(),
    }
}

both_drivers!(
    keys_of_different_servers_are_refused_and_nothing_changes,
    options(),
    config,
    keys_of_different_servers_are_refused_and_nothing_changes
);

fn keys_of_different_servers_are_refused_and_nothing_changes(scene: &mut Scene) {
    let plan = scene.plan();
    scene.on_client(|| {
        let mut client = plan.redis(Family::V4);
        let keys: Vec<String> = (0..40).map(|number| format!("k{number}")).collect();
        for key in &keys {
            client.words(&format!("SADD {key} {key}")).unwrap();
        }
        let all = keys.join(" ");
        for request in [
            format!("SUNIONSTORE to {all}"),
            format!("SUNION {all}"),
            format!("BITOP OR to {all}"),
            format!("EVAL return{{}} {} {all}", keys.len()),
            format!("MSETNX {all}"),
            format!("XREAD STREAMS {all}"),
        ] {
            let reply = client.words(&request).unwrap();
            assert!(reply.is_error("CROSSSLOT"), "{request}: {reply:?}");
        }
        let exists = client.words(&format!("EXISTS to {all}")).unwrap();
        assert_eq!(exists, Value::Integer(40));
    });
}
