//! Values in Juju's output formats: `smart`, `yaml`, `json`.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::{Number, Value};

/// The format of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Smart,
    Yaml,
    Json,
}

/// A tool's result before formatting.
pub(super) enum Shown {
    /// Null, a boolean, a number or a string.
    Scalar(Value),
    Time(Timestamp),
    List(Vec<Shown>),
    /// In output order: a map's keys sorted, a structure's fields in the order of Juju's
    /// declaration.
    Map(Vec<(String, Shown)>),
}

impl Shown {
    /// A structure.
    pub(super) fn fields<const N: usize>(fields: [(&str, Shown); N]) -> Shown {
        Shown::Map(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    /// A map; the caller sorts it.
    pub(super) fn map(entries: impl IntoIterator<Item = (String, Shown)>) -> Shown {
        Shown::Map(entries.into_iter().collect())
    }

    /// A list of strings.
    pub(super) fn texts<T: ToString>(texts: impl IntoIterator<Item = T>) -> Shown {
        Shown::List(texts.into_iter().map(|text| Shown::from(text.to_string())).collect())
    }

    pub(super) const NULL: Shown = Shown::Scalar(Value::Null);

    /// Formats the value, with a newline at the end.
    pub(super) fn render(&self, format: Format) -> String {
        match format {
            Format::Json => {
                let mut text = self.json();
                text.push('\n');
                text
            }
            Format::Yaml => self.yaml(),
            Format::Smart => self.smart(),
        }
    }

    /// Bare strings, `True` and `False`, one line per list element; maps and numbers as YAML.
    fn smart(&self) -> String {
        match self {
            Shown::Scalar(Value::String(text)) if text.is_empty() => String::new(),
            Shown::Scalar(Value::String(text)) => format!("{text}\n"),
            Shown::Scalar(Value::Bool(true)) => "True\n".to_owned(),
            Shown::Scalar(Value::Bool(false)) => "False\n".to_owned(),
            Shown::List(items) => items.iter().map(|item| item.smart_item() + "\n").collect(),
            other => other.yaml(),
        }
    }

    fn smart_item(&self) -> String {
        match self {
            Shown::Scalar(Value::String(text)) => text.clone(),
            other => other.json(),
        }
    }

    /// JSON of Go's encoder: compact, with `<`, `>` and `&` escaped.
    fn json(&self) -> String {
        match self {
            Shown::Scalar(Value::Number(number)) => plain_number(number),
            Shown::Scalar(Value::String(text)) => json_text(text),
            Shown::Scalar(other) => other.to_string(),
            Shown::Time(time) => format!("\"{time}\""),
            Shown::List(items) => {
                format!("[{}]", items.iter().map(Shown::json).collect::<Vec<_>>().join(","))
            }
            Shown::Map(entries) => {
                let entry =
                    |(key, value): &(String, Shown)| format!("{}:{}", json_text(key), value.json());
                format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(","))
            }
        }
    }

    fn yaml(&self) -> String {
        if matches!(self, Shown::Scalar(Value::Null)) {
            return String::new();
        }
        let mut lines = self.yaml_lines();
        if matches!(self, Shown::Scalar(_)) {
            lines.iter_mut().skip(1).for_each(indent);
        }
        lines.into_iter().map(|line| line + "\n").collect()
    }

    /// The lines of a block; the first line may follow a key or a dash. Lines of multi-line strings
    /// are not indented yet.
    fn yaml_lines(&self) -> Vec<String> {
        match self {
            Shown::Scalar(Value::Number(number)) => vec![yaml_number(number)],
            Shown::Scalar(Value::String(text)) => yaml_text(text),
            Shown::Scalar(other) => vec![other.to_string()],
            Shown::Time(time) => vec![time.to_string()],
            Shown::List(items) if items.is_empty() => vec!["[]".to_owned()],
            Shown::Map(entries) if entries.is_empty() => vec!["{}".to_owned()],
            Shown::List(items) => {
                items.iter().flat_map(|item| below("- ", item.yaml_lines())).collect()
            }
            Shown::Map(entries) => {
                entries.iter().flat_map(|(key, value)| value.under(key)).collect()
            }
        }
    }

    fn under(&self, key: &str) -> Vec<String> {
        let key = yaml_text(key).concat();
        let lines = self.yaml_lines();
        let block = |mut lines: Vec<String>| {
            lines.insert(0, format!("{key}:"));
            lines
        };
        match self {
            // Juju's YAML does not indent a list below its key.
            Shown::List(items) if !items.is_empty() => block(lines),
            Shown::Map(entries) if !entries.is_empty() => {
                let mut lines = lines;
                lines.iter_mut().for_each(indent);
                block(lines)
            }
            _ => below(&format!("{key}: "), lines),
        }
    }
}

/// Puts the first line after `lead`, and indents the others.
fn below(lead: &str, mut lines: Vec<String>) -> Vec<String> {
    for (number, line) in lines.iter_mut().enumerate() {
        if number == 0 {
            line.insert_str(0, lead);
        } else {
            indent(line);
        }
    }
    lines
}

fn indent(line: &mut String) {
    if !line.is_empty() {
        line.insert_str(0, "  ");
    }
}

fn json_text(text: &str) -> String {
    let quoted = Value::from(text).to_string();
    let mut escaped = String::with_capacity(quoted.len());
    for character in quoted.chars() {
        match character {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(escaped, "\\u{:04x}", u32::from(character));
            }
            other => escaped.push(other),
        }
    }
    escaped
}

