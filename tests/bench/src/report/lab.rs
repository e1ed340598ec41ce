//! The part of the report about the lab.

use super::svg::{Plot, Series};
use super::targets::{Bound, Verdict, short};
use crate::lab::FIXED_RATE;
use crate::machine::{LOAD_CORE, PROXY_CORE};
use crate::results::{
    Ack, Calls, Contender, FixedRate, LabResults, Losses, Placement, Saturation, Shared,
};
use crate::slice::PERCENT;
use crate::statistics::Spread;
use std::fmt::Write as _;

/// XDP's receive work for one frame, in seconds. In placement B it runs on the sender's core, and is added to a worker's time.
const XDP_RECEIVE_S: f64 = 1.05e-6;

/// Loads in the order in which they were measured.
fn loads(results: &LabResults) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for sample in &results.saturation {
        if !names.contains(&sample.load.as_str()) {
            names.push(&sample.load);
        }
    }
    names
}

/// Placements that were measured: a campaign that was cut short lacks the last.
pub fn placements(results: &LabResults) -> Vec<Placement> {
    let mut placements = Placement::BOTH.to_vec();
    placements.retain(|placement| {
        let mut samples = results.saturation.iter();
        samples.any(|sample| sample.placement == *placement)
    });
    placements
}

/// The samples of one load, contender and placement, by round.
fn samples<'r>(
    results: &'r LabResults,
    load: &str,
    contender: Contender,
    placement: Placement,
) -> Vec<&'r Saturation> {
    let wanted = results.saturation.iter().filter(|sample| {
        sample.load == load && sample.contender == contender && sample.placement == placement
    });
    wanted.collect()
}

/// Requests per busy second. What the sender's core does for a worker in placement B is the worker's.
fn per_busy_second(sample: &Saturation) -> f64 {
    let elsewhere = match (sample.placement, &sample.effort) {
        (Placement::B, Some(effort)) => {
            effort.rx_frames.iter().sum::<f64>() * sample.requests as f64 * XDP_RECEIVE_S
        }
        _ => 0.0,
    };
    sample.requests as f64 / (sample.busy_s + elsewhere).max(1e-9)
}

/// A figure of a worker over that of nutcracker, round by round.
fn ratio(
    results: &LabResults,
    load: &str,
    ours: Contender,
    placement: Placement,
    figure: impl Fn(&Saturation) -> f64,
) -> Option<Spread> {
    let ours = samples(results, load, ours, placement);
    let theirs = samples(results, load, Contender::Nutcracker, placement);
    let pairs = ours.iter().filter_map(|our| {
        let their = theirs.iter().find(|their| their.round == our.round)?;
        Some(figure(our) / figure(their))
    });
    Spread::of(pairs)
}

fn fixed(results: &LabResults, contender: Contender, placement: Placement) -> Vec<&FixedRate> {
    let wanted = results
        .fixed_rate
        .iter()
        .filter(|sample| sample.contender == contender && sample.placement == placement);
    wanted.collect()
}

fn p99_ratio(results: &LabResults, ours: Contender, placement: Placement) -> Option<Spread> {
    let theirs = fixed(results, Contender::Nutcracker, placement);
    let ours = fixed(results, ours, placement);
    let pairs = ours.iter().filter_map(|our| {
        let their = theirs.iter().find(|their| their.round == our.round)?;
        Some(our.latency.p99_ms / their.latency.p99_ms)
    });
    Spread::of(pairs)
}

/// What is wanted of requests per busy second, as a multiple of nutcracker's. Where it is wanted without saying in which mode, both
/// have to reach it.
const TARGETS: [(&str, Contender, f64); 10] = [
    ("c=50", Contender::Packets(Ack::Immediate), 1.3),
    ("c=50", Contender::Packets(Ack::WithReply), 2.0),
    ("c=50 -P 16", Contender::Packets(Ack::Immediate), 2.5),
    ("c=50 -P 16", Contender::Packets(Ack::WithReply), 2.5),
    ("short", Contender::Packets(Ack::Immediate), 1.5),
    ("short", Contender::Packets(Ack::WithReply), 1.5),
    ("c=50", Contender::Kernel(Ack::Immediate), 1.3),
    ("c=50", Contender::Kernel(Ack::WithReply), 1.3),
    ("c=50 -P 16", Contender::Kernel(Ack::Immediate), 1.3),
    ("c=50 -P 16", Contender::Kernel(Ack::WithReply), 1.3),
];

/// What is wanted of short connections per second with two workers on sockets, as a multiple of nutcracker's.
const SHORT_WITH_TWO: f64 = 2.0;

