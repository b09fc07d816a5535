//! Tools about the unit and its application: leadership, configuration, status, state, ports,
//! actions.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::files::{file_values, key_values};
use super::flags::{Args, FORMAT, Flag, Kind, OUTPUT};
use super::format::{Format, Shown};
use super::{Context, Output, Result, Tool, failed, usage};
use crate::model::{Bag, Model, Status};
use crate::ports::{OpenedPort, PortRange, Protocol};
use crate::version::Version;

const FOR_APPLICATION: Flag = Flag("application", Kind::Switch);
const PORT: &[Flag] = &[Flag("format", Kind::Text), Flag("endpoints", Kind::Text)];
const PORT_USAGE: &str = "<port>[/<protocol>] or <from>-<to>[/<protocol>] or icmp";

pub(super) const TOOLS: &[Tool] = &[
    Tool::new("is-leader", "", &[FORMAT, OUTPUT], is_leader),
    Tool::new("config-get", "[<key>]", &[FORMAT, OUTPUT, Flag("a|all", Kind::Switch)], config_get),
    Tool::new(
        "status-set",
        "<maintenance | blocked | waiting | active> [message]",
        &[FOR_APPLICATION],
        status_set,
    ),
    Tool::new(
        "status-get",
        "[--include-data] [--application]",
        &[FORMAT, OUTPUT, Flag("include-data", Kind::Switch), FOR_APPLICATION],
        status_get,
    ),
    Tool::new("application-version-set", "<new-version>", &[], version_set),
    Tool::new(
        "juju-log",
        "<message>",
        &[Flag("format", Kind::Text), Flag("debug", Kind::Switch), Flag("l|log-level", Kind::Text)],
        log,
    ),
    Tool::new("state-get", "[<key>]", &[FORMAT, OUTPUT, Flag("strict", Kind::Switch)], state_get),
    Tool::new("state-set", "key=value [key=value ...]", &[Flag("file", Kind::Text)], state_set),
    Tool::new("state-delete", "<key>", &[], state_delete),
    Tool::new("open-port", PORT_USAGE, PORT, open_port),
    Tool::new("close-port", PORT_USAGE, PORT, close_port),
    Tool::new("opened-ports", "", &[FORMAT, OUTPUT, Flag("endpoints", Kind::Switch)], opened_ports),
    Tool::new("unit-get", "<setting>", &[FORMAT, OUTPUT], unit_get),
    Tool::new("leader-get", "[<key>]", &[FORMAT, OUTPUT], leader_get)
        .when(Version::has_leader_settings),
    Tool::new("leader-set", "<key>=<value> [...]", &[], leader_set)
        .when(Version::has_leader_settings),
    Tool::new("action-get", "[<key>[.<key>.<key>...]]", &[FORMAT, OUTPUT], action_get),
    Tool::new("action-set", "<key>=<value> [<key>=<value> ...]", &[], action_set),
    Tool::new("action-fail", "[\"<failure message>\"]", &[], action_fail),
    Tool::new("action-log", "<message>", &[], action_log),
];

fn is_leader(model: &mut Model, context: &mut Context, args: &Args<'_>) -> Result<Output> {
    args.at_most(0)?;
    Ok(Output::Value(Shown::Scalar(Value::from(context.leads(model)))))
}

fn config_get(model: &mut Model, context: &mut Context, args: &Args<'_>) -> Result<Output> {
    let all = args.has("all");
    if let (true, Some(key)) = (all, args.at(0)) {
        return usage(format!("cannot use argument --all together with key {key:?}"));
    }
    args.at_most(1)?;
    let Some(app) = model.apps.get(&context.unit.app) else { return failed("application is gone") };
    let values = context.config.get_or_insert_with(|| app.effective_config());
    let value = |name: &str| values.get(name).cloned().map_or(Shown::NULL, Shown::from);
    Ok(Output::Value(match args.at(0) {
        Some(key) => value(key),
        None if all => {
            Shown::map(app.charm().options.keys().map(|name| (name.clone(), value(name))))
        }
        None => Shown::map(values.keys().map(|name| (name.clone(), value(name)))),
    }))
}

const STATUSES: [&str; 4] = ["maintenance", "blocked", "waiting", "active"];

