//! What a unit says about itself and asks about its application: leadership, configuration, status, state, ports, actions.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::flags::Args;
use super::{Context, Output, Request, Result, failed, file_values, key_values, usage};
use crate::events::Event;
use crate::model::{Bag, Model, Status, Unit};

pub(super) fn is_leader(model: &Model, context: &mut Context, args: &Args) -> Result<Output> {
    args.at_most(0)?;
    Ok(Output::Value(Value::from(context.leads(model))))
}

pub(super) fn config_get(model: &Model, context: &Context, args: &Args) -> Result<Output> {
    let all = args.has("all");
    if let (true, Some(key)) = (all, args.at(0)) {
        return usage(format!("cannot use argument --all together with key {key:?}"));
    }
    args.at_most(1)?;
    let Some(app) = model.apps.get(&context.unit.app) else { return failed("application is gone") };
    let values = app.effective_config();
    Ok(Output::Value(match args.at(0) {
        Some(key) => values.get(key).cloned().unwrap_or(Value::Null),
        None if all => {
            let value = |name: &String| values.get(name).cloned().unwrap_or(Value::Null);
            app.charm().options.keys().map(|name| (name.clone(), value(name))).collect()
        }
        None => json!(values),
    }))
}

const STATUSES: [&str; 4] = ["maintenance", "blocked", "waiting", "active"];

pub(super) fn status_set(model: &mut Model, context: &mut Context, args: &Args) -> Result<Output> {
    let Some(word) = args.at(0) else { return usage("invalid args, require <status> [message]") };
    if !STATUSES.contains(&word) {
        return usage(format!("invalid status {word:?}, expected one of [{}]", STATUSES.join(" ")));
    }
    args.at_most(2)?;
    let status = Status::new(word, args.at(1).unwrap_or_default());
    let for_app = args.has("application");
    if for_app && !context.leads(model) {
        return failed("this unit is not the leader");
    }
    if for_app {
        if let Some(app) = model.apps.get_mut(&context.unit.app) {
            app.status = Some(status);
        }
    } else if let Some(unit) = model.units.get_mut(&context.unit) {
        unit.status = status;
        unit.status_set = true;
    }
    Ok(Output::Silent)
}

pub(super) fn status_get(model: &Model, context: &mut Context, args: &Args) -> Result<Output> {
    args.at_most(0)?;
    let full = |status: &Status| json!({"message": status.message, "status": status.word, "status-data": {}});
    if args.has("application") {
        if !context.leads(model) {
            return failed("finding application status: this unit is not the leader");
        }
        let names = model.units_of(&context.unit.app);
        let all =
            names.iter().filter_map(|name| Some((name.to_string(), full(&model.units.get(name)?.status))));
        let units: Map<String, Value> = all.collect();
        let set = model.apps.get(&context.unit.app).and_then(|app| app.status.clone());
        let own = set.or_else(|| model.units.get(&context.unit).map(|unit| unit.status.clone()));
        let mut status = own.as_ref().map(full).unwrap_or_default();
        status["units"] = Value::Object(units);
        return Ok(Output::Value(json!({"application-status": status})));
    }
    let current = model.units.get(&context.unit).map(|unit| unit.status.clone());
    let Some(status) = context.status.clone().or(current) else { return failed("unit is gone") };
    context.status = Some(status.clone());
    Ok(Output::Value(if args.has("include-data") {
        full(&status)
    } else if args.value("format").is_none_or(|format| format == "smart") {
        Value::from(status.word)
    } else {
        json!({"status": status.word})
    }))
}

pub(super) fn version_set(model: &mut Model, context: &Context, args: &Args) -> Result<Output> {
    let Some(version) = args.at(0) else { return usage("no version specified") };
    args.at_most(1)?;
    if let Some(app) = model.apps.get_mut(&context.unit.app) {
        version.clone_into(&mut app.version);
    }
    Ok(Output::Silent)
}