/// Figures against their targets, in placement A: what a veth does when nobody interferes.
pub fn verdicts(results: &LabResults) -> Vec<Verdict> {
    let of_spread = |what: String, bound: Bound, spread: Option<Spread>| Verdict {
        what,
        bound,
        measured: spread.map(|spread| spread.median),
        range: spread.map(|spread| (spread.min, spread.max)),
    };
    let mut verdicts = Vec::new();
    for (load, ours, least) in TARGETS {
        verdicts.push(of_spread(
            format!(
                "lab: requests per busy second against nutcracker, {load}, {}",
                ours.name()
            ),
            Bound::AtLeast(least),
            ratio(results, load, ours, Placement::A, per_busy_second),
        ));
    }
    for ack in Ack::BOTH {
        let ours = Contender::Kernel(ack);
        verdicts.push(of_spread(
            format!(
                "lab, {PERCENT} % of a core for each process: short connections per second of two workers against nutcracker, {}",
                ours.name()
            ),
            Bound::AtLeast(SHORT_WITH_TWO),
            shared_ratio(&results.slices, "short", ours, |sample| sample.rate),
        ));
    }
    for ack in Ack::BOTH {
        let ours = Contender::Packets(ack);
        verdicts.push(of_spread(
            format!(
                "lab: p99 at {FIXED_RATE} requests/s against nutcracker, {}",
                ours.name()
            ),
            Bound::AtMost(0.8),
            p99_ratio(results, ours, Placement::A),
        ));
    }
    for (what, again) in [("frames dropped", false), ("segments sent again", true)] {
        let total: u64 = Ack::BOTH
            .iter()
            .flat_map(|ack| losses(results, Contender::Packets(*ack)))
            .filter(|(name, _)| !NOT_LOST.iter().any(|end| name.ends_with(end)))
            .filter(|(name, _)| name.ends_with("retransmissions") == again)
            .map(|(_, count)| count)
            .sum();
        verdicts.push(Verdict {
            what: format!("lab: {what} in all measurements with Tidegate"),
            bound: Bound::AtMost(0.0),
            measured: Some(total as f64),
            range: None,
        });
    }
    verdicts
}

/// What is listed and not judged, by the ends of the names: frames that were answered with RST, as TCP wants it (the last words
/// of clients that have closed their connections), and what explains repeated segments.
const NOT_LOST: [&str; 6] = [
    "frames_unknown_flow",
    "frames_refused",
    "tail loss probes",
    "retransmission timeouts",
    "pauses",
    "paused_us",
];

/// Everything lost with one contender, summed over all measurements.
fn losses(results: &LabResults, contender: Contender) -> Losses {
    let saturation = results.saturation.iter();
    let saturation = saturation
        .filter(|sample| sample.contender == contender)
        .map(|sample| &sample.losses);
    let fixed = results.fixed_rate.iter();
    let fixed = fixed
        .filter(|sample| sample.contender == contender)
        .map(|sample| &sample.losses);
    let mut sum = Losses::new();
    for (name, count) in saturation.chain(fixed).flatten() {
        *sum.entry(name.clone()).or_default() += count;
    }
    sum
}

