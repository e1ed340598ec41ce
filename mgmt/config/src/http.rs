//! `http_listen` and `http_token`: where the status page and `/metrics` are served, and to whom.

use crate::address::{self, shown};
use crate::reader::{Reader, Text};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;
use toml::de::DeValue;

/// Where the status page is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The file with the word that whoever asks has to know. `None`: whoever can reach the address is answered.
    pub token: Option<PathBuf>,
}

/// The address and what is needed to check it against the rest of the file.
pub(crate) struct Draft {
    pub(crate) config: Option<HttpConfig>,
    pub(crate) at: usize,
}

/// Reads both keys. The page shows keys of clients, so without a token only this machine may see it.
pub(crate) fn read(reader: &mut Reader<'_>) -> Draft {
    let listen = listen(reader);
    let wrong_listen = listen.is_none() && reader.has("http_listen");
    let token_at = reader.at_of("http_token");
    let has_token = reader.has("http_token");
    let token = token(reader);
    let Some((listen, at)) = listen else {
        if has_token && !wrong_listen {
            reader.fault(
                token_at,
                "http_token has no meaning without http_listen, for example http_listen = \"127.0.0.1:9119\"",
            );
        }
        return Draft {
            config: None,
            at: reader.at(),
        };
    };
    if !has_token && !listen.ip().is_loopback() {
        reader.fault(
            at,
            &format!(
                "http_listen = \"{listen}\" can be reached from other machines: that needs http_token = {{ file = \"/path\" }}, or \
                 listen on 127.0.0.1"
            ),
        );
    }
    Draft {
        config: Some(HttpConfig { listen, token }),
        at,
    }
}

fn listen(reader: &mut Reader<'_>) -> Option<(SocketAddr, usize)> {
    let Text { text, at } = reader.text("http_listen")?;
    match address::parse_listen(text) {
        Ok(listen) => Some((listen, at)),
        Err(error) => {
            reader.fault(at, &format!("http_listen = {}: {error}", shown(text)));
            None
        }
    }
}

/// The word itself never stands in the configuration, which many may read.
fn token(reader: &mut Reader<'_>) -> Option<PathBuf> {
    let (at, value) = reader.value("http_token")?;
    let DeValue::Table(table) = value else {
        reader.wrong_type("http_token", at, value, "{ file = \"/path\" }");
        return None;
    };
    let mut inner = Reader::new("http_token".into(), at, table, reader.faults());
    let file = inner.required_text("file", "\"/etc/tidegate/http-token\"");
    inner.finish();
    let Text { text, at } = file?;
    let path = PathBuf::from(text);
    if !path.is_absolute() {
        reader.fault(
            at,
            &format!(
                "http_token: file = {text:?} has to begin with /: what starts Tidegate may do so in any directory"
            ),
        );
        return None;
    }
    Some(path)
}