pub(super) fn log(model: &Model, context: &mut Context, args: &Args) -> Result<Output> {
    if args.rest.is_empty() {
        return usage("no message specified");
    }
    let wanted = args.value("log-level").unwrap_or("INFO").to_uppercase();
    let level = if args.has("debug") { "DEBUG".to_owned() } else { wanted };
    let level = if ["TRACE", "DEBUG", "INFO", "WARNING", "ERROR"].contains(&level.as_str()) {
        level
    } else {
        context.log.push(format!("WARNING invalid log level {level:?}"));
        "INFO".to_owned()
    };
    let endpoint = super::relations::environment(model, context);
    let prefix = endpoint.get(1).map(|(_, id)| format!("{id}: ")).unwrap_or_default();
    context.log.push(format!("{level} {prefix}{}", args.rest.join(" ")));
    Ok(Output::Silent)
}

fn state<'a>(model: &'a Model, context: &'a Context) -> Option<&'a Bag> {
    context.buffer.state.as_ref().or_else(|| Some(&model.units.get(&context.unit)?.state))
}

pub(super) fn state_get(model: &Model, context: &Context, args: &Args) -> Result<Output> {
    args.at_most(1)?;
    let Some(state) = state(model, context) else { return failed("unit is gone") };
    match args.at(0).filter(|key| *key != "-") {
        Some(key) => match state.get(key) {
            None if args.has("strict") => failed(format!("{key:?} not found")),
            value => Ok(Output::Value(Value::from(value.cloned().unwrap_or_default()))),
        },
        None if state.is_empty() && args.value("format") == Some("json") => Ok(Output::Value(Value::Null)),
        None => Ok(Output::Value(json!(state))),
    }
}

pub(super) fn state_set(
    model: &Model,
    context: &mut Context,
    args: &Args,
    request: &Request,
) -> Result<Output> {
    let arguments = key_values(&args.rest)?;
    let mut written = file_values(args, request)?;
    written.extend(arguments);
    for (key, value) in &written {
        if key.len() > 256 {
            return failed("max allowed key length (256) exceeded");
        }
        if value.len() > 65536 {
            return failed("max allowed value length (65536) exceeded");
        }
    }
    let mut new = state(model, context).cloned().unwrap_or_default();
    new.extend(written);
    context.buffer.state = Some(new);
    Ok(Output::Silent)
}

pub(super) fn state_delete(model: &Model, context: &mut Context, args: &Args) -> Result<Output> {
    let Some(key) = args.at(0) else { return Ok(Output::Silent) };
    args.at_most(1)?;
    let mut new = state(model, context).cloned().unwrap_or_default();
    new.remove(key);
    context.buffer.state = Some(new);
    Ok(Output::Silent)
}

pub(super) fn port(model: &Model, context: &mut Context, args: &Args, open: bool) -> Result<Output> {
    let Some(text) = args.at(0) else { return usage("no port or range specified") };
    args.at_most(1)?;
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    if number.contains('-') {
        return failed("port ranges are not supported for k8s applications, please specify a single port");
    }
    let valid = number.parse::<u16>().is_ok_and(|number| number > 0) && ["tcp", "udp"].contains(&protocol);
    let port = match text {
        "icmp" => "icmp".to_owned(),
        _ if valid => format!("{number}/{protocol}"),
        _ => return usage(format!("invalid port or protocol {text:?}")),
    };
    let current = model.units.get(&context.unit).map(|unit: &Unit| unit.ports.clone()).unwrap_or_default();
    let ports = context.buffer.ports.get_or_insert(current);
    if open {
        ports.insert(port);
    } else {
        ports.remove(&port);
    }
    Ok(Output::Silent)
}

pub(super) fn opened_ports(model: &Model, context: &Context, args: &Args) -> Result<Output> {
    args.at_most(0)?;
    let current = model.units.get(&context.unit).map(|unit| unit.ports.clone()).unwrap_or_default();
    let ports = context.buffer.ports.clone().unwrap_or(current);
    let suffix = if args.has("endpoints") { " (*)" } else { "" };
    Ok(Output::Value(ports.iter().map(|port| Value::from(format!("{port}{suffix}"))).collect()))
}

