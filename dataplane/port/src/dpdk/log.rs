//! DPDK's log becomes ours.

use std::collections::VecDeque;
use std::ffi::c_char;
use std::sync::{Mutex, PoisonError};

use capsule_ffi as ffi;

/// Warnings kept for the error that they may explain.
const KEPT: usize = 8;

/// `RTE_LOG_ERR` and worse.
const ERROR: u32 = 4;
/// `RTE_LOG_WARNING`
const WARNING: u32 = 5;
/// `RTE_LOG_NOTICE`
const NOTICE: u32 = 6;
/// `RTE_LOG_INFO`
const INFO: u32 = 7;

static WARNINGS: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());

/// From now on what DPDK says goes to the log, a level lower than DPDK thinks, but for what is wrong.
pub(super) fn redirect() -> std::io::Result<()> {
    // SAFETY: the function stays where it is, and takes what it is given.
    match unsafe { ffi::tidegate_log_to(Some(take)) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// The last warnings, one after the other. Nothing is said twice.
pub(super) fn take_warnings() -> String {
    let mut warnings = WARNINGS.lock().unwrap_or_else(PoisonError::into_inner);
    let text: Vec<String> = warnings.drain(..).collect();
    if text.is_empty() {
        "nothing".to_owned()
    } else {
        text.join("; ")
    }
}

unsafe extern "C" fn take(level: u32, text: *const c_char, bytes: usize) {
    // SAFETY: DPDK gives this many bytes, for the time of the call.
    let text = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), bytes) };
    for line in String::from_utf8_lossy(text).lines() {
        let line = line.trim();
        if !line.is_empty() {
            write(level, line);
        }
    }
}

fn write(level: u32, line: &str) {
    if level <= WARNING {
        let mut warnings = WARNINGS.lock().unwrap_or_else(PoisonError::into_inner);
        if warnings.len() == KEPT {
            warnings.pop_front();
        }
        warnings.push_back(line.to_owned());
    }
    match level {
        ..=ERROR => tracing::error!(target: "dpdk", "{line}"),
        WARNING => tracing::warn!(target: "dpdk", "{line}"),
        NOTICE | INFO => tracing::debug!(target: "dpdk", "{line}"),
        _ => tracing::trace!(target: "dpdk", "{line}"),
    }
}