/// The section.
pub fn section(results: &LabResults) -> String {
    let rounds = results
        .saturation
        .iter()
        .map(|sample| sample.round + 1)
        .max()
        .unwrap_or(0);
    let foreign = Spread::of(results.saturation.iter().map(|sample| sample.foreign));
    let foreign = foreign.map_or("unknown".to_owned(), |share| {
        format!(
            "{:.1} % (median), {:.1} % (worst)",
            100.0 * share.median,
            100.0 * share.max
        )
    });
    let mut text = format!(
        "## In the lab, beside nutcracker\n\n\
         Client, proxy and servers are network namespaces joined by veths with one queue. nutcracker, one worker on kernel sockets and one \
         on AF_XDP (`idle = \"spin\"`) take turns on core 0; two Redis servers, redis-benchmark (`-t set,get -d 100 -r 100000`) and the load \
         at a fixed rate share core 1. {rounds} rounds, each through all contenders; medians (range), ratios taken within a round. nutcracker and \
         Tidegate on kernel sockets have the same host, with veths that keep all their offloads; the peers of Tidegate on AF_XDP compute \
         checksums in software, as frames from a wire carry them. All have one connection per server, ketama and murmur; everything \
         else is each one's default.\n\n\
         *Busy* is what the proxy used of core 0: of a proxy that sleeps (nutcracker, Tidegate on sockets) wall time minus idle time of the \
         core; of a worker on AF_XDP, which polls and so is never idle, the time of the turns that found something to do, transmit calls and \
         the softirqs in them included, plus all time of the core's softirq thread. Because core 1 is saturated first by most loads, \
         requests per busy second is the figure that compares proxies, not requests per second. *By the scheduler* compares with the CPU \
         time of nutcracker's threads and the softirq thread instead of wall minus idle. Placement **A** is a veth's default: the peers' TCP runs \
         inside the proxy's transmit call, on its core. In **B** `rps_cpus` moves it to core 1; there XDP's receive work runs in the sender's \
         context on core 1, so {:.2} µs per received frame are added to the time of a worker on AF_XDP. Short connections are measured after \
         everything else of a round, and the next round waits until the kernels have forgotten them.\n\n\
         Something else took {foreign} of core 0 during the measurements; one with more than 5 % was repeated up to three times and the least disturbed \
         kept, for all contenders alike.\n\n",
        XDP_RECEIVE_S * 1e6
    );
    for placement in placements(results) {
        text += &saturation_table(results, placement);
        text += &ratio_table(results, placement);
        let _ = writeln!(
            text,
            "![Ratios in placement {placement:?}](ratios-{}.svg)\n",
            format!("{placement:?}").to_lowercase()
        );
    }
    text + &fixed_table(results)
        + &slices_table(results)
        + &shared_table(results)
        + &effort_table(results)
        + &calls_table(results)
        + &losses_table(results)
}

/// A figure with two workers over that of nutcracker, round by round.
fn shared_ratio(
    samples: &[Shared],
    load: &str,
    ours: Contender,
    figure: impl Fn(&Shared) -> f64,
) -> Option<Spread> {
    let of = |contender: Contender| {
        let wanted = samples.iter();
        wanted.filter(move |sample| sample.load == load && sample.contender == contender)
    };
    let pairs = of(ours).filter_map(|our| {
        let their = of(Contender::Nutcracker).find(|their| their.round == our.round)?;
        Some(figure(our) / figure(their))
    });
    Spread::of(pairs)
}

fn slices_table(results: &LabResults) -> String {
    let mut text = format!(
        "### Two workers, each with a slice of a core\n\n\
         nutcracker has one process, which gets {PERCENT} % of core {PROXY_CORE} here; so does each of two workers. Clients and servers have core \
         {LOAD_CORE}, and time to spare: the proxies are the bottleneck, as they are on a machine with cores for them.\n\n",
    );
    text += &two_workers(&results.slices);
    text
}

fn shared_table(results: &LabResults) -> String {
    let mut text = String::from(
        "### Two workers on both cores\n\n\
         nutcracker has one process. Clients and servers share the two cores with the proxy, so that its second worker takes time from them: this \
         is what a machine of two cores gives, not what two cores for the proxy would. *Per second of its processes* divides by the CPU time of \
         the proxy's processes, which leaves out what the kernel does for them in softirqs and, on AF_XDP, counts idle polling.\n\n",
    );
    text += &two_workers(&results.shared);
    text
}

fn two_workers(all: &[Shared]) -> String {
    let mut text = String::from(
        "| load | proxy | requests/s, thousands | / nutcracker's | per second of its processes / nutcracker's | p50 ms | p99 ms |\n\
         |---|---|---:|---:|---:|---:|---:|\n",
    );
    let mut loads: Vec<&str> = Vec::new();
    for sample in all {
        if !loads.contains(&sample.load.as_str()) {
            loads.push(&sample.load);
        }
    }
    for load in loads {
        for contender in Contender::ALL {
            let spread = |figure: &dyn Fn(&Shared) -> f64| {
                let samples = all.iter();
                let samples = samples.filter(|one| one.load == load && one.contender == contender);
                Spread::of(samples.map(figure))
            };
            let against = |figure: &dyn Fn(&Shared) -> f64| {
                cell(shared_ratio(all, load, contender, figure), 1.0, 2)
            };
            let _ = writeln!(
                text,
                "| {load} | {} | {} | {} | {} | {} | {} |",
                contender.name(),
                cell(spread(&|sample| sample.rate), 1e-3, 1),
                against(&|sample| sample.rate),
                against(&|sample| sample.per_process_second),
                cell(spread(&|sample| sample.latency.p50_ms), 1.0, 3),
                cell(spread(&|sample| sample.latency.p99_ms), 1.0, 3),
            );
        }
    }
    text + "\n"
}

