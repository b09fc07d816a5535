//! `secret-*`, as Juju 3.6: owners and consumers track revisions, followers read by owner label.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde_json::{Map, Value, json};

use super::flags::Args;
use super::relations;
use super::{Context, Output, Refusal, Result, SecretUpdate, failed, parse_yaml, usage};
use crate::model::{Bag, Consumer, Entity, Model, Secret, UnitName};

/// Base64 text of one value, and of a whole secret: 3.6.9 and later.
const MAX_CONTENT: usize = 1_000_000;

/// The id in any spelling of a secret's URI: the last path element.
fn parse_uri(text: &str) -> Result<String> {
    let id = text.strip_prefix("secret:").unwrap_or(text).rsplit('/').next().unwrap_or(text);
    let valid = id.len() == 20 && id.chars().all(|c| c.is_ascii_digit() || ('a'..='v').contains(&c));
    if valid { Ok(id.to_owned()) } else { usage(format!("secret URI {text:?} not valid")) }
}

/// Ids sort by age, as Juju's do: the time first, then what nobody can guess.
fn new_id() -> String {
    use rand::RngExt as _;
    let digit = |value: u128| char::from(b"0123456789abcdefghijklmnopqrstuv"[(value % 32) as usize]);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
    let mut random = rand::rng();
    let time = (0..13).rev().map(|place| digit(now >> (5 * place)));
    time.chain((0..7).map(|_| digit(random.random_range(0..32)))).collect()
}

/// Content from `key=value`, `key#base64=…`, `key#file=…` and `--file`, which wins.
fn new_fields(args: &Args, pairs: &[String]) -> Result<Bag> {
    let mut content = Bag::new();
    for pair in pairs {
        let not_valid = || Refusal::Usage(format!("key value {pair:?} not valid"));
        let (key, value) = pair.trim_end_matches('=').split_once('=').ok_or_else(not_valid)?;
        let value = format!("{value}{}", &pair[pair.trim_end_matches('=').len()..]);
        if let Some(key) = key.strip_suffix("#file") {
            let read = std::fs::read_to_string(&value);
            let text = read.map_err(|error| {
                Refusal::Usage(format!("reading content for secret key {key:?}: open {value}: {error}"))
            })?;
            content.insert(key.to_owned(), text);
        } else if key.ends_with("#base64") {
            return failed("jujusim does not model base64 secret content");
        } else {
            content.insert(key.to_owned(), value);
        }
    }
    if let Some(file) = args.value("file") {
        let text =
            std::fs::read_to_string(file).map_err(|error| Refusal::Usage(format!("open {file}: {error}")))?;
        let values = parse_yaml(&text)?;
        if values.keys().any(|key| key.ends_with("#base64")) {
            return failed("jujusim does not model base64 secret content");
        }
        content.extend(values);
    }
    let mut total = 0;
    for (key, value) in &content {
        if !valid_key(key) {
            return usage(format!("key {key:?} not valid"));
        }
        let encoded = value.len().div_ceil(3) * 4;
        total += encoded;
        if encoded > MAX_CONTENT || total > MAX_CONTENT {
            return usage(format!(
                "base64 encoded secret content for key {key:?} too large: {encoded} bytes"
            ));
        }
    }
    Ok(content)
}

/// `^([a-z](?:-?[a-z0-9]){2,})$`: letters and digits with single inner hyphens, at least three without them.
fn valid_key(key: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    key.starts_with(|c: char| c.is_ascii_lowercase())
        && key.ends_with(plain)
        && !key.contains("--")
        && key.chars().all(|c| plain(c) || c == '-')
        && key.chars().filter(|c| *c != '-').count() >= 3
}

