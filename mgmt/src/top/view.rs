//! What is shown, and what the keys chose.

use super::feed::Told;
use crate::stats::model::{PoolStats, Rates, ServerStats, Stats, Windows};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use std::cmp::Ordering;
use std::time::Instant;

/// What is sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// The order of the configuration.
    File,
    /// Most requests first.
    Requests,
    /// Most errors first.
    Errors,
    /// Slowest first, by the 99th percentile.
    Latency,
}

impl Sort {
    /// Each with its key and its name.
    pub const ALL: [(char, &'static str, Self); 4] = [
        ('f', "file", Self::File),
        ('r', "requests", Self::Requests),
        ('e', "errors", Self::Errors),
        ('p', "p99", Self::Latency),
    ];

    fn compare(self, a: &Rates, b: &Rates) -> Ordering {
        let p99 = |rates: &Rates| rates.latency.map(|latency| latency.p99_us);
        match self {
            Self::File => Ordering::Equal,
            Self::Requests => b.requests_per_s.total_cmp(&a.requests_per_s),
            Self::Errors => b.errors_per_s.total_cmp(&a.errors_per_s),
            Self::Latency => p99(b).cmp(&p99(a)),
        }
    }
}

/// Which time numbers are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// The last second.
    Second,
    /// The last ten.
    TenSeconds,
    /// The last minute.
    Minute,
    /// Since the manager started.
    Start,
}

impl Window {
    /// How it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Second => "last second",
            Self::TenSeconds => "last 10 s",
            Self::Minute => "last minute",
            Self::Start => "since the start",
        }
    }

    /// The numbers of this time.
    pub fn of<T>(self, windows: &Windows<T>) -> &T {
        match self {
            Self::Second => &windows.second,
            Self::TenSeconds => &windows.ten_seconds,
            Self::Minute => &windows.minute,
            Self::Start => &windows.start,
        }
    }

    fn next(self) -> Self {
        match self {
            Self::Second => Self::TenSeconds,
            Self::TenSeconds => Self::Minute,
            Self::Minute => Self::Start,
            Self::Start => Self::Second,
        }
    }
}

/// Why nothing new is known, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silence {
    /// When the last question was answered, or the first was not.
    pub since: Instant,
    /// What went wrong at last.
    pub why: String,
}

/// Everything that the screen depends on.
#[derive(Debug)]
pub struct View {
    /// What was told last.
    pub stats: Option<Box<Stats>>,
    /// Whether it is not the latest any more.
    pub silence: Option<Silence>,
    /// What is sorted by.
    pub sort: Sort,
    /// Which time numbers are of.
    pub window: Window,
    /// Lines of pools and servers that are above the screen.
    pub scroll: usize,
    /// Lines of them that fit the screen; drawing finds out.
    pub page: usize,
    heard: Option<Instant>,
}

impl View {
    /// Before anything is known.
    pub fn new() -> Self {
        Self {
            stats: None,
            silence: None,
            sort: Sort::File,
            window: Window::TenSeconds,
            scroll: 0,
            page: 1,
            heard: None,
        }
    }

    /// Takes an answer, or the lack of one.
    pub fn told(&mut self, told: Told, now: Instant) {
        match told {
            Ok(stats) => {
                self.stats = Some(stats);
                self.heard = Some(now);
                self.silence = None;
            }
            Err(why) => {
                let since = self.heard.unwrap_or(now);
                self.silence = Some(Silence { since, why });
            }
        }
    }

    /// Does what a key is for. Returns whether it ends all.
    pub fn press(&mut self, key: KeyEvent) -> bool {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            // In raw mode the terminal makes no signal of it.
            return matches!(key.code, KeyCode::Char('c'));
        }
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return true,
            KeyCode::Char('w') => self.window = self.window.next(),
            KeyCode::Char(letter) => {
                let mut sorts = Sort::ALL.iter();
                if let Some((.., sort)) = sorts.find(|(key, ..)| *key == letter) {
                    self.sort = *sort;
                    self.scroll = 0;
                }
            }
            KeyCode::Up => self.scroll = self.scroll.saturating_sub(1),
            KeyCode::Down => self.scroll += 1,
            KeyCode::PageUp => self.scroll = self.scroll.saturating_sub(self.page),
            KeyCode::PageDown => self.scroll += self.page,
            KeyCode::Home => self.scroll = 0,
            // Drawing stops at the last page.
            KeyCode::End => self.scroll = usize::MAX / 2,
            _ => {}
        }
        false
    }

    /// Pools as they are sorted, each with its servers as they are.
    pub fn pools<'a>(&self, stats: &'a Stats) -> Vec<(&'a PoolStats, Vec<&'a ServerStats>)> {
        let (sort, window) = (self.sort, self.window);
        let mut pools: Vec<&PoolStats> = stats.pools.iter().collect();
        pools.sort_by(|a, b| sort.compare(window.of(&a.rates), window.of(&b.rates)));
        let with_servers = pools.into_iter().map(|pool| {
            let mut servers: Vec<&ServerStats> = pool.servers.iter().collect();
            servers.sort_by(|a, b| sort.compare(window.of(&a.rates), window.of(&b.rates)));
            (pool, servers)
        });
        with_servers.collect()
    }
}
