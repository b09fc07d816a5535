//! `relation-*`, `network-get`, `goal-state`.

use std::collections::BTreeMap;

use super::files::{file_values, key_values};
use super::flags::{Args, FORMAT, Flag, Kind, OUTPUT, RELATION, YAML_OR_JSON};
use super::format::{Format, Shown};
use super::{Context, Output, Result, Tool, failed, usage};
use crate::events::Event;
use crate::model::{Bag, Model, Relation, UnitName};
use crate::version::Version;

const APP: Flag = Flag("app", Kind::Switch);

pub(super) const TOOLS: &[Tool] = &[
    Tool::new("relation-ids", "[<name>]", &[FORMAT, OUTPUT], ids),
    Tool::new("relation-list", "", &[FORMAT, OUTPUT, RELATION, APP], list),
    Tool::new("relation-get", "[<key> [<unit id>]]", &[FORMAT, OUTPUT, RELATION, APP], get),
    Tool::new(
        "relation-set",
        "key=value [key=value ...]",
        &[Flag("format", Kind::Text), RELATION, APP, Flag("file", Kind::Text)],
        set,
    ),
    Tool::new("relation-model-get", "", &[FORMAT, OUTPUT, RELATION], model_get)
        .when(Version::has_relation_model_get),
    Tool::new(
        "network-get",
        "<binding-name> [--ingress-address] [--bind-address] [--egress-subnets]",
        &[
            FORMAT,
            OUTPUT,
            RELATION,
            Flag("bind-address", Kind::Switch),
            Flag("ingress-address", Kind::Switch),
            Flag("egress-subnets", Kind::Switch),
            Flag("primary-address", Kind::Switch),
        ],
        network_get,
    ),
    Tool::new("goal-state", "", &[YAML_OR_JSON, OUTPUT], goal_state),
];

/// The relation of a call: `-r`, otherwise the hook's own. As in Juju, text before the last `:` is
/// ignored.
pub(super) fn relation_id(
    model: &Model,
    context: &Context,
    args: &Args<'_>,
) -> Result<Option<u32>> {
    let Some(given) = args.value("relation") else { return Ok(context.event.relation()) };
    let option = args.spelling("relation");
    let number = given.rsplit(':').next().unwrap_or(given);
    let Ok(id) = number.parse::<u32>() else {
        return usage(format!("invalid value {given:?} for option {option}: invalid relation id"));
    };
    if known(model, context, id) {
        Ok(Some(id))
    } else {
        usage(format!("invalid value {given:?} for option {option}: relation not found"))
    }
}

/// Whether the unit knows the relation: from the time its agent enters it, after `install`, until
/// it leaves it.
fn known(model: &Model, context: &Context, id: u32) -> bool {
    let view = model.units.get(&context.unit).and_then(|unit| unit.views.get(&id));
    view.is_some_and(|view| !view.broken) && model.relations.contains_key(&id)
}

pub(super) fn required(model: &Model, context: &Context, args: &Args<'_>) -> Result<u32> {
    match relation_id(model, context, args)? {
        Some(id) => Ok(id),
        None => usage("no relation id specified"),
    }
}

fn ids(model: &mut Model, context: &mut Context, args: &Args<'_>) -> Result<Output> {
    let app = &context.unit.app;
    let own = context.event.relation().and_then(|id| model.relations.get(&id)?.end(app));
    let Some(endpoint) = args.at(0).or(own.map(|end| end.endpoint.as_str())) else {
        return usage("no endpoint name specified");
    };
    args.at_most(1)?;
    let listed = |id: u32, relation: &Relation| {
        let over =
            relation.is_over() && !relation.is_peer() && members(model, context, id).is_empty();
        relation.end(app).is_some_and(|end| end.endpoint == endpoint)
            && known(model, context, id)
            && !(over && model.version.hides_broken_relations())
    };
    let relations = model.relations.iter().filter(|(id, relation)| listed(**id, relation));
    let mut found: Vec<String> = relations.map(|(id, _)| format!("{endpoint}:{id}")).collect();
    found.sort();
    Ok(Output::Value(Shown::texts(found)))
}

fn list(model: &mut Model, context: &mut Context, args: &Args<'_>) -> Result<Output> {
    let id = required(model, context, args)?;
    args.at_most(0)?;
    if args.has("app") {
        return match remote_app(model, context, id) {
            Some(app) => Ok(Output::Value(Shown::from(app))),
            None => failed("remote application is not known"),
        };
    }
    let mut names: Vec<String> =
        members(model, context, id).iter().map(ToString::to_string).collect();
    names.sort();
    Ok(Output::Value(Shown::texts(names)))
}