/// The metadata flags shared by `secret-add` and `secret-set`.
fn metadata(args: &Args) -> Result<SecretUpdate> {
    let text = |flag| args.value(flag).map(str::to_owned);
    let rotate = text("rotate");
    let policies = ["never", "hourly", "daily", "weekly", "monthly", "quarterly", "yearly"];
    if let Some(policy) = &rotate
        && !policies.contains(&policy.as_str())
    {
        return usage(format!("rotate policy {policy:?} not valid"));
    }
    if rotate.as_deref().is_some_and(|policy| policy != "never") || args.value("expire").is_some() {
        return failed("jujusim does not model rotation and expiry of secrets");
    }
    Ok(SecretUpdate { label: text("label"), description: text("description"), rotate, content: None })
}

pub(super) fn add(model: &Model, context: &mut Context, args: &Args) -> Result<Output> {
    let metadata = metadata(args)?;
    if args.rest.is_empty() && args.value("file").is_none() {
        return usage("missing secret value or filename");
    }
    let owner = match args.value("owner").unwrap_or("application") {
        "application" => Entity::App(context.unit.app.clone()),
        "unit" => Entity::Unit(context.unit.clone()),
        other => return usage(format!("secret owner {other:?} not valid")),
    };
    let fields = new_fields(args, &args.rest)?;
    if matches!(owner, Entity::App(_)) && !context.leads(model) {
        return failed("this unit is not the leader");
    }
    let label = metadata.label.unwrap_or_default();
    if !label.is_empty() && context.buffer.secrets.creates.iter().any(|(_, secret)| secret.label == label) {
        return failed(format!("secret with label {label:?} already exists"));
    }
    let id = new_id();
    let secret = Secret {
        owner,
        label,
        description: metadata.description,
        rotate: metadata.rotate.unwrap_or_else(|| "never".to_owned()),
        expire: None,
        next_rotate: None,
        latest: 1,
        revisions: BTreeMap::from([(1, fields)]),
        grants: BTreeMap::new(),
        consumers: BTreeMap::new(),
        obsolete_announced: std::collections::BTreeSet::new(),
    };
    context.buffer.secrets.creates.push((id.clone(), secret));
    Ok(Output::Text(format!("secret://{}/{id}\n", model.uuid)))
}

/// Whether this unit may change the secret and see its metadata.
fn manages(model: &Model, unit: &UnitName, owner: &Entity) -> bool {
    match owner {
        Entity::App(app) => *app == unit.app && model.is_leader(unit),
        Entity::Unit(owner) => owner == unit,
        Entity::Model => false,
    }
}

/// Whether the owner is this unit or its application.
fn ours(unit: &UnitName, owner: &Entity) -> bool {
    matches!(owner, Entity::App(app) if *app == unit.app)
        || matches!(owner, Entity::Unit(owner) if owner == unit)
}

/// Own labels first, with this hook's renames, then the unit's consumer labels.
fn by_label(model: &Model, context: &Context, label: &str) -> Option<String> {
    let pending = &context.buffer.secrets;
    if let Some((id, _)) = pending.creates.iter().find(|(_, secret)| secret.label == label) {
        return Some(id.clone());
    }
    let owner_label = |id: &String, secret: &Secret| {
        let renamed = pending.updates.get(id).and_then(|update| update.label.clone());
        ours(&context.unit, &secret.owner) && renamed.as_deref().unwrap_or(&secret.label) == label
    };
    let mine = model.secrets.iter().find(|(id, secret)| owner_label(id, secret));
    let consumer_label = |secret: &Secret| {
        secret.consumers.get(&context.unit).is_some_and(|consumer| consumer.label.as_deref() == Some(label))
    };
    mine.or_else(|| model.secrets.iter().find(|(_, secret)| consumer_label(secret))).map(|(id, _)| id.clone())
}

