//! Checks that every test named in CONTRACT.md exists, and that every guarantee names a test.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

#[test]
fn every_test_named_in_the_contract_exists() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    let mut there = BTreeSet::new();
    for dir in [tests.clone(), tests.join("contract")] {
        for path in fs::read_dir(dir).expect("tests").map(|entry| entry.expect("a file").path()) {
            let module = path.file_stem().expect("a name").to_string_lossy().into_owned();
            let text = fs::read_to_string(&path).unwrap_or_default();
            for test in text.split("#[test]\nfn ").skip(1) {
                there.insert(format!("{module}::{}", test.split('(').next().unwrap_or_default()));
            }
        }
    }
    let contract = include_str!("../../CONTRACT.md");
    let named: BTreeSet<String> =
        contract.split('`').filter(|command| command.contains("::")).map(str::to_owned).collect();
    let missing: Vec<&String> = named.difference(&there).collect();
    assert!(missing.is_empty() && named.len() > 80, "not there: {missing:?}, of {}", named.len());
}

#[test]
fn every_guarantee_names_a_test() {
    let rows = include_str!("../../CONTRACT.md").lines().filter(|line| line.starts_with("| "));
    let bare: Vec<&str> = rows
        .filter(|row| !row.contains("::") && !row.contains("---") && !row.contains("| tests |"))
        .collect();
    assert!(bare.is_empty(), "{bare:?}");
}