/// Formats a number; an integral float has no fraction.
fn plain_number(number: &Number) -> String {
    match number.as_f64().filter(|_| number.is_f64()) {
        Some(float) => float.to_string(),
        None => number.to_string(),
    }
}

/// Formats a number as the agent's float: from a million on with an exponent.
fn yaml_number(number: &Number) -> String {
    let Some(float) = number.as_f64() else { return number.to_string() };
    let scientific = format!("{float:e}");
    match scientific
        .split_once('e')
        .and_then(|(digits, power)| Some((digits, power.parse::<i32>().ok()?)))
    {
        Some((digits, power)) if !(-4..6).contains(&power) => {
            let sign = if power < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", power.abs())
        }
        _ => float.to_string(),
    }
}

/// The lines of a YAML string: bare if YAML reads it back as the same string, otherwise quoted, or
/// a block if it has several lines.
fn yaml_text(text: &str) -> Vec<String> {
    let printable = text.chars().all(|c| c == '\n' || !c.is_control());
    if text.contains('\n') && printable && !text.ends_with(' ') && !text.contains(" \n") {
        return yaml_block(text);
    }
    if text.is_empty() || !printable || text.contains('\n') || means_something_else(text) {
        // JSON's escapes are valid in YAML.
        return vec![Value::from(text).to_string()];
    }
    if bare(text) { vec![text.to_owned()] } else { vec![format!("'{}'", text.replace('\'', "''"))] }
}

fn yaml_block(text: &str) -> Vec<String> {
    let content = text.strip_suffix('\n');
    let chomp = match content {
        None => "-",
        Some(content) if content.is_empty() || content.ends_with('\n') => "+",
        Some(_) => "",
    };
    let hint = if text.starts_with([' ', '\n']) { "2" } else { "" };
    let mut lines = vec![format!("|{hint}{chomp}")];
    lines.extend(content.unwrap_or(text).split('\n').map(str::to_owned));
    lines
}

/// Whether YAML reads the bare text as a number, a boolean, a date or null.
fn means_something_else(text: &str) -> bool {
    const WORDS: [&str; 36] = [
        "~", "null", "Null", "NULL", "y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "n", "N",
        "no", "No", "NO", "off", "Off", "OFF", "true", "True", "TRUE", "false", "False", "FALSE",
        ".nan", ".NaN", ".NAN", ".inf", ".Inf", ".INF", "+.inf", "-.inf", "<<", "=",
    ];
    let digits = text.trim_start_matches(['+', '-']).replace('_', "");
    let radix = |prefix: &str, radix| {
        digits.strip_prefix(prefix).is_some_and(|digits| u64::from_str_radix(digits, radix).is_ok())
    };
    let number = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && digits.chars().all(|c| c.is_ascii_digit() || ".eE+-".contains(c))
        && digits.parse::<f64>().is_ok();
    let sexagesimal = digits.contains(':')
        && digits.starts_with(|c: char| c.is_ascii_digit())
        && digits.chars().all(|c| c.is_ascii_digit() || c == ':' || c == '.');
    let date = digits.len() >= 8 && digits.starts_with(|c: char| c.is_ascii_digit()) && {
        text.parse::<jiff::civil::Date>().is_ok_and(|_| !text.contains(' '))
    };
    WORDS.contains(&text) || number || radix("0x", 16) || radix("0b", 2) || sexagesimal || date
}

/// Whether the string needs no quotes.
fn bare(text: &str) -> bool {
    let leads = text.starts_with([
        '#', ',', '[', ']', '{', '}', '&', '*', '!', '|', '>', '\'', '"', '%', '@', '`', ' ',
    ]);
    let marks = ["- ", "? ", ": "].iter().any(|mark| text.starts_with(mark))
        || ["-", "?", ":"].contains(&text);
    let document = text.starts_with("---") || text.starts_with("...");
    !(leads
        || marks
        || document
        || text.ends_with([' ', ':'])
        || text.contains(": ")
        || text.contains(" #"))
}

impl From<Value> for Shown {
    fn from(value: Value) -> Shown {
        match value {
            Value::Array(items) => Shown::List(items.into_iter().map(Shown::from).collect()),
            Value::Object(entries) => Shown::Map(
                entries.into_iter().map(|(key, value)| (key, Shown::from(value))).collect(),
            ),
            scalar => Shown::Scalar(scalar),
        }
    }
}

impl From<&str> for Shown {
    fn from(text: &str) -> Shown {
        Shown::Scalar(Value::from(text))
    }
}

