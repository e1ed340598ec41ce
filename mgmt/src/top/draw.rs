//! Draws the view. Everything is a line of text of its own width, so that a small terminal shows the front of it and not a mess.

use super::shown::{clock, name, number, time};
use super::view::{Sort, View, Window};
use crate::stats::model::{PoolStats, Rates, ServerStats, Stats, WorkerStats};
use crate::status::table::span;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Table};
use std::time::Instant;

/// Cells of the bar of a busy worker.
const BAR: usize = 10;
/// Most workers that are shown each, so that pools have room; the busiest of them.
const WORKERS_MAX: usize = 16;
/// Columns of numbers, of pools and servers alike.
const RATE_HEADS: [&str; 7] = ["req/s", "err/s", "in/s", "out/s", "p50", "p99", "p99.9"];

const GOOD: Style = Style::new().fg(Color::Green);
const WARN: Style = Style::new().fg(Color::Yellow);
const BAD: Style = Style::new().fg(Color::Red);
const MUTED: Style = Style::new().fg(Color::DarkGray);
const HEAD: Style = Style::new().add_modifier(Modifier::BOLD);

/// Draws everything. What it finds out about the size goes back into the view.
pub fn draw(frame: &mut Frame<'_>, view: &mut View, now: Instant) {
    let stats = view.stats.take();
    let workers = stats.as_ref().map_or(0, |stats| stats.workers.len());
    let workers_lines = workers.min(WORKERS_MAX) as u16 + 1;
    let [head, silence, worker_area, _, pool_area, foot] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(1),
        Constraint::Length(workers_lines),
        Constraint::Length(1),
        Constraint::Min(3),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    if let Some(stats) = &stats {
        frame.render_widget(Paragraph::new(title(stats, view.window)), head);
        draw_workers(frame, worker_area, stats, view.window);
        draw_pools(frame, pool_area, stats, view);
    } else {
        frame.render_widget("asking the manager …", head);
    }
    frame.render_widget(silence_line(view, now), silence);
    frame.render_widget(keys(view), foot);
    view.stats = stats;
}

/// Two lines: who it is, and how all pools do together.
fn title(stats: &Stats, window: Window) -> Vec<Line<'static>> {
    let state = if stats.state == "running" { GOOD } else { WARN };
    let who = Line::from(vec![
        Span::styled(name(&stats.name), HEAD),
        Span::raw(format!(" on {} · ", name(&stats.host))),
        Span::styled(stats.state.clone(), state),
        Span::raw(format!(
            " · up {} · {}",
            span(stats.uptime_s),
            clock(stats.unix_ms)
        )),
    ]);
    let rates = window.of(&stats.total.rates);
    let latency = rates.latency.as_ref();
    let part = |value: String, what: &'static str| [value.bold(), Span::raw(what)];
    let errors = if rates.errors_per_s > 0.0 {
        WARN
    } else {
        Style::new()
    };
    let parts = [
        part(number(rates.requests_per_s), " req/s  "),
        [
            Span::styled(number(rates.errors_per_s), errors.bold()),
            Span::raw(" err/s  "),
        ],
        part(time(latency.map(|l| l.p50_us)), " p50  "),
        part(time(latency.map(|l| l.p99_us)), " p99  "),
        part(time(latency.map(|l| l.p99_9_us)), " p99.9  "),
        part(stats.total.clients.to_string(), " clients  "),
        part(
            stats.total.server_connections.to_string(),
            " server connections",
        ),
    ];
    vec![who, Line::from(parts.concat())]
}

fn silence_line(view: &View, now: Instant) -> Line<'static> {
    match &view.silence {
        None => Line::default(),
        Some(silence) => {
            let seconds = now.saturating_duration_since(silence.since).as_secs();
            // An error of several lines would not fit.
            let why = name(silence.why.lines().next().unwrap_or_default());
            Line::styled(
                format!("no answer for {seconds} s, asking again: {why}"),
                BAD.add_modifier(Modifier::REVERSED),
            )
        }
    }
}

