//! Every opcode that the proxy knows, with the form that memcached 1.6 demands of its request.

use super::BinaryStatus;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Treatment {
    /// To the server that owns its key.
    Keyed,
    /// Answered by the proxy once everything before it is.
    Noop,
    /// The connection ends.
    Quit,
    /// To any server.
    Version,
    /// To every server.
    Flush,
    /// To every server, and the answers added.
    Stat,
    SaslMechanisms,
    SaslAuth,
    SaslStep,
}

/// Whether a request has a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Has {
    Yes,
    No,
    Perhaps,
}

impl Has {
    /// Whether a part of so many bytes is allowed.
    pub fn allows(self, bytes: usize) -> bool {
        match self {
            Self::Yes => bytes > 0,
            Self::No => bytes == 0,
            Self::Perhaps => true,
        }
    }
}

/// The form of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opcode {
    pub name: &'static str,
    pub treatment: Treatment,
    /// Bytes of its extras. Those of a flush may be left out.
    pub extras: u8,
    pub key: Has,
    pub value: Has,
}

impl Opcode {
    const fn keyed(name: &'static str, extras: u8, value: Has) -> Self {
        Self {
            name,
            treatment: Treatment::Keyed,
            extras,
            key: Has::Yes,
            value,
        }
    }

    const fn bare(name: &'static str, treatment: Treatment) -> Self {
        Self {
            name,
            treatment,
            extras: 0,
            key: Has::No,
            value: Has::No,
        }
    }

    const fn sasl(name: &'static str, treatment: Treatment) -> Self {
        Self {
            name,
            treatment,
            extras: 0,
            key: Has::Yes,
            value: Has::Perhaps,
        }
    }
}

/// Looks an opcode up.
pub(crate) const fn opcode(code: u8) -> Option<Opcode> {
    use Has::{No, Perhaps};
    Some(match code {
        0x00 => Opcode::keyed("get", 0, No),
        0x01 => Opcode::keyed("set", 8, Perhaps),
        0x02 => Opcode::keyed("add", 8, Perhaps),
        0x03 => Opcode::keyed("replace", 8, Perhaps),
        0x04 => Opcode::keyed("delete", 0, No),
        0x05 => Opcode::keyed("increment", 20, No),
        0x06 => Opcode::keyed("decrement", 20, No),
        0x07 => Opcode::bare("quit", Treatment::Quit),
        0x08 => Opcode {
            extras: 4,
            ..Opcode::bare("flush", Treatment::Flush)
        },
        0x09 => Opcode::keyed("getq", 0, No),
        0x0a => Opcode::bare("noop", Treatment::Noop),
        0x0b => Opcode::bare("version", Treatment::Version),
        0x0c => Opcode::keyed("getk", 0, No),
        0x0d => Opcode::keyed("getkq", 0, No),
        0x0e => Opcode::keyed("append", 0, Perhaps),
        0x0f => Opcode::keyed("prepend", 0, Perhaps),
        STAT => Opcode {
            key: Perhaps,
            ..Opcode::bare("stat", Treatment::Stat)
        },
        0x11 => Opcode::keyed("setq", 8, Perhaps),
        0x12 => Opcode::keyed("addq", 8, Perhaps),
        0x13 => Opcode::keyed("replaceq", 8, Perhaps),
        0x14 => Opcode::keyed("deleteq", 0, No),
        0x15 => Opcode::keyed("incrementq", 20, No),
        0x16 => Opcode::keyed("decrementq", 20, No),
        0x17 => Opcode::bare("quitq", Treatment::Quit),
        0x18 => Opcode {
            extras: 4,
            ..Opcode::bare("flushq", Treatment::Flush)
        },
        0x19 => Opcode::keyed("appendq", 0, Perhaps),
        0x1a => Opcode::keyed("prependq", 0, Perhaps),
        0x1c => Opcode::keyed("touch", 4, No),
        0x1d => Opcode::keyed("gat", 4, No),
        0x1e => Opcode::keyed("gatq", 4, No),
        0x20 => Opcode::bare("sasl list mechs", Treatment::SaslMechanisms),
        0x21 => Opcode::sasl("sasl auth", Treatment::SaslAuth),
        0x22 => Opcode::sasl("sasl step", Treatment::SaslStep),
        0x23 => Opcode::keyed("gatk", 4, No),
        0x24 => Opcode::keyed("gatkq", 4, No),
        _ => return None,
    })
}

/// The one opcode to which a server replies with several frames.
pub(crate) const STAT: u8 = 0x10;

/// The opcode that asks for the same and always has a reply.
pub(crate) fn loud(code: u8) -> u8 {
    match code {
        // getq and getkq.
        0x09 => 0x00,
        0x0d => 0x0c,
        // setq to decrementq, quitq and flushq.
        0x11..=0x18 => code - 0x10,
        // appendq and prependq.
        0x19 | 0x1a => code - 0x0b,
        // gatq and gatkq.
        0x1e | 0x24 => code - 1,
        _ => code,
    }
}

/// The status of replies that a quiet opcode hides: reads hide that there is nothing, and all others that they went well.
pub(crate) fn hidden_status(code: u8) -> BinaryStatus {
    match code {
        0x09 | 0x0d | 0x1e | 0x24 => BinaryStatus::NotFound,
        _ => BinaryStatus::Success,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_opcode_is_its_loud_one_with_a_q() {
        for code in 0..=u8::MAX {
            let Some(quiet) = opcode(code) else {
                assert_eq!(loud(code), code);
                continue;
            };
            let loud = opcode(loud(code)).expect("a loud opcode is known");
            if code == super::loud(code) {
                assert!(!quiet.name.ends_with('q'));
            } else {
                assert_eq!(quiet.name.strip_suffix('q'), Some(loud.name));
                assert_eq!(
                    (quiet.extras, quiet.key, quiet.value),
                    (loud.extras, loud.key, loud.value)
                );
                assert_eq!(quiet.treatment, loud.treatment);
            }
        }
    }
}
