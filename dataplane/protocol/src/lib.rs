//! The cache-protocol parser shared by client and server side: memcached's text with its meta commands and its binary protocol, and Redis's
//! RESP2 and RESP3.
//!
//! Requests are parsed in place at the front of a receive buffer; replies are only measured (where do they end, are they errors),
//! because a proxy passes them on. Nothing here allocates, keeps bytes, or knows connections. Both parsers can stop
//! anywhere and go on when more bytes are there, without looking at a byte twice.
//!
//! - [`parse_request`] says what stands at the front of a client's buffer; [`RequestRest`] measures what follows a request of
//!   which only the front was looked at; [`Request::keys`] takes a request with several keys apart, and [`next_key`] one that is
//!   too large to be there as a whole.
//! - [`parse_request_as_twemproxy`] does the same for pools whose clients rely on twemproxy's judgement of requests.
//! - [`ReplyScanner`] measures a server's reply; [`parse_array_header`], [`parse_value_header`], [`parse_integer_reply`] and
//!   [`parse_status_reply`] look into the replies that are merged, [`parse_bulk_reply`], [`parse_scan_reply`] and [`parse_reply_front`]
//!   into those of several servers to one request.
//!
//! What a parser accepts here is at most what the server behind accepts, and it ends where the server sees it end. A request
//! that the server frames differently would put the replies of a shared server connection out of step, so a doubtful length is refused.
#![forbid(unsafe_code)]

mod joined_parts;
mod keys;
mod memcached;
mod pieces;
mod reply;
mod reply_parts;
mod request;
mod resp;
mod rest;
mod scan;

pub use joined_parts::*;
pub use keys::*;
pub use memcached::binary::{
    BINARY_HEADER_BYTES, BINARY_REQUEST_MAGIC, BinaryHead, BinaryStatus, StatFrame,
    parse_stat_frame,
};
pub use memcached::meta::Quiet;
pub use memcached::meta::base64::{DecodedKey, decode_key};
pub use memcached::{
    MEMCACHED_COMMANDS, MEMCACHED_KEY_BYTES_MAX, MEMCACHED_LINE_BYTES_MAX, MEMCACHED_OPCODES,
    MEMCACHED_RETRIEVAL_BYTES_MAX, MemcachedCommand, MemcachedOpcode,
};
pub use pieces::*;
pub use reply::*;
pub use reply_parts::*;
pub use request::*;
pub use resp::catalogue::*;
pub use resp::limits::*;
pub use resp::reply::is_redis_server_failure;
pub use resp::write_inline;
pub use rest::*;