/// The application at the other end; for a peer relation the own application.
pub(super) fn remote_app(model: &Model, context: &Context, id: u32) -> Option<String> {
    model.relations.get(&id)?.remote(&context.unit.app).map(|end| end.app.clone())
}

fn members(model: &Model, context: &Context, id: u32) -> Vec<UnitName> {
    let view = model.units.get(&context.unit).and_then(|unit| unit.views.get(&id));
    view.map(|view| view.members.keys().cloned().collect()).unwrap_or_default()
}

fn model_get(model: &mut Model, context: &mut Context, args: &Args<'_>) -> Result<Output> {
    required(model, context, args)?;
    args.at_most(0)?;
    Ok(Output::Value(Shown::fields([("uuid", Shown::from(model.uuid.as_str()))])))
}

/// Whose databag is read.
enum Member {
    Unit(UnitName),
    App(String),
}

fn get(model: &mut Model, context: &mut Context, args: &Args<'_>) -> Result<Output> {
    let id = required(model, context, args)?;
    let key = args.at(0).filter(|key| *key != "-" && !key.is_empty());
    let member = member(model, context, args)?;
    args.at_most(2)?;
    let bag = match member {
        Member::Unit(unit) => unit_bag(model, context, id, &unit)?,
        Member::App(app) => app_bag(model, context, id, &app)?,
    };
    Ok(Output::Value(match key {
        Some(key) => bag.get(key).map_or(Shown::NULL, |value| Shown::from(value.as_str())),
        None => Shown::from(&bag),
    }))
}

/// The unit or application named, otherwise the hook's remote unit, otherwise its remote
/// application.
fn member(model: &Model, context: &Context, args: &Args<'_>) -> Result<Member> {
    let Some(name) = args.at(1) else {
        let remote_app = context.event.relation().and_then(|id| remote_app(model, context, id));
        return match (context.event.remote_unit(), remote_app) {
            (Some(unit), _) if !args.has("app") => Ok(Member::Unit(unit.clone())),
            (_, Some(app)) => Ok(Member::App(app)),
            _ => usage("no unit or application specified"),
        };
    };
    let unit = name.parse::<UnitName>().ok().filter(|unit| valid_app(&unit.app));
    match (unit, args.has("app")) {
        (Some(unit), false) => Ok(Member::Unit(unit)),
        (Some(unit), true) => Ok(Member::App(unit.app)),
        (None, true) if valid_app(name) => Ok(Member::App(name.to_owned())),
        (None, false) if valid_app(name) => {
            usage(format!("expected unit name, got application name {name:?}"))
        }
        _ => usage(format!("invalid unit name {name:?}")),
    }
}

/// Whether a name is valid: parts of lowercase letters and digits, joined by hyphens. The first
/// part begins with a letter; every other part contains one.
pub(crate) fn valid_app(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        && name.split('-').all(|word| word.contains(|c: char| c.is_ascii_lowercase()))
}

/// The own databag includes this hook's writes. A member's databag is as of its last event; any
/// other as this hook first read it.
fn unit_bag(model: &mut Model, context: &mut Context, id: u32, unit: &UnitName) -> Result<Bag> {
    if *unit == context.unit
        && let Some(pending) = context.buffer.unit_bags.get(&id)
    {
        return Ok(pending.clone());
    }
    let member = members(model, context, id).contains(unit);
    let own = model.units.get(&context.unit).filter(|_| member);
    if let Some(cached) = own.and_then(|own| own.cache.get(&(id, unit.clone()))) {
        return Ok(cached.clone());
    }
    let bag =
        context.fetch(model, id, &unit.to_string(), |relation| match relation.units.get(unit) {
            Some(settings) => Ok(settings.values.clone()),
            None => failed(model.version.foreign_unit_error(&unit.to_string(), &relation.key())),
        })?;
    if let Some(own) = model.units.get_mut(&context.unit).filter(|_| member) {
        own.cache.insert((id, unit.clone()), bag.clone());
    }
    Ok(bag)
}