pub(super) fn get(model: &mut Model, context: &mut Context, args: &Args) -> Result<Output> {
    args.at_most(2)?;
    let (peek, refresh) = (args.has("peek"), args.has("refresh"));
    if peek && refresh {
        return usage("specify one of --peek or --refresh but not both");
    }
    let label = args.value("label").filter(|label| !label.is_empty());
    let uri = args.at(0).map(parse_uri).transpose()?;
    let Some(id) = uri.clone().or_else(|| by_label(model, context, label?)) else {
        return match label {
            Some(label) => failed(format!("consumer label {label:?} not found")),
            None => usage("require either a secret URI or label"),
        };
    };
    let relabel = label.filter(|_| uri.is_some());
    let fields = if let Some((_, secret)) =
        context.buffer.secrets.creates.iter_mut().find(|(create, _)| *create == id)
    {
        if let Some(label) = relabel {
            label.clone_into(&mut secret.label);
        }
        secret.content().clone()
    } else {
        read(model, context, &id, relabel, peek, refresh)?
    };
    Ok(Output::Value(match args.at(1) {
        Some(key) if key.ends_with("#base64") => {
            return failed("jujusim does not model base64 secret content");
        }
        Some(key) => match fields.get(key) {
            Some(value) => Value::from(value.as_str()),
            None => return failed(format!("secret key value {key:?} not found")),
        },
        None => json!(fields),
    }))
}

/// Reads a committed secret: makes or moves the consumer's pin, sets the label, at once.
fn read(
    model: &mut Model,
    context: &mut Context,
    id: &str,
    relabel: Option<&str>,
    peek: bool,
    refresh: bool,
) -> Result<Bag> {
    let unit = context.unit.clone();
    let Some(secret) = model.secrets.get(id) else { return failed(format!("secret {id:?} not found")) };
    let granted = [unit.app.clone(), unit.to_string()].iter().any(|name| secret.grants.contains_key(name));
    let own = ours(&unit, &secret.owner);
    if !own && !granted {
        return failed("permission denied");
    }
    let manager = manages(model, &unit, &secret.owner);
    if let Some(label) = relabel
        && manager
        && secret.label != label
        && label_taken(model, id, &secret.owner, label)
    {
        return failed(format!("secret with label {label:?} already exists"));
    }
    let Some(secret) = model.secrets.get_mut(id) else { return failed(format!("secret {id:?} not found")) };
    let latest = secret.latest;
    let consumer = secret.consumers.entry(unit).or_insert(Consumer { pin: latest, label: None });
    match relabel {
        Some(label) if manager => label.clone_into(&mut secret.label),
        // A follower's own label for its application's secret is ignored without a word (3.3.5 and later).
        Some(label) if !own => consumer.label = Some(label.to_owned()),
        _ => {}
    }
    let pending = context.buffer.secrets.updates.get(id).and_then(|update| update.content.clone());
    if let Some(pending) = pending.filter(|_| peek || refresh) {
        if refresh {
            context.buffer.secrets.tracking.insert(id.to_owned());
        }
        return Ok(pending);
    }
    if refresh {
        consumer.pin = latest;
    }
    let revision = if peek { latest } else { consumer.pin };
    match secret.revisions.get(&revision) {
        Some(fields) => Ok(fields.clone()),
        None => failed(format!("secret revision {id}/{revision} not found")),
    }
}

/// What counts as taken in 3.x: an application's label collides with every label of the application and its units, a unit's
/// with those of the application and its own.
pub(crate) fn label_taken(model: &Model, id: &str, owner: &Entity, label: &str) -> bool {
    let within = |unit: &UnitName| match owner {
        Entity::App(app) => unit.app == *app,
        Entity::Unit(owner) => unit == owner,
        Entity::Model => false,
    };
    let app = match owner {
        Entity::App(app) => app,
        Entity::Unit(unit) => &unit.app,
        Entity::Model => return false,
    };
    model.secrets.iter().any(|(other, secret)| {
        let within_app = match &secret.owner {
            Entity::App(owner) => owner == app,
            Entity::Unit(owner) => within(owner),
            Entity::Model => false,
        };
        let consumed =
            secret.consumers.iter().any(|(unit, c)| within(unit) && c.label.as_deref() == Some(label));
        other != id && (within_app && secret.label == label || consumed)
    })
}

