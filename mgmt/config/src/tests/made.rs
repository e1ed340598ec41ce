//! Texts that were made from another file.

use crate::{Config, Place};

#[test]
fn faults_of_a_text_that_was_made_name_the_places_it_was_made_from() {
    let text = "[[port]]\ndriver = \"kernel\"\n[[pool]]\nname = \"a\"\nlisten = \"10.0.0.10\"\nprotocol = \"redis\"\n\
                servers = [\n\"10.0.1.1:1:1 x\",\n\"10.0.1.2:1:1 x\",\n]\n";
    let origins: Vec<Place> = (1..=text.lines().count())
        .map(|line| Place {
            line: 100 * line,
            column: line,
        })
        .collect();
    let errors = Config::parse_made(text, "other.yml", &origins).unwrap_err();
    let shown = errors.to_string();
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.len(), 2, "{shown}");
    assert!(lines[0].starts_with("other.yml:500:5: "), "{shown}");
    assert!(lines[1].starts_with("other.yml:900:9: "), "{shown}");
    assert!(lines[1].contains("the server of line 800"), "{shown}");
    // A text with more lines than places keeps its own for the rest.
    let errors = Config::parse_made(text, "other.yml", &origins[..5]).unwrap_err();
    assert_eq!(errors.faults[1].line, 9, "{errors}");
    let sound = text
        .replace("10.0.0.10", "10.0.0.10:1")
        .replace("1.2:1:1 x", "1.2:1:1 y");
    assert_eq!(
        Config::parse_made(&sound, "other.yml", &origins),
        Config::parse(&sound, "t.toml")
    );
}
