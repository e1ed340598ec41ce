//! memcached text through the proxy: every command, split requests, noreply, and requests that are wrong.

use tidegate_tests::both_drivers;
use tidegate_tests::client::memcached::{Memcached, items};
use tidegate_tests::lab::addresses::Family;
use tidegate_tests::scene::Scene;

/// Sends each request and compares the whole reply, which may stand for several lines.
fn converse(client: &mut Memcached, dialogue: &[(&str, &str)]) {
    for (request, expected) in dialogue {
        client.connection.send(request.as_bytes()).unwrap();
        let reply = client.connection.exactly(expected.len()).unwrap();
        assert_eq!(String::from_utf8_lossy(&reply), *expected, "{request:?}");
    }
}

both_drivers!(every_command_is_answered_as_by_the_server);

fn every_command_is_answered_as_by_the_server(scene: &mut Scene) {
    let plan = scene.plan();
    scene.on_client(|| {
        let mut client = plan.memcached(Family::V4);
        converse(
            &mut client,
            &[
                ("get a\r\n", "END\r\n"),
                ("set a 5 0 1\r\nx\r\n", "STORED\r\n"),
                ("add a 0 0 1\r\ny\r\n", "NOT_STORED\r\n"),
                ("add b 0 0 1\r\ny\r\n", "STORED\r\n"),
                ("replace c 0 0 1\r\nz\r\n", "NOT_STORED\r\n"),
                ("replace b 0 0 1\r\nz\r\n", "STORED\r\n"),
                ("append a 0 0 2\r\nyz\r\n", "STORED\r\n"),
                ("prepend a 0 0 2\r\nvw\r\n", "STORED\r\n"),
                ("get a\r\n", "VALUE a 5 5\r\nvwxyz\r\nEND\r\n"),
                ("cas a 0 0 1 18446744073709551615\r\nn\r\n", "EXISTS\r\n"),
                ("cas nothing 0 0 1 1\r\nn\r\n", "NOT_FOUND\r\n"),
                ("set n 0 0 2\r\n10\r\n", "STORED\r\n"),
                ("incr n 5\r\n", "15\r\n"),
                ("decr n 20\r\n", "0\r\n"),
                ("incr nothing 1\r\n", "NOT_FOUND\r\n"),
                ("touch a 100\r\n", "TOUCHED\r\n"),
                ("touch nothing 100\r\n", "NOT_FOUND\r\n"),
                ("gat 100 a\r\n", "VALUE a 5 5\r\nvwxyz\r\nEND\r\n"),
                ("delete a\r\n", "DELETED\r\n"),
                ("delete a\r\n", "NOT_FOUND\r\n"),
                ("get a\r\n", "END\r\n"),
            ],
        );
        assert!(client.line("version").unwrap().starts_with("VERSION "));

        assert_eq!(client.set(b"unique", 0, b"one").unwrap(), "STORED");
        let unique = items(&client.ask(b"gets unique\r\n").unwrap()).unwrap()[0]
            .cas
            .expect("gets tells the unique number");
        assert_eq!(
            client
                .line(&format!("cas unique 0 0 3 {unique}\r\ntwo"))
                .unwrap(),
            "STORED"
        );
        assert_eq!(
            client
                .line(&format!("cas unique 0 0 5 {unique}\r\nthree"))
                .unwrap(),
            "EXISTS"
        );
        let again = items(&client.ask(b"gats 100 unique\r\n").unwrap()).unwrap();
        assert_eq!(again[0].value, b"two");
        assert!(again[0].cas.is_some_and(|now| now != unique));

        client.connection.send(b"quit\r\n").unwrap();
        assert!(client.connection.is_closed());
    });
}

both_drivers!(noreply_is_obeyed_and_changes_the_server);

fn noreply_is_obeyed_and_changes_the_server(scene: &mut Scene) {
    let plan = scene.plan();
    scene.on_client(|| {
        let mut client = plan.memcached(Family::V4);
        // A reply to any of the silent requests would come before the one that is expected.
        converse(
            &mut client,
            &[(
                "set s 0 0 1 noreply\r\n1\r\nincr s 4 noreply\r\nappend s 0 0 1 noreply\r\n0\r\nget s\r\n",
                "VALUE s 0 2\r\n50\r\nEND\r\n",
            )],
        );
        converse(&mut client, &[("delete s noreply\r\nget s\r\n", "END\r\n"), ("touch s 10 noreply\r\nget s\r\n", "END\r\n")]);
    });
}

