//! Files in the format pcapng (draft-ietf-opsawg-pcapng), as far as a capture needs it: one section, an interface for each queue, a
//! packet for each frame, statistics at the end. Integers are little-endian, which the section says.

use std::io::{self, Write};

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const INTERFACE_STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;
const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;

/// `LINKTYPE_ETHERNET`.
const ETHERNET: u16 = 1;
/// Times count nanoseconds: 10⁻⁹.
const NANOSECONDS: u8 = 9;

/// Options, by block.
const OPT_END: u16 = 0;
const SHB_USERAPPL: u16 = 4;
const IF_NAME: u16 = 2;
const IF_TSRESOL: u16 = 9;
const EPB_FLAGS: u16 = 2;
const ISB_IFDROP: u16 = 5;
const ISB_OSDROP: u16 = 7;
const ISB_USRDELIV: u16 = 8;

/// Which way a frame went: the lowest two bits of `epb_flags`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Received by the interface.
    Inbound = 1,
    /// Sent by it.
    Outbound = 2,
}

/// A frame.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// The interface, in the order in which they were described.
    pub interface: u32,
    /// When, in nanoseconds since 1970.
    pub unix_ns: u64,
    /// Bytes on the wire.
    pub original_bytes: u32,
    /// Which way.
    pub direction: Direction,
    /// As much of it as there is.
    pub bytes: &'a [u8],
}

/// What became of the frames of an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Written to the file.
    pub written: u64,
    /// Lost because nobody took them in time.
    pub lost_full: u64,
    /// Left out because of the rate.
    pub lost_rate: u64,
}

/// Writes a file.
pub struct Writer<W> {
    out: W,
    bytes: u64,
    block: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Begins with the section, which names the `program` that writes.
    pub fn new(out: W, program: &str) -> io::Result<Self> {
        let mut writer = Self {
            out,
            bytes: 0,
            block: Vec::new(),
        };
        writer.begin(SECTION_HEADER);
        writer.word(BYTE_ORDER_MAGIC);
        // Version 1.0, of a section whose length is not known.
        writer.put(&1u16.to_le_bytes());
        writer.put(&0u16.to_le_bytes());
        writer.put(&u64::MAX.to_le_bytes());
        writer.option(SHB_USERAPPL, program.as_bytes());
        writer.option(OPT_END, &[]);
        writer.end()?;
        Ok(writer)
    }

    /// Describes the next interface. Its frames are cut to `snaplen` bytes; 0: they are whole, or cut as each is.
    pub fn interface(&mut self, name: &str, snaplen: u32) -> io::Result<()> {
        self.begin(INTERFACE_DESCRIPTION);
        self.put(&ETHERNET.to_le_bytes());
        self.put(&0u16.to_le_bytes());
        self.word(snaplen);
        self.option(IF_NAME, name.as_bytes());
        self.option(IF_TSRESOL, &[NANOSECONDS]);
        self.option(OPT_END, &[]);
        self.end()
    }

    /// Writes a frame.
    pub fn packet(&mut self, packet: &Packet<'_>) -> io::Result<()> {
        self.begin(ENHANCED_PACKET);
        self.word(packet.interface);
        self.time(packet.unix_ns);
        self.word(packet.bytes.len() as u32);
        self.word(packet.original_bytes);
        self.padded(packet.bytes);
        self.option(EPB_FLAGS, &(packet.direction as u32).to_le_bytes());
        self.option(OPT_END, &[]);
        self.end()
    }

    /// Says what became of the frames of an interface until `unix_ns`.
    pub fn statistics(
        &mut self,
        interface: u32,
        unix_ns: u64,
        statistics: &Statistics,
    ) -> io::Result<()> {
        self.begin(INTERFACE_STATISTICS);
        self.word(interface);
        self.time(unix_ns);
        self.option(ISB_IFDROP, &statistics.lost_rate.to_le_bytes());
        self.option(ISB_OSDROP, &statistics.lost_full.to_le_bytes());
        self.option(ISB_USRDELIV, &statistics.written.to_le_bytes());
        self.option(OPT_END, &[]);
        self.end()
    }

    /// Bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Hands on what is buffered below.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn begin(&mut self, kind: u32) {
        self.block.clear();
        self.word(kind);
        // Its length, once it is known.
        self.word(0);
    }

    /// Writes the block, whose length stands at both of its ends.
    fn end(&mut self) -> io::Result<()> {
        let length = (self.block.len() + 4) as u32;
        self.block[4..8].copy_from_slice(&length.to_le_bytes());
        self.word(length);
        self.out.write_all(&self.block)?;
        self.bytes += u64::from(length);
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) {
        self.block.extend_from_slice(bytes);
    }

    fn word(&mut self, word: u32) {
        self.put(&word.to_le_bytes());
    }

    /// A time is two words, the higher first.
    fn time(&mut self, unix_ns: u64) {
        self.word((unix_ns >> 32) as u32);
        self.word(unix_ns as u32);
    }

    fn padded(&mut self, bytes: &[u8]) {
        self.put(bytes);
        self.block.resize(self.block.len().next_multiple_of(4), 0);
    }

    fn option(&mut self, code: u16, value: &[u8]) {
        let value = &value[..value.len().min(usize::from(u16::MAX))];
        self.put(&code.to_le_bytes());
        self.put(&(value.len() as u16).to_le_bytes());
        self.padded(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The blocks of a file: type and content without lengths.
    fn blocks(mut file: &[u8]) -> Vec<(u32, Vec<u8>)> {
        let mut blocks = Vec::new();
        while !file.is_empty() {
            let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
            let length = word(4) as usize;
            assert!(length.is_multiple_of(4) && length >= 12, "{length}");
            assert_eq!(word(length - 4), word(4), "the length stands at both ends");
            blocks.push((word(0), file[8..length - 4].to_vec()));
            file = &file[length..];
        }
        blocks
    }

    #[test]
    fn a_file_is_a_section_of_interfaces_packets_and_statistics() {
        let mut file = Vec::new();
        let mut writer = Writer::new(&mut file, "tidegate 1").unwrap();
        writer.interface("eth1:0", 0).unwrap();
        writer
            .packet(&Packet {
                interface: 0,
                unix_ns: 0x1_0000_0002,
                original_bytes: 60,
                direction: Direction::Outbound,
                bytes: b"frame",
            })
            .unwrap();
        let statistics = Statistics {
            written: 1,
            lost_full: 2,
            lost_rate: 3,
        };
        writer.statistics(0, 7, &statistics).unwrap();
        let written = writer.bytes();
        assert_eq!(written, file.len() as u64);
        let blocks = blocks(&file);
        let kinds: Vec<u32> = blocks.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(
            kinds,
            [
                SECTION_HEADER,
                INTERFACE_DESCRIPTION,
                ENHANCED_PACKET,
                INTERFACE_STATISTICS
            ]
        );
        assert_eq!(blocks[0].1[..4], [0x4d, 0x3c, 0x2b, 0x1a]);
        let packet = &blocks[2].1;
        assert_eq!(
            packet[..20],
            [0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 5, 0, 0, 0, 60, 0, 0, 0]
        );
        assert_eq!(packet[20..28], *b"frame\0\0\0");
        assert_eq!(packet[28..], [2, 0, 4, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    }
}
