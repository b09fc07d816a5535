//! What no transcript may hold, and what the tree must keep.

#![expect(clippy::disallowed_methods, reason = "the tests read the tree")]

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(directory: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            found.extend(files(&entry, ending));
        } else if entry.to_string_lossy().ends_with(ending) {
            found.push(entry);
        }
    }
    found
}

/// The form of every password this charm makes: 24 letters and digits, of all three kinds.
fn looks_generated(word: &str) -> bool {
    word.len() == 24
        && word.chars().any(|c| c.is_ascii_uppercase())
        && word.chars().any(|c| c.is_ascii_lowercase())
        && word.chars().any(|c| c.is_ascii_digit())
}

#[test]
fn transcripts_hold_no_password_and_no_verifier() {
    let transcripts = files(&root().join("tests"), ".transcript");
    assert!(!transcripts.is_empty(), "there are transcripts");
    for path in transcripts {
        let text = fs::read_to_string(&path).expect("a transcript");
        let words = text.split(|c: char| !c.is_ascii_alphanumeric());
        assert_eq!(words.filter(|word| looks_generated(word)).count(), 0, "{}", path.display());
        assert!(!text.contains("SCRAM-SHA-256$4096:"), "{}", path.display());
        let md5 = text
            .split("md5")
            .skip(1)
            .any(|rest| rest.chars().take_while(char::is_ascii_hexdigit).count() == 32);
        assert!(!md5, "{}", path.display());
    }
}

#[test]
fn a_generated_password_would_be_recognised() {
    assert!(looks_generated("Z4OtFCe6r5HG6mk1XuR6LkwZ"));
    assert!(!looks_generated("pgbouncer"));
}

#[test]
fn every_script_has_its_transcript_and_every_transcript_its_script() {
    let scenarios = root().join("tests/scenarios");
    let stems = |ending| {
        let mut stems: Vec<_> =
            files(&scenarios, ending).iter().map(|path| path.with_extension("")).collect();
        stems.sort();
        stems
    };
    assert_eq!(stems(".txt"), stems(".transcript"));
}

#[test]
fn the_changelog_has_an_unreleased_section_on_top() {
    let text = fs::read_to_string(root().join("CHANGELOG.md")).expect("a changelog");
    let first = text.lines().find(|line| line.starts_with("## ")).expect("a section");
    assert_eq!(first, "## Unreleased");
}