fn app_bag(model: &Model, context: &mut Context, id: u32, app: &str) -> Result<Bag> {
    if app == context.unit.app {
        let leads = context.leads(model);
        if leads && let Some(pending) = context.buffer.app_bags.get(&id) {
            return Ok(pending.clone());
        }
        let peers = model.relations.get(&id).is_some_and(Relation::is_peer);
        if !leads && !peers && !model.version.followers_read_own_app_bag() {
            return failed("permission denied");
        }
    }
    context.fetch(model, id, app, |relation| match relation.end(app) {
        Some(_) => {
            Ok(relation.apps.get(app).map(|settings| settings.values.clone()).unwrap_or_default())
        }
        None if model.apps.contains_key(app) => failed("permission denied"),
        None => failed(model.version.unknown_app_error(app)),
    })
}

impl Context {
    /// Reads a databag from the controller, once per hook. A relation that the controller no longer
    /// knows gives an error.
    fn fetch(
        &mut self,
        model: &Model,
        id: u32,
        whose: &str,
        ask: impl FnOnce(&Relation) -> Result<Bag>,
    ) -> Result<Bag> {
        let key = (id, whose.to_owned());
        if let Some(bag) = self.fetched.get(&key) {
            return Ok(bag.clone());
        }
        let Some(relation) = model.relations.get(&id).filter(|relation| !relation.forgotten) else {
            return failed(model.version.missing_relation_error());
        };
        let bag = ask(relation)?;
        self.fetched.insert(key, bag.clone());
        Ok(bag)
    }
}

fn set(model: &mut Model, context: &mut Context, args: &Args<'_>) -> Result<Output> {
    let id = required(model, context, args)?;
    let arguments = key_values(&args.rest)?;
    let mut written = file_values(args)?;
    written.extend(arguments);
    let unit = context.unit.clone();
    let (bag, place) = if args.has("app") {
        if !context.leads(model) {
            return failed("cannot write relation settings");
        }
        let bag = app_bag(model, context, id, &unit.app);
        let bag =
            bag.map_err(|refusal| refusal.because("cannot read relation application settings"))?;
        (bag, &mut context.buffer.app_bags)
    } else {
        let bag = unit_bag(model, context, id, &unit);
        let bag = bag.map_err(|refusal| refusal.because("cannot read relation settings"))?;
        (bag, &mut context.buffer.unit_bags)
    };
    let bag = place.entry(id).or_insert(bag);
    for (key, value) in written {
        if value.is_empty() {
            bag.remove(&key);
        } else {
            bag.insert(key, value);
        }
    }
    Ok(Output::Silent)
}

fn network_get(model: &mut Model, context: &mut Context, args: &Args<'_>) -> Result<Output> {
    let Some(binding) = args.at(0) else { return usage("no arguments specified") };
    if binding.is_empty() {
        return usage("no binding name specified");
    }
    let relation = relation_id(model, context, args)?;
    args.at_most(1)?;
    if let Some(id) =
        relation.filter(|id| model.relations.get(id).is_none_or(|relation| relation.forgotten))
    {
        return failed(format!("relation {id} not found"));
    }
    let bound = |endpoint: &str| {
        model.charm(&context.unit.app).is_some_and(|charm| charm.endpoints.contains_key(endpoint))
    };
    if !bound(binding) && binding != "juju-info" {
        return failed(format!("no network config found for binding {binding:?}"));
    }
    let address =
        model.units.get(&context.unit).map(|unit| unit.address.to_string()).unwrap_or_default();
    let chosen: Vec<&str> = ["bind-address", "egress-subnets", "ingress-address"]
        .into_iter()
        .filter(|flag| args.has(flag))
        .collect();
    if args.has("primary-address") {
        if !chosen.is_empty() {
            return failed("--primary-address must be the only flag specified");
        }
        return Ok(Output::Value(Shown::from(address)));
    }
    let device = if model.version.names_network_device() {
        Device {
            name: format!("placeholder for \"{}\" cloud container", context.unit),
            hostname: &address,
            cidr: "0.0.0.0/0",
        }
    } else {
        Device::default()
    };
    let one = |flag: &str| match flag {
        "egress-subnets" => Shown::texts([format!("{address}/32")]),
        _ => Shown::from(address.as_str()),
    };
    Ok(Output::Value(match chosen.as_slice() {
        [] => network(&address, &device, args.format),
        [flag] => one(flag),
        flags => Shown::map(flags.iter().map(|flag| ((*flag).to_owned(), one(flag)))),
    }))
}

/// What `network-get` says about the device of an address.
#[derive(Default)]
struct Device<'a> {
    name: String,
    hostname: &'a str,
    cidr: &'a str,
}

