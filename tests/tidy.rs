//! What no transcript may hold, and what the tree must keep.

#![expect(clippy::disallowed_methods, reason = "the tests read the tree")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(directory: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in
        fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path())
    {
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
    let mut masked = 0;
    for path in transcripts {
        let text = fs::read_to_string(&path).expect("a transcript");
        masked += text.matches("‹24 characters›").count() + text.matches("‹verifier 1›").count();
        let words = text.split(|c: char| !c.is_ascii_alphanumeric());
        assert_eq!(words.filter(|word| looks_generated(word)).count(), 0, "{}", path.display());
        assert!(!text.contains("SCRAM-SHA-256$4096:"), "{}", path.display());
        let md5 = text
            .split("md5")
            .skip(1)
            .any(|rest| rest.chars().take_while(char::is_ascii_hexdigit).count() == 32);
        assert!(!md5, "{}", path.display());
    }
    assert!(masked > 0, "transcripts show where passwords and verifiers stood: {masked}");
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

/// What `scripts/mutants` reads.
struct Mutant {
    test: String,
    line: String,
    replacement: String,
}

impl Mutant {
    fn parse(text: &str) -> Option<Self> {
        let (words, mutation) = text.split_once("\n\n")?;
        let [place, removed, added] = mutation.lines().collect::<Vec<_>>().try_into().ok()?;
        let field = |text: &str, name| text.strip_prefix(name).map(str::to_owned);
        let line = field(removed, "- ")?;
        let replacement = if added == "+" { String::new() } else { field(added, "+ ")? };
        (words.ends_with('.') && line.trim() == line && line != replacement).then_some(Self {
            test: field(place, "test: ")?,
            line,
            replacement,
        })
    }

    /// Whether there is a test of that name where cargo is told to look for it.
    fn has_a_test(&self) -> bool {
        let read = |path: &str| fs::read_to_string(root().join(path)).unwrap_or_default();
        match self.test.split_whitespace().collect::<Vec<_>>()[..] {
            ["--lib", path] => {
                let (module, name) = path.rsplit_once("::tests::").unwrap_or_default();
                read(&format!("src/{}.rs", module.replace("::", "/")))
                    .contains(&format!("fn {name}("))
            }
            ["--test", "scenarios", name] => {
                // A place where a script runs, too, is told after its name.
                let (name, _) = name.split_once("-on-").unwrap_or((name, ""));
                !read(&format!("tests/scenarios/{name}.txt")).is_empty()
            }
            ["--test", file, name] => {
                read(&format!("tests/{file}.rs")).contains(&format!("fn {name}("))
            }
            _ => false,
        }
    }
}

#[test]
fn every_mutant_changes_one_line_and_names_its_test() {
    let mutants = files(&root().join("tests/mutants"), "");
    assert!(!mutants.is_empty(), "there are mutants");
    let read = |path| fs::read_to_string(path).expect("a source");
    let source: String = files(&root().join("src"), ".rs").into_iter().map(read).collect();
    for path in mutants {
        let name = path.display();
        let text = fs::read_to_string(&path).expect("a mutant");
        let mutant = Mutant::parse(&text).unwrap_or_else(|| panic!("{name}: see scripts/mutants"));
        let found = source.lines().filter(|line| line.trim_start() == mutant.line).count();
        assert_eq!(found, 1, "{name}: lines below src that are \"{}\"", mutant.line);
        assert!(mutant.has_a_test(), "{name}: there is no test {}", mutant.test);
    }
}

#[test]
fn an_invalid_mutant_is_recognised() {
    let parts = ["A bug.", "", "test: --lib a::tests::b", "- one", "+ two"];
    assert!(Mutant::parse(&parts.join("\n")).is_some_and(|mutant| mutant.replacement == "two"));
    assert!(
        Mutant::parse("A bug.\n\ntest: --lib a\n- one\n+")
            .is_some_and(|mutant| mutant.replacement.is_empty())
    );
    for (line, spoilt) in [(1, "more"), (2, "--lib a"), (3, "-  one"), (3, "- two"), (4, "two")] {
        let mut parts = parts;
        parts[line] = spoilt;
        assert!(Mutant::parse(&parts.join("\n")).is_none(), "{spoilt}");
    }
}

/// How many columns comments, prose and scripts have; rustfmt.toml has the same for code.
const COLUMNS: usize = 100;

/// Whether a line of a file is prose, a comment or a line of a script. Tables, commands and
/// messages are as wide as what they hold.
fn is_held_to_columns(path: &Path, line: &str) -> bool {
    let line = line.trim_start();
    match path.extension().and_then(|extension| extension.to_str()) {
        _ if path.starts_with("tests/mutants") => {
            !["- ", "+ ", "test: "].iter().any(|mark| line.starts_with(mark))
        }
        Some("rs") => line.starts_with("//"),
        Some("md") => !line.starts_with('|'),
        Some("toml" | "txt" | "yaml") => line.starts_with('#'),
        Some("py" | "sh") => true,
        // A checksum has no place to break.
        _ if path.starts_with("scripts") || path.extension().is_none() => {
            !line.split_whitespace().any(|word| word.len() > COLUMNS)
        }
        _ => false,
    }
}

/// The lines of a file without the fenced code of Markdown.
fn without_fences<'a>(path: &Path, text: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
    let is_markdown = path.extension().is_some_and(|extension| extension == "md");
    let mut is_fenced = false;
    text.lines().zip(1..).filter_map(move |(line, number)| {
        let is_fence = is_markdown && line.trim_start().starts_with("```");
        is_fenced ^= is_fence;
        (!is_fenced && !is_fence).then_some((number, line))
    })
}