pub(super) fn set(_model: &Model, context: &mut Context, args: &Args) -> Result<Output> {
    let Some(uri) = args.at(0) else { return usage("missing secret URI") };
    let id = parse_uri(uri)?;
    let mut update = metadata(args)?;
    let fields = new_fields(args, args.rest.get(1..).unwrap_or_default())?;
    update.content = (!fields.is_empty()).then_some(fields);
    let pending = &mut context.buffer.secrets;
    if let Some((_, created)) = pending.creates.iter_mut().find(|(create, _)| *create == id) {
        if let Some(label) = update.label {
            created.label = label;
        }
        if let Some(content) = update.content {
            created.revisions.insert(1, content);
        }
        return Ok(Output::Silent);
    }
    let merged = pending.updates.entry(id).or_default();
    merged.label = update.label.or(merged.label.take());
    merged.description = update.description.or(merged.description.take());
    merged.rotate = update.rotate.or(merged.rotate.take());
    merged.content = update.content.or(merged.content.take());
    Ok(Output::Silent)
}

/// A secret this unit manages, pending ones included.
fn managed<'a>(model: &'a Model, context: &'a Context, id: &str) -> Option<&'a Secret> {
    let pending =
        context.buffer.secrets.creates.iter().find(|(create, _)| create == id).map(|(_, secret)| secret);
    pending.or_else(|| model.secrets.get(id)).filter(|secret| manages(model, &context.unit, &secret.owner))
}

pub(super) fn info_get(model: &Model, context: &Context, args: &Args) -> Result<Output> {
    args.at_most(1)?;
    let label = args.value("label").filter(|label| !label.is_empty());
    let (id, named) = match (args.at(0), label) {
        (None, None) => return usage("require either a secret URI or label"),
        (Some(_), Some(_)) => return usage("specify either a secret URI or label but not both"),
        (Some(uri), None) => parse_uri(uri).map(|id| (Some(id.clone()), id))?,
        (None, Some(label)) => (by_label(model, context, label), label.to_owned()),
    };
    let Some((id, secret)) = id.and_then(|id| Some((id.clone(), managed(model, context, &id)?))) else {
        return failed(format!("secret {named:?} not found"));
    };
    let renamed = context.buffer.secrets.updates.get(&id).and_then(|update| update.label.as_ref());
    let mut info = Map::new();
    info.insert("revision".to_owned(), json!(secret.latest));
    info.insert("label".to_owned(), json!(renamed.unwrap_or(&secret.label)));
    info.insert(
        "owner".to_owned(),
        json!(if matches!(secret.owner, Entity::App(_)) { "application" } else { "unit" }),
    );
    info.insert("rotation".to_owned(), json!(secret.rotate));
    if let Some(description) = &secret.description {
        info.insert("description".to_owned(), json!(description));
    }
    let access: Vec<Value> =
        secret.grants.iter().filter_map(|(target, relation)| grant_info(model, target, *relation)).collect();
    if !access.is_empty() {
        info.insert("access".to_owned(), Value::Array(access));
    }
    Ok(Output::Value(json!({id: info})))
}

fn grant_info(model: &Model, target: &str, relation: u32) -> Option<Value> {
    let key = model.relations.get(&relation)?.key();
    let scope = format!("relation-{}", key.replace(':', ".").replace(' ', "#"));
    let tag = match target.parse::<UnitName>() {
        Ok(unit) => unit.tag(),
        Err(_) => format!("application-{target}"),
    };
    Some(json!({"target": tag, "scope": scope, "role": "view"}))
}

pub(super) fn ids(model: &Model, context: &Context, args: &Args) -> Result<Output> {
    args.at_most(0)?;
    let mine = |secret: &&Secret| manages(model, &context.unit, &secret.owner);
    let found: Vec<Value> = model
        .secrets
        .iter()
        .filter(|(_, secret)| mine(secret))
        .map(|(id, _)| Value::from(id.as_str()))
        .collect();
    Ok(Output::Value(if found.is_empty() { Value::Null } else { Value::Array(found) }))
}

