//! Checks that the files below `src` import each other in one direction, and that pure files import
//! no file that does IO.

#![expect(clippy::disallowed_methods, reason = "the tests read the tree")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

/// Files that neither do IO nor import, directly or indirectly, a file that does.
const PURE: [&str; 8] =
    ["event", "facts", "notes", "peer_bag", "pgbouncer", "plan", "secret", "status"];

/// Files that do IO, or pass on handles to IO.
const OUTSIDE: [&str; 10] = [
    "actions",
    "apply",
    "attempts",
    "cli",
    "hook",
    "juju",
    "log",
    "look",
    "main",
    "postgres/connection",
];

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The text of every file without its tests, by module, such as `facts/options`.
fn files() -> BTreeMap<String, String> {
    fn visit(directory: &Path, found: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                visit(&path, found);
                continue;
            }
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let module = path.strip_prefix(source()).expect("below src").with_extension("");
            let text = fs::read_to_string(&path).expect("a source");
            let text = text.split("#[cfg(test)]\n").next().unwrap_or_default().to_owned();
            found.insert(module.display().to_string(), text);
        }
    }
    let mut found = BTreeMap::new();
    visit(&source(), &mut found);
    found
}

/// The paths in a file: expanded `use` trees, and paths in the code.
fn paths(text: &str) -> Vec<String> {
    let code: String = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n");
    let uses = Regex::new(r"(?s)\buse\s+([^;]+);").expect("a pattern");
    let inline = Regex::new(r"\b((?:crate|super)(?:::\w+)+)").expect("a pattern");
    let rest = uses.replace_all(&code, "");
    let mut found: Vec<String> =
        inline.captures_iter(&rest).map(|path| path[1].to_owned()).collect();
    for tree in uses.captures_iter(&code) {
        expand("", &tree[1].split_whitespace().collect::<Vec<_>>().join(" "), &mut found);
    }
    found
}

/// Expands `a::{b, c::d}` to `a::b` and `a::c::d`.
fn expand(prefix: &str, tree: &str, found: &mut Vec<String>) {
    let Some((head, group)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default().trim();
        found.push(format!("{prefix}{path}"));
        return;
    };
    let group = group.trim().strip_suffix('}').unwrap_or(group);
    let (mut depth, mut start) = (0, 0);
    for (at, c) in group.char_indices().chain([(group.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let part = group[start..at].trim();
                if !part.is_empty() {
                    expand(&format!("{prefix}{}", head.trim()), part, found);
                }
                start = at + 1;
            }
            _ => {}
        }
    }
}

/// Resolves a path in the file `from` to a file.
fn resolve(from: &str, path: &str, files: &BTreeMap<String, String>) -> Option<String> {
    let mut words: Vec<&str> = path.split("::").collect();
    let mut base: Vec<&str> = from.split('/').collect();
    match words.first().copied()? {
        "crate" => {
            base.clear();
            words.remove(0);
        }
        "self" => {
            words.remove(0);
        }
        "super" => {
            while words.first() == Some(&"super") {
                base.pop();
                words.remove(0);
            }
        }
        // A child module if there is one, else another crate.
        child if files.contains_key(&format!("{from}/{child}")) => {}
        _ => return None,
    }
    base.extend(words);
    let length =
        (1..=base.len()).rev().find(|length| files.contains_key(&base[..*length].join("/")))?;
    let file = base[..length].join("/");
    // A re-exported item belongs to the child file.
    let item = base.get(length).and_then(|item| reexported_from(&file, item, files));
    Some(item.unwrap_or(file)).filter(|file| file != from)
}

/// The child file from which a file re-exports an item.
fn reexported_from(file: &str, item: &str, files: &BTreeMap<String, String>) -> Option<String> {
    let exports = Regex::new(r"(?s)\bpub use\s+([^;]+);").expect("a pattern");
    let mut found = Vec::new();
    for tree in exports.captures_iter(&files[file]) {
        expand("", &tree[1].split_whitespace().collect::<Vec<_>>().join(" "), &mut found);
    }
    let path = found.iter().find(|path| path.rsplit("::").next() == Some(item))?;
    let child = path.trim_start_matches("self::").split("::").next()?;
    let child = format!("{file}/{child}");
    files.contains_key(&child).then_some(child)
}