fn calls_table(results: &LabResults) -> String {
    let mut text = String::from(
        "### System calls of a worker on sockets\n\n\
         Per request, medians. *Hastened*: `TCP_QUICKACK` set again after a receive.\n\n\
         | placement | load | mode | waits | reads | writes | hastened |\n|---|---|---|---:|---:|---:|---:|\n",
    );
    for placement in placements(results) {
        for load in loads(results) {
            for ack in Ack::BOTH {
                let samples = samples(results, load, Contender::Kernel(ack), placement);
                let median = |figure: &dyn Fn(&Calls) -> f64| {
                    let figures = samples
                        .iter()
                        .filter_map(|sample| sample.calls.as_ref().map(figure));
                    Spread::of(figures).map_or(f64::NAN, |spread| spread.median)
                };
                let _ = writeln!(
                    text,
                    "| {placement:?} | {load} | {} | {:.2} | {:.2} | {:.2} | {:.2} |",
                    ack.name(),
                    median(&|calls| calls.waits),
                    median(&|calls| calls.reads),
                    median(&|calls| calls.writes),
                    median(&|calls| calls.quick_acks),
                );
            }
        }
    }
    text + "\n"
}

/// The median with its range.
pub fn cell(spread: Option<Spread>, scale: f64, digits: usize) -> String {
    spread.map_or("–".to_owned(), |spread| {
        format!(
            "{:.digits$} ({:.digits$}–{:.digits$})",
            spread.median * scale,
            spread.min * scale,
            spread.max * scale
        )
    })
}

fn saturation_table(results: &LabResults, placement: Placement) -> String {
    let mut text = format!(
        "### Saturation, placement {placement:?}\n\n\
         | load | proxy | requests/s, thousands | per busy second, thousands | µs of CPU per request | p50 ms | p99 ms | max ms | core 0 not idle | core 1 idle |\n\
         |---|---|---:|---:|---:|---:|---:|---:|---:|---:|\n"
    );
    for load in loads(results) {
        for contender in Contender::ALL {
            let samples = samples(results, load, contender, placement);
            let spread = |figure: &dyn Fn(&Saturation) -> f64| {
                Spread::of(samples.iter().map(|sample| figure(sample)))
            };
            let median = |figure: &dyn Fn(&Saturation) -> f64, scale: f64, digits: usize| {
                spread(figure).map_or("–".to_owned(), |spread| {
                    format!("{:.digits$}", spread.median * scale)
                })
            };
            let _ = writeln!(
                text,
                "| {load} | {} | {} | {} | {} | {} | {} | {:.1} | {} % | {} % |",
                contender.name(),
                cell(spread(&|sample| sample.rate), 1e-3, 1),
                cell(spread(&per_busy_second), 1e-3, 1),
                median(&|sample| 1.0 / per_busy_second(sample), 1e6, 2),
                median(&|sample| sample.latency.p50_ms, 1.0, 3),
                median(&|sample| sample.latency.p99_ms, 1.0, 3),
                spread(&|sample| sample.latency.max_ms).map_or(f64::NAN, |spread| spread.max),
                median(&|sample| sample.core_busy_s / sample.wall_s, 100.0, 0),
                median(&|sample| sample.load_core_idle, 100.0, 0),
            );
        }
    }
    text + "\n"
}

fn ratio_table(results: &LabResults, placement: Placement) -> String {
    let mut text = format!(
        "### Tidegate / nutcracker, placement {placement:?}\n\n\
         | load | proxy | per busy second | by the scheduler | requests/s | p50 | p99 |\n|---|---|---:|---:|---:|---:|---:|\n"
    );
    for load in loads(results) {
        for ours in Contender::ours() {
            let of = |figure: &dyn Fn(&Saturation) -> f64| {
                cell(ratio(results, load, ours, placement, figure), 1.0, 2)
            };
            let by_scheduler = |sample: &Saturation| {
                if sample.contender == Contender::Nutcracker {
                    sample.requests as f64 / sample.scheduled_s
                } else {
                    per_busy_second(sample)
                }
            };
            let _ = writeln!(
                text,
                "| {load} | {} | {} | {} | {} | {} | {} |",
                ours.name(),
                of(&per_busy_second),
                of(&by_scheduler),
                of(&|sample| sample.rate),
                of(&|sample| sample.latency.p50_ms),
                of(&|sample| sample.latency.p99_ms),
            );
        }
    }
    text + "\n"
}

