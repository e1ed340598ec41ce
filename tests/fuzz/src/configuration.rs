//! What operators write: Tidegate's own configuration, and twemproxy's.
//!
//! Whatever the text is, there is a configuration or there are faults with their places, soon. A configuration that is written out and read
//! again is the same.

use tidegate_config::{Compat, Config, ConfigErrors};
use tidegate_import::{Options, Port};

fn assert_told(errors: &ConfigErrors, text: &[u8]) {
    assert!(!errors.faults.is_empty(), "refused without a fault");
    // YAML ends lines at carriage returns as well.
    let lines = text.iter().filter(|byte| b"\r\n".contains(byte)).count() + 2;
    for fault in &errors.faults {
        assert!((1..=lines).contains(&fault.line), "{fault:?}");
        assert!(fault.column > 0 && !fault.what.contains('\n'), "{fault:?}");
    }
}

fn assert_survives(config: &Config) {
    let text = config.effective_toml();
    match Config::parse(&text, "written out") {
        Ok(again) => assert_eq!(&again, config, "{text}"),
        // What is a secret is not written out, nor where from it came if it stood in the text.
        Err(errors) => assert!(text.contains("auth") || text.contains("token"), "{errors}"),
    }
}

/// Tidegate's own, from the bytes.
fn own(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match Config::parse(&text, "fuzz") {
        Ok(config) => {
            config.warnings();
            assert_survives(&config);
        }
        Err(errors) => assert_told(&errors, text.as_bytes()),
    }
}

/// twemproxy's: what is made of it is a configuration of ours.
fn twemproxys(bytes: &[u8]) {
    let options = Options {
        port: Port::Kernel { workers: 1 },
        compat: Compat::None,
        resolve: None,
    };
    match tidegate_import::import(bytes, "fuzz", options) {
        Ok(imported) => {
            let made = Config::parse(&imported.toml, "made");
            assert!(made.is_ok(), "{made:?}: {}", imported.toml);
        }
        Err(errors) => assert_told(&errors, bytes),
    }
}

/// Reads `input` as both.
///
/// # Panics
/// When a promise is broken.
pub fn check(input: &[u8]) {
    own(input);
    twemproxys(input);
}
