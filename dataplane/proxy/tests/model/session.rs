//! What a server keeps of one connection: the dialect and the database that it was told.

use super::server::{Store, redis, words};
use std::collections::HashMap;

/// One connection.
#[derive(Default)]
pub struct Session {
    pub resp3: bool,
    database: usize,
}

/// The databases of a server, besides the first, and what it knows.
pub struct Databases {
    pub others: HashMap<usize, Store>,
    pub count: usize,
    /// Knows HELLO.
    pub resp3: bool,
}

impl Default for Databases {
    fn default() -> Self {
        Self {
            others: HashMap::new(),
            count: 16,
            resp3: true,
        }
    }
}

impl Session {
    /// Bytes used and the reply of the request at the front, if it is whole.
    pub fn serve(
        &mut self,
        store: &mut Store,
        databases: &mut Databases,
        input: &[u8],
    ) -> Option<(usize, Vec<u8>)> {
        let (used, words) = words(input)?;
        let reply = match words.as_slice() {
            [b"HELLO", b"3"] if databases.resp3 => {
                self.resp3 = true;
                b"%1\r\n$5\r\nproto\r\n:3\r\n".to_vec()
            }
            [b"HELLO", ..] => b"-ERR unknown command 'HELLO'\r\n".to_vec(),
            [b"AUTH", _, password] if password.starts_with(b"wrong") => {
                b"-WRONGPASS no\r\n".to_vec()
            }
            [b"AUTH", _, _] => b"+OK\r\n".to_vec(),
            [b"SELECT", number] => {
                let database = std::str::from_utf8(number).unwrap().parse().unwrap();
                if database < databases.count {
                    self.database = database;
                    b"+OK\r\n".to_vec()
                } else {
                    b"-ERR DB index is out of range\r\n".to_vec()
                }
            }
            [b"HGETALL", _] if self.resp3 => b"%1\r\n+f\r\n_\r\n".to_vec(),
            [b"HGETALL", _] => b"*2\r\n+f\r\n$-1\r\n".to_vec(),
            _ => {
                let store = match self.database {
                    0 => store,
                    other => databases.others.entry(other).or_default(),
                };
                let (_, reply) = redis(store, input)?;
                self.in_dialect(reply)
            }
        };
        Some((used, reply))
    }

    /// The null of RESP3. No value in the tests looks like that of RESP2.
    fn in_dialect(&self, reply: Vec<u8>) -> Vec<u8> {
        if !self.resp3 {
            return reply;
        }
        String::from_utf8(reply)
            .unwrap()
            .replace("$-1\r\n", "_\r\n")
            .into_bytes()
    }
}