/// Text on the right side of its column.
fn right(text: impl Into<String>) -> Cell<'static> {
    Cell::from(Line::from(text.into()).right_aligned())
}

fn right_styled(text: impl Into<String>, style: Style) -> Cell<'static> {
    right(text).style(style)
}

/// A rate that is a fault unless it is zero.
fn fault(rate: f64, style: Style) -> Cell<'static> {
    let style = if rate > 0.0 { style } else { Style::new() };
    right_styled(number(rate), style)
}

fn head(cells: Vec<Cell<'static>>) -> Row<'static> {
    Row::new(cells).style(MUTED.add_modifier(Modifier::BOLD))
}

fn draw_workers(frame: &mut Frame<'_>, area: Rect, stats: &Stats, window: Window) {
    let mut workers: Vec<&WorkerStats> = stats.workers.iter().collect();
    if workers.len() > WORKERS_MAX {
        let busy = |worker: &WorkerStats| window.of(&worker.rates).busy_percent;
        workers.sort_by(|a, b| busy(b).total_cmp(&busy(a)));
        workers.truncate(WORKERS_MAX);
    }
    let rows = workers.iter().map(|worker| worker_row(worker, window));
    let widths = [
        Constraint::Length(6),
        Constraint::Length(4),
        Constraint::Length(8),
        Constraint::Length(4),
        Constraint::Length(BAR as u16),
        Constraint::Length(6),
        Constraint::Length(6),
        Constraint::Length(6),
        Constraint::Length(6),
        Constraint::Length(8),
        Constraint::Fill(1),
    ];
    let heads = vec![
        Cell::from("worker"),
        right("core"),
        Cell::from("state"),
        right("busy"),
        Cell::from(""),
        right("req/s"),
        right("rx/s"),
        right("tx/s"),
        right("lost/s"),
        right("restarts"),
        Cell::from("queues"),
    ];
    frame.render_widget(Table::new(rows, widths).header(head(heads)), area);
}

fn worker_row(worker: &WorkerStats, window: Window) -> Row<'static> {
    let rates = window.of(&worker.rates);
    let busy = rates.busy_percent.clamp(0.0, 100.0);
    let tone = if busy > 95.0 {
        BAD
    } else if busy > 80.0 {
        WARN
    } else {
        GOOD
    };
    let full = ((busy / 100.0 * BAR as f64).round() as usize).min(BAR);
    let bar = Line::from(vec![
        Span::styled("█".repeat(full), tone),
        Span::styled("░".repeat(BAR - full), MUTED),
    ]);
    let sum = |of: fn(&crate::stats::model::QueueRates) -> f64| -> f64 {
        let queues = worker.queues.iter();
        queues.map(|queue| of(window.of(&queue.rates))).sum()
    };
    let frames = |rate: f64| {
        // Over kernel sockets frames are none of ours.
        let none = worker.queues.is_empty();
        right(if none { "-".into() } else { number(rate) })
    };
    let queues = worker.queues.iter().map(|queue| {
        let mode = queue.mode.map_or("closed".into(), |mode| mode.to_string());
        format!("{}:{} {mode}", name(&queue.interface), queue.queue)
    });
    let state = if worker.state == "running" { GOOD } else { BAD };
    let restarts = if worker.restarts > 0 {
        WARN
    } else {
        Style::new()
    };
    let lost = if worker.queues.is_empty() {
        right("-")
    } else {
        fault(sum(|rates| rates.lost_per_s), BAD)
    };
    Row::new(vec![
        Cell::from(worker.worker.to_string()),
        right(worker.core.map_or("-".into(), |core| core.to_string())),
        Cell::from(worker.state.clone()).style(state),
        right(format!("{busy:.0}%")),
        Cell::from(bar),
        right(number(rates.requests_per_s)),
        frames(sum(|rates| rates.rx_frames_per_s)),
        frames(sum(|rates| rates.tx_frames_per_s)),
        lost,
        right_styled(worker.restarts.to_string(), restarts),
        Cell::from(queues.collect::<Vec<_>>().join(", ")),
    ])
}