both_drivers!(a_get_of_many_keys_is_split_and_merged_in_request_order);

fn a_get_of_many_keys_is_split_and_merged_in_request_order(scene: &mut Scene) {
    let plan = scene.plan();
    scene.on_client(|| {
        let mut client = plan.memcached(Family::V4);
        let keys: Vec<String> = (0..100).map(|number| format!("multi-{number}")).collect();
        for (number, key) in keys.iter().enumerate() {
            // Every third is missing.
            if number % 3 != 0 {
                assert_eq!(
                    client
                        .set(key.as_bytes(), number as u32, key.to_uppercase().as_bytes())
                        .unwrap(),
                    "STORED"
                );
            }
        }
        let mut asked: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
        // Duplicates, next to each other and apart.
        asked.extend([
            keys[1].as_bytes(),
            keys[1].as_bytes(),
            keys[0].as_bytes(),
            keys[98].as_bytes(),
            keys[2].as_bytes(),
        ]);
        let found: Vec<Vec<u8>> = client
            .get(&asked)
            .unwrap()
            .into_iter()
            .map(|item| item.key)
            .collect();
        let expected: Vec<Vec<u8>> = asked
            .iter()
            .filter(|key| {
                keys.iter()
                    .position(|known| known.as_bytes() == **key)
                    .is_some_and(|number| number % 3 != 0)
            })
            .map(|key| key.to_vec())
            .collect();
        assert_eq!(found, expected);
        for item in client.get(&asked).unwrap() {
            let text = String::from_utf8(item.key).unwrap();
            assert_eq!(String::from_utf8(item.value).unwrap(), text.to_uppercase());
            assert_eq!(keys[item.flags as usize], text);
        }
    });
}

both_drivers!(wrong_requests_get_an_error_and_never_silence);

fn wrong_requests_get_an_error_and_never_silence(scene: &mut Scene) {
    let plan = scene.plan();
    scene.on_client(|| {
        let long_key = "k".repeat(251);
        let wrong = [
            "flush_all x\r\n".to_owned(),
            "stats nonsense\r\n".to_owned(),
            "nonsense\r\n".to_owned(),
            "\r\n".to_owned(),
            "get\r\n".to_owned(),
            format!("get {long_key}\r\n"),
            "set a\r\n".to_owned(),
            "set a x 0 1\r\nv\r\n".to_owned(),
            "set a 0 0 -1\r\n".to_owned(),
            "set a 0 0 99999999999999999999\r\n".to_owned(),
            "incr a\r\n".to_owned(),
            "incr a b\r\n".to_owned(),
            "set a 0 0 3\r\nabcde\r\n".to_owned(),
            format!("get {}\r\n", "x".repeat(100_000)),
        ];
        for request in wrong {
            let shown = &request[..request.len().min(40)];
            let mut client = plan.memcached(Family::V4);
            client.connection.send(request.as_bytes()).unwrap();
            let reply = String::from_utf8(
                client
                    .connection
                    .line()
                    .unwrap_or_else(|error| panic!("{shown:?}: {error}")),
            )
            .unwrap();
            let is_error = ["ERROR\r\n", "CLIENT_ERROR ", "SERVER_ERROR "]
                .iter()
                .any(|start| reply.starts_with(start));
            assert!(is_error, "{shown:?} was answered {reply:?}");
        }
        // The pool still works for others.
        assert_eq!(
            plan.memcached(Family::V4).set(b"fine", 0, b"1").unwrap(),
            "STORED"
        );
    });
}

both_drivers!(replies_before_a_wrong_request_are_not_lost);

fn replies_before_a_wrong_request_are_not_lost(scene: &mut Scene) {
    let plan = scene.plan();
    scene.on_client(|| {
        let mut client = plan.memcached(Family::V4);
        client
            .connection
            .send(b"set kept 0 0 1\r\n1\r\nget kept\r\nnonsense\r\n")
            .unwrap();
        assert_eq!(client.reply().unwrap(), b"STORED\r\n");
        assert_eq!(client.reply().unwrap(), b"VALUE kept 0 1\r\n1\r\nEND\r\n");
        assert!(client.reply().unwrap().starts_with(b"ERROR"));
    });
}
