//! The steering program itself, about a hundred instructions.
//!
//! Registers: R6 the context, later the action; R7 the start of the frame, later the verdict; R8 its end; R9 the destination port.
//! Every load from the frame stands behind a comparison with R8, or the verifier would refuse it.

use super::Verdict;
use super::maps::SteeringMaps;
use crate::ETHERNET_HEADER_BYTES;
use crate::bpf::asm::{Assembler, Helper, Reg};
use crate::bpf::{BpfError, Map, Program, ProgramKind};

/// Actions of `enum xdp_action`.
pub(super) const XDP_DROP: i32 = 1;
pub(super) const XDP_PASS: i32 = 2;
pub(super) const XDP_REDIRECT: i32 = 4;

/// Offsets in `struct xdp_md`.
const CONTEXT_DATA: i16 = 0;
const CONTEXT_DATA_END: i16 = 4;
const CONTEXT_QUEUE: i16 = 16;

const ETHERTYPE: i16 = 12;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_QINQ: u16 = 0x88a8;

const IP: i16 = ETHERNET_HEADER_BYTES as i16;
const IPV4_HEADER_BYTES: i16 = 20;
const IPV6_HEADER_BYTES: i16 = 40;
const TCP_HEADER_BYTES: i16 = 20;
const TCP_DESTINATION_PORT: i16 = 2;

const IPV4_FLAGS_AND_OFFSET: i16 = IP + 6;
const IPV4_PROTOCOL: i16 = IP + 9;
const IPV4_DESTINATION: i16 = IP + 16;
const IPV6_NEXT_HEADER: i16 = IP + 6;
const IPV6_DESTINATION: i16 = IP + 24;

const TCP: i32 = 6;
const IPV6_FRAGMENT: i32 = 44;
/// RFC 8200, section 4, and IANA's list: hop-by-hop options, routing, ESP, AH, destination options, mobility, HIP, shim6.
const IPV6_EXTENSIONS: [i32; 8] = [0, 43, 50, 51, 60, 135, 139, 140];

/// Keys are put together on the stack, of words of four bytes. Kernels before 6.8 take a word that begins eight bytes of the stack for
/// something that must not be written to in parts any more, unless the process has CAP_PERFMON, which we do without. So each key has
/// bytes of its own, words are stored from the last to the first, and the index, which is stored twice, does not begin eight bytes.
const KEY6: i16 = -24;
const KEY4: i16 = -32;
const INDEX: i16 = -36;

/// Loads the program over its maps.
pub fn load(maps: &SteeringMaps) -> Result<Program, BpfError> {
    Program::load(ProgramKind::Xdp, "tidegate", &assemble(maps))
}

/// A constant as it stands in a frame.
fn wire(value: u16) -> i32 {
    i32::from(value.to_be())
}

pub(super) fn assemble(maps: &SteeringMaps) -> Vec<u64> {
    let mut asm = Assembler::new();
    ethernet(&mut asm);
    ipv4(&mut asm, maps);
    ipv6(&mut asm, maps);
    reply_port(&mut asm, maps);
    redirect(&mut asm, maps);
    pass_and_count(&mut asm, maps);
    asm.finish()
}

/// Goes to "truncated" unless the frame has this many bytes.
fn require(asm: &mut Assembler, bytes: i16) {
    asm.copy(Reg::R2, Reg::R7);
    asm.add(Reg::R2, i32::from(bytes));
    asm.jump_gt_reg(Reg::R2, Reg::R8, "truncated");
}

/// R0 = the value of the key on the stack, or null.
fn look_up(asm: &mut Assembler, map: &Map, key: i16) {
    asm.load_map(Reg::R1, map);
    asm.copy(Reg::R2, Reg::Fp);
    asm.add(Reg::R2, i32::from(key));
    asm.call(Helper::MapLookup);
}

fn ethernet(asm: &mut Assembler) {
    asm.copy(Reg::R6, Reg::R1);
    asm.load_u32(Reg::R7, Reg::R1, CONTEXT_DATA);
    asm.load_u32(Reg::R8, Reg::R1, CONTEXT_DATA_END);
    require(asm, IP);
    asm.load_u16(Reg::R3, Reg::R7, ETHERTYPE);
    asm.jump_eq(Reg::R3, wire(ETHERTYPE_IPV4), "ipv4");
    asm.jump_eq(Reg::R3, wire(ETHERTYPE_IPV6), "ipv6");
    asm.jump_eq(Reg::R3, wire(ETHERTYPE_VLAN), "vlan");
    asm.jump_eq(Reg::R3, wire(ETHERTYPE_QINQ), "vlan");
    asm.jump("other");
}

