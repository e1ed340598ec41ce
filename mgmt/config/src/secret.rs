//! A password that cannot be printed by accident, and where it comes from: the file itself, another file, or the environment.

use crate::effective::quoted;
use crate::limits::SECRET_BYTES_MAX;
use crate::reader::Reader;
use crate::regular_file;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

/// A password. It prints as `***`. Two are equal if their text is, wherever it came from.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret {
    text: String,
    /// Is of no use to a worker, and not told.
    #[serde(skip)]
    source: Source,
}

/// Where a password stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Source {
    /// In the configuration.
    #[default]
    Inline,
    /// In a file of its own.
    File(PathBuf),
    /// In a variable of the environment.
    Environment(String),
}

impl Secret {
    /// Wraps a password.
    pub fn new(text: String) -> Self {
        Self {
            text,
            source: Source::Inline,
        }
    }

    /// The password itself, to compare or to send; never to print.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// The value in a file that means this password, as far as it can be shown.
    pub(crate) fn shown(&self) -> String {
        match &self.source {
            Source::Inline => format!("\"{self}\""),
            Source::File(path) => format!("{{ file = {} }}", quoted(&path.to_string_lossy())),
            Source::Environment(name) => format!("{{ env = {} }}", quoted(name)),
        }
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The password at `key` and its place: a string, `{ file = "…" }` or `{ env = "…" }`. No fault shows it.
pub(crate) fn read(reader: &mut Reader<'_>, key: &'static str) -> Option<(Secret, usize)> {
    let (at, value) = reader.value(key)?;
    let outcome = match value {
        DeValue::String(text) => Ok(Secret::new(text.clone().into_owned())),
        DeValue::Table(table) => of_table(table),
        other => {
            reader.wrong_type(
                key,
                at,
                other,
                "a string in quotes, { file = \"…\" } or { env = \"…\" }",
            );
            return None;
        }
    };
    match outcome {
        Ok(secret) => Some((secret, at)),
        Err(fault) => {
            reader.fault(at, &format!("{key}: {fault}"));
            None
        }
    }
}

fn of_table(table: &DeTable<'_>) -> Result<Secret, String> {
    let mut entries = table.iter().map(|(key, value)| {
        let text = value.get_ref().as_str().unwrap_or_default();
        (key.get_ref().as_ref(), text)
    });
    match (entries.next(), entries.next()) {
        (Some(("file", path)), None) if Path::new(path).is_absolute() => of_file(Path::new(path)),
        (Some(("file", _)), None) => Err("file needs an absolute path in quotes".into()),
        (Some(("env", name)), None) if !name.is_empty() => of_environment(name),
        _ => Err("write a password in quotes, { file = \"/PATH\" } or { env = \"NAME\" }".into()),
    }
}

fn of_environment(name: &str) -> Result<Secret, String> {
    match std::env::var(name) {
        Ok(text) => Ok(Secret {
            text,
            source: Source::Environment(name.to_owned()),
        }),
        Err(std::env::VarError::NotPresent) => {
            Err(format!("the environment has no variable {name}"))
        }
        Err(std::env::VarError::NotUnicode(_)) => Err(format!("the variable {name} is not UTF-8")),
    }
}

/// The whole content but for a line feed at its end, which editors add.
fn of_file(path: &Path) -> Result<Secret, String> {
    let shown = path.display();
    let unreadable = |error: std::io::Error| format!("cannot read {shown}: {error}");
    let (file, found) = regular_file::open(path).map_err(unreadable)?;
    // Its group may: that is how systemd hands credentials to services of a user.
    if found.mode() & 0o007 != 0 {
        return Err(format!(
            "everybody may read or write {shown} (mode {:04o}): chmod 600 {shown}",
            found.mode() & 0o7777
        ));
    }
    let mut bytes = Vec::new();
    let limit = SECRET_BYTES_MAX as u64 + 2;
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    let text = String::from_utf8(bytes).map_err(|_| format!("{shown} is not UTF-8"))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.len() > SECRET_BYTES_MAX {
        return Err(format!("{shown} has more than {SECRET_BYTES_MAX} bytes"));
    }
    let source = Source::File(path.to_owned());
    Ok(Secret {
        text: text.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use crate::Config;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    struct File(PathBuf);

    impl File {
        fn new(name: &str, content: &[u8], mode: u32) -> Self {
            let name = format!("tidegate-secret-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            Self(path)
        }
    }

    impl Drop for File {
        fn drop(&mut self) {
            let _gone = std::fs::remove_file(&self.0);
        }
    }

    fn parse(value: &str) -> Result<Config, String> {
        let text = format!(
            "[[port]]\ndriver = \"kernel\"\n[[pool]]\nname = \"a\"\nprotocol = \"redis\"\nlisten = \"127.0.0.1:1\"\n\
             servers = [\"127.0.0.1:2\"]\nredis_auth = {value}\n"
        );
        Config::parse(&text, "test").map_err(|errors| errors.to_string())
    }

    fn password(config: &Config) -> &str {
        config.pools[0].redis_auth.as_ref().unwrap().reveal()
    }

    #[test]
    fn a_password_comes_from_a_file_or_from_the_environment() {
        let file = File::new("good", b"open sesame\n", 0o600);
        let value = format!("{{ file = {:?} }}", file.0);
        let config = parse(&value).unwrap();
        assert_eq!(password(&config), "open sesame");
        assert!(config.warnings().is_empty(), "{:?}", config.warnings());
        let shown = config.effective_toml();
        assert!(shown.contains(&format!("redis_auth = {value}")), "{shown}");
        assert_eq!(Config::parse(&shown, "again").unwrap(), config);
        assert_eq!(parse("\"open sesame\"").unwrap(), config);

        let home = std::env::var("PATH").unwrap();
        let config = parse("{ env = \"PATH\" }").unwrap();
        assert_eq!(password(&config), home);
        assert!(
            config
                .effective_toml()
                .contains("redis_auth = { env = \"PATH\" }")
        );
        for shown in [config.effective_toml(), format!("{config:?}")] {
            assert!(!shown.contains(&home), "{shown}");
        }
    }

    #[test]
    fn a_file_that_everybody_may_read_holds_no_password() {
        let file = File::new("open", b"sesame\r\n", 0o644);
        let value = format!("{{ file = {:?} }}", file.0);
        let fault = parse(&value).unwrap_err();
        assert!(fault.contains("everybody may read"), "{fault}");
        assert!(fault.contains("0644"), "{fault}");
        assert!(fault.contains("chmod 600"), "{fault}");
        assert!(!fault.contains("sesame"), "{fault}");
        std::fs::set_permissions(&file.0, PermissionsExt::from_mode(0o640)).unwrap();
        assert_eq!(password(&parse(&value).unwrap()), "sesame");
    }

    #[test]
    fn what_is_no_password_is_told_without_it() {
        let empty = File::new("empty", b"\n", 0o600);
        let long = File::new("long", &b"x".repeat(100_000), 0o600);
        let binary = File::new("binary", &[0xff, 0xfe], 0o600);
        let of_file = |file: &File| format!("{{ file = {:?} }}", file.0);
        for (value, words) in [
            (of_file(&empty), "is empty"),
            (of_file(&long), "has more than"),
            (of_file(&binary), "is not UTF-8"),
            (
                "{ file = \"/no/such/file\" }".into(),
                "cannot read /no/such/file",
            ),
            ("{ file = \"/dev/null\" }".into(), "is no regular file"),
            ("{ file = \"relative\" }".into(), "an absolute path"),
            (
                "{ env = \"TIDEGATE_NO_SUCH_VARIABLE\" }".into(),
                "has no variable",
            ),
            ("{ vault = \"hidden\" }".into(), "write a password"),
            (
                "{ file = \"/a\", env = \"hidden\" }".into(),
                "write a password",
            ),
            ("{ }".into(), "write a password"),
            ("12345".into(), "must be a string in quotes"),
        ] {
            let fault = parse(&value).unwrap_err();
            assert!(
                fault.contains(words) && fault.contains("test:8"),
                "{value}: {fault}"
            );
            assert!(
                !fault.contains("hidden") && !fault.contains("12345"),
                "{fault}"
            );
        }
    }
}