/// The imports of each file.
fn imports(files: &BTreeMap<String, String>) -> BTreeMap<String, BTreeSet<String>> {
    let of = |(file, text): (&String, &String)| {
        let paths = paths(text);
        (file.clone(), paths.iter().filter_map(|path| resolve(file, path, files)).collect())
    };
    files.iter().map(of).collect()
}

/// All files that a file imports, directly or indirectly.
fn reach<'a>(file: &'a str, imports: &'a BTreeMap<String, BTreeSet<String>>) -> BTreeSet<&'a str> {
    let (mut found, mut open) = (BTreeSet::new(), vec![file]);
    while let Some(file) = open.pop() {
        for next in imports.get(file).into_iter().flatten() {
            if found.insert(next.as_str()) {
                open.push(next);
            }
        }
    }
    found
}

fn is_below(file: &str, roots: &[&str]) -> bool {
    roots.iter().any(|root| file == *root || file.starts_with(&format!("{root}/")))
}

#[test]
fn imports_have_no_cycle() {
    let imports = imports(&files());
    let is_in_cycle = |file: &&String| reach(file, &imports).contains(file.as_str());
    let cycles: Vec<_> = imports.keys().filter(is_in_cycle).collect();
    assert!(cycles.is_empty(), "these files import themselves indirectly: {cycles:?}");
}

#[test]
fn pure_files_import_no_file_that_does_io() {
    let imports = imports(&files());
    for file in imports.keys().filter(|file| is_below(file, &PURE)) {
        let outside: Vec<_> =
            reach(file, &imports).into_iter().filter(|file| is_below(file, &OUTSIDE)).collect();
        assert!(outside.is_empty(), "{file} imports {outside:?}");
    }
    for root in PURE.iter().chain(&OUTSIDE) {
        assert!(imports.keys().any(|file| is_below(file, &[root])), "there is no {root}");
    }
}

#[test]
fn pure_files_do_no_io() {
    // Clippy bans IO except in files and modules that declare it.
    let outside =
        Regex::new(r"std::(fs|process|env)::|std::net::(Tcp|Udp)|std::os::unix::net|tokio::|Instant::now|SystemTime::now").expect("a pattern");
    for (file, text) in files().iter().filter(|(file, _)| is_below(file, &PURE)) {
        assert!(!outside.is_match(text), "{file} does IO");
    }
}

#[test]
fn only_apply_and_hook_use_the_handles_behind_a_look() {
    let uses = Regex::new(r"\.(handles|notes_mut)\(\)").expect("a pattern");
    let files_using: BTreeSet<_> = files()
        .into_iter()
        .filter(|(_, text)| uses.is_match(text))
        .map(|(file, _)| file.split('/').next().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(files_using, ["apply", "hook"].map(str::to_owned).into());
}

#[test]
fn paths_resolve_as_in_the_compiler() {
    let files: BTreeMap<String, String> =
        [("a", "pub use self::c::W;"), ("a/b", ""), ("a/c", ""), ("d", "")]
            .map(|(file, text)| (file.to_owned(), text.to_owned()))
            .into();
    let text = "use crate::a::{self, b::{X, Y as Z}};\nuse super::d;\n// use crate::no;\nlet x = crate::d::f();\n";
    let found: BTreeSet<_> =
        paths(text).iter().filter_map(|path| resolve("a/c", path, &files)).collect();
    assert_eq!(found, ["a", "a/b", "d"].map(str::to_owned).into());
    assert_eq!(resolve("a", "b::X", &files).as_deref(), Some("a/b"));
    assert_eq!(resolve("d", "crate::a::W", &files).as_deref(), Some("a/c"));
    assert_eq!(resolve("a", "std::fs", &files), None);
}
