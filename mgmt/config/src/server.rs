//! One server of a pool: `ADDRESS:PORT[:WEIGHT][ NAME]` or `/PATH:WEIGHT[ NAME]`.

use crate::address::{self, AddressError};
use crate::endpoint::{self, Endpoint};
use crate::limits::{SERVER_NAME_BYTES_MAX, WEIGHT, WEIGHT_UNBRACKETED_MAX};
use serde::{Deserialize, Serialize};

/// The port whose servers libmemcached names by their host alone.
const MEMCACHED_PORT: u16 = 11_211;

/// One server of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerConfig {
    /// Where it listens.
    pub address: Endpoint,
    /// The name that ketama hashes: as written in the file, or `host:port`, or `host` alone for port 11211 (libmemcached's
    /// rule). The host is the text of the file, without brackets. That of a Unix socket is its path and a colon, as twemproxy has
    /// it.
    pub name: String,
    /// Share of the keys, at least 1.
    pub weight: u32,
}

/// Why a server cannot be used; the text says what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ServerError {
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error("weight {0:?} is not a number between {min} and {max}", min = WEIGHT.min, max = WEIGHT.max)]
    Weight(String),
    #[error("a Unix socket needs its weight, write /PATH:WEIGHT, for example /run/redis.sock:1")]
    UnixWeight,
    #[error("an IPv6 address without brackets needs its weight; write [ADDRESS]:PORT:WEIGHT")]
    Brackets,
    #[error(
        "the name must be one word of at most {SERVER_NAME_BYTES_MAX} bytes without control characters"
    )]
    Name,
}

impl ServerConfig {
    /// Parses `ADDRESS:PORT[:WEIGHT][ NAME]` or `/PATH:WEIGHT[ NAME]`. An IPv6 address stands in brackets; without them the weight has to be there, and
    /// the parts are told apart from the end, as twemproxy does it.
    pub(crate) fn parse(text: &str) -> Result<Self, ServerError> {
        let (place, name) = match text.split_once(' ') {
            Some((place, name)) => (place, Some(name)),
            None => (text, None),
        };
        if place.starts_with('/') {
            return Self::unix(place, name);
        }
        address::check_kind(place)?;
        let (host, port, weight) = parts(place)?;
        let bracketed = address::bare(host);
        let bare_ipv6 = bracketed.is_none() && host.contains(':');
        let address = match address::join(host, port) {
            Err(AddressError::Host(_)) if bare_ipv6 => return Err(ServerError::Brackets),
            address => address?,
        };
        let weight_text = weight.unwrap_or("1");
        let weight = parse_weight(weight_text)?;
        if bare_ipv6 && u64::from(weight) > WEIGHT_UNBRACKETED_MAX {
            return Err(ServerError::Brackets);
        }
        let host = bracketed.unwrap_or(host);
        let name = match name {
            Some(name) => checked(name)?.to_owned(),
            None if address.port() == MEMCACHED_PORT => host.to_owned(),
            None => format!("{host}:{port}"),
        };
        Ok(Self {
            address: address.into(),
            name,
            weight,
        })
    }

    /// Weight and path are told apart at the last colon, so a path may have colons.
    fn unix(place: &str, name: Option<&str>) -> Result<Self, ServerError> {
        let (path, weight) = place.rsplit_once(':').ok_or(ServerError::UnixWeight)?;
        let path_text = path;
        let path = endpoint::unix_path(path)?;
        Ok(Self {
            address: Endpoint::Unix(path),
            name: match name {
                Some(name) => checked(name)?.to_owned(),
                None => format!("{path_text}:"),
            },
            weight: parse_weight(weight)?,
        })
    }
}

fn parse_weight(text: &str) -> Result<u32, ServerError> {
    address::decimal(text)
        .filter(|&weight| WEIGHT.contains(weight))
        .map(|weight| weight as u32)
        .ok_or_else(|| ServerError::Weight(text.to_owned()))
}