#[test]
fn comments_prose_and_scripts_have_at_most_100_columns() {
    let listed = Command::new("git").args(["ls-files"]).current_dir(root()).output().expect("git");
    let listed = String::from_utf8(listed.stdout).expect("names of files");
    assert!(listed.lines().any(|name| name == "tests/tidy.rs"), "git does not list the files");
    for path in listed.lines().map(Path::new) {
        // A file that is not text has no columns.
        let Ok(text) = fs::read_to_string(root().join(path)) else { continue };
        for (number, line) in without_fences(path, &text) {
            if is_held_to_columns(path, line) {
                let columns = line.chars().count();
                assert!(columns <= COLUMNS, "{}:{number} has {columns} columns", path.display());
            }
        }
    }
}

#[test]
fn bash_can_parse_every_script() {
    let scripts = files(&root().join("scripts"), "");
    assert!(scripts.iter().any(|path| path.ends_with("scripts/test")), "{scripts:?}");
    for script in scripts {
        let checked = Command::new("bash").arg("-n").arg(&script).output().expect("bash");
        let errors = String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success(), "{}: {errors}", script.display());
    }
}

/// The package managers know where to download from, and a machine may have servers of its own.
#[test]
fn no_script_names_a_server() {
    let scripts = files(&root().join("scripts"), "");
    assert!(scripts.iter().any(|path| path.ends_with("scripts/parts")), "{scripts:?}");
    for script in scripts.into_iter().chain([root().join("Makefile"), root().join(".ci/run")]) {
        let text = fs::read_to_string(&script).expect("a script");
        let url = text.lines().find(|line| line.contains("://"));
        assert_eq!(url, None, "{}", script.display());
    }
}

#[test]
fn the_column_limit_applies_only_to_prose_comments_and_scripts() {
    for (path, line, is_held) in [
        ("src/a.rs", "    /// A comment.", true),
        ("src/a.rs", "    let message = \"a message\";", false),
        ("README.md", "A sentence.", true),
        ("README.md", "| a | table |", false),
        ("Cargo.toml", "# Why.", true),
        ("Cargo.toml", "anyhow = \"1\"", false),
        ("tests/scenarios/a.txt", "expect a long message", false),
        ("tests/mutants/a", "What is wrong.", true),
        ("tests/mutants/a", "- a line of code", false),
        ("scripts/test", "echo", true),
        ("scripts/pgbouncer-1.24", "echo", true),
        ("a.transcript", "# a comment of a script", false),
    ] {
        assert_eq!(is_held_to_columns(Path::new(path), line), is_held, "{path}: {line}");
    }
    let text = "one\n```\ntwo\n```\nthree";
    let lines: Vec<_> = without_fences(Path::new("a.md"), text).collect();
    assert_eq!(lines, [(1, "one"), (5, "three")]);
}