pub(super) fn unit_get(model: &Model, context: &Context, args: &Args) -> Result<Output> {
    let Some(setting) = args.at(0) else { return usage("no setting specified") };
    if !["private-address", "public-address"].contains(&setting) {
        return usage(format!("unknown setting {setting:?}"));
    }
    args.at_most(1)?;
    Ok(Output::Value(
        model.units.get(&context.unit).map_or(Value::Null, |unit| Value::from(unit.address.to_string())),
    ))
}

pub(super) fn leader_get(model: &Model, context: &Context, args: &Args) -> Result<Output> {
    args.at_most(1)?;
    let settings = model.apps.get(&context.unit.app).map(|app| app.settings.clone()).unwrap_or_default();
    Ok(Output::Value(match args.at(0).filter(|key| *key != "-") {
        Some(key) => settings.get(key).map_or(Value::Null, |value| Value::from(value.as_str())),
        None => json!(settings),
    }))
}

/// Written at once. Followers learn of it by `leader-settings-changed`.
pub(super) fn leader_set(model: &mut Model, context: &mut Context, args: &Args) -> Result<Output> {
    let written = key_values(&args.rest)?;
    if !context.leads(model) {
        return failed("cannot write leadership settings: cannot write settings: not the leader");
    }
    let Some(app) = model.apps.get_mut(&context.unit.app) else { return failed("application is gone") };
    let before = app.settings.clone();
    app.settings.extend(written);
    app.settings.retain(|_, value| !value.is_empty());
    if app.settings != before {
        app.term += 1;
    }
    Ok(Output::Silent)
}

fn parameters(context: &Context) -> Result<&Value> {
    match &context.event {
        Event::Action { parameters, .. } => Ok(parameters),
        _ => failed("not running an action"),
    }
}

pub(super) fn action_get(context: &Context, args: &Args) -> Result<Output> {
    args.at_most(1)?;
    let mut value = parameters(context)?;
    for part in args.at(0).into_iter().flat_map(|path| path.split('.')) {
        value = value.get(part).unwrap_or(&Value::Null);
    }
    Ok(Output::Value(value.clone()))
}

pub(super) fn action_set(context: &mut Context, args: &Args) -> Result<Output> {
    parameters(context)?;
    let mut results = BTreeMap::new();
    for arg in &args.rest {
        let Some((key, value)) = arg.split_once('=') else {
            return usage(format!("argument {arg:?} must be of the form key...=value"));
        };
        if ["stdout", "stdout-encoding", "stderr", "stderr-encoding"].contains(&key) {
            return usage(format!("cannot set reserved action key {key:?}"));
        }
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let segment =
            |s: &str| s.starts_with(plain) && s.ends_with(plain) && s.chars().all(|c| plain(c) || c == '-');
        if !key.split('.').all(segment) {
            return usage(format!(
                "key {key:?} must start and end with lowercase alphanumeric, and contain only lowercase alphanumeric and hyphens"
            ));
        }
        results.insert(key.to_owned(), value.to_owned());
    }
    context.action.results.extend(results);
    Ok(Output::Silent)
}

pub(super) fn action_fail(context: &mut Context, args: &Args) -> Result<Output> {
    parameters(context)?;
    args.at_most(1)?;
    let reason = args.at(0).unwrap_or("action failed without reason given, check action for errors");
    context.action.failure = Some(reason.to_owned());
    Ok(Output::Silent)
}

pub(super) fn action_log(context: &mut Context, args: &Args) -> Result<Output> {
    if args.rest.is_empty() {
        return usage("no message specified");
    }
    parameters(context)?;
    context.log.push(format!("ACTION {}", args.rest.join(" ")));
    Ok(Output::Silent)
}
