//! CLIENT: what a connection is called, what it is told, and whether it wants replies. Everything is about the client's own
//! connection: others are on other workers as well, and none of their clients asked for this one's care.

use super::{Arguments, Reply, SYNTAX_ERROR, integer};
use crate::identity::Short;
use crate::limits::{CLIENT_NAME_BYTES_MAX, LIBRARY_BYTES_MAX};
use crate::links::itoa;
use crate::proxy::Proxy;
use crate::state::Mute;
use crate::streams::{StreamId, Streams};
use std::fmt::Write;
use tidegate_protocol::Local;

const BAD_NAME: &str =
    "-ERR Client names cannot contain spaces, newlines or special characters.\r\n";
const LONG_NAME: &str = "-ERR Client names can have at most 128 bytes at this proxy\r\n";
const BAD_LIBRARY: &str =
    "-ERR lib-name cannot contain spaces, newlines or special characters.\r\n";
const BAD_VERSION: &str = "-ERR lib-ver cannot contain spaces, newlines or special characters.\r\n";
const LONG_LIBRARY: &str = "-ERR lib-name and lib-ver can have at most 64 bytes at this proxy\r\n";
const BAD_OPTION: &str = "-ERR Unrecognized option: CLIENT SETINFO knows lib-name and lib-ver\r\n";
const NO_ROOM: &str = "-ERR the proxy has no room for the name of another client\r\n";
const BAD_ID: &str = "-ERR Invalid client ID\r\n";

const _: () = assert!(
    CLIENT_NAME_BYTES_MAX == 128 && LIBRARY_BYTES_MAX == 64,
    "as the errors say"
);

/// What a client has of its own in a server's memory. Here it has nothing, but clients' parsers want the fields.
const NO_MEMORY: &[u8] =
    b" qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem=0";

/// Longest text of an address: IPv6 with a scope and a port.
const ADDRESS_BYTES_MAX: usize = 64;

/// Answers an option that does nothing here: the proxy evicts no clients, and touches no keys.
pub(super) fn on_or_off(word: &[u8]) -> &'static str {
    if word.eq_ignore_ascii_case(b"on") || word.eq_ignore_ascii_case(b"off") {
        "+OK\r\n"
    } else {
        SYNTAX_ERROR
    }
}

/// Whether Redis takes it for a name: printable ASCII without blanks.
fn is_plain(text: &[u8]) -> bool {
    text.iter().all(|byte| (b'!'..=b'~').contains(byte))
}

