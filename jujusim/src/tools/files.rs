//! `key=value` arguments and `--file`.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::Deserialize as _;
use serde_yaml::{Deserializer, Value};

use super::flags::Args;
use super::{Refusal, Result, usage};
use crate::model::Bag;

/// Parses `key=value` arguments of `relation-set` and `state-set`: trimmed, and no key twice
/// (juju/utils keyvalues).
pub(super) fn key_values(args: &[String]) -> Result<Bag> {
    let mut values = Bag::new();
    for arg in args {
        let Some((key, value)) = arg.split_once('=').filter(|(key, _)| !key.trim().is_empty())
        else {
            return usage(format!("expected \"key=value\", got {arg:?}"));
        };
        let key = key.trim().to_owned();
        if values.contains_key(&key) {
            return usage(format!("key {key:?} specified more than once"));
        }
        values.insert(key, value.trim().to_owned());
    }
    Ok(values)
}

/// Reads `--file`: one YAML map, values not trimmed; `-` is standard input.
pub(super) fn file_values(args: &Args<'_>) -> Result<Bag> {
    let text = match args.text("file") {
        None => return Ok(Bag::new()),
        Some("-") => args.request.stdin.clone().ok_or(Refusal::Stdin)?,
        Some(file) => {
            let path = Path::new(&args.request.dir).join(file);
            let bytes = std::fs::read(&path)
                .map_err(|error| Refusal::Failed(cannot_open(&path, &error)))?;
            String::from_utf8(bytes)
                .map_err(|_| Refusal::Failed("yaml: invalid leading UTF-8 octet".to_owned()))?
        }
    };
    parse_yaml(&text).map_err(Refusal::Failed)
}

/// Why a file cannot be opened, in Go's words.
pub(super) fn cannot_open(path: &Path, error: &io::Error) -> String {
    let why = match error.kind() {
        io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::IsADirectory => "is a directory".to_owned(),
        _ => error.to_string(),
    };
    format!("open {}: {why}", path.display())
}

/// Parses the first document, a map of strings: scalars keep their text, null is empty. An error
/// has Juju's text.
pub(super) fn parse_yaml(text: &str) -> std::result::Result<Bag, String> {
    let Some(first) = Deserializer::from_str(text).next() else { return Ok(Bag::new()) };
    match <Option<BTreeMap<String, Option<String>>>>::deserialize(first) {
        Ok(values) => Ok(values
            .unwrap_or_default()
            .into_iter()
            .map(|(key, value)| (key, value.unwrap_or_default()))
            .collect()),
        Err(error) => Err(not_a_map_of_texts(text, &error)),
    }
}

/// The error of go-yaml: a syntax error, or a value of the wrong type.
fn not_a_map_of_texts(text: &str, error: &serde_yaml::Error) -> String {
    let line = error.location().map_or(1, |location| location.line());
    let first = Deserializer::from_str(text).next().map(Value::deserialize);
    let wrong = |what: &str, target: &str| {
        format!("yaml: unmarshal errors:\n  line {line}: cannot unmarshal {what} into {target}")
    };
    match first {
        Some(Ok(Value::Mapping(entries))) => {
            let list =
                entries.values().any(Value::is_sequence) && error.to_string().contains("sequence");
            wrong(if list { "!!seq" } else { "!!map" }, "string")
        }
        Some(Ok(Value::Sequence(_))) => wrong("!!seq", "map[string]string"),
        Some(Ok(scalar)) => {
            let (tag, text) = match &scalar {
                Value::Bool(value) => ("!!bool", value.to_string()),
                Value::Number(value) if value.is_f64() => ("!!float", value.to_string()),
                Value::Number(value) => ("!!int", value.to_string()),
                other => ("!!str", other.as_str().unwrap_or_default().to_owned()),
            };
            let short: String = text.chars().take(7).collect();
            let shown = if text.len() > 10 { format!("{short}...") } else { text };
            wrong(&format!("{tag} `{shown}`"), "map[string]string")
        }
        _ => {
            let problem = error.to_string();
            let problem = problem.split(" at line ").next().unwrap_or_default();
            let problem = problem.split(" at position ").next().unwrap_or_default();
            let place = if line > 1 { format!("line {line}: ") } else { String::new() };
            format!("yaml: {place}{problem}")
        }
    }
}