fn status_set(model: &mut Model, context: &mut Context, args: &Args<'_>) -> Result<Output> {
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

fn status_get(model: &mut Model, context: &mut Context, args: &Args<'_>) -> Result<Output> {
    args.at_most(0)?;
    let data = args.has("include-data");
    let word_only = !data && args.format == Format::Smart;
    if args.has("application") {
        if !context.leads(model) {
            return failed("finding application status: this unit is not the leader");
        }
        let status = app_status(model, &context.unit.app);
        return Ok(Output::Value(if word_only {
            Shown::from(status.word)
        } else {
            Shown::fields([(
                "application-status",
                details(&status, data, Some(unit_details(model, context, data))),
            )])
        }));
    }
    let current = model.units.get(&context.unit).map(|unit| unit.status.clone());
    let Some(status) = context.status.clone().or(current) else { return failed("unit is gone") };
    context.status = Some(status.clone());
    Ok(Output::Value(if word_only {
        Shown::from(status.word)
    } else {
        details(&status, data, None)
    }))
}

/// A status as a map; if requested with its message, and with the units of an application.
fn details(status: &Status, data: bool, units: Option<Shown>) -> Shown {
    let mut details = BTreeMap::from([("status", Shown::from(status.word.as_str()))]);
    if data {
        details.insert("message", Shown::from(status.message.as_str()));
        details.insert("status-data", Shown::fields([]));
    }
    details.extend(units.map(|units| ("units", units)));
    Shown::map(details.into_iter().map(|(name, value)| (name.to_owned(), value)))
}

fn unit_details(model: &Model, context: &Context, data: bool) -> Shown {
    let own = model.units.iter().filter(|(name, _)| name.app == context.unit.app);
    let all: BTreeMap<_, _> =
        own.map(|(name, unit)| (name.to_string(), details(&unit.status, data, None))).collect();
    Shown::map(all)
}

/// The status that the leader set, otherwise the worst of the units' statuses.
fn app_status(model: &Model, app: &str) -> Status {
    const GRAVE: [&str; 5] = ["terminated", "active", "waiting", "maintenance", "blocked"];
    let grave = |status: &&Status| GRAVE.iter().position(|word| *word == status.word);
    let units =
        model.units.iter().filter(|(name, _)| name.app == app).map(|(_, unit)| &unit.status);
    let gravest = units.rev().max_by_key(grave).filter(|status| grave(status).is_some());
    let set = model.apps.get(app).and_then(|app| app.status.as_ref());
    set.or(gravest).cloned().unwrap_or_else(|| Status::new("unknown", ""))
}

fn version_set(model: &mut Model, context: &mut Context, args: &Args<'_>) -> Result<Output> {
    let Some(version) = args.at(0) else { return usage("no version specified") };
    args.at_most(1)?;
    if let Some(app) = model.apps.get_mut(&context.unit.app) {
        version.clone_into(&mut app.version);
    }
    Ok(Output::Silent)
}

fn log(model: &mut Model, context: &mut Context, args: &Args<'_>) -> Result<Output> {
    if args.rest.is_empty() {
        return usage("no message specified");
    }
    let wanted = if args.has("debug") { "DEBUG" } else { args.text("log-level").unwrap_or("INFO") };
    let level = match wanted.to_uppercase().as_str() {
        "TRACE" => "TRACE",
        "DEBUG" => "DEBUG",
        "INFO" => "INFO",
        "WARN" | "WARNING" => "WARNING",
        "ERROR" => "ERROR",
        "CRITICAL" => "CRITICAL",
        _ => {
            context.log.push(format!("WARNING Specified log level of {wanted:?} is not valid"));
            "INFO"
        }
    };
    let endpoint = super::relations::environment(model, context);
    let prefix = endpoint.get(1).map(|(_, id)| format!("{id}: ")).unwrap_or_default();
    context.log.push(format!("{level} {prefix}{}", args.rest.join(" ")));
    Ok(Output::Silent)
}

fn state<'a>(model: &'a Model, context: &'a Context) -> Option<&'a Bag> {
    context.buffer.state.as_ref().or_else(|| Some(&model.units.get(&context.unit)?.state))
}

fn state_get(model: &mut Model, context: &mut Context, args: &Args<'_>) -> Result<Output> {
    args.at_most(1)?;
    let Some(state) = state(model, context) else { return failed("unit is gone") };
    Ok(Output::Value(match args.at(0).filter(|key| !["-", ""].contains(key)) {
        Some(key) => match state.get(key) {
            None if args.has("strict") => return failed(format!("{key:?} not found")),
            value => Shown::from(value.cloned().unwrap_or_default()),
        },
        None if state.is_empty() && args.format == Format::Json => Shown::NULL,
        None => Shown::from(state),
    }))
}

fn state_set(model: &mut Model, context: &mut Context, args: &Args<'_>) -> Result<Output> {
    let arguments = key_values(&args.rest)?;
    let mut written = file_values(args)?;
    written.extend(arguments);
    for (key, value) in &written {
        for (what, text, limit) in [("key", key, 256), ("value", value, 65536)] {
            if text.len() > limit {
                return failed(model.version.state_limit_error(what, limit));
            }
        }
    }
    let mut new = state(model, context).cloned().unwrap_or_default();
    new.extend(written);
    context.buffer.state = Some(new);
    Ok(Output::Silent)
}

fn state_delete(model: &mut Model, context: &mut Context, args: &Args<'_>) -> Result<Output> {
    let Some(key) = args.at(0) else { return Ok(Output::Silent) };
    args.at_most(1)?;
    let mut new = state(model, context).cloned().unwrap_or_default();
    new.remove(key);
    context.buffer.state = Some(new);
    Ok(Output::Silent)
}

fn open_port(model: &mut Model, context: &mut Context, args: &Args<'_>) -> Result<Output> {
    for port in ports(model, context, args)? {
        pending_ports(model, context).insert(port);
    }
    Ok(Output::Silent)
}

fn close_port(model: &mut Model, context: &mut Context, args: &Args<'_>) -> Result<Output> {
    for port in ports(model, context, args)? {
        let open = pending_ports(model, context);
        let for_all = OpenedPort { endpoint: None, ..port.clone() };
        if port.endpoint.is_some() && open.contains(&for_all) {
            return failed(
                "jujusim does not model closing a port for one endpoint that is open for all",
            );
        }
        open.retain(
            |other| if port.endpoint.is_some() { *other != port } else { !other.same(&port) },
        );
    }
    Ok(Output::Silent)
}

/// The named port, once for each named endpoint.
fn ports(model: &Model, context: &Context, args: &Args<'_>) -> Result<Vec<OpenedPort>> {
    let Some(text) = args.at(0) else { return usage("no port or range specified") };
    let PortRange { protocol, from, to } = PortRange::parse(text).or_else(usage)?;
    args.at_most(1)?;
    if !model.version.opens_ports_on_kubernetes() {
        return failed("jujusim does not model ports on Kubernetes before Juju 3.0.3");
    }
    if from != to {
        return failed(
            "port ranges are not supported for k8s applications, please specify a single port",
        );
    }
    let port = |endpoint| OpenedPort { protocol, number: from, endpoint };
    let Some(endpoints) = args.text("endpoints") else { return Ok(vec![port(None)]) };
    let charm = model.charm(&context.unit.app);
    let known = |endpoint: &str| charm.is_some_and(|charm| charm.endpoints.contains_key(endpoint));
    let port = |endpoint: &str| match endpoint.trim() {
        "" => Ok(port(None)),
        endpoint if known(endpoint) => Ok(port(Some(endpoint.to_owned()))),
        endpoint => failed(format!(
            "jujusim does not model ports for the endpoint {endpoint:?}: it is none of the charm's"
        )),
    };
    endpoints.split(',').map(port).collect()
}

fn pending_ports<'a>(model: &Model, context: &'a mut Context) -> &'a mut BTreeSet<OpenedPort> {
    let open = model.units.get(&context.unit).map(|unit| unit.ports.clone());
    context.buffer.ports.get_or_insert_with(|| open.unwrap_or_default())
}

