//! What `/metrics` has beside the counters of the table: sums, times, and how things stand.

/// How a series is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// How things stand.
    Gauge,
    /// How often a value was in which range.
    Histogram,
}

impl Kind {
    /// As Prometheus calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A series, or rather all that have its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Series {
    /// The name that Prometheus knows.
    pub name: &'static str,
    /// How it is told.
    pub kind: Kind,
    /// What its labels are.
    pub labels: &'static str,
    /// What it says.
    pub help: &'static str,
}

macro_rules! series {
    ($($constant:ident: $kind:ident $name:literal of $labels:literal, $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $constant: Series = Series {
                name: $name,
                kind: Kind::$kind,
                labels: $labels,
                help: $help,
            };
        )*
        /// All of them, in the order of the page.
        pub const ALL: &[Series] = &[$($constant),*];
    };
}

series! {
    INFO: Gauge "tidegate_info" of "name, version", "what runs; always 1";
    UPTIME: Gauge "tidegate_uptime_seconds" of "", "since the manager started";
    DRAINING: Gauge "tidegate_draining" of "", "1 while the instance ends";
    CONTROL_REQUESTS: Counter "tidegate_control_requests_total" of "outcome",
        "requests on the control socket, by what became of them";
    POOL_ERRORS: Counter "tidegate_pool_errors_total" of "pool", "requests answered with an error, whoever made it";
    POOL_REQUEST_BYTES: Counter "tidegate_pool_request_bytes_total" of "pool", "bytes of requests taken";
    POOL_REPLY_BYTES: Counter "tidegate_pool_reply_bytes_total" of "pool", "bytes of replies delivered";
    POOL_QUANTILES: Gauge "tidegate_pool_latency_quantile_seconds" of "pool, q, window",
        "from a request taken to its reply delivered: what this part of replies did not exceed";
    POOL_LATENCY: Histogram "tidegate_pool_latency_seconds" of "pool", "from a request taken to its reply delivered";
    COMMAND_REQUESTS: Counter "tidegate_command_requests_total" of "pool, command", "requests taken";
    COMMAND_ERRORS: Counter "tidegate_command_errors_total" of "pool, command", "requests answered with an error";
    COMMAND_REQUEST_BYTES: Counter "tidegate_command_request_bytes_total" of "pool, command", "bytes of requests taken";
    COMMAND_REPLY_BYTES: Counter "tidegate_command_reply_bytes_total" of "pool, command", "bytes of replies delivered";
    COMMAND_LATENCY: Histogram "tidegate_command_latency_seconds" of "pool, command",
        "from a request taken to its reply delivered";
    SERVER_UNREACHABLE: Gauge "tidegate_server_unreachable" of "pool, server, address",
        "1 while there is no route to it or no neighbour that leads there";
    SERVER_QUANTILES: Gauge "tidegate_server_latency_quantile_seconds" of "pool, server, address, q, window",
        "from a request sent to its reply: what this part of replies did not exceed";
    SERVER_LATENCY: Histogram "tidegate_server_latency_seconds" of "pool, server, address",
        "from a request sent to its reply";
    WORKER_UP: Gauge "tidegate_worker_up" of "worker", "1 while its process serves";
    WORKER_BUSY: Gauge "tidegate_worker_busy_ratio" of "worker",
        "part of the last ten seconds in which there was something to do";
    LINK_DOWN: Gauge "tidegate_link_down" of "interface",
        "1 while the interface has no link: cable, switch or hypervisor";
    STEERING_FRAMES: Counter "tidegate_steering_frames_total" of "interface, verdict",
        "frames by what the steering program decided";
    STEERING_BYPASSED: Gauge "tidegate_steering_bypassed" of "interface",
        "1 while frames arrive that the steering program does not see";
    DEVICE_FRAMES: Counter "tidegate_device_frames_total" of "interface, reason",
        "frames that the interface itself dropped or failed to send, since it exists";
}
