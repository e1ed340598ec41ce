//! Logging: one line per event on standard error, with the process it comes from. For people, or as JSON for machines.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use tidegate_config::LogFormat;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::{Format, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{
    EnvFilter, Layer, Registry, layer::SubscriberExt, reload, util::SubscriberInitExt,
};

/// The variable that sets the filter: `info` (the default), `debug`, `tidegate_stack=debug,info`, …
pub const FILTER_VARIABLE: &str = "TIDEGATE_LOG";
/// The variable by which a worker knows its number before it has read anything.
pub const WORKER_VARIABLE: &str = "TIDEGATE_WORKER";
/// The variable by which a worker knows the format of its lines.
pub const FORMAT_VARIABLE: &str = "TIDEGATE_LOG_FORMAT";

/// The parts that have something to say. A filter names them, or the modules in them.
const PARTS: [&str; 11] = [
    "dpdk",
    "tidegate",
    "tidegate_channel",
    "tidegate_config",
    "tidegate_dataplane",
    "tidegate_import",
    "tidegate_link",
    "tidegate_port",
    "tidegate_protocol",
    "tidegate_proxy",
    "tidegate_stack",
];

/// Time, and who speaks.
struct Stamp(String);

impl FormatTime for Stamp {
    fn format_time(&self, w: &mut Writer<'_>) -> fmt::Result {
        SystemTime.format_time(w)?;
        write!(w, " {}", self.0)
    }
}

/// Whether lines are JSON. It is known only once the configuration was read, which may have been worth a line.
static JSON: AtomicBool = AtomicBool::new(false);

/// A line of either format.
struct Lines {
    text: Format<tracing_subscriber::fmt::format::Full, Stamp>,
    who: String,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if !JSON.load(Ordering::Relaxed) {
            return self.text.format_event(context, writer, event);
        }
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let mut line = serde_json::Map::new();
        line.insert("time".into(), time.into());
        let level = event.metadata().level().as_str().to_ascii_lowercase();
        line.insert("level".into(), level.into());
        line.insert("process".into(), self.who.as_str().into());
        event.record(&mut Fields(&mut line));
        writeln!(writer, "{}", serde_json::Value::Object(line))
    }
}

/// Collects the fields of an event; the text of the line is the one called `message`.
struct Fields<'a>(&'a mut serde_json::Map<String, serde_json::Value>);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0
            .insert(field.name().into(), format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().into(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().into(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().into(), value.into());
    }
}

/// Changes the filter while the process runs.
pub type SetFilter = Arc<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// The filter without the variable.
static DEFAULT_FILTER: OnceLock<&str> = OnceLock::new();

/// The filter that workers inherit.
pub fn filter() -> String {
    let default = DEFAULT_FILTER.get().copied().unwrap_or("info");
    let wanted = std::env::var(FILTER_VARIABLE).ok();
    let wanted = wanted.filter(|filter| parsed(filter).is_ok());
    wanted.unwrap_or_else(|| default.into())
}

/// A filter that lets something through, or what is wrong with it. A level that is misspelt would be taken for the name of a part,
/// of which there is none, and nothing would be logged any more.
fn parsed(text: &str) -> Result<EnvFilter, String> {
    let filter = EnvFilter::try_new(text).map_err(|error| error.to_string())?;
    let targets: Targets = text.parse().map_err(|_| "it cannot be read".to_owned())?;
    let known = |target: &str| {
        let module_of = |part: &str| {
            let rest = target.strip_prefix(part);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        };
        PARTS.iter().any(|part| module_of(part))
    };
    let unknown: Vec<String> = targets
        .iter()
        .filter(|(target, _)| !known(target))
        .map(|(target, _)| format!("{target:?}"))
        .collect();
    if !unknown.is_empty() {
        return Err(format!(
            "{} is no level (error, warn, info, debug, trace, off) and no part of Tidegate ({})",
            unknown.join(", "),
            PARTS.join(", ")
        ));
    }
    if text.trim_matches([' ', ',']).is_empty() {
        return Err("it is empty".to_owned());
    }
    Ok(filter)
}

/// Without the everyday words of capsule, which tells each step of its own.
fn quieted(filter: EnvFilter) -> EnvFilter {
    match "capsule=warn".parse() {
        Ok(directive) => filter.add_directive(directive),
        Err(_) => filter,
    }
}

/// The format that workers inherit.
pub fn format() -> LogFormat {
    if JSON.load(Ordering::Relaxed) {
        LogFormat::Json
    } else {
        LogFormat::Text
    }
}

/// Writes lines in this format from now on.
pub fn set_format(format: LogFormat) {
    JSON.store(format == LogFormat::Json, Ordering::Relaxed);
}

/// Starts logging, by `default_filter` unless the variable says otherwise.
pub fn start(default_filter: &'static str) -> SetFilter {
    // The first call counts.
    let _already_set = DEFAULT_FILTER.set(default_filter);
    let worker = std::env::var(WORKER_VARIABLE).ok();
    // The status page tells what the manager has to say.
    let is_manager = worker.is_none();
    let events = is_manager.then(crate::events::layer);
    let who = worker.map_or("manager".into(), |worker| format!("worker {worker}"));
    if let Some(format) = std::env::var(FORMAT_VARIABLE)
        .ok()
        .and_then(|name| LogFormat::of_name(&name))
    {
        set_format(format);
    }
    let (filter, handle) = reload::Layer::<_, Registry>::new(quieted(EnvFilter::new(filter())));
    let text = Format::default()
        .with_ansi(false)
        .with_target(false)
        .with_timer(Stamp(who.clone()));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .event_format(Lines { text, who });
    // A second call, in tests, keeps the first subscriber.
    let _already_set = tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .with(events)
        .try_init();
    if is_manager
        && let Ok(wanted) = std::env::var(FILTER_VARIABLE)
        && let Err(error) = parsed(&wanted)
    {
        tracing::warn!("{FILTER_VARIABLE}={wanted:?} is no filter and not used: {error}");
    }
    std::panic::set_hook(Box::new(|panic| {
        // One line, like everything else.
        tracing::error!("{}", panic.to_string().replace('\n', " "));
    }));
    Arc::new(move |text| {
        let filter = parsed(text)?;
        handle
            .reload(quieted(filter))
            .map_err(|error| error.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_that_would_silence_the_log_are_refused() {
        for filter in [
            "info",
            "off",
            "DEBUG",
            "tidegate=debug",
            "tidegate_stack=debug,info",
            "warn,tidegate_proxy::links=trace",
            "tidegate_port",
        ] {
            assert!(parsed(filter).is_ok(), "{filter}");
        }
        for (filter, words) in [
            ("inof", "\"inof\" is no level"),
            ("ööö", "\"ööö\" is no level"),
            ("tidegate_stak=debug,info", "tidegate_stack"),
            ("tidegate_stackx", "no part of Tidegate"),
            ("info,hyper=debug", "\"hyper\""),
            ("", "empty"),
            (" , ", ""),
            ("tidegate=inof", ""),
        ] {
            let fault = parsed(filter).unwrap_err();
            assert!(fault.contains(words), "{filter}: {fault}");
        }
    }
}
