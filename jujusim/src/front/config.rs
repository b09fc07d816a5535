//! `juju config`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

use super::cli::Config;
use super::{Answer, Call};
use crate::Sim;
use crate::charm::ConfigOption;
use crate::error::{Doing as _, Error, Result};
use crate::report::{self, Format, Ordered};

/// An application's settings, as Juju prints them.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Shown {
    application: String,
    application_config: BTreeMap<&'static str, Value>,
    charm: String,
    settings: Ordered<Value>,
}

/// Sets, resets or prints options.
pub(super) fn config(sim: &mut Sim, asked: &Config, call: &Call, trusted: bool) -> Result<Answer> {
    let Config { app, settings, reset, format, file } = asked;
    sim.model.app(app)?;
    let (pairs, keys): (Vec<&String>, Vec<&String>) =
        settings.iter().partition(|text| text.contains('='));
    let mut pairs: Vec<String> = pairs.into_iter().map(|pair| from_here(pair, call)).collect();
    if let Some(file) = file {
        pairs.extend(from_file(&call.dir.join(file), app)?);
    }
    let mut actions = Vec::new();
    actions.extend(file.is_some().then_some("use --file flag"));
    actions.extend((!reset.is_empty()).then_some("use --reset flag"));
    actions.extend((!keys.is_empty()).then_some("get value"));
    actions.extend(settings.iter().any(|text| text.contains('=')).then_some("set key=value pairs"));
    if let ([first @ .., last], [_, ..]) = (actions.as_slice(), keys.as_slice())
        && !first.is_empty()
    {
        let first = first.join(", ");
        return Err(Error::refused(format!("cannot {first} and {last} simultaneously")));
    }
    match keys.as_slice() {
        [] if pairs.is_empty() && reset.is_empty() => {
            Ok(Answer::out(show(sim, app, *format, trusted)?))
        }
        [] => {
            let reset = reset.iter().flat_map(|key| ["--reset".to_owned(), key.clone()]);
            let words = std::iter::once(app.clone()).chain(pairs).chain(reset);
            sim.run_command("config", words.collect::<Vec<_>>())?;
            Ok(Answer::default())
        }
        [key] => value(sim, app, key).map(Answer::out),
        _ => Err(Error::refused("cannot specify multiple keys to get")),
    }
}

/// Makes the path in `k=@file` relative to the caller's directory.
pub(super) fn from_here(pair: &str, call: &Call) -> String {
    match pair.split_once("=@") {
        Some((key, file)) => format!("{key}=@{}", call.dir.join(file).display()),
        None => pair.to_owned(),
    }
}

/// The settings of one application from a YAML file, as `k=v` pairs.
pub(super) fn from_file(path: &Path, app: &str) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path).doing(|| format!("read {}", path.display()))?;
    let all: BTreeMap<String, BTreeMap<String, Value>> = serde_yaml::from_str(&text)
        .map_err(|error| Error::refused(format!("cannot parse {}: {error}", path.display())))?;
    let own = all
        .get(app)
        .ok_or_else(|| Error::refused(format!("no settings of {app:?} in {}", path.display())))?;
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    Ok(own.iter().map(|(key, value)| format!("{key}={}", plain(value))).collect())
}

fn value(sim: &Sim, app: &str, key: &str) -> Result<String> {
    let values = sim.model.app(app)?.effective_config();
    if !sim.model.app(app)?.charm().options.contains_key(key) {
        return Err(Error::refused(format!(
            "key {key:?} not found in {app:?} application config or charm settings."
        )));
    }
    Ok(match values.get(key) {
        Some(Value::String(text)) => format!("{text}\n"),
        Some(other) => format!("{other}\n"),
        None => "\n".to_owned(),
    })
}

fn show(sim: &Sim, name: &str, format: Format, trusted: bool) -> Result<String> {
    let app = sim.model.app(name)?;
    let trust = json!({
        "default": false,
        "description": "Does this application have access to trusted credentials",
        "source": if trusted { "user" } else { "default" },
        "type": "bool",
        "value": trusted,
    });
    let settings = app.charm().options.iter();
    let settings =
        settings.map(|(key, option)| (key.clone(), setting(option, app.config.get(key))));
    let shown = Shown {
        application: name.to_owned(),
        application_config: BTreeMap::from([("trust", trust)]),
        charm: app.charm().name.clone(),
        settings: Ordered(settings.collect()),
    };
    Ok(if format == Format::Json { report::json(&shown) } else { report::yaml(&shown) })
}

/// An option's metadata, and the source of its value.
fn setting(option: &ConfigOption, set: Option<&Value>) -> Value {
    let mut shown = json!({
        "description": option.description,
        "source": match (set, &option.default) {
            (Some(_), _) => "user",
            (None, Some(_)) => "default",
            (None, None) => "unset",
        },
        "type": option.kind,
    });
    for (key, value) in
        [("default", option.default.as_ref()), ("value", set.or(option.default.as_ref()))]
    {
        if let Some(value) = value {
            shown[key] = value.clone();
        }
    }
    shown
}
