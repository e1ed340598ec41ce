//! Logging: one line per event on standard error, with the process it comes from.

use std::fmt;
use std::sync::OnceLock;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::{
    EnvFilter, Layer, Registry, layer::SubscriberExt, reload, util::SubscriberInitExt,
};

/// The variable that sets the filter: `info` (the default), `debug`, `tidegate_stack=debug,info`, …
pub const FILTER_VARIABLE: &str = "TIDEGATE_LOG";
/// The variable by which a worker knows its number before it has read anything.
pub const WORKER_VARIABLE: &str = "TIDEGATE_WORKER";

/// Time, and who speaks.
struct Stamp(String);

impl FormatTime for Stamp {
    fn format_time(&self, w: &mut Writer<'_>) -> fmt::Result {
        SystemTime.format_time(w)?;
        write!(w, " {}", self.0)
    }
}

/// Changes the filter while the process runs.
pub type SetFilter = Box<dyn Fn(&str) -> Result<(), String> + Send>;

/// The filter without the variable.
static DEFAULT_FILTER: OnceLock<&str> = OnceLock::new();

/// The filter that workers inherit.
pub fn filter() -> String {
    let default = DEFAULT_FILTER.get().copied().unwrap_or("info");
    std::env::var(FILTER_VARIABLE).unwrap_or_else(|_| default.into())
}

/// Starts logging, by `default_filter` unless the variable says otherwise.
pub fn start(default_filter: &'static str) -> SetFilter {
    // The first call counts.
    let _already_set = DEFAULT_FILTER.set(default_filter);
    let who = match std::env::var(WORKER_VARIABLE) {
        Ok(worker) => format!("worker {worker}"),
        Err(_) => "manager".into(),
    };
    let (filter, handle) = reload::Layer::<_, Registry>::new(EnvFilter::new(filter()));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        .with_timer(Stamp(who));
    // A second call, in tests, keeps the first subscriber.
    let _already_set = tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .try_init();
    std::panic::set_hook(Box::new(|panic| {
        // One line, like everything else.
        tracing::error!("{}", panic.to_string().replace('\n', " "));
    }));
    Box::new(move |text| {
        let filter = EnvFilter::try_new(text).map_err(|error| error.to_string())?;
        handle.reload(filter).map_err(|error| error.to_string())
    })
}