impl From<String> for Shown {
    fn from(text: String) -> Shown {
        Shown::Scalar(Value::from(text))
    }
}

impl From<&crate::model::Bag> for Shown {
    fn from(bag: &crate::model::Bag) -> Shown {
        Shown::map(bag.iter().map(|(key, value)| (key.clone(), Shown::from(value.as_str()))))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn all(value: Value) -> [String; 3] {
        let shown = Shown::from(value);
        [Format::Smart, Format::Yaml, Format::Json].map(|format| shown.render(format))
    }

    #[test]
    fn values_print_as_juju_prints_them() {
        let rows: [(Value, [&str; 3]); 20] = [
            (json!(null), ["", "", "null\n"]),
            (json!("abc"), ["abc\n", "abc\n", "\"abc\"\n"]),
            (json!(""), ["", "\"\"\n", "\"\"\n"]),
            (json!("a\n"), ["a\n\n", "|\n  a\n", "\"a\\n\"\n"]),
            (json!("a\nb"), ["a\nb\n", "|-\n  a\n  b\n", "\"a\\nb\"\n"]),
            (json!(true), ["True\n", "true\n", "true\n"]),
            (json!(false), ["False\n", "false\n", "false\n"]),
            (json!(["a", "b"]), ["a\nb\n", "- a\n- b\n", "[\"a\",\"b\"]\n"]),
            (json!([]), ["", "[]\n", "[]\n"]),
            (
                json!({"b": 1, "a": "x"}),
                ["a: x\nb: 1\n", "a: x\nb: 1\n", "{\"a\":\"x\",\"b\":1}\n"],
            ),
            (json!({}), ["{}\n", "{}\n", "{}\n"]),
            (json!(6432), ["6432\n", "6432\n", "6432\n"]),
            (json!(1_000_000), ["1e+06\n", "1e+06\n", "1000000\n"]),
            (json!(12_345_678), ["1.2345678e+07\n", "1.2345678e+07\n", "12345678\n"]),
            (json!(1.5), ["1.5\n", "1.5\n", "1.5\n"]),
            (json!(2.0), ["2\n", "2\n", "2\n"]),
            (json!("<&>"), ["<&>\n", "<&>\n", "\"\\u003c\\u0026\\u003e\"\n"]),
            (json!("\u{2028}"), ["\u{2028}\n", "\u{2028}\n", "\"\\u2028\"\n"]),
            (
                json!({"a": {"b": ["c", {"d": "e", "f": ""}]}}),
                [
                    "a:\n  b:\n  - c\n  - d: e\n    f: \"\"\n",
                    "a:\n  b:\n  - c\n  - d: e\n    f: \"\"\n",
                    "{\"a\":{\"b\":[\"c\",{\"d\":\"e\",\"f\":\"\"}]}}\n",
                ],
            ),
            (
                json!({"a": "x\ny\n"}),
                ["a: |\n  x\n  y\n", "a: |\n  x\n  y\n", "{\"a\":\"x\\ny\\n\"}\n"],
            ),
        ];
        for (value, expected) in rows {
            assert_eq!(all(value.clone()), expected, "{value}");
        }
    }

    #[test]
    fn yaml_quotes_ambiguous_values() {
        let rows = [
            ("1", "\"1\""),
            ("1.50", "\"1.50\""),
            ("true", "\"true\""),
            ("null", "\"null\""),
            ("0x1f", "\"0x1f\""),
            ("1:20", "\"1:20\""),
            ("2026-01-01", "\"2026-01-01\""),
            ("a: b", "'a: b'"),
            ("it's: b", "'it''s: b'"),
            ("#a", "'#a'"),
            ("- a", "'- a'"),
            ("a\tb", "\"a\\tb\""),
            ("10.1.0.1", "10.1.0.1"),
            ("10.1.0.1/32", "10.1.0.1/32"),
            ("postgresql://a:b@c:5432/d", "postgresql://a:b@c:5432/d"),
            ("-x", "-x"),
            ("a#b", "a#b"),
        ];
        for (text, expected) in rows {
            assert_eq!(Shown::from(text).render(Format::Yaml), format!("{expected}\n"), "{text}");
        }
    }

    /// YAML output is read back as the same string.
    #[test]
    fn yaml_keeps_every_text() {
        let texts = [
            "", " ", "a ", " a", "\n", "\n\n", "a\n", "a\n\n", "a \nb", " a\nb", "'", "\"", "\\",
            "a: b", "a #b", "?", "-", "- ", "[a]", "{a}", "&a", "*a", "!a", "%a", "@a", "`a", "=",
            "<<", "~", "1e3", "0b1", "1_000", "é", "\u{1}", "---", "a:",
        ];
        for text in texts {
            let printed = Shown::fields([("key", Shown::from(text))]).render(Format::Yaml);
            let read: Value =
                serde_yaml::from_str(&printed).unwrap_or_else(|error| panic!("{printed}: {error}"));
            assert_eq!(read["key"], json!(text), "{printed}");
        }
    }
}
