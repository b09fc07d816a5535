//! `relation-*`, `network-get`, `goal-state`.

use serde_json::{Map, Value, json};

use super::flags::Args;
use super::{Context, Output, Request, Result, failed, file_values, key_values, usage};
use crate::events::Event;
use crate::model::{Bag, Model, UnitName};

/// The relation meant: `-r`, else the hook's own. Text before the last `:` is thrown away, as Juju does.
fn relation_id(model: &Model, context: &Context, args: &Args) -> Result<Option<u32>> {
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

/// Relations exist for a unit from the time its agent entered them, which is after `install`, until it left them.
fn known(model: &Model, context: &Context, id: u32) -> bool {
    let view = model.units.get(&context.unit).and_then(|unit| unit.views.get(&id));
    view.is_some_and(|view| !view.broken) && model.relations.contains_key(&id)
}

pub(super) fn required(model: &Model, context: &Context, args: &Args) -> Result<u32> {
    match relation_id(model, context, args)? {
        Some(id) => Ok(id),
        None => usage("no relation id specified"),
    }
}

pub(super) fn ids(model: &Model, context: &Context, args: &Args) -> Result<Output> {
    args.at_most(1)?;
    let app = &context.unit.app;
    let own = context.event.relation().and_then(|id| model.relations.get(&id)?.end(app));
    let Some(endpoint) = args.at(0).map(str::to_owned).or_else(|| own.map(|end| end.endpoint.clone())) else {
        return usage("no endpoint name specified");
    };
    let mut found: Vec<String> = Vec::new();
    for (id, relation) in &model.relations {
        // Since 3.6.0 a broken relation without members is left out, if the relation itself is going.
        let members =
            model.units.get(&context.unit).and_then(|unit| unit.views.get(id)).map(|view| view.members.len());
        let over = relation.dying && !relation.is_peer() && members == Some(0);
        let mine = relation.end(app).is_some_and(|end| end.endpoint == endpoint);
        if mine && known(model, context, *id) && !(over && model.version.has_secrets()) {
            found.push(format!("{endpoint}:{id}"));
        }
    }
    found.sort();
    Ok(Output::Value(Value::from(found)))
}

pub(super) fn list(model: &Model, context: &Context, args: &Args) -> Result<Output> {
    args.at_most(0)?;
    let id = required(model, context, args)?;
    if args.has("app") {
        let remote = model.relations.get(&id).and_then(|relation| relation.remote(&context.unit.app));
        return match remote {
            Some(end) => Ok(Output::Value(Value::from(end.app.clone()))),
            None => failed("remote application is not known"),
        };
    }
    let mut names: Vec<String> = members(model, context, id).iter().map(ToString::to_string).collect();
    names.sort();
    Ok(Output::Value(Value::from(names)))
}

fn members(model: &Model, context: &Context, id: u32) -> Vec<UnitName> {
    let view = model.units.get(&context.unit).and_then(|unit| unit.views.get(&id));
    view.map(|view| view.members.keys().cloned().collect()).unwrap_or_default()
}

pub(super) fn model_get(model: &Model, context: &Context, args: &Args) -> Result<Output> {
    args.at_most(0)?;
    required(model, context, args)?;
    Ok(Output::Value(json!({"uuid": model.uuid})))
}

/// Whose bag is read.
enum Member {
    Unit(UnitName),
    App(String),
}

pub(super) fn get(model: &mut Model, context: &mut Context, args: &Args) -> Result<Output> {
    args.at_most(2)?;
    let key = args.at(0).filter(|key| *key != "-" && !key.is_empty());
    let id = required(model, context, args)?;
    let own_relation = context.event.relation() == Some(id);
    let remote_app =
        model.relations.get(&id).and_then(|r| r.remote(&context.unit.app)).map(|end| end.app.clone());
    let member = match args.at(1) {
        Some(name) => match (name.parse::<UnitName>(), args.has("app")) {
            (Ok(unit), false) => Member::Unit(unit),
            (Ok(unit), true) => Member::App(unit.app),
            (Err(_), true) if valid_app(name) => Member::App(name.to_owned()),
            (Err(_), false) if valid_app(name) => {
                return usage(format!("expected unit name, got application name {name:?}"));
            }
            _ => return usage(format!("invalid unit name {name:?}")),
        },
        None => match (context.event.remote_unit(), &remote_app) {
            (Some(unit), _) if own_relation && !args.has("app") => Member::Unit(unit.clone()),
            (_, Some(app)) if own_relation => Member::App(app.clone()),
            _ => return usage("no unit or application specified"),
        },
    };
    let bag = match member {
        Member::Unit(unit) => unit_bag(model, context, id, &unit)?,
        Member::App(app) => app_bag(model, context, id, &app)?,
    };
    Ok(Output::Value(match key {
        Some(key) => bag.get(key).map_or(Value::Null, |value| Value::from(value.as_str())),
        None => json!(bag),
    }))
}

fn valid_app(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

/// Own bag with this hook's writes; a member's as its last event left it; anybody else's from the controller.
fn unit_bag(model: &mut Model, context: &Context, id: u32, unit: &UnitName) -> Result<Bag> {
    if *unit == context.unit
        && let Some(pending) = context.buffer.unit_bags.get(&id)
    {
        return Ok(pending.clone());
    }
    let Some(settings) = model.relations.get(&id).and_then(|relation| relation.units.get(unit)) else {
        let key = model.relations.get(&id).map(crate::model::Relation::key).unwrap_or_default();
        return failed(format!(
            "cannot read settings for unit \"{unit}\" in relation {key:?}: unit \"{unit}\": settings not found"
        ));
    };
    let current = settings.values.clone();
    let member = members(model, context, id).contains(unit);
    match model.units.get_mut(&context.unit) {
        Some(own) if member => Ok(own.cache.entry((id, unit.clone())).or_insert(current).clone()),
        _ => Ok(current),
    }
}

fn app_bag(model: &Model, context: &mut Context, id: u32, app: &str) -> Result<Bag> {
    let Some(relation) = model.relations.get(&id) else { return failed("permission denied") };
    if app == context.unit.app {
        let leads = context.leads(model);
        if leads && let Some(pending) = context.buffer.app_bags.get(&id) {
            return Ok(pending.clone());
        }
        if !leads && !relation.is_peer() {
            return failed("permission denied");
        }
    }
    match relation.end(app) {
        Some(_) => Ok(relation.apps.get(app).map(|settings| settings.values.clone()).unwrap_or_default()),
        None => failed("permission denied"),
    }
}

pub(super) fn set(
    model: &mut Model,
    context: &mut Context,
    args: &Args,
    request: &Request,
) -> Result<Output> {
    let id = required(model, context, args)?;
    let arguments = key_values(&args.rest)?;
    let mut written = file_values(args, request)?;
    written.extend(arguments);
    let unit = context.unit.clone();
    let (bag, place) = if args.has("app") {
        if !context.leads(model) {
            return failed("cannot write relation settings");
        }
        (app_bag(model, context, id, &unit.app)?, &mut context.buffer.app_bags)
    } else {
        (unit_bag(model, context, id, &unit)?, &mut context.buffer.unit_bags)
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

pub(super) fn network_get(model: &Model, context: &Context, args: &Args) -> Result<Output> {
    let Some(binding) = args.at(0) else {
        return usage(if args.value("relation").is_some() {
            "no binding name specified"
        } else {
            "no arguments specified"
        });
    };
    args.at_most(1)?;
    relation_id(model, context, args)?;
    if model
        .charm(&context.unit.app)
        .is_none_or(|charm| !charm.endpoints.contains_key(binding) && binding != "juju-info")
    {
        return failed(format!("no network config found for binding {binding:?}"));
    }
    let address = model.units.get(&context.unit).map(|unit| unit.address.to_string()).unwrap_or_default();
    let flags = ["bind-address", "egress-subnets", "ingress-address"].map(|flag| (flag, args.has(flag)));
    let chosen = flags.iter().filter(|(_, given)| *given).count();
    if args.has("primary-address") {
        if chosen > 0 {
            return usage("--primary-address must be the only flag specified");
        }
        return Ok(Output::Value(Value::from(address)));
    }
    let subnet = format!("{address}/32");
    let scalar =
        |flag: &str| Value::from(if flag == "egress-subnets" { subnet.clone() } else { address.clone() });
    Ok(Output::Value(match chosen {
        0 => json!({
            "bind-addresses": [{
                "mac-address": "",
                "interface-name": "",
                "addresses": [{"hostname": "", "value": address, "cidr": ""}],
            }],
            "egress-subnets": [subnet],
            "ingress-addresses": [address],
        }),
        1 => flags.iter().find(|(_, given)| *given).map_or(Value::Null, |(flag, _)| scalar(flag)),
        _ => flags
            .iter()
            .filter(|(_, given)| *given)
            .map(|(flag, _)| ((*flag).to_owned(), scalar(flag)))
            .collect(),
    }))
}

/// Own units and, per endpoint, the remote applications and their units; peers are left out.
pub(super) fn goal_state(model: &Model, context: &Context, args: &Args) -> Result<Output> {
    args.at_most(0)?;
    let since = model.now.strftime("%Y-%m-%d %H:%M:%SZ").to_string();
    let app = &context.unit.app;
    let entry = |unit: &UnitName| {
        let unit = model.units.get(unit);
        let word = unit.map_or("waiting", |unit| if unit.dying { "dying" } else { &unit.status.word });
        json!({"status": word, "since": since})
    };
    let units: Map<String, Value> =
        model.units_of(app).iter().map(|unit| (unit.to_string(), entry(unit))).collect();
    let mut relations = Map::new();
    for relation in model.relations.values().filter(|relation| !relation.is_peer()) {
        let (Some(end), Some(remote)) = (relation.end(app), relation.remote(app)) else { continue };
        let endpoint = relations.entry(end.endpoint.clone()).or_insert_with(|| json!({}));
        let status = if relation.dying { "broken" } else { "joined" };
        endpoint[&remote.app] = json!({"status": status, "since": since});
        for unit in model.units_of(&remote.app) {
            endpoint[&unit.to_string()] = entry(&unit);
        }
    }
    Ok(Output::Value(json!({"units": units, "relations": relations})))
}

/// The environment of a relation hook: name, id, remote application, remote unit.
pub(crate) fn environment(model: &Model, context: &Context) -> Vec<(&'static str, String)> {
    let Some(id) = context.event.relation() else { return Vec::new() };
    let Some(relation) = model.relations.get(&id) else { return Vec::new() };
    let app = &context.unit.app;
    let endpoint = relation.end(app).map_or("", |end| end.endpoint.as_str());
    let restarted = model.units.get(&context.unit).is_some_and(|unit| unit.restarted);
    // After a restart of the agent `-broken` does not know the remote application (LP 1960934).
    let blank = restarted && matches!(context.event, Event::Broken { .. });
    let remote = relation.remote(app).filter(|_| !blank).map_or("", |end| end.app.as_str());
    let mut variables = vec![
        ("JUJU_RELATION", endpoint.to_owned()),
        ("JUJU_RELATION_ID", format!("{endpoint}:{id}")),
        ("JUJU_REMOTE_APP", remote.to_owned()),
        ("JUJU_REMOTE_UNIT", context.event.remote_unit().map(ToString::to_string).unwrap_or_default()),
    ];
    if let Event::Departed { departing, .. } = &context.event {
        variables.push(("JUJU_DEPARTING_UNIT", departing.to_string()));
    }
    variables
}
