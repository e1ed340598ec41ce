//! Prints faults, all of them, one per line.

/// To standard error, numbered when there are several.
pub fn print(faults: &[String]) {
    for fault in faults {
        eprintln!("error: {fault}");
    }
    if faults.len() > 1 {
        eprintln!("{} errors", faults.len());
    }
}
