//! Files of twemproxy, and what becomes of them.

mod faults;
mod golden;
mod mapping;
mod properties;
mod verdicts;
mod warnings;

use tidegate_config::{Compat, Config, Fault};
use tidegate_import::{Imported, Options, Port, Resolve};

/// What the command takes when it is told nothing.
fn usual() -> Options<'static> {
    Options {
        port: Port::Kernel { workers: 1 },
        compat: Compat::Twemproxy,
        resolve: None,
    }
}

/// The same with somebody who looks names up.
fn looking_up(resolve: Resolve<'_>) -> Options<'_> {
    Options {
        resolve: Some(resolve),
        ..usual()
    }
}

fn shown(Fault { line, column, what }: &Fault) -> String {
    format!("{line}:{column} {what}")
}

/// What a file becomes, or its faults as `line:column what`.
fn import_with(text: &str, options: Options<'_>) -> Result<Imported, Vec<String>> {
    let imported = tidegate_import::import(text.as_bytes(), "t.yml", options);
    imported.map_err(|errors| errors.faults.iter().map(shown).collect())
}

fn faults(text: &str) -> Vec<String> {
    import_with(text, usual()).err().unwrap_or_default()
}

#[track_caller]
fn imported(text: &str) -> Imported {
    import_with(text, usual()).unwrap_or_else(|faults| panic!("{faults:#?}"))
}

/// The configuration that a file becomes.
#[track_caller]
fn config(text: &str) -> Config {
    parse(&imported(text).toml)
}

#[track_caller]
fn parse(toml: &str) -> Config {
    Config::parse(toml, "t.toml").unwrap_or_else(|errors| panic!("{errors}\n{toml}"))
}

/// A pool with `lines` among its options.
fn pool_with(lines: &str) -> String {
    format!("a:\n  listen: 127.0.0.1:22121\n{lines}  servers:\n    - 127.0.0.1:11211:1\n")
}
