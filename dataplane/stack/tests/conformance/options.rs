//! TCP options, as text and as bytes.

use std::fmt;

/// One option of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TcpOption {
    /// `None`: what the MTU leaves, which is another number over IPv6.
    Mss(Option<u16>),
    WindowScale(u8),
    SackPermitted,
    Sack(Vec<(u32, u32)>),
    /// `None`: any number.
    Timestamp(Option<u32>, Option<u32>),
    Nop,
    End,
    /// Bytes as they are.
    Raw(Vec<u8>),
}

/// Largest segment over an MTU of 1,500 bytes.
pub fn mss_of_mtu(ipv6: bool) -> u16 {
    if ipv6 { 1_440 } else { 1_460 }
}

fn number<T: std::str::FromStr>(text: Option<&&str>, what: &str) -> Result<T, String> {
    let text = text.ok_or_else(|| format!("{what} is missing"))?;
    text.parse()
        .map_err(|_| format!("{what} is a number, not {text}"))
}

fn number_or_any(text: Option<&&str>, what: &str) -> Result<Option<u32>, String> {
    match text {
        Some(&"*") => Ok(None),
        _ => number(text, what).map(Some),
    }
}

impl TcpOption {
    /// Reads `mss 1460,sackOK`.
    pub fn list(text: &str) -> Result<Vec<Self>, String> {
        text.split(',')
            .map(|option| Self::parse(option.trim()))
            .collect()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let option = match words.first() {
            Some(&"mss") if words.get(1) == Some(&"mtu") => Self::Mss(None),
            Some(&"mss") => Self::Mss(Some(number(words.get(1), "the MSS")?)),
            Some(&"wscale") => Self::WindowScale(number(words.get(1), "the window scale")?),
            Some(&"sackOK") => Self::SackPermitted,
            Some(&"nop") => Self::Nop,
            Some(&"eol") => Self::End,
            Some(&"TS") => {
                if (words.get(1), words.get(3)) != (Some(&"val"), Some(&"ecr")) {
                    return Err("a timestamp is written TS val NUMBER ecr NUMBER".to_owned());
                }
                Self::Timestamp(
                    number_or_any(words.get(2), "the timestamp")?,
                    number_or_any(words.get(4), "the echo")?,
                )
            }
            Some(&"sack") => Self::Sack(blocks(&words[1..])?),
            Some(&"raw") => Self::Raw(raw_bytes(&words[1..])?),
            _ => return Err(format!("there is no option {text}")),
        };
        Ok(option)
    }