fn fixed_table(results: &LabResults) -> String {
    let mut text = format!(
        "### {FIXED_RATE} requests per second\n\n\
         50 connections, GET and SET of 100 B in turns, sent by the clock whether or not replies have come. Each request is timed from the \
         moment at which it should have been sent.\n\n\
         | placement | proxy | p50 ms | p99 ms | max ms | p99 / nutcracker's |\n|---|---|---:|---:|---:|---:|\n"
    );
    for placement in placements(results) {
        for contender in Contender::ALL {
            let samples = fixed(results, contender, placement);
            let of = |figure: &dyn Fn(&FixedRate) -> f64| {
                cell(
                    Spread::of(samples.iter().map(|sample| figure(sample))),
                    1.0,
                    3,
                )
            };
            let against = match contender {
                Contender::Nutcracker => "1".to_owned(),
                ours => cell(p99_ratio(results, ours, placement), 1.0, 2),
            };
            let _ = writeln!(
                text,
                "| {placement:?} | {} | {} | {} | {} | {against} |",
                contender.name(),
                of(&|sample| sample.latency.p50_ms),
                of(&|sample| sample.latency.p99_ms),
                of(&|sample| sample.latency.max_ms),
            );
        }
    }
    text + "\n"
}

fn effort_table(results: &LabResults) -> String {
    let mut text = String::from(
        "### Where a worker's frames go\n\n\
         Per request, client leg + server leg, medians.\n\n\
         | placement | load | mode | received | sent | bare acknowledgements | transmit calls | busy turns |\n\
         |---|---|---|---:|---:|---:|---:|---:|\n",
    );
    for placement in placements(results) {
        for load in loads(results) {
            for ack in Ack::BOTH {
                let samples = samples(results, load, Contender::Packets(ack), placement);
                let median = |figure: &dyn Fn(&crate::results::Effort) -> f64| {
                    let figures = samples
                        .iter()
                        .filter_map(|sample| sample.effort.as_ref().map(figure));
                    Spread::of(figures).map_or(f64::NAN, |spread| spread.median)
                };
                let _ = writeln!(
                    text,
                    "| {placement:?} | {load} | {} | {:.2} + {:.2} | {:.2} + {:.2} | {:.2} | {:.3} + {:.3} | {:.3} |",
                    ack.name(),
                    median(&|effort| effort.rx_frames[0]),
                    median(&|effort| effort.rx_frames[1]),
                    median(&|effort| effort.tx_frames[0]),
                    median(&|effort| effort.tx_frames[1]),
                    median(&|effort| effort.acks_alone),
                    median(&|effort| effort.kicks[0]),
                    median(&|effort| effort.kicks[1]),
                    median(&|effort| effort.busy_turns),
                );
            }
        }
    }
    text + "\n"
}

fn losses_table(results: &LabResults) -> String {
    let mut text = String::from(
        "### Lost frames and repeated segments\n\n\
         Summed over all measurements of each proxy: errors and drops of every interface of every host, drops of the worker's rings and of \
         its stack, of the steering program, and retransmissions of all TCPs (the kernels' and the worker's). Counters that stayed zero \
         are left out. `frames_unknown_flow` counts frames that were answered with RST, as TCP wants it; they are no drops. *Tail loss \
         probes* and *retransmission timeouts* are what made a kernel send again; *pauses* are turns of the worker of more than 1 ms, \
         in which somebody else had its core.\n\n| proxy | counter | count |\n|---|---|---:|\n",
    );
    for contender in Contender::ALL {
        let losses = losses(results, contender);
        if losses.is_empty() {
            let _ = writeln!(text, "| {} | all | 0 |", contender.name());
        }
        for (name, count) in losses {
            let _ = writeln!(
                text,
                "| {} | {name} | {} |",
                contender.name(),
                short(count as f64)
            );
        }
    }
    text + "\n"
}

/// Requests per busy second against nutcracker.
pub fn plot(results: &LabResults, placement: Placement) -> Plot {
    let loads = loads(results);
    let series = Contender::ours().map(|ours| Series {
        name: format!("{} (whisker: range of the rounds)", ours.name()),
        values: loads
            .iter()
            .map(|load| ratio(results, load, ours, placement, per_busy_second))
            .collect(),
    });
    Plot {
        title: format!(
            "Requests per busy second of the core, nutcracker = 1 (placement {placement:?})"
        ),
        unit: "ratio".to_owned(),
        categories: loads.iter().map(|load| (*load).to_owned()).collect(),
        axis: "load of redis-benchmark (dashed: nutcracker)".to_owned(),
        series: series.collect(),
        marks: vec![super::svg::Mark {
            name: String::new(),
            value: 1.0,
        }],
    }
}
