//! The binary protocol: frames of a header of 24 bytes and a counted body of extras, key and value.
//!
//! | bytes | request | reply |
//! |---|---|---|
//! | 0 | 0x80 | 0x81 |
//! | 1 | opcode | the same |
//! | 2, 3 | bytes of the key | the same |
//! | 4 | bytes of the extras | the same |
//! | 5 | data type, 0 | the same |
//! | 6, 7 | reserved | status |
//! | 8 – 11 | bytes of the body | the same |
//! | 12 – 15 | opaque: anything | the request's |
//! | 16 – 23 | cas unique | the same |
//!
//! Servers get every request under its loud opcode, so that each has exactly one reply, and with an opaque of the proxy's own, which
//! proves that a reply belongs to its request. The client gets its own opcode and opaque back, and nothing where its quiet
//! opcode hides the reply.

pub(crate) mod opcodes;
pub(crate) mod reply;
pub(crate) mod request;

pub use reply::StatFrame;
pub use reply::parse_stat_frame;

/// First byte of a request, and so of a connection that speaks this protocol.
pub const BINARY_REQUEST_MAGIC: u8 = 0x80;

/// First byte of a reply.
const REPLY_MAGIC: u8 = 0x81;

/// Bytes of a frame before its body.
pub const BINARY_HEADER_BYTES: usize = 24;

/// What a reply says in its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum BinaryStatus {
    /// It went well.
    Success = 0x00,
    /// There is no such key.
    NotFound = 0x01,
    /// The value is too large.
    TooLarge = 0x03,
    /// The request is malformed.
    Invalid = 0x04,
    /// The client has to authenticate first, or failed to.
    Unauthorized = 0x20,
    /// There is no such opcode.
    UnknownCommand = 0x81,
    /// The request can succeed at another time.
    TemporaryFailure = 0x86,
}

impl BinaryStatus {
    /// memcached's own words for it, which are the body of such a reply.
    pub fn text(self) -> &'static str {
        match self {
            Self::Success => "",
            Self::NotFound => "Not found",
            Self::TooLarge => "Too large.",
            Self::Invalid => "Invalid arguments",
            Self::Unauthorized => "Auth failure.",
            Self::UnknownCommand => "Unknown command",
            Self::TemporaryFailure => "Temporary failure",
        }
    }
}

/// What of a request's header stands in its reply: how the client knows which reply it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BinaryHead {
    /// As the client wrote it.
    pub opcode: u8,
    /// The same.
    pub opaque: [u8; 4],
}

impl BinaryHead {
    /// That of the request whose header is `header`.
    pub fn of(header: &[u8; BINARY_HEADER_BYTES]) -> Self {
        Self {
            opcode: header[1],
            opaque: [header[12], header[13], header[14], header[15]],
        }
    }

    /// The header of a reply to this request.
    pub fn reply_header(
        self,
        status: BinaryStatus,
        key_bytes: u16,
        body_bytes: u32,
    ) -> [u8; BINARY_HEADER_BYTES] {
        let mut header = [0; BINARY_HEADER_BYTES];
        header[0] = REPLY_MAGIC;
        header[1] = self.opcode;
        header[2..4].copy_from_slice(&key_bytes.to_be_bytes());
        header[6..8].copy_from_slice(&(status as u16).to_be_bytes());
        header[8..12].copy_from_slice(&body_bytes.to_be_bytes());
        header[12..16].copy_from_slice(&self.opaque);
        header
    }

    /// Makes the header of a server's reply one to this request.
    pub fn restore(self, header: &mut [u8; BINARY_HEADER_BYTES]) {
        header[1] = self.opcode;
        header[12..16].copy_from_slice(&self.opaque);
    }

    /// Makes the header of this request one for a server: loud, with the proxy's opaque.
    pub fn address(self, header: &mut [u8; BINARY_HEADER_BYTES], opaque: u32) {
        header[1] = opcodes::loud(self.opcode);
        header[12..16].copy_from_slice(&opaque.to_be_bytes());
    }

    /// Whether the client wants only some of the replies that this request can have.
    pub fn is_quiet(self) -> bool {
        opcodes::loud(self.opcode) != self.opcode
    }

    /// Whether the client does not want the reply with this header.
    pub fn hides(self, header: &[u8; BINARY_HEADER_BYTES]) -> bool {
        self.is_quiet() && status_of(header) == opcodes::hidden_status(self.opcode) as u16
    }
}

/// The status of a reply.
pub(crate) fn status_of(header: &[u8; BINARY_HEADER_BYTES]) -> u16 {
    u16::from_be_bytes([header[6], header[7]])
}

/// The lengths in a header.
#[derive(Clone, Copy)]
pub(crate) struct Lengths {
    pub extras: usize,
    pub key: usize,
    pub body: u32,
}

impl Lengths {
    pub fn of(header: &[u8; BINARY_HEADER_BYTES]) -> Self {
        Self {
            extras: usize::from(header[4]),
            key: usize::from(u16::from_be_bytes([header[2], header[3]])),
            body: u32::from_be_bytes([header[8], header[9], header[10], header[11]]),
        }
    }

    /// Bytes of the body before its value.
    pub fn front(self) -> usize {
        self.extras + self.key
    }

    /// Whether extras and key fit the body.
    pub fn are_sound(self) -> bool {
        self.front() as u64 <= u64::from(self.body)
    }
}