    /// The bytes of all of them, padded to a whole number of words. SACK blocks are relative to `our_iss`.
    pub fn bytes(options: &[Self], our_iss: u32, ipv6: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        for option in options {
            match option {
                Self::Mss(mss) => {
                    bytes.extend([2, 4]);
                    bytes.extend(mss.unwrap_or(mss_of_mtu(ipv6)).to_be_bytes());
                }
                Self::WindowScale(shift) => bytes.extend([3, 3, *shift]),
                Self::SackPermitted => bytes.extend([4, 2]),
                Self::Sack(blocks) => {
                    bytes.extend([5, 2 + 8 * blocks.len() as u8]);
                    for (left, right) in blocks {
                        bytes.extend(our_iss.wrapping_add(*left).to_be_bytes());
                        bytes.extend(our_iss.wrapping_add(*right).to_be_bytes());
                    }
                }
                Self::Timestamp(value, echo) => {
                    bytes.extend([8, 10]);
                    bytes.extend(value.unwrap_or(0).to_be_bytes());
                    bytes.extend(echo.unwrap_or(0).to_be_bytes());
                }
                Self::Nop => bytes.push(1),
                Self::End => bytes.push(0),
                Self::Raw(raw) => bytes.extend(raw),
            }
        }
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    /// Reads a header's options, without those that only fill. SACK blocks come relative to `peer_iss`.
    pub fn read(mut bytes: &[u8], peer_iss: u32) -> Vec<Self> {
        let mut options = Vec::new();
        let be32 = |part: &[u8]| u32::from_be_bytes(part.try_into().unwrap_or_default());
        while let Some((&kind, rest)) = bytes.split_first() {
            if kind == 0 {
                break;
            }
            if kind == 1 {
                bytes = rest;
                continue;
            }
            let length = rest.first().map_or(0, |length| usize::from(*length));
            let Some(data) = bytes.get(2..length) else {
                options.push(Self::Raw(bytes.to_vec()));
                break;
            };
            options.push(match (kind, data) {
                (2, [high, low]) => Self::Mss(Some(u16::from_be_bytes([*high, *low]))),
                (3, [shift]) => Self::WindowScale(*shift),
                (4, []) => Self::SackPermitted,
                (5, blocks) => Self::Sack(
                    blocks
                        .chunks_exact(8)
                        .map(|block| (be32(&block[..4]), be32(&block[4..])))
                        .map(|(left, right)| {
                            (left.wrapping_sub(peer_iss), right.wrapping_sub(peer_iss))
                        })
                        .collect(),
                ),
                (8, stamp) if stamp.len() == 8 => {
                    Self::Timestamp(Some(be32(&stamp[..4])), Some(be32(&stamp[4..])))
                }
                _ => Self::Raw(bytes[..length].to_vec()),
            });
            bytes = &bytes[length..];
        }
        options
    }

    fn fills(&self) -> bool {
        matches!(self, Self::Nop | Self::End)
    }

    fn matches(&self, seen: &Self, ipv6: bool) -> bool {
        match (self, seen) {
            (Self::Mss(None), Self::Mss(Some(mss))) => *mss == mss_of_mtu(ipv6),
            (Self::Timestamp(value, echo), Self::Timestamp(seen_value, seen_echo)) => {
                (value.is_none() || value == seen_value) && (echo.is_none() || echo == seen_echo)
            }
            _ => self == seen,
        }
    }

    /// Whether `seen` are the options that `expected` describes, in whatever order.
    pub fn all_match(expected: &[Self], seen: &[Self], ipv6: bool) -> bool {
        let expected: Vec<_> = expected.iter().filter(|option| !option.fills()).collect();
        expected.len() == seen.len()
            && expected
                .iter()
                .all(|option| seen.iter().any(|seen| option.matches(seen, ipv6)))
    }
}

fn blocks(words: &[&str]) -> Result<Vec<(u32, u32)>, String> {
    let block = |word: &&str| {
        let (left, right) = word.split_once(':')?;
        Some((left.parse().ok()?, right.parse().ok()?))
    };
    words
        .iter()
        .map(|word| block(word).ok_or_else(|| format!("a block is written 1:101, not {word}")))
        .collect()
}

fn raw_bytes(words: &[&str]) -> Result<Vec<u8>, String> {
    words
        .iter()
        .map(|word| {
            u8::from_str_radix(word, 16)
                .map_err(|_| format!("a raw byte is two digits of hexadecimal, not {word}"))
        })
        .collect()
}

impl fmt::Display for TcpOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_any = |number: &Option<u32>| number.map_or("*".to_owned(), |n| n.to_string());
        match self {
            Self::Mss(None) => write!(f, "mss mtu"),
            Self::Mss(Some(mss)) => write!(f, "mss {mss}"),
            Self::WindowScale(shift) => write!(f, "wscale {shift}"),
            Self::SackPermitted => write!(f, "sackOK"),
            Self::Sack(blocks) => {
                write!(f, "sack")?;
                blocks
                    .iter()
                    .try_for_each(|(left, right)| write!(f, " {left}:{right}"))
            }
            Self::Timestamp(value, echo) => {
                write!(f, "TS val {} ecr {}", or_any(value), or_any(echo))
            }
            Self::Nop => write!(f, "nop"),
            Self::End => write!(f, "eol"),
            Self::Raw(bytes) => {
                write!(f, "raw")?;
                bytes.iter().try_for_each(|byte| write!(f, " {byte:02x}"))
            }
        }
    }
}