fn draw_pools(frame: &mut Frame<'_>, area: Rect, stats: &Stats, view: &mut View) {
    let window = view.window;
    let mut rows = Vec::new();
    for (pool, servers) in view.pools(stats) {
        rows.push(pool_row(pool, window));
        let servers = servers.into_iter();
        rows.extend(servers.map(|server| server_row(server, stats.workers.len(), window)));
    }
    view.page = usize::from(area.height.saturating_sub(1)).max(1);
    view.scroll = view.scroll.min(rows.len().saturating_sub(view.page));
    let rows = rows.into_iter().skip(view.scroll).take(view.page);
    let mut widths = vec![Constraint::Fill(1)];
    widths.extend([Constraint::Length(6); 4]);
    widths.extend([Constraint::Length(7); 3]);
    widths.push(Constraint::Length(7));
    let mut heads = vec![Cell::from("pool / server")];
    heads.extend(RATE_HEADS.map(right));
    heads.push(right("open"));
    let table = Table::new(rows, widths).header(head(heads));
    frame.render_widget(table, area);
}

fn pool_row(pool: &PoolStats, window: Window) -> Row<'static> {
    let listen: Vec<String> = pool.listen.iter().map(|address| name(address)).collect();
    let what = Line::from(vec![
        Span::styled(name(&pool.name), HEAD),
        Span::styled(
            format!(" {} on {}", pool.protocol, listen.join(", ")),
            MUTED,
        ),
    ]);
    let mut cells = vec![Cell::from(what)];
    cells.extend(rate_cells(window.of(&pool.rates)));
    cells.push(right(pool.counters.clients.to_string()));
    Row::new(cells)
}

fn server_row(server: &ServerStats, workers: usize, window: Window) -> Row<'static> {
    let ejected = server.counters.ejected;
    let (tone, state) = match &server.unreachable {
        Some(why) => (BAD, format!(" unreachable: {}", name(why))),
        None if ejected >= workers.max(1) as u64 => (BAD, " ejected".to_owned()),
        None if ejected > 0 => (WARN, format!(" ejected by {ejected} of {workers}")),
        None => (GOOD, String::new()),
    };
    let address = if server.name == server.address {
        String::new()
    } else {
        format!(" {}", name(&server.address))
    };
    let what = Line::from(vec![
        Span::raw("  "),
        Span::styled(if state.is_empty() { "●" } else { "✗" }, tone),
        Span::raw(format!(" {}", name(&server.name))),
        Span::styled(state, tone),
        Span::styled(address, MUTED),
    ]);
    let mut cells = vec![Cell::from(what)];
    cells.extend(rate_cells(window.of(&server.rates)));
    cells.push(right(server.counters.connections.to_string()));
    Row::new(cells)
}

fn rate_cells(rates: &Rates) -> [Cell<'static>; 7] {
    let latency = rates.latency.as_ref();
    [
        right(number(rates.requests_per_s)),
        fault(rates.errors_per_s, WARN),
        right(number(rates.request_bytes_per_s)),
        right(number(rates.reply_bytes_per_s)),
        right(time(latency.map(|latency| latency.p50_us))),
        right(time(latency.map(|latency| latency.p99_us))),
        right(time(latency.map(|latency| latency.p99_9_us))),
    ]
}

/// The keys, and what they chose.
fn keys(view: &View) -> Line<'static> {
    let mut spans = vec!["q".bold(), " quit  ".into(), "w".bold()];
    spans.push(format!(" {}  ", view.window.name()).into());
    spans.push("sort: ".into());
    for (key, what, sort) in Sort::ALL {
        let style = if sort == view.sort {
            Style::new().add_modifier(Modifier::REVERSED)
        } else {
            Style::new()
        };
        spans.push(Span::styled(key.to_string(), style.bold()));
        spans.push(Span::styled(format!(" {what}"), style));
        spans.push("  ".into());
    }
    spans.push("↑↓ scroll".into());
    Line::from(spans)
}
