//! Standard output, of every command: what cannot be written is told once, at the end, and costs the exit code.

use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use std::sync::OnceLock;

/// Why something is missing in the output.
static FAULT: OnceLock<io::Error> = OnceLock::new();

/// Prints a line.
macro_rules! say {
    ($($text:tt)*) => {
        $crate::out::line(format_args!($($text)*))
    };
}

/// Prints a line; see [`say!`].
pub fn line(text: fmt::Arguments<'_>) {
    print(&format!("{text}\n"));
}

/// Prints what a command has to say. Once something is missing, nothing follows it.
pub fn print(text: &str) {
    if FAULT.get().is_none()
        && let Err(error) = write(&mut io::stdout().lock(), text)
    {
        let _first = FAULT.set(error);
    }
}

/// Lines for people, with names that somebody else chose in them: what cannot be seen, or turns its neighbours around, is written out.
pub fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            // Only these of what is escaped can be seen, or are ours.
            '\n' | '"' | '\'' | '\\' => shown.push(c),
            c => shown.extend(c.escape_debug()),
        }
    }
    shown
}

fn write(out: &mut impl Write, text: &str) -> io::Result<()> {
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// The exit code of a command that would end with `code`.
pub fn end(code: ExitCode) -> ExitCode {
    match FAULT.get() {
        // Whoever reads has enough (`| head`): that is no error of anybody.
        Some(error) if error.kind() != ErrorKind::BrokenPipe => told(error),
        _ => code,
    }
}

/// The end of a command that printed its help, or what is wrong with its words.
pub fn end_of_usage(usage: &clap::Error) -> ExitCode {
    match usage.print() {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => told(&error),
        _ => ExitCode::from(usage.exit_code() as u8),
    }
}

fn told(error: &io::Error) -> ExitCode {
    complain(&format!("error: cannot write the output: {error}"));
    ExitCode::FAILURE
}

/// A line to standard error. If that cannot be written, as in a terminal that is gone, the exit code has to do.
pub fn complain(text: &str) {
    let _gone = writeln!(io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_what_it_should_not_in_a_terminal_is_written_out() {
        let table = "pool  clients\n\"a\" · µs …  1\n";
        assert_eq!(shown(table), table);
        let hostile = "\u{1b}[2J\u{202e}x\r\u{200b}\n";
        assert_eq!(shown(hostile), "\\u{1b}[2J\\u{202e}x\\r\\u{200b}\n");
    }

    #[test]
    fn a_full_device_is_noticed_before_the_end() {
        let mut full = std::fs::File::options()
            .write(true)
            .open("/dev/full")
            .unwrap();
        let error = write(&mut full, "text").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
    }
}
