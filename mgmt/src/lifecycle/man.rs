//! The manual pages: what clap knows of the commands, in the form that `mandoc -Tlint` has nothing against.

use clap::Command;
use clap_mangen::Man;
use std::io;
use std::path::Path;

/// When what the pages say was released. A fixed day, so that the same source makes the same pages.
const RELEASED: &str = "2026-11-21";

/// Writes a page for each command into the directory.
pub fn write(mut cli: Command, directory: &Path) -> io::Result<()> {
    cli = cli.disable_help_subcommand(true);
    cli.build();
    write_one(&cli, directory)
}

fn write_one(command: &Command, directory: &Path) -> io::Result<()> {
    for command in command.get_subcommands().filter(|some| !some.is_hide_set()) {
        write_one(command, directory)?;
    }
    let (file, page) = page(command)?;
    std::fs::write(directory.join(file), page)
}

/// Name and text of a page.
fn page(command: &Command) -> io::Result<(String, String)> {
    let source = concat!("tidegate ", env!("CARGO_PKG_VERSION"));
    let name = command.get_display_name().unwrap_or(command.get_name());
    let title = name.to_uppercase();
    let man = Man::new(command.clone())
        .title(title)
        .date(RELEASED)
        .source(source);
    let mut page = Vec::new();
    man.render(&mut page)?;
    Ok((man.get_filename(), tidy(&String::from_utf8_lossy(&page))))
}

/// Without blanks at the ends of lines, and without line breaks beside an empty line, which is one already.
fn tidy(page: &str) -> String {
    const BREAK: &str = ".br";
    let lines: Vec<&str> = page.lines().map(str::trim_end).collect();
    let mut tidy = String::with_capacity(page.len());
    for (index, line) in lines.iter().enumerate() {
        let next = lines.get(index + 1).copied().unwrap_or_default();
        let before = index.checked_sub(1).map_or("", |before| lines[before]);
        if *line != BREAK || (!next.is_empty() && !before.is_empty()) {
            tidy.push_str(line);
            tidy.push('\n');
        }
    }
    tidy
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn all(command: &Command, pages: &mut Vec<(String, String)>) {
        for command in command.get_subcommands().filter(|some| !some.is_hide_set()) {
            all(command, pages);
        }
        pages.push(page(command).unwrap());
    }

    #[test]
    fn pages_have_a_day_and_nothing_that_a_check_would_tell() {
        let mut cli = crate::Cli::command();
        cli.build();
        let mut pages = Vec::new();
        all(&cli, &mut pages);
        assert!(pages.len() > 20);
        for (name, page) in pages {
            let title = page.lines().find(|line| line.starts_with(".TH")).unwrap();
            assert!(title.contains(RELEASED), "{title}");
            assert!(title.contains("tidegate 0."), "{title}");
            for line in page.lines() {
                assert_eq!(line.trim_end(), line, "{name}");
            }
            for pair in [".br\n\n", "\n\n.br\n"] {
                assert!(!page.contains(pair), "{name}: {pair:?}");
            }
        }
    }

    #[test]
    fn only_breaks_beside_empty_lines_go() {
        let page = "a \n.br\nb\n.br\n\n.br\nc\n";
        assert_eq!(tidy(page), "a\n.br\nb\n\nc\n");
    }
}
