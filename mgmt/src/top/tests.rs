//! What is drawn, as text. `UPDATE_DOCS=1 cargo test -p tidegate top::` writes docs/top.txt anew.

use super::draw::draw;
use super::view::{Sort, View, Window};
use crate::http::sample;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use std::path::Path;
use std::time::{Duration, Instant};

fn view() -> View {
    let mut view = View::new();
    view.told(Ok(Box::new(sample::stats())), Instant::now());
    view
}

/// The screen as lines, without the blanks at their ends.
fn screen(view: &mut View, width: u16, height: u16) -> Vec<String> {
    screen_at(view, width, height, Instant::now())
}

fn screen_at(view: &mut View, width: u16, height: u16, now: Instant) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, view, now)).unwrap();
    let buffer = terminal.backend().buffer().clone();
    let lines = (0..height).map(|y| {
        let cells = (0..width).map(|x| buffer[(x, y)].symbol());
        cells.collect::<String>().trim_end().to_owned()
    });
    lines.collect()
}

fn press(view: &mut View, code: KeyCode) -> bool {
    view.press(KeyEvent::new(code, KeyModifiers::NONE))
}

fn line_of(lines: &[String], words: &str) -> usize {
    let place = lines.iter().position(|line| line.contains(words));
    place.unwrap_or_else(|| panic!("{words:?} is not in\n{}", lines.join("\n")))
}

#[test]
fn the_screen_is_what_the_documentation_shows() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/top.txt");
    let shown = screen(&mut view(), 120, 18).join("\n") + "\n";
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &shown).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == shown,
        "docs/top.txt is out of date: run UPDATE_DOCS=1 cargo test -p tidegate top::\n{shown}"
    );
}

#[test]
fn keys_sort_pools_and_their_servers() {
    let mut view = view();
    if let Some(stats) = &mut view.stats {
        stats.pools.reverse();
        stats.pools[1].servers.reverse();
    }
    let order = |view: &mut View| {
        let lines = screen(view, 120, 24);
        ["pages", "sessions", "cache-b", "cache-a"].map(|words| line_of(&lines, words))
    };
    let [pages, sessions, b, a] = order(&mut view);
    assert!(pages < sessions && b < a);
    for key in ['r', 'e', 'p'] {
        assert!(!press(&mut view, KeyCode::Char(key)));
        assert_ne!(view.sort, Sort::File);
        let [pages, sessions, b, a] = order(&mut view);
        assert!(a < b && (key == 'p' || sessions < pages), "{key}");
    }
    press(&mut view, KeyCode::Char('f'));
    assert_eq!(view.sort, Sort::File);
}

#[test]
fn only_q_escape_and_control_c_end_it() {
    let mut view = view();
    for code in [
        KeyCode::Char('x'),
        KeyCode::Char('w'),
        KeyCode::Enter,
        KeyCode::Up,
        KeyCode::F(1),
    ] {
        assert!(!press(&mut view, code));
    }
    assert!(press(&mut view, KeyCode::Char('q')));
    assert!(press(&mut view, KeyCode::Esc));
    assert!(view.press(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)));
    assert!(!view.press(KeyEvent::new(KeyCode::Char('q'), KeyModifiers::CONTROL)));
}

#[test]
fn the_window_goes_round() {
    let mut view = view();
    if let Some(stats) = &mut view.stats {
        stats.total.rates.minute.requests_per_s = 77.0;
    }
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(view.window);
        let lines = screen(&mut view, 120, 24);
        assert_eq!(
            lines[1].starts_with("77 req/s"),
            view.window == Window::Minute
        );
        line_of(&lines, view.window.name());
        press(&mut view, KeyCode::Char('w'));
    }
    seen.dedup();
    assert_eq!((seen.len(), view.window), (4, seen[0]));
}

#[test]
fn what_does_not_fit_is_reached_by_scrolling() {
    let mut view = view();
    let last = |view: &mut View| screen(view, 100, 10).join("\n").contains("cache-d");
    assert!(!last(&mut view));
    press(&mut view, KeyCode::End);
    assert!(last(&mut view));
    let end = view.scroll;
    press(&mut view, KeyCode::PageDown);
    assert!(last(&mut view));
    assert_eq!(view.scroll, end, "it stops at the last page");
    press(&mut view, KeyCode::Up);
    assert!(!last(&mut view));
    press(&mut view, KeyCode::PageUp);
    press(&mut view, KeyCode::Home);
    assert_eq!(view.scroll, 0);
}

#[test]
fn a_manager_that_is_gone_is_told_and_what_it_said_stays() {
    let mut view = view();
    let now = Instant::now();
    view.told(Err("cannot reach \"shop\":\nmore".into()), now);
    let lines = screen_at(&mut view, 120, 24, now + Duration::from_secs(7));
    assert_eq!(
        lines[2],
        "no answer for 7 s, asking again: cannot reach \"shop\":"
    );
    line_of(&lines, "cache-a");
    view.told(Ok(Box::new(sample::stats())), now);
    assert_eq!(screen(&mut view, 120, 24)[2], "");
}

#[test]
fn no_size_and_no_name_breaks_it() {
    let mut view = view();
    view.told(Ok(Box::new(sample::hostile())), Instant::now());
    for (width, height) in [(1, 1), (3, 40), (40, 3), (80, 24), (500, 200)] {
        let lines = screen(&mut view, width, height);
        assert_eq!(lines.len(), usize::from(height));
        let whole = lines.join("");
        assert!(!whole.contains(|c: char| c.is_control() || c == '\u{202e}'));
    }
    let mut nothing = View::new();
    assert!(screen(&mut nothing, 80, 24)[0].starts_with("asking"));
    let many = view.stats.as_mut().unwrap();
    let worker = many.workers[0].clone();
    many.workers = vec![worker; 300];
    let pool = many.pools[0].clone();
    many.pools = vec![pool; 300];
    line_of(&screen(&mut view, 120, 50), "sessions");
}