/// Host, port and weight of `ADDRESS:PORT[:WEIGHT]`.
fn parts(place: &str) -> Result<(&str, &str, Option<&str>), AddressError> {
    let (rest, last) = place.rsplit_once(':').ok_or(AddressError::NoPort)?;
    // What is left of the last colon is a whole host only where it has no colon or ends its brackets.
    if !rest.contains(':') || rest.ends_with(']') {
        return Ok((rest, last, None));
    }
    let (host, port) = rest.rsplit_once(':').ok_or(AddressError::NoPort)?;
    Ok((host, port, Some(last)))
}

fn checked(name: &str) -> Result<&str, ServerError> {
    let name = name.trim_matches(' ');
    let one_word = !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c.is_control());
    if one_word && name.len() <= SERVER_NAME_BYTES_MAX {
        Ok(name)
    } else {
        Err(ServerError::Name)
    }
}

#[cfg(test)]
mod tests {
    use super::{ServerConfig, ServerError};
    use crate::address::AddressError;

    fn parse(text: &str) -> (String, String, u32) {
        let server = ServerConfig::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        (server.address.to_string(), server.name, server.weight)
    }

    #[test]
    fn every_form_of_a_server() {
        let cases = [
            ("10.0.1.1:11211:1", "10.0.1.1:11211", "10.0.1.1", 1),
            ("10.0.1.1:11211", "10.0.1.1:11211", "10.0.1.1", 1),
            ("10.0.1.1:6379:7", "10.0.1.1:6379", "10.0.1.1:6379", 7),
            ("10.0.1.1:6379:7 a:b", "10.0.1.1:6379", "a:b", 7),
            ("10.0.1.1:6379 a", "10.0.1.1:6379", "a", 1),
            (
                "[2001:db8::1]:11211",
                "[2001:db8::1]:11211",
                "2001:db8::1",
                1,
            ),
            (
                "[2001:db8::1]:6379:5",
                "[2001:db8::1]:6379",
                "2001:db8::1:6379",
                5,
            ),
            (
                "2001:db8::1:11211:1",
                "[2001:db8::1]:11211",
                "2001:db8::1",
                1,
            ),
            ("/run/redis.sock:2 x", "/run/redis.sock", "x", 2),
            ("/run/r:s:3", "/run/r:s", "/run/r:s:", 3),
            ("2001:db8::1:6379:2 x", "[2001:db8::1]:6379", "x", 2),
            (
                "[2001:DB8:0::1]:6379:2",
                "[2001:db8::1]:6379",
                "2001:DB8:0::1:6379",
                2,
            ),
        ];
        for (text, address, name, weight) in cases {
            assert_eq!(parse(text), (address.into(), name.into(), weight), "{text}");
        }
    }

    #[test]
    fn an_ipv6_address_without_brackets_and_weight_is_not_misread() {
        for text in ["2001:db8::1:11211", "2001:db8::5:1:11211", "::1:6379:10000"] {
            assert_eq!(
                ServerConfig::parse(text),
                Err(ServerError::Brackets),
                "{text}"
            );
        }
    }

    #[test]
    fn each_mistake_has_its_own_error() {
        use AddressError::{Host, Mapped, NoPort, Port, Relative, Unspecified};
        let cases: [(&str, ServerError); 15] = [
            ("/run/redis.sock", ServerError::UnixWeight),
            ("/run/redis.sock:x", ServerError::Weight("x".into())),
            ("/run/redis.sock 1", ServerError::UnixWeight),
            ("run/redis.sock:1", Relative.into()),
            ("10.0.1.1", NoPort.into()),
            ("", NoPort.into()),
            ("cache-1:11211:1", Host("cache-1".into()).into()),
            ("10.0.1.1:0:1", Port("0".into()).into()),
            ("10.0.1.1:65536", Port("65536".into()).into()),
            ("10.0.1.1:+1:1", Port("+1".into()).into()),
            ("0.0.0.0:1:1", Unspecified([0, 0, 0, 0].into()).into()),
            ("[::ffff:1.2.3.4]:1", Mapped([1, 2, 3, 4].into()).into()),
            ("10.0.1.1:1:0", ServerError::Weight("0".into())),
            ("10.0.1.1:1:x", ServerError::Weight("x".into())),
            ("10.0.1.1:1:1 a b", ServerError::Name),
        ];
        for (text, error) in cases {
            assert_eq!(ServerConfig::parse(text), Err(error), "{text}");
        }
    }
}