fn opened_ports(model: &mut Model, context: &mut Context, args: &Args<'_>) -> Result<Output> {
    args.at_most(0)?;
    let mut open: BTreeMap<(Protocol, u16), BTreeSet<&OpenedPort>> = BTreeMap::new();
    for port in &*pending_ports(model, context) {
        open.entry((port.protocol, port.number)).or_default().insert(port);
    }
    let line = |ports: &BTreeSet<&OpenedPort>| {
        let port = ports.first().map(ToString::to_string).unwrap_or_default();
        let endpoints: Option<Vec<&str>> =
            ports.iter().map(|port| port.endpoint.as_deref()).collect();
        match endpoints {
            _ if !args.has("endpoints") => port,
            Some(endpoints) => format!("{port} ({})", endpoints.join(", ")),
            None => format!("{port} (*)"),
        }
    };
    Ok(Output::Value(Shown::texts(open.values().map(line))))
}

fn unit_get(model: &mut Model, context: &mut Context, args: &Args<'_>) -> Result<Output> {
    let Some(setting) = args.at(0) else { return usage("no setting specified") };
    if !["private-address", "public-address"].contains(&setting) {
        return usage(format!("unknown setting {setting:?}"));
    }
    args.at_most(1)?;
    if setting == "private-address" && !model.version.has_private_address() {
        return failed("private address not found");
    }
    let unit = model.units.get(&context.unit);
    Ok(Output::Value(unit.map_or(Shown::NULL, |unit| Shown::from(unit.address.to_string()))))
}

