//! An assembler for the few BPF instructions that packet programs need.
//!
//! Programs are put together in Rust at start, so the user's machine needs no clang and no kernel headers. The encoding is that of
//! RFC 9669, section 3: opcode, destination and source register, 16-bit offset, 32-bit immediate. A mistake here is our own, so the
//! assembler panics; what it makes is then proved by the kernel's verifier.

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd};

use super::Map;

/// A register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reg {
    /// Return value of helpers and of the program.
    R0,
    /// First argument; does not survive a call.
    R1,
    /// Second argument; does not survive a call.
    R2,
    /// Third argument; does not survive a call.
    R3,
    /// Fourth argument; does not survive a call.
    R4,
    /// Fifth argument; does not survive a call.
    R5,
    /// Survives calls.
    R6,
    /// Survives calls.
    R7,
    /// Survives calls.
    R8,
    /// Survives calls.
    R9,
    /// Frame pointer: the stack lies below it.
    Fp,
}

/// Functions of the kernel that a program may call (`enum bpf_func_id`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Helper {
    /// (map, key) → value or null.
    MapLookup = 1,
    /// () → 32 random bits.
    RandomU32 = 7,
    /// (map, key, action if missing) → action.
    RedirectMap = 51,
}

/// Collects instructions and resolves labels.
#[derive(Debug, Default)]
pub struct Assembler {
    instructions: Vec<u64>,
    labels: HashMap<&'static str, usize>,
    jumps: Vec<(usize, &'static str)>,
}

impl Assembler {
    /// An empty program.
    pub fn new() -> Self {
        Self::default()
    }

    fn emit(&mut self, opcode: u8, dst: Reg, src: Reg, offset: i16, immediate: i32) {
        let registers = dst as u8 | (src as u8) << 4;
        let low = u32::from(opcode) | u32::from(registers) << 8 | u32::from(offset as u16) << 16;
        self.instructions
            .push(u64::from(low) | u64::from(immediate as u32) << 32);
    }

    /// `dst = src`
    pub fn copy(&mut self, dst: Reg, src: Reg) {
        self.emit(0xbf, dst, src, 0, 0);
    }

    /// `dst = value`
    pub fn set(&mut self, dst: Reg, value: i32) {
        self.emit(0xb7, dst, Reg::R0, 0, value);
    }

    /// `dst += value`
    pub fn add(&mut self, dst: Reg, value: i32) {
        self.emit(0x07, dst, Reg::R0, 0, value);
    }

    /// `dst &= value`
    pub fn and(&mut self, dst: Reg, value: i32) {
        self.emit(0x57, dst, Reg::R0, 0, value);
    }

    /// `dst ^= src`
    pub fn xor_reg(&mut self, dst: Reg, src: Reg) {
        self.emit(0xaf, dst, src, 0, 0);
    }

    /// `dst >>= bits`
    pub fn shift_right(&mut self, dst: Reg, bits: i32) {
        self.emit(0x77, dst, Reg::R0, 0, bits);
    }

    /// `dst >>= src`
    pub fn shift_right_reg(&mut self, dst: Reg, src: Reg) {
        self.emit(0x7f, dst, src, 0, 0);
    }

    /// Lower 16 bits from network order; the rest becomes zero.
    pub fn from_be16(&mut self, dst: Reg) {
        self.emit(0xdc, dst, Reg::R0, 0, 16);
    }

    /// `dst = *(u8 *)(src + offset)`
    pub fn load_u8(&mut self, dst: Reg, src: Reg, offset: i16) {
        self.emit(0x71, dst, src, offset, 0);
    }

    /// `dst = *(u16 *)(src + offset)`
    pub fn load_u16(&mut self, dst: Reg, src: Reg, offset: i16) {
        self.emit(0x69, dst, src, offset, 0);
    }

    /// `dst = *(u32 *)(src + offset)`
    pub fn load_u32(&mut self, dst: Reg, src: Reg, offset: i16) {
        self.emit(0x61, dst, src, offset, 0);
    }

    /// `dst = *(u64 *)(src + offset)`
    pub fn load_u64(&mut self, dst: Reg, src: Reg, offset: i16) {
        self.emit(0x79, dst, src, offset, 0);
    }