pub(super) fn grant(model: &Model, context: &mut Context, args: &Args) -> Result<Output> {
    let Some(uri) = args.at(0) else { return usage("missing secret URI") };
    args.at_most(1)?;
    let id = parse_uri(uri)?;
    let relation = relations::required(model, context, args)?;
    let remote = model.relations.get(&relation).and_then(|relation| relation.remote(&context.unit.app));
    let Some(app) = remote.map(|end| end.app.clone()) else {
        return failed("remote application is not known");
    };
    let target = match args.value("unit") {
        None => app,
        Some(unit) => match unit.parse::<UnitName>() {
            Err(_) => return usage(format!("unit {unit:?} not valid")),
            Ok(name) if name.app != app => {
                return usage(format!("cannot specify unit {unit:?} in relation to application {app:?}"));
            }
            Ok(_) => unit.to_owned(),
        },
    };
    let Some(secret) = managed(model, context, &id) else {
        return failed(format!("secret {id:?} not found"));
    };
    if secret.grants.get(&target) != Some(&relation) {
        context.buffer.secrets.grants.push((id, target, relation));
    }
    Ok(Output::Silent)
}

pub(super) fn revoke(model: &Model, context: &mut Context, args: &Args) -> Result<Output> {
    let Some(uri) = args.at(0) else { return usage("missing secret URI") };
    args.at_most(1)?;
    let id = parse_uri(uri)?;
    let app = args.value("app").or(args.value("application"));
    if app.is_some() && args.value("unit").is_some() {
        return usage("specify only one of application or unit");
    }
    if app.is_some() && args.value("relation").is_some() {
        return usage("do not specify both relation and app");
    }
    let given = app.or(args.value("unit")).map(str::to_owned);
    let target = if let Some(target) = given {
        target
    } else {
        if args.value("relation").is_none() && context.event.relation().is_none() {
            return usage("missing relation or application or unit");
        }
        let relation = relations::required(model, context, args)?;
        let remote = model.relations.get(&relation).and_then(|relation| relation.remote(&context.unit.app));
        remote.map(|end| end.app.clone()).unwrap_or_default()
    };
    if managed(model, context, &id).is_none() {
        return failed(format!("secret {id:?} not found"));
    }
    context.buffer.secrets.revokes.push((id, target));
    Ok(Output::Silent)
}

/// Buffered without a look: what is wrong with it shows at commit. Drops this hook's other changes of the secret.
pub(super) fn remove(_model: &Model, context: &mut Context, args: &Args) -> Result<Output> {
    let Some(uri) = args.at(0) else { return usage("missing secret URI") };
    args.at_most(1)?;
    let id = parse_uri(uri)?;
    let revision = match args.value("revision").map(str::parse::<u32>) {
        None => None,
        Some(Ok(revision)) => Some(revision),
        Some(Err(_)) => {
            let given = args.value("revision").unwrap_or_default();
            return usage(format!(
                "invalid value {given:?} for option --revision: strconv.ParseInt: parsing {given:?}: invalid syntax"
            ));
        }
    };
    let pending = &mut context.buffer.secrets;
    let created = pending.creates.len();
    pending.creates.retain(|(create, _)| *create != id);
    pending.updates.remove(&id);
    pending.tracking.remove(&id);
    pending.grants.retain(|(secret, _, _)| *secret != id);
    pending.revokes.retain(|(secret, _)| *secret != id);
    if pending.creates.len() == created {
        match (revision, pending.removes.entry(id).or_insert_with(|| Some(std::collections::BTreeSet::new())))
        {
            (Some(revision), Some(revisions)) => {
                revisions.insert(revision);
            }
            (_, all) => *all = None,
        }
    }
    Ok(Output::Silent)
}