fn leader_get(model: &mut Model, context: &mut Context, args: &Args<'_>) -> Result<Output> {
    if let Some(key) = args.at(0).filter(|key| key.contains('=')) {
        return usage(format!("invalid key {key:?}"));
    }
    args.at_most(1)?;
    let Some(app) = model.apps.get(&context.unit.app) else { return failed("application is gone") };
    Ok(Output::Value(match args.at(0).filter(|key| !["-", ""].contains(key)) {
        Some(key) => app.settings.get(key).map_or(Shown::NULL, |value| Shown::from(value.as_str())),
        None => Shown::from(&app.settings),
    }))
}

/// Written at once. Followers get `leader-settings-changed`.
fn leader_set(model: &mut Model, context: &mut Context, args: &Args<'_>) -> Result<Output> {
    let written = key_values(&args.rest)?;
    if !context.leads(model) {
        return failed("cannot write leadership settings: cannot write settings: not the leader");
    }
    let Some(app) = model.apps.get_mut(&context.unit.app) else {
        return failed("application is gone");
    };
    let before = app.settings.clone();
    app.settings.extend(written);
    app.settings.retain(|_, value| !value.is_empty());
    if app.settings != before {
        app.term += 1;
    }
    Ok(Output::Silent)
}

fn parameters(context: &Context) -> Result<&Value> {
    match context.event.task() {
        Some(task) => Ok(&task.parameters),
        None => failed("not running an action"),
    }
}

fn action_get(_: &mut Model, context: &mut Context, args: &Args<'_>) -> Result<Output> {
    args.at_most(1)?;
    let mut value = parameters(context)?;
    for part in args.at(0).into_iter().flat_map(|path| path.split('.')) {
        value = value.get(part).unwrap_or(&Value::Null);
    }
    Ok(Output::Value(Shown::from(value.clone())))
}

fn action_set(_: &mut Model, context: &mut Context, args: &Args<'_>) -> Result<Output> {
    let results = args.rest.iter().map(|arg| action_result(arg)).collect::<Result<Vec<_>>>()?;
    parameters(context)?;
    for (path, value) in results {
        context.action.set(path, value);
    }
    Ok(Output::Silent)
}

/// Splits `a.b=value` into the path and the value.
fn action_result(arg: &str) -> Result<(&str, &str)> {
    let Some((path, value)) = arg.split_once('=') else {
        return usage(format!("argument {arg:?} must be of the form key...=value"));
    };
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let valid = |key: &str| {
        key.starts_with(plain) && key.ends_with(plain) && key.chars().all(|c| plain(c) || c == '-')
    };
    for key in path.split('.') {
        if !valid(key) {
            return usage(format!(
                "key {key:?} must start and end with lowercase alphanumeric, and contain only lowercase alphanumeric, hyphens and periods"
            ));
        }
        if ["stdout", "stdout-encoding", "stderr", "stderr-encoding"].contains(&key) {
            return usage(format!("cannot set reserved action key {key:?}"));
        }
    }
    Ok((path, value))
}

fn action_fail(_: &mut Model, context: &mut Context, args: &Args<'_>) -> Result<Output> {
    args.at_most(1)?;
    parameters(context)?;
    let reason =
        args.at(0).unwrap_or("action failed without reason given, check action for errors");
    context.action.failure = Some(reason.to_owned());
    Ok(Output::Silent)
}

fn action_log(_: &mut Model, context: &mut Context, args: &Args<'_>) -> Result<Output> {
    if args.rest.is_empty() {
        return usage("no message specified");
    }
    parameters(context)?;
    context.log.push(format!("ACTION {}", args.rest.join(" ")));
    Ok(Output::Silent)
}
