//! Initialisation: what capsule says in the words of DPDK 19.11, in those of 22.11.

use crate::affinity::MAIN_LCORE;
use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

static IS_UP: AtomicBool = AtomicBool::new(false);

/// Tells whether EAL was initialised, for who has to say what of a longer way failed.
pub fn eal_is_up() -> bool {
    IS_UP.load(Ordering::Acquire)
}

unsafe extern "C" {
    #[link_name = "rte_eal_init"]
    fn dpdk_eal_init(argc: c_int, argv: *mut *mut c_char) -> c_int;
}

/// Initialises EAL, once in the life of a process.
///
/// # Safety
///
/// `argv` has `argc` strings.
pub unsafe fn rte_eal_init(argc: c_int, argv: *mut *mut c_char) -> c_int {
    let given: Vec<CString> = (0..usize::try_from(argc).unwrap_or(0))
        .map(|index| {
            // SAFETY: one of the strings that the caller promised.
            unsafe { CStr::from_ptr(*argv.add(index)) }.to_owned()
        })
        .collect();
    let arguments = translate(given);
    let count = c_int::try_from(arguments.len()).unwrap_or(c_int::MAX);
    // EAL keeps pointers into its arguments, and changes their order: they are never given back.
    let mut pointers: Vec<*mut c_char> = arguments.into_iter().map(CString::into_raw).collect();
    pointers.push(ptr::null_mut());
    let pointers = Box::leak(pointers.into_boxed_slice());
    // SAFETY: `count` strings and a null pointer behind them, for ever.
    let parsed = unsafe { dpdk_eal_init(count, pointers.as_mut_ptr()) };
    IS_UP.store(parsed >= 0, Ordering::Release);
    parsed
}

/// Names that were changed since; devices on the PCI bus, which capsule takes for virtual ones when their address has a letter
/// in it; and the main thread's core, which is any that the process may run on. Where no device of the PCI bus is named, the bus
/// is left alone: EAL would otherwise reach for every card of the machine, those that the kernel uses included.
fn translate(given: Vec<CString>) -> Vec<CString> {
    let mut translated = Vec::with_capacity(given.len());
    let mut given = given.into_iter().peekable();
    while let Some(argument) = given.next() {
        let next = given.peek().map(|next| next.as_bytes());
        match argument.as_bytes() {
            b"--master-lcore" => translated.push(c"--main-lcore".to_owned()),
            b"--pci-whitelist" => translated.push(c"--allow".to_owned()),
            b"--vdev" if next.is_some_and(is_pci_address) => {
                translated.push(c"--allow".to_owned());
            }
            b"-l" if next == Some(MAIN_LCORE.to_string().as_bytes()) => {
                given.next();
                translated.push(c"--lcores".to_owned());
                translated.push(main_lcore_anywhere());
            }
            _ => translated.push(argument),
        }
    }
    let names_devices =
        |argument: &CString| matches!(argument.as_bytes(), b"--allow" | b"--no-pci");
    if !translated.iter().any(names_devices) {
        translated.push(c"--no-pci".to_owned());
    }
    translated
}

/// `0000:3b:00.1`
fn is_pci_address(text: &[u8]) -> bool {
    const FORM: &[u8] = b"xxxx:xx:xx.x";
    text.len() == FORM.len()
        && text.iter().zip(FORM).all(|(byte, form)| match form {
            b'x' => byte.is_ascii_hexdigit(),
            punctuation => byte == punctuation,
        })
}

/// `127@(0,1)`: the main thread's number, and the cores that this process may run on.
fn main_lcore_anywhere() -> CString {
    // SAFETY: all zeroes is an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the calling thread, and a set of this size.
    unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
    let most = usize::try_from(libc::CPU_SETSIZE).unwrap_or(0);
    let cores: Vec<String> = (0..most)
        // SAFETY: below the number of bits of the set.
        .filter(|core| unsafe { libc::CPU_ISSET(*core, &set) })
        .map(|core| core.to_string())
        .collect();
    CString::new(format!("{MAIN_LCORE}@({})", cores.join(","))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(given: &str) -> String {
        let given = given.split(' ').map(|word| CString::new(word).unwrap());
        let words = translate(given.collect());
        let words: Vec<&str> = words.iter().map(|word| word.to_str().unwrap()).collect();
        words.join(" ")
    }

    #[test]
    fn old_names_become_new_ones() {
        assert_eq!(
            translated("app --master-lcore 1 -l 1 --vdev net_null0,copy=1"),
            "app --main-lcore 1 -l 1 --vdev net_null0,copy=1 --no-pci"
        );
    }

    #[test]
    fn cards_are_left_alone_unless_one_is_named() {
        assert_eq!(translated("app"), "app --no-pci");
        assert_eq!(translated("app --no-pci"), "app --no-pci");
        assert_eq!(
            translated("app --pci-whitelist 0000:03:00.1"),
            "app --allow 0000:03:00.1"
        );
        assert_eq!(
            translated("app --vdev 0000:3b:00.1"),
            "app --allow 0000:3b:00.1"
        );
        for no_address in ["0000:3b:00", "0000:3b:00.1,x=1", "000g:3b:00.1", "net_tap0"] {
            assert!(translated(&format!("app --vdev {no_address}")).ends_with("--no-pci"));
        }
    }

    #[test]
    fn the_main_thread_may_run_where_the_process_may() {
        let text = translated(&format!("app -l {MAIN_LCORE}"));
        assert!(
            text.starts_with(&format!("app --lcores {MAIN_LCORE}@(")),
            "{text}"
        );
        assert!(!text.contains("()"), "{text}");
    }
}