/// The network information of a binding. YAML output repeats fields that older charms use.
fn network(address: &str, device: &Device<'_>, format: Format) -> Shown {
    let text = |value: &str| Shown::from(value);
    let mut bound = vec![
        ("hostname", text(device.hostname)),
        ("value", text(address)),
        ("cidr", text(device.cidr)),
    ];
    let mut interface = vec![("mac-address", text("")), ("interface-name", text(&device.name))];
    let (mut older_bound, mut older_interface) = (Vec::new(), Vec::new());
    if format != Format::Json {
        older_bound.push(("address", text(address)));
        older_interface.extend([("macaddress", text("")), ("interfacename", text(&device.name))]);
    }
    let named = |fields: Vec<(&str, Shown)>| {
        Shown::map(fields.into_iter().map(|(name, value)| (name.to_owned(), value)))
    };
    bound.append(&mut older_bound);
    interface.push(("addresses", Shown::List(vec![named(bound)])));
    interface.append(&mut older_interface);
    Shown::fields([
        ("bind-addresses", Shown::List(vec![named(interface)])),
        ("egress-subnets", Shown::texts([format!("{address}/32")])),
        ("ingress-addresses", Shown::texts([address])),
    ])
}

/// The own units and, by endpoint, the remote applications and their units, without peers.
fn goal_state(model: &mut Model, context: &mut Context, args: &Args<'_>) -> Result<Output> {
    args.at_most(0)?;
    let since = model.now.strftime("%Y-%m-%d %H:%M:%SZ").to_string();
    let entry = |status: &str| {
        Shown::fields([("status", Shown::from(status)), ("since", Shown::from(since.as_str()))])
    };
    let units = |app: &str| {
        let all = model.units.iter().filter(|(name, _)| name.app == app);
        let status = |unit: &crate::model::Unit| {
            entry(if unit.dying { "dying" } else { unit.status.word.as_str() })
        };
        all.map(|(name, unit)| (name.to_string(), status(unit))).collect::<BTreeMap<_, _>>()
    };
    let app = &context.unit.app;
    let mut relations: BTreeMap<String, BTreeMap<String, Shown>> = BTreeMap::new();
    for relation in
        model.relations.values().filter(|relation| !relation.is_peer() && !relation.forgotten)
    {
        let (Some(end), Some(remote)) = (relation.end(app), relation.remote(app)) else { continue };
        let status = match relation {
            Relation { dying: true, .. } => "broken",
            Relation { suspended: true, .. } => "suspended",
            Relation { scope, .. } if scope.is_empty() => "joining",
            _ => "joined",
        };
        let endpoint = relations.entry(end.endpoint.clone()).or_default();
        endpoint.insert(remote.app.clone(), entry(status));
        endpoint.extend(units(&remote.app));
    }
    let relations =
        relations.into_iter().map(|(endpoint, members)| (endpoint, Shown::map(members)));
    Ok(Output::Value(Shown::fields([
        ("units", Shown::map(units(app))),
        ("relations", Shown::map(relations)),
    ])))
}

/// The environment of a relation hook: name, id, remote application, remote unit.
pub(crate) fn environment(model: &Model, context: &Context) -> Vec<(&'static str, String)> {
    let Some(id) = context.event.relation() else { return Vec::new() };
    let Some(relation) = model.relations.get(&id) else { return Vec::new() };
    let app = &context.unit.app;
    let endpoint = relation.end(app).map_or("", |end| end.endpoint.as_str());
    let restarted = model.units.get(&context.unit).is_some_and(|unit| unit.restarted);
    // After a restart of the agent, `-broken` does not know the remote application (LP 1960934).
    let blank = restarted && matches!(context.event, Event::Broken { .. });
    let remote = relation.remote(app).filter(|_| !blank).map_or("", |end| end.app.as_str());
    let mut variables = vec![
        ("JUJU_RELATION", endpoint.to_owned()),
        ("JUJU_RELATION_ID", format!("{endpoint}:{id}")),
        ("JUJU_REMOTE_APP", remote.to_owned()),
        (
            "JUJU_REMOTE_UNIT",
            context.event.remote_unit().map(ToString::to_string).unwrap_or_default(),
        ),
    ];
    if let Event::Departed { departing, .. } = &context.event {
        variables.push(("JUJU_DEPARTING_UNIT", departing.to_string()));
    }
    variables
}