impl Proxy {
    /// CLIENT SETNAME. An empty name takes the name away.
    pub(super) fn set_name(&mut self, client: u32, name: &[u8]) -> &'static str {
        self.name_client(client, name).err().unwrap_or("+OK\r\n")
    }

    /// The same for HELLO.
    pub(super) fn name_client(&mut self, client: u32, name: &[u8]) -> Result<(), &'static str> {
        if !is_plain(name) {
            return Err(BAD_NAME);
        }
        let identity = self.identity_mut(client).ok_or(NO_ROOM)?;
        identity.name.set(name).then_some(()).ok_or(LONG_NAME)
    }

    /// CLIENT SETINFO.
    pub(super) fn set_info(&mut self, client: u32, arguments: Arguments<'_>) -> &'static str {
        let (option, value) = (arguments.get(2), arguments.get(3));
        let is_version = option.eq_ignore_ascii_case(b"lib-ver");
        if !is_version && !option.eq_ignore_ascii_case(b"lib-name") {
            return BAD_OPTION;
        }
        if !is_plain(value) {
            return if is_version { BAD_VERSION } else { BAD_LIBRARY };
        }
        let Some(identity) = self.identity_mut(client) else {
            return NO_ROOM;
        };
        let place = if is_version {
            &mut identity.library_version
        } else {
            &mut identity.library
        };
        if place.set(value) {
            "+OK\r\n"
        } else {
            LONG_LIBRARY
        }
    }

    /// CLIENT REPLY. Only ON is answered.
    pub(super) fn switch_replies(&mut self, client: u32, word: &[u8]) -> &'static str {
        let mute = &mut self.clients[client as usize].mute;
        if word.eq_ignore_ascii_case(b"on") {
            *mute = Mute::No;
            return "+OK\r\n";
        }
        if word.eq_ignore_ascii_case(b"off") {
            *mute = Mute::All;
        } else if !word.eq_ignore_ascii_case(b"skip") {
            return SYNTAX_ERROR;
        } else if *mute == Mute::No {
            *mute = Mute::Next;
        }
        ""
    }

    /// CLIENT ID, GETNAME, INFO and LIST.
    pub(super) fn tell_of_client<S: Streams>(
        &mut self,
        streams: &mut S,
        client: u32,
        arguments: Arguments<'_>,
        local: Local,
    ) {
        let identity = self.identity(client);
        let id = self.clients[client as usize].id;
        let is_asked_for = match local {
            Local::ClientList => lists(arguments, id),
            _ => Ok(true),
        };
        let line = match is_asked_for {
            Ok(true) if matches!(local, Local::ClientInfo | Local::ClientList) => {
                self.describe(streams, client)
            }
            _ => Line::default(),
        };
        let mut reply = self.reply_to(client);
        match (local, is_asked_for) {
            (_, Err(text)) => reply.raw(text.as_bytes()),
            (Local::ClientId, _) => reply.integer(id),
            (Local::ClientGetname, _) if identity.name.get().is_empty() => reply.null(),
            (Local::ClientGetname, _) => reply.bulk(identity.name.get()),
            (_, Ok(false)) => reply.verbatim(&[]),
            (_, Ok(true)) => line.write(&mut reply, &identity),
        }
        let reply = reply.finish();
        self.answer_chain(streams, client, reply);
    }

    fn describe<S: Streams>(&mut self, streams: &mut S, client: u32) -> Line {
        let state = &self.clients[client as usize];
        let pool = &self.pools[state.pool as usize];
        let mut line = Line {
            id: state.id,
            age_s: self.now_us.saturating_sub(state.since_us) / 1_000_000,
            database: state.flavour.database(pool),
            is_resp3: state.flavour.is_resp3(),
            address: Address::default(),
        };
        // It fits: the longest address is shorter.
        let _ = write!(line.address, "{}", streams.peer(StreamId(client)));
        line
    }
}

/// Whether CLIENT LIST asks for the client itself, which is all that it tells of.
fn lists(arguments: Arguments<'_>, id: u64) -> Result<bool, &'static str> {
    let (option, value) = (arguments.get(2), arguments.get(3));
    match arguments.count() {
        2 => Ok(true),
        4 if option.eq_ignore_ascii_case(b"type") => {
            const OTHERS: [&[u8]; 4] = [b"master", b"slave", b"replica", b"pubsub"];
            if value.eq_ignore_ascii_case(b"normal") {
                return Ok(true);
            }
            let known = OTHERS.iter().any(|other| value.eq_ignore_ascii_case(other));
            known.then_some(false).ok_or("-ERR Unknown client type\r\n")
        }
        4.. if option.eq_ignore_ascii_case(b"id") => {
            let mut found = false;
            for word in arguments.from(3) {
                let asked = integer(word).and_then(|id| u64::try_from(id).ok());
                found |= asked.ok_or(BAD_ID)? == id;
            }
            Ok(found)
        }
        _ => Err(SYNTAX_ERROR),
    }
}

/// The line of CLIENT INFO.
#[derive(Default)]
struct Line {
    id: u64,
    age_s: u64,
    database: u16,
    is_resp3: bool,
    address: Address,
}

impl Line {
    fn write(&self, reply: &mut Reply<'_>, identity: &crate::identity::Identity) {
        let (id, age) = (itoa(self.id as usize), itoa(self.age_s as usize));
        let database = itoa(usize::from(self.database));
        reply.verbatim(&[
            b"id=",
            id.bytes(),
            b" addr=",
            self.address.0.get(),
            b" name=",
            identity.name.get(),
            b" age=",
            age.bytes(),
            b" idle=0 flags=N db=",
            database.bytes(),
            b" sub=0 psub=0 ssub=0 multi=-1",
            NO_MEMORY,
            b" events=r cmd=client|info redir=-1 resp=",
            if self.is_resp3 { b"3" } else { b"2" },
            b" lib-name=",
            identity.library.get(),
            b" lib-ver=",
            identity.library_version.get(),
            b"\n",
        ]);
    }
}

/// An address in text.
#[derive(Default)]
struct Address(Short<ADDRESS_BYTES_MAX>);

impl Write for Address {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0
            .push(text.as_bytes())
            .then_some(())
            .ok_or(std::fmt::Error)
    }
}
