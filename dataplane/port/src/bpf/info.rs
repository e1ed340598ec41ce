//! What the kernel tells of an object behind a descriptor: to take over objects that another process made, and to be sure which they are.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use super::BpfError;
use super::attr::{Attr, Command};

/// Longer than any of the structs is; the kernel says how much of it it filled.
const INFO_BYTES: usize = 256;

/// `BPF_OBJ_NAME_LEN`.
const NAME_BYTES: usize = 16;

/// Most maps of a program that are asked for. Why: ours has seven.
const MAP_IDS_MAX: usize = 32;

/// `struct bpf_map_info`, as far as it is of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MapInfo {
    pub(super) kind: u32,
    pub(super) id: u32,
    pub(super) key_bytes: u32,
    pub(super) value_bytes: u32,
    pub(super) entries: u32,
}

/// `struct bpf_prog_info`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ProgramInfo {
    pub(super) kind: u32,
    pub(super) id: u32,
    pub(super) map_ids: Vec<u32>,
    pub(super) name: String,
    /// Since the machine was started.
    pub(super) loaded: Duration,
}

/// `struct bpf_link_info` of a link of an XDP program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LinkInfo {
    pub(super) kind: u32,
    pub(super) program_id: u32,
    /// 0 once the interface is gone.
    pub(super) ifindex: u32,
}

struct Info([u8; INFO_BYTES]);

impl Info {
    fn new() -> Self {
        Self([0; INFO_BYTES])
    }

    fn u32(&self, offset: usize) -> u32 {
        let mut value = [0; 4];
        value.copy_from_slice(&self.0[offset..offset + 4]);
        u32::from_ne_bytes(value)
    }

    fn u64(&self, offset: usize) -> u64 {
        let mut value = [0; 8];
        value.copy_from_slice(&self.0[offset..offset + 8]);
        u64::from_ne_bytes(value)
    }

    /// What stands there up to a zero byte.
    fn text(&self, offset: usize, bytes: usize) -> String {
        let field = &self.0[offset..offset + bytes];
        let end = field.iter().position(|byte| *byte == 0).unwrap_or(bytes);
        String::from_utf8_lossy(&field[..end]).into_owned()
    }

    fn set_u32(&mut self, offset: usize, value: u32) {
        self.0[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
    }

    fn set_u64(&mut self, offset: usize, value: u64) {
        self.0[offset..offset + 8].copy_from_slice(&value.to_ne_bytes());
    }
}

/// Fills `info`.
///
/// # Safety
///
/// Pointers that `info` holds must be valid for what the kernel writes there: only a program's info has one that is used.
unsafe fn ask(object: BorrowedFd<'_>, info: &mut Info) -> Result<(), BpfError> {
    let mut attr = Attr::new()
        .fd(0, object)
        .u32(4, INFO_BYTES as u32)
        .u64(8, info.0.as_mut_ptr() as u64);
    // SAFETY: the info lives in the caller and is as long as said; pointers in it are the caller's promise.
    unsafe { attr.call(Command::ObjectInfo) }
        .map(drop)
        .map_err(|source| BpfError::new("ask what a BPF object is", source))
}

/// What `map` is.
pub(super) fn of_map(map: BorrowedFd<'_>) -> Result<MapInfo, BpfError> {
    let mut info = Info::new();
    // SAFETY: there is no pointer in it.
    unsafe { ask(map, &mut info) }?;
    Ok(MapInfo {
        kind: info.u32(0),
        id: info.u32(4),
        key_bytes: info.u32(8),
        value_bytes: info.u32(12),
        entries: info.u32(16),
    })
}

/// What `program` is and which maps it uses.
pub(super) fn of_program(program: BorrowedFd<'_>) -> Result<ProgramInfo, BpfError> {
    let mut ids = [0u32; MAP_IDS_MAX];
    let mut info = Info::new();
    info.set_u32(52, MAP_IDS_MAX as u32);
    info.set_u64(56, ids.as_mut_ptr() as u64);
    // SAFETY: the only pointer is that of the identifiers, which are live and as many as said.
    unsafe { ask(program, &mut info) }?;
    let number = (info.u32(52) as usize).min(MAP_IDS_MAX);
    Ok(ProgramInfo {
        kind: info.u32(0),
        id: info.u32(4),
        map_ids: ids[..number].to_vec(),
        name: info.text(64, NAME_BYTES),
        loaded: Duration::from_nanos(info.u64(40)),
    })
}

/// What `link` is.
pub(super) fn of_link(link: BorrowedFd<'_>) -> Result<LinkInfo, BpfError> {
    let mut info = Info::new();
    // SAFETY: there is no pointer in it.
    unsafe { ask(link, &mut info) }?;
    Ok(LinkInfo {
        kind: info.u32(0),
        program_id: info.u32(8),
        ifindex: info.u32(16),
    })
}

/// An object that is not what it should be.
pub(super) fn foreign(what: &'static str) -> BpfError {
    BpfError::new(what, io::Error::from(io::ErrorKind::InvalidData))
}
