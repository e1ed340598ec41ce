//! `compat`: whose habits a pool keeps where the protocols leave a choice.

use serde::{Deserialize, Serialize};

/// Whose habits a pool keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compat {
    /// Tidegate's own: every request gets a reply, an error if need be, and the connection stays.
    #[default]
    None,
    /// Those of twemproxy 0.5, as far as clients can have come to rely on them.
    ///
    /// With it
    ///
    /// - a request that twemproxy does not take, for its command, its number of arguments or its form, gets no reply: earlier
    ///   requests of the connection are answered, then it is closed (`clients_closed_compat`). twemproxy checks the arguments of some
    ///   commands only: `ZREM k` goes to a server, which answers the error;
    /// - Redis: no inline commands; `QUIT` closes without `+OK`; `PING` and `COMMAND` take no argument; `COMMAND` and
    ///   `LOLWUT` go to any live server; `EXISTS` goes as a whole to the server of its first key; `ZDIFF`, `ZINTER` and `ZUNION` go to the server that owns
    ///   their count of keys as if it were a key;
    /// - memcached: meta commands, the binary protocol, `gat`, `gats`, `flush_all`, `stats`, `cache_memlimit` and `verbosity` are not taken, nor are `delete k 0`, a negative time in a storage command, or another last
    ///   word than `noreply`;
    /// - errors for failed servers read as the system's texts, such as `Connection refused`; a server that closed its connection is
    ///   `unknown`, a reply that is none `Invalid argument`;
    /// - a Redis server that answers `-OOM`, `-BUSY` or `-LOADING` counts as failed: its connection is closed and all requests on it
    ///   get `-ERR Invalid argument`;
    /// - a request of several keys gets one error when a server fails: after `MGET`, and `get` and `gets` of memcached, the connection is
    ///   closed, after `MSET`, `DEL`, `UNLINK` and `TOUCH` it stays. A server's own error to a part becomes `Invalid argument`;
    /// - `-NOAUTH` ends without a full stop, and a server that refuses `server_auth` is used all the same: its `-NOAUTH` goes to the
    ///   client.
    ///
    /// What clients do not rely on, and where Tidegate's way is safer, is not taken over:
    ///
    /// - *Ready replies that are lost at a close.* twemproxy drops replies to earlier requests when a later one is malformed; here they
    ///   are sent. So are those to the requests that were read behind a failed `MGET`.
    /// - *`MGET` without a word when all servers are ejected.* The client gets the error before the close, as it does for one failed
    ///   server.
    /// - *All requests of a server connection fail with the first that times out.* Here each has its own time, and the late reply is
    ///   swallowed in its place; the client sees the same text.
    /// - *Keys must fit one buffer of 16 KiB.* Here `request_hold_bytes` limits keys, and `client_reply_hold_bytes` what is merged; what is
    ///   over them gets an error that names the limit, and the connection stays.
    /// - *A password and a database together send the data to database 0.* Here `database` and `server_auth` go together.
    /// - *`redis_auth` is sent to the servers as well.* Write `server_auth` for that: the two are different secrets.
    /// - *A line that ends in a bare LF never completes.* It is taken as memcached takes it: a client that waits for ever helps nobody.
    /// - *Control characters in memcached keys, and numbers over 32 bits in a storage command, are passed on.* A server that refused such
    ///   a line would run the value behind it as commands, on a connection that clients share; here the client is closed.
    /// - *memcached `version` goes to the server of one fixed key.* It goes to any live server.
    /// - *memcached values in the order of servers.* Where some of the keys are missing, twemproxy mixes the order of the others up. Here
    ///   they come in the order of the request.
    /// - *Replies are buffered whole before they are passed on.* A large one passes in pieces; if its server fails in the middle, the
    ///   client's connection is reset, so that half a reply is never taken for a whole one.
    /// - *Servers and pools are listed by the length of their names.* They are shown in the order of the file here. Keys are counted out
    ///   in twemproxy's order of servers all the same, so no file has to be sorted.
    Twemproxy,
}

impl Compat {
    /// Every choice with its name in a file.
    pub const NAMES: &'static [(&'static str, Self)] =
        &[("none", Compat::None), ("twemproxy", Compat::Twemproxy)];
}
