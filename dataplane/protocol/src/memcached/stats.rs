//! Measuring memcached's replies to `stats`.

use super::reply::is_error;
use crate::reply::{ReplyError, ReplyScan, ReplyScanner};

/// Moves `scanner` over `buf`: lines of `STAT` up to `END`, or one line of another kind.
pub(crate) fn scan_stats(scanner: &mut ReplyScanner, buf: &[u8]) -> Result<ReplyScan, ReplyError> {
    let mut at = 0;
    while scanner.values_left > 0 || scanner.is_within_line() {
        let is_new = !scanner.is_within_line();
        let stopped = scanner.scan_line(buf, at)?;
        if stopped == at {
            break;
        }
        if is_new {
            begin_line(scanner, &buf[at..stopped])?;
        }
        at = stopped;
    }
    Ok(ReplyScan {
        bytes: at,
        done: scanner.values_left == 0 && !scanner.is_within_line(),
    })
}

/// Looks at the front of a line.
fn begin_line(scanner: &mut ReplyScanner, line: &[u8]) -> Result<(), ReplyError> {
    let is_first = !std::mem::replace(&mut scanner.begun, true);
    if line.starts_with(b"STAT ") {
        return Ok(());
    }
    scanner.values_left = 0;
    scanner.error = is_error(line);
    let alone = is_first && (line == b"RESET\r\n" || line == b"OK\r\n");
    if scanner.error || alone || line == b"END\r\n" {
        Ok(())
    } else {
        Err(ReplyError::BadLine)
    }
}
