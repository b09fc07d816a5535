//! Values as Juju prints them: `smart`, `yaml`, `json`.

use std::fmt::Write as _;

use serde_json::Value;

use super::{Refusal, Result};

/// Renders a tool's result, with its newline.
pub(super) fn render(value: &Value, format: &str) -> Result<String> {
    match format {
        "json" => Ok(json(value)),
        "yaml" => yaml(value),
        _ => smart(value),
    }
}

/// Go's encoder: compact, keys sorted, and `<`, `>`, `&` escaped.
fn json(value: &Value) -> String {
    let text = value.to_string();
    let mut escaped = String::with_capacity(text.len() + 1);
    for character in text.chars() {
        match character {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(escaped, "\\u{:04x}", u32::from(character));
            }
            other => escaped.push(other),
        }
    }
    escaped.push('\n');
    escaped
}

fn yaml(value: &Value) -> Result<String> {
    if value.is_null() {
        return Ok(String::new());
    }
    serde_yaml::to_string(value).map_err(|error| Refusal::Failed(error.to_string()))
}

/// Bare strings, `True` and `False`, one line an element; maps and numbers as YAML.
fn smart(value: &Value) -> Result<String> {
    let line = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match value {
        Value::Null => Ok(String::new()),
        Value::String(text) if text.is_empty() => Ok(String::new()),
        Value::String(text) => Ok(format!("{text}\n")),
        Value::Bool(true) => Ok("True\n".to_owned()),
        Value::Bool(false) => Ok("False\n".to_owned()),
        Value::Array(items) => Ok(items.iter().map(|item| line(item) + "\n").collect()),
        other => yaml(other),
    }
}
