//! The content of a secret: its fields and its expiry.

use std::path::Path;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::{SignedDuration, Timestamp};
use regex::Regex;

use super::files::{cannot_open, parse_yaml};
use super::flags::Args;
use super::{Refusal, Result, failed, usage};
use crate::model::Bag;
use crate::version::Version;

/// Reads content from `key=value`, `key#base64=…`, `key#file=…` and `--file`; the last one takes
/// precedence (core/secrets/createsecret.go).
pub(super) fn new_fields(version: Version, args: &Args<'_>, pairs: &[String]) -> Result<Bag> {
    let mut content = Bag::new();
    for pair in pairs {
        let not_valid = || Refusal::Usage(format!("key value {pair:?} not valid"));
        // Padding at the end of base64 is not a separator.
        let separator =
            pair.trim_end_matches('=').find('=').filter(|at| *at > 0).ok_or_else(not_valid)?;
        let (key, value) = (&pair[..separator], &pair[separator + 1..]);
        if let Some(key) = key.strip_suffix("#file") {
            content.insert(valid_key(key)?, content_file(version, key, value)?);
        } else {
            let (key, value) = decoded(key, value)?;
            content.insert(key, value);
        }
    }
    if let Some(file) = args.text("file") {
        for (key, value) in read_fields(file)? {
            let (key, value) = decoded(&key, &value)?;
            content.insert(key, value);
        }
    }
    limit(version, &content)?;
    Ok(content)
}

/// Reads a file as the agent does: relative to the agent's directory, not to the caller's.
fn agent_file(file: &str) -> Result<String> {
    let path = Path::new("/").join(file);
    let bytes = std::fs::read(&path).map_err(|error| Refusal::Usage(cannot_open(&path, &error)))?;
    text(bytes)
}

fn content_file(version: Version, key: &str, file: &str) -> Result<String> {
    let text = agent_file(file).map_err(|refusal| match refusal {
        Refusal::Usage(why) => {
            Refusal::Usage(format!("reading content for secret key {key:?}: {why}"))
        }
        other => other,
    })?;
    if text.len() > version.secret_limit().value {
        return usage(format!("secret content in file {file:?} too large: {} bytes", text.len()));
    }
    Ok(text)
}

/// Parses JSON, or else YAML.
fn read_fields(file: &str) -> Result<Bag> {
    let text = agent_file(file)?;
    if text.contains("!!binary") {
        return failed("jujusim does not model !!binary in a secret's file");
    }
    serde_json::from_str(&text).or_else(|_| parse_yaml(&text)).or_else(usage)
}

/// The key without `#base64`, and the decoded value.
fn decoded(key: &str, value: &str) -> Result<(String, String)> {
    let Some(key) = key.strip_suffix("#base64") else {
        return Ok((valid_key(key)?, value.to_owned()));
    };
    let key = valid_key(key)?;
    let bytes = BASE64.decode(value).or_else(|_| {
        failed(format!("jujusim does not model base64 content for key {key:?} that is not base64"))
    })?;
    Ok((key, text(bytes)?))
}

fn text(bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes)
        .or_else(|_| failed("jujusim does not model secret content that is not UTF-8"))
}

/// Checks a key: `^([a-z](?:-?[a-z0-9]){2,})$`, that is letters and digits with single inner
/// hyphens, at least three without the hyphens.
fn valid_key(key: &str) -> Result<String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let valid = key.starts_with(|c: char| c.is_ascii_lowercase())
        && key.ends_with(plain)
        && !key.contains("--")
        && key.chars().all(|c| plain(c) || c == '-')
        && key.chars().filter(|c| *c != '-').count() >= 3;
    if valid { Ok(key.to_owned()) } else { usage(format!("key {key:?} not valid")) }
}

fn limit(version: Version, content: &Bag) -> Result<()> {
    let limit = version.secret_limit();
    let mut total = 0;
    for (key, value) in content {
        if value.is_empty() && version.refuses_empty_secret_values() {
            return usage(format!("empty value for secret key {key:?} not valid"));
        }
        let size = value.len().div_ceil(3) * 4;
        if size > limit.value {
            return usage(format!(
                "base64 encoded secret content for key {key:?} too large: {size} bytes"
            ));
        }
        total += size;
    }
    if total > limit.total {
        return usage(format!("base64 encoded secret content too large: {total} bytes"));
    }
    Ok(())
}

/// Parses an expiry: an RFC 3339 time, the same without a zone, or a Go duration from now.
pub(super) fn expiry(now: Timestamp, text: &str) -> Result<Timestamp> {
    static TIME: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(Z|[+-]\d\d:\d\d)?$").ok()
    });
    let not_valid = || Refusal::Usage(format!("expire time or duration {text:?} not valid"));
    if let Some(captures) = TIME.as_ref().and_then(|time| time.captures(text)) {
        let zoned = captures.get(1).map_or_else(|| format!("{text}Z"), |_| text.to_owned());
        return zoned.parse().map_err(|_| not_valid());
    }
    let duration = go_duration(text).ok_or_else(not_valid)?;
    if duration <= SignedDuration::ZERO {
        return usage(format!("negative expire duration {text:?} not valid"));
    }
    now.checked_add(duration).map_err(|_| not_valid())
}

/// Parses a Go duration: `1h30m`, `1.5h`, `-2s`, `0`.
fn go_duration(text: &str) -> Option<SignedDuration> {
    const UNITS: [(&str, f64); 8] = [
        ("ns", 1e-9),
        ("us", 1e-6),
        ("µs", 1e-6),
        ("μs", 1e-6),
        ("ms", 1e-3),
        ("s", 1.0),
        ("m", 60.0),
        ("h", 3600.0),
    ];
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(SignedDuration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        let tail = &rest[end..];
        let unit = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (_, length) = UNITS.iter().find(|(name, _)| *name == &tail[..unit])?;
        seconds += number * length;
        rest = &tail[unit..];
    }
    SignedDuration::try_from_secs_f64(sign * seconds).ok()
}