fn ipv4(asm: &mut Assembler, maps: &SteeringMaps) {
    asm.label("ipv4");
    require(asm, IP + IPV4_HEADER_BYTES);
    asm.load_u8(Reg::R3, Reg::R7, IPV4_PROTOCOL);
    asm.jump_ne(Reg::R3, TCP, "other");
    // Version 4 and a header of five words, in one byte.
    asm.load_u8(Reg::R3, Reg::R7, IP);
    asm.jump_ne(Reg::R3, 0x45, "options");
    // RFC 791: "more fragments" and the fragment offset. "Don't fragment" may be set or not.
    asm.load_u16(Reg::R3, Reg::R7, IPV4_FLAGS_AND_OFFSET);
    asm.and(Reg::R3, wire(0x3fff));
    asm.jump_ne(Reg::R3, 0, "fragment");
    let tcp = IP + IPV4_HEADER_BYTES;
    require(asm, tcp + TCP_HEADER_BYTES);
    asm.load_u16(Reg::R9, Reg::R7, tcp + TCP_DESTINATION_PORT);
    asm.store_u32(Reg::Fp, KEY4 + 4, Reg::R9);
    asm.load_u32(Reg::R3, Reg::R7, IPV4_DESTINATION);
    asm.store_u32(Reg::Fp, KEY4, Reg::R3);
    look_up(asm, &maps.listeners4, KEY4);
    asm.jump_ne(Reg::R0, 0, "redirect");
    look_up(asm, &maps.sources4, KEY4);
    asm.jump_eq(Reg::R0, 0, "not ours");
    asm.jump("reply port");
}

fn ipv6(asm: &mut Assembler, maps: &SteeringMaps) {
    asm.label("ipv6");
    require(asm, IP + IPV6_HEADER_BYTES);
    asm.load_u8(Reg::R3, Reg::R7, IPV6_NEXT_HEADER);
    asm.jump_eq(Reg::R3, TCP, "ipv6 tcp");
    asm.jump_eq(Reg::R3, IPV6_FRAGMENT, "fragment");
    for extension in IPV6_EXTENSIONS {
        asm.jump_eq(Reg::R3, extension, "options");
    }
    asm.jump("other");
    asm.label("ipv6 tcp");
    let tcp = IP + IPV6_HEADER_BYTES;
    require(asm, tcp + TCP_HEADER_BYTES);
    asm.load_u16(Reg::R9, Reg::R7, tcp + TCP_DESTINATION_PORT);
    asm.store_u32(Reg::Fp, KEY6 + 16, Reg::R9);
    for word in (0..4).rev() {
        asm.load_u32(Reg::R3, Reg::R7, IPV6_DESTINATION + 4 * word);
        asm.store_u32(Reg::Fp, KEY6 + 4 * word, Reg::R3);
    }
    look_up(asm, &maps.listeners6, KEY6);
    asm.jump_ne(Reg::R0, 0, "redirect");
    look_up(asm, &maps.sources6, KEY6);
    asm.jump_eq(Reg::R0, 0, "not ours");
}

/// The address is ours; is the port in R9?
fn reply_port(asm: &mut Assembler, maps: &SteeringMaps) {
    asm.label("reply port");
    asm.from_be16(Reg::R9);
    asm.copy(Reg::R3, Reg::R9);
    asm.shift_right(Reg::R3, 6);
    asm.store_u32(Reg::Fp, INDEX, Reg::R3);
    look_up(asm, &maps.ports, INDEX);
    asm.jump_eq(Reg::R0, 0, "not ours");
    asm.load_u64(Reg::R3, Reg::R0, 0);
    asm.and(Reg::R9, 63);
    asm.shift_right_reg(Reg::R3, Reg::R9);
    asm.and(Reg::R3, 1);
    asm.jump_eq(Reg::R3, 0, "not ours");
}

fn redirect(asm: &mut Assembler, maps: &SteeringMaps) {
    asm.label("redirect");
    asm.load_map(Reg::R1, &maps.sockets);
    asm.load_u32(Reg::R2, Reg::R6, CONTEXT_QUEUE);
    // The third argument is the action for a queue without a socket.
    asm.set(Reg::R3, XDP_DROP);
    asm.call(Helper::RedirectMap);
    asm.copy(Reg::R6, Reg::R0);
    asm.set(Reg::R7, Verdict::Redirected as i32);
    asm.jump_eq(Reg::R6, XDP_REDIRECT, "count");
    asm.set(Reg::R7, Verdict::DroppedNoSocket as i32);
    asm.jump("count");
}

fn pass_and_count(asm: &mut Assembler, maps: &SteeringMaps) {
    let passes = [
        ("other", Verdict::PassedOther),
        ("not ours", Verdict::PassedNotOurs),
        ("fragment", Verdict::PassedFragment),
        ("options", Verdict::PassedOptions),
        ("vlan", Verdict::PassedVlan),
        ("truncated", Verdict::PassedTruncated),
    ];
    for (label, verdict) in passes {
        asm.label(label);
        asm.set(Reg::R7, verdict as i32);
        asm.jump("pass");
    }
    asm.label("pass");
    asm.set(Reg::R6, XDP_PASS);
    asm.label("count");
    asm.store_u32(Reg::Fp, INDEX, Reg::R7);
    look_up(asm, &maps.verdicts, INDEX);
    asm.jump_eq(Reg::R0, 0, "end");
    // The value belongs to this CPU, and XDP is not interrupted by itself: a plain addition loses nothing.
    asm.load_u64(Reg::R3, Reg::R0, 0);
    asm.add(Reg::R3, 1);
    asm.store_u64(Reg::R0, 0, Reg::R3);
    asm.label("end");
    asm.copy(Reg::R0, Reg::R6);
    asm.exit();
}