    /// `*(u32 *)(dst + offset) = src`
    pub fn store_u32(&mut self, dst: Reg, offset: i16, src: Reg) {
        self.emit(0x63, dst, src, offset, 0);
    }

    /// `*(u64 *)(dst + offset) = src`
    pub fn store_u64(&mut self, dst: Reg, offset: i16, src: Reg) {
        self.emit(0x7b, dst, src, offset, 0);
    }

    /// `dst = map`, as the first argument of a helper. The map must live until the program is loaded.
    pub fn load_map(&mut self, dst: Reg, map: &Map) {
        // BPF_PSEUDO_MAP_FD in the place of the source register: the immediate is a descriptor.
        self.emit(0x18, dst, Reg::R1, 0, map.as_fd().as_raw_fd());
        self.instructions.push(0);
    }

    /// Calls a helper.
    pub fn call(&mut self, helper: Helper) {
        self.emit(0x85, Reg::R0, Reg::R0, 0, helper as i32);
    }

    /// Ends the program; R0 is its result.
    pub fn exit(&mut self) {
        self.emit(0x95, Reg::R0, Reg::R0, 0, 0);
    }

    /// Names the place of the next instruction.
    pub fn label(&mut self, name: &'static str) {
        let before = self.labels.insert(name, self.instructions.len());
        assert!(before.is_none(), "label {name} stands twice");
    }

    fn jump_if(&mut self, opcode: u8, dst: Reg, src: Reg, immediate: i32, label: &'static str) {
        self.jumps.push((self.instructions.len(), label));
        self.emit(opcode, dst, src, 0, immediate);
    }

    /// Goes to `label`.
    pub fn jump(&mut self, label: &'static str) {
        self.jump_if(0x05, Reg::R0, Reg::R0, 0, label);
    }

    /// Goes to `label` if `dst == value`.
    pub fn jump_eq(&mut self, dst: Reg, value: i32, label: &'static str) {
        self.jump_if(0x15, dst, Reg::R0, value, label);
    }

    /// Goes to `label` if `dst != value`.
    pub fn jump_ne(&mut self, dst: Reg, value: i32, label: &'static str) {
        self.jump_if(0x55, dst, Reg::R0, value, label);
    }

    /// Goes to `label` if `dst > src`, unsigned.
    pub fn jump_gt_reg(&mut self, dst: Reg, src: Reg, label: &'static str) {
        self.jump_if(0x2d, dst, src, 0, label);
    }

    /// The instructions, with every jump resolved.
    pub fn finish(mut self) -> Vec<u64> {
        for (at, label) in self.jumps {
            let Some(target) = self.labels.get(label) else {
                panic!("no label {label}")
            };
            let distance = *target as i64 - at as i64 - 1;
            let offset = i16::try_from(distance).expect("a program of ours is short");
            self.instructions[at] |= u64::from(offset as u16) << 16;
        }
        self.instructions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_encoded_as_the_rfc_says() {
        let mut asm = Assembler::new();
        asm.set(Reg::R0, 2);
        asm.load_u16(Reg::R3, Reg::R7, 12);
        asm.store_u32(Reg::Fp, -4, Reg::R9);
        asm.exit();
        assert_eq!(
            asm.finish(),
            [
                0x0000_0002_0000_00b7,
                0x0000_0000_000c_7369,
                0x0000_0000_fffc_9a63,
                0x0000_0000_0000_0095
            ]
        );
    }

    #[test]
    fn jumps_reach_labels_before_and_behind() {
        let mut asm = Assembler::new();
        asm.jump("end");
        asm.label("middle");
        asm.exit();
        asm.label("end");
        asm.jump("middle");
        let offsets: Vec<i16> = asm
            .finish()
            .iter()
            .map(|instruction| (instruction >> 16) as i16)
            .collect();
        assert_eq!(offsets, [1, 0, -2]);
    }

    #[test]
    #[should_panic(expected = "no label nowhere")]
    fn a_jump_to_nowhere_is_our_own_mistake() {
        let mut asm = Assembler::new();
        asm.jump("nowhere");
        asm.finish();
    }
}
