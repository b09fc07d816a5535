//! `secret-*`: owners and consumers track revisions; followers read by the owner's label.

use std::sync::LazyLock;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use regex::Regex;

use super::content::{expiry, new_fields};
use super::flags::{Args, Flag, Kind, OUTPUT, RELATION, YAML_OR_JSON};
use super::format::Shown;
use super::relations;
use super::{Context, Output, Result, Tool, failed, usage};
use crate::model::{Bag, Entity, Model, Relation, Rotate, Secret, UnitName};
use crate::secret::SecretUpdate;
use crate::version::Version;

const LABEL: Flag = Flag("label", Kind::Text);
const UNIT: Flag = Flag("unit", Kind::Text);
const UPSERT: &[Flag] = &[
    LABEL,
    Flag("description", Kind::Text),
    Flag("rotate", Kind::Text),
    Flag("expire", Kind::Text),
    Flag("owner", Kind::Text),
    Flag("file", Kind::Text),
];

pub(super) const TOOLS: &[Tool] = &[
    Tool::new("secret-add", "[key[#base64|#file]=value...]", UPSERT, add)
        .when(Version::has_secrets),
    Tool::new(
        "secret-get",
        "<ID> [key[#base64]]",
        &[YAML_OR_JSON, OUTPUT, LABEL, Flag("peek", Kind::Switch), Flag("refresh", Kind::Switch)],
        get,
    )
    .when(Version::has_secrets),
    Tool::new("secret-set", "<ID> [key[#base64]=value...]", UPSERT, set).when(Version::has_secrets),
    Tool::new("secret-info-get", "<ID>", &[YAML_OR_JSON, OUTPUT, LABEL], info_get)
        .when(Version::has_secrets),
    Tool::new("secret-ids", "", &[super::flags::FORMAT, OUTPUT], ids).when(Version::has_secrets),
    Tool::new("secret-grant", "<ID>", &[RELATION, UNIT], grant).when(Version::has_secrets),
    Tool::new(
        "secret-revoke",
        "<ID>",
        &[RELATION, UNIT, Flag("app|application", Kind::Text)],
        revoke,
    )
    .when(Version::has_secrets),
    Tool::new("secret-remove", "<ID>", &[Flag("revision", Kind::Text)], remove)
        .when(Version::has_secrets),
];

/// The id in any form of a secret's URI (core/secrets/secret.go).
fn parse_uri(text: &str) -> Result<String> {
    static URI: LazyLock<Option<Regex>> = LazyLock::new(|| {
        let uuid = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}";
        Regex::new(&format!("^(?:secret:)?(?:/|(?://)?{uuid}/)?([0-9a-v]{{20}})$")).ok()
    });
    match URI.as_ref().and_then(|uri| uri.captures(text)) {
        Some(captures) => Ok(captures[1].to_owned()),
        None => usage(format!("secret URI {text:?} not valid")),
    }
}

/// Creates an id. Ids sort by age, as in Juju: a time, followed by a random part.
pub(crate) fn new_id() -> String {
    use rand::RngExt as _;
    let digit =
        |value: u128| char::from(b"0123456789abcdefghijklmnopqrstuv"[(value % 32) as usize]);
    let now =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
    let mut random = rand::rng();
    let time = (0..13).rev().map(|place| digit(now >> (5 * place)));
    time.chain((0..7).map(|_| digit(random.random_range(0..32)))).collect()
}

/// The metadata flags of `secret-add` and `secret-set`.
fn metadata(model: &Model, args: &Args<'_>) -> Result<SecretUpdate> {
    let text = |flag| args.text(flag).map(str::to_owned);
    let expire = args.text("expire").map(|text| expiry(model.now, text)).transpose()?;
    let rotate = match args.text("rotate").map(|text| (text, text.parse::<Rotate>())) {
        None => None,
        Some((_, Ok(policy))) => Some(policy),
        Some((text, Err(()))) => return usage(format!("rotate policy {text:?} not valid")),
    };
    Ok(SecretUpdate {
        label: text("label"),
        description: text("description"),
        rotate,
        expire,
        content: None,
    })
}

/// The owner that `--owner` names.
fn owner(context: &Context, args: &Args<'_>) -> Result<Entity> {
    match args.value("owner").unwrap_or("application") {
        "application" => Ok(Entity::App(context.unit.app.clone())),
        "unit" => Ok(Entity::Unit(context.unit.clone())),
        other => usage(format!("secret owner {other:?} not valid")),
    }
}

fn add(model: &mut Model, context: &mut Context, args: &Args<'_>) -> Result<Output> {
    if args.rest.is_empty() && args.text("file").is_none() {
        return usage("missing secret value or filename");
    }
    let metadata = metadata(model, args)?;
    let owner = owner(context, args)?;
    let fields = new_fields(model.version, args, &args.rest)?;
    if fields.is_empty() {
        return failed("empty secret value not valid");
    }
    if matches!(owner, Entity::App(_)) && !context.leads(model) {
        return failed("this unit is not the leader");
    }
    let mut secret = Secret::new(owner, fields);
    secret.describe(&metadata, model.now);
    let pending = &mut context.buffer.secrets.creates;
    if !secret.label.is_empty() && pending.iter().any(|(_, other)| other.label == secret.label) {
        return failed(format!("secret with label {:?} already exists", secret.label));
    }
    let id = new_id();
    pending.push((id.clone(), secret));
    Ok(Output::Text(format!("secret://{}/{id}\n", model.uuid)))
}

/// Whether the agent knows the secret as one that its unit may change.
fn manages(context: &Context, owner: &Entity) -> bool {
    owner.includes(&context.unit) && (context.led || !matches!(owner, Entity::App(_)))
}

/// Rejects a former leader. A secret that the agent does not know is checked only at the commit.
fn still_manages(model: &Model, context: &mut Context, id: &str) -> Result<()> {
    let known = managed(model, context, id).map(|secret| secret.owner.clone());
    if matches!(known, Some(Entity::App(_))) && !context.leads(model) {
        return failed("this unit is not the leader");
    }
    Ok(())
}

/// A secret that this unit manages, including pending ones, without removed ones.
fn managed<'a>(model: &'a Model, context: &'a Context, id: &str) -> Option<&'a Secret> {
    let pending = &context.buffer.secrets;
    let created = pending.creates.iter().find(|(create, _)| create == id).map(|(_, secret)| secret);
    let known = || model.secrets.get(id).filter(|_| !pending.removes.contains_key(id));
    created.or_else(known).filter(|secret| manages(context, &secret.owner))
}

/// Finds a secret by label: first own labels, with this hook's renames, then the unit's consumer
/// labels.
fn by_label(model: &Model, context: &Context, label: &str) -> Option<String> {
    let pending = &context.buffer.secrets;
    if let Some((id, _)) = pending.creates.iter().find(|(_, secret)| secret.label == label) {
        return Some(id.clone());
    }
    let owner_label = |id: &String, secret: &Secret| {
        let renamed = pending.updates.get(id).and_then(|update| update.label.as_ref());
        secret.owner.includes(&context.unit) && renamed.unwrap_or(&secret.label) == label
    };
    let mine = model.secrets.iter().find(|(id, secret)| owner_label(id, secret));
    let consumer_label = |secret: &Secret| {
        secret
            .consumers
            .get(&context.unit)
            .is_some_and(|consumer| consumer.label.as_deref() == Some(label))
    };
    mine.or_else(|| model.secrets.iter().find(|(_, secret)| consumer_label(secret)))
        .map(|(id, _)| id.clone())
}

/// Which revision to read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Read {
    Pinned,
    Peek,
    Refresh,
}

fn get(model: &mut Model, context: &mut Context, args: &Args<'_>) -> Result<Output> {
    let uri = args.at(0).map(parse_uri).transpose()?;
    let label = args.text("label");
    if uri.is_none() && label.is_none() {
        return usage("require either a secret URI or label");
    }
    let read = match (args.has("peek"), args.has("refresh")) {
        (true, true) => return usage("specify one of --peek or --refresh but not both"),
        (true, false) => Read::Peek,
        (false, true) => Read::Refresh,
        (false, false) => Read::Pinned,
    };
    args.at_most(2)?;
    let fields = match pending_content(model, context, uri.as_deref(), label, read) {
        Some(fields) => fields,
        None => committed_content(model, context, uri, label, read)?,
    };
    Ok(Output::Value(match args.at(1).filter(|key| !key.is_empty()) {
        None => Shown::from(&fields),
        Some(key) => {
            let plain = key.strip_suffix("#base64");
            match (fields.get(plain.unwrap_or(key)), plain) {
                (Some(value), None) => Shown::from(value.as_str()),
                (Some(value), Some(_)) => Shown::from(BASE64.encode(value)),
                (None, _) => {
                    return failed(format!(
                        "secret key value {:?} not found",
                        plain.unwrap_or(key)
                    ));
                }
            }
        }
    }))
}

/// Content that this hook added; or changed, if the newest is requested. A label given with the URI
/// renames the secret.
fn pending_content(
    model: &Model,
    context: &mut Context,
    uri: Option<&str>,
    label: Option<&str>,
    read: Read,
) -> Option<Bag> {
    let found = match uri {
        Some(id) => id.to_owned(),
        None => by_label(model, context, label?)?,
    };
    let pending = &mut context.buffer.secrets;
    let rename = label.filter(|_| uri.is_some());
    if let Some((_, secret)) = pending.creates.iter_mut().find(|(id, _)| *id == found) {
        if let Some(label) = rename {
            label.clone_into(&mut secret.label);
        }
        return Some(secret.content().clone());
    }
    if read == Read::Pinned {
        return None;
    }
    let update = pending.updates.get_mut(&found)?;
    let carries_label = update.label.as_deref() == label;
    if uri.is_none() && !carries_label && !model.version.finds_pending_updates_by_label() {
        return None;
    }
    if let Some(label) = rename {
        update.label = Some(label.to_owned());
    }
    let fields = update.content.clone()?;
    if read == Read::Refresh {
        pending.tracking.insert(found);
    }
    Some(fields)
}

/// Reads a committed secret. Creates or moves the consumer's pin and sets the label, both at once.
fn committed_content(
    model: &mut Model,
    context: &Context,
    uri: Option<String>,
    label: Option<&str>,
    read: Read,
) -> Result<Bag> {
    let new_label = label.filter(|_| uri.is_some());
    let Some(id) = uri.or_else(|| by_label(model, context, label?)) else {
        return failed(model.version.unknown_label_error(label.unwrap_or_default()));
    };
    let unit = &context.unit;
    let Some(secret) = model.secrets.get(&id) else {
        return failed(model.version.unknown_secret_error(&id));
    };
    let own = secret.owner.includes(unit);
    let granted =
        [unit.app.clone(), unit.to_string()].iter().any(|name| secret.grants.contains_key(name));
    if !own && !granted {
        return failed("permission denied");
    }
    let manager = check_manager(model, unit, &secret.owner).is_ok();
    match new_label {
        Some(label) if manager => rename(model, &id, label)?,
        Some(label) if !own => relabel(model, unit, &id, label)?,
        Some(label) if label != secret.label && model.version.refuses_labels_of_followers() => {
            return failed("lease not held");
        }
        _ => {}
    }
    let Some(secret) = model.secrets.get_mut(&id) else {
        return failed(format!("secret {id:?} not found"));
    };
    let latest = secret.latest;
    let consumer = secret.consumer(unit);
    if read == Read::Refresh {
        consumer.pin = latest;
    }
    let revision = if read == Read::Peek { latest } else { consumer.pin };
    match secret.revisions.get(&revision) {
        Some(fields) => Ok(fields.clone()),
        None => failed(format!("secret revision \"{id}/{revision}\" not found")),
    }
}

/// Sets an owner's label, at once (PR 15537).
fn rename(model: &mut Model, id: &str, label: &str) -> Result<()> {
    let Some(secret) = model.secrets.get(id).filter(|secret| secret.label != label) else {
        return Ok(());
    };
    if label_taken(model, id, &secret.owner, label) {
        return failed(format!("secret with label {label:?} already exists"));
    }
    if let Some(secret) = model.secrets.get_mut(id) {
        label.clone_into(&mut secret.label);
    }
    Ok(())
}

/// Sets a consumer's label, at once.
fn relabel(model: &mut Model, unit: &UnitName, id: &str, label: &str) -> Result<()> {
    let Some(secret) = model.secrets.get(id) else { return Ok(()) };
    let present = secret.consumers.get(unit).and_then(|consumer| consumer.label.as_deref());
    if present == Some(label) {
        return Ok(());
    }
    if consumer_label_taken(model, id, unit, label) {
        return failed(format!("secret with label {label:?} already exists"));
    }
    if let Some(secret) = model.secrets.get_mut(id) {
        secret.consumer(unit).relabel(label);
    }
    Ok(())
}

/// Checks who may change a secret; an error has Juju's text (common/secrets/access.go).
pub(crate) fn check_manager(
    model: &Model,
    unit: &UnitName,
    owner: &Entity,
) -> std::result::Result<(), String> {
    match owner {
        Entity::App(app) if *app == unit.app && !model.is_leader(unit) => {
            Err(format!("\"{unit}\" is not leader of {app:?}"))
        }
        owner if owner.includes(unit) => Ok(()),
        _ => Err("permission denied".to_owned()),
    }
}

/// Whether an owner's label is in use. Up to 3.6, an application's label collides with every label
/// of the application and its units, and a unit's label with those of the application and its own.
/// In 4.0, only labels of the same owner collide.
pub(crate) fn label_taken(model: &Model, id: &str, owner: &Entity, label: &str) -> bool {
    if !model.version.shares_labels_between_app_and_units() {
        return others(model, id).any(|secret| secret.owner == *owner && secret.label == label);
    }
    let app = match owner {
        Entity::Model => return false,
        Entity::App(app) => app,
        Entity::Unit(unit) => &unit.app,
    };
    let within = |unit: &UnitName| match owner {
        Entity::Unit(owner) => unit == owner,
        _ => unit.app == *app,
    };
    others(model, id).any(|secret| {
        let in_app = match &secret.owner {
            Entity::Model => false,
            Entity::App(other) => other == app,
            Entity::Unit(unit) => within(unit),
        };
        let consumed =
            secret.consumers.iter().any(|(unit, consumer)| within(unit) && consumer.had(label));
        in_app && secret.label == label || consumed
    })
}

/// Whether a consumer's label is in use: up to 3.6 as if the unit owned the secret.
fn consumer_label_taken(model: &Model, id: &str, unit: &UnitName, label: &str) -> bool {
    if model.version.shares_labels_between_app_and_units() {
        return label_taken(model, id, &Entity::Unit(unit.clone()), label);
    }
    let has = |secret: &Secret| {
        secret.consumers.get(unit).is_some_and(|c| c.label.as_deref() == Some(label))
    };
    others(model, id).any(has)
}

fn others<'a>(model: &'a Model, id: &'a str) -> impl Iterator<Item = &'a Secret> {
    model.secrets.iter().filter(move |(other, _)| *other != id).map(|(_, secret)| secret)
}

fn set(model: &mut Model, context: &mut Context, args: &Args<'_>) -> Result<Output> {
    let Some(uri) = args.at(0) else { return usage("missing secret URI") };
    let id = parse_uri(uri)?;
    let mut update = metadata(model, args)?;
    owner(context, args)?;
    let fields = new_fields(model.version, args, args.rest.get(1..).unwrap_or_default())?;
    update.content = (!fields.is_empty()).then_some(fields);
    if update == SecretUpdate::default() {
        return Ok(Output::Silent);
    }
    still_manages(model, context, &id)?;
    let pending = &mut context.buffer.secrets;
    pending.removes.remove(&id);
    if let Some((_, created)) = pending.creates.iter_mut().find(|(create, _)| *create == id) {
        created.describe(&update, model.now);
        created.revisions.extend(update.content.map(|fields| (1, fields)));
    } else {
        pending.updates.entry(id).or_default().merge(update);
    }
    Ok(Output::Silent)
}

fn info_get(model: &mut Model, context: &mut Context, args: &Args<'_>) -> Result<Output> {
    let uri = args.at(0).map(parse_uri).transpose()?;
    let (id, named) = match (uri, args.text("label")) {
        (None, None) => return usage("require either a secret URI or label"),
        (Some(_), Some(_)) => return usage("specify either a secret URI or label but not both"),
        (Some(id), None) => (Some(id.clone()), id),
        (None, Some(label)) => (by_label(model, context, label), label.to_owned()),
    };
    args.at_most(1)?;
    let Some((id, secret)) =
        id.and_then(|id| Some((id.clone(), managed(model, context, &id)?.clone())))
    else {
        return failed(format!("secret {named:?} not found"));
    };
    let is_new = context.buffer.secrets.creates.iter().any(|(create, _)| *create == id);
    let mut secret = secret;
    if let Some(update) = context.buffer.secrets.updates.get(&id) {
        secret.describe(update, model.now);
    }
    let rotates = !is_new || model.version.shows_rotation_of_new_secrets();
    Ok(Output::Value(Shown::map([(id, info(model, &secret, rotates))])))
}

fn info(model: &Model, secret: &Secret, rotates: bool) -> Shown {
    let owner = if matches!(secret.owner, Entity::Unit(_)) { "unit" } else { "application" };
    let access: Vec<Shown> = secret
        .grants
        .iter()
        .filter_map(|(target, relation)| {
            Some(grant_info(target, model.relations.get(&(*relation)?)?))
        })
        .collect();
    let optional = [
        ("expiry", secret.expire.map(Shown::Time)),
        ("rotates", secret.next_rotate.map(Shown::Time)),
        ("access", (!access.is_empty()).then_some(Shown::List(access))),
    ];
    let description = secret.description.as_deref().map(|text| ("description", Shown::from(text)));
    let mut fields = vec![
        ("revision", Shown::Scalar(secret.latest.into())),
        ("label", Shown::from(secret.label.as_str())),
        ("owner", Shown::from(owner)),
    ];
    fields.extend(description);
    fields.extend(rotates.then(|| ("rotation", Shown::from(secret.rotate.to_string()))));
    fields.extend(optional.into_iter().filter_map(|(name, value)| Some((name, value?))));
    Shown::map(fields.into_iter().map(|(name, value)| (name.to_owned(), value)))
}

fn grant_info(target: &str, relation: &Relation) -> Shown {
    let scope = format!("relation-{}", relation.key().replace(':', ".").replace(' ', "#"));
    let tag = match target.parse::<UnitName>() {
        Ok(unit) => unit.tag(),
        Err(_) => format!("application-{target}"),
    };
    Shown::fields([
        ("target", Shown::from(tag)),
        ("scope", Shown::from(scope)),
        ("role", Shown::from("view")),
    ])
}

fn ids(model: &mut Model, context: &mut Context, args: &Args<'_>) -> Result<Output> {
    args.at_most(0)?;
    let known = model.secrets.keys().chain(context.buffer.secrets.creates.iter().map(|(id, _)| id));
    let found: Vec<&String> = known.filter(|id| managed(model, context, id).is_some()).collect();
    Ok(Output::Value(if found.is_empty() { Shown::NULL } else { Shown::texts(found) }))
}

fn grant(model: &mut Model, context: &mut Context, args: &Args<'_>) -> Result<Output> {
    let Some(uri) = args.at(0) else { return usage("missing secret URI") };
    let id = parse_uri(uri)?;
    let relation = relations::required(model, context, args)?;
    let app = relations::remote_app(model, context, relation).unwrap_or_default();
    let target = match args.text("unit") {
        None => app.clone(),
        Some(unit) => match unit.parse::<UnitName>() {
            Err(_) => return usage(format!("unit {unit:?} not valid")),
            Ok(name) if name.app != app => {
                return usage(format!(
                    "cannot specify unit {unit:?} in relation to application {app:?}"
                ));
            }
            Ok(_) => unit.to_owned(),
        },
    };
    args.at_most(1)?;
    let Some(secret) = managed(model, context, &id) else {
        return failed(format!("secret {id:?} not found"));
    };
    let here: Vec<&String> = secret
        .grants
        .iter()
        .filter(|(_, scope)| **scope == Some(relation))
        .map(|(target, _)| target)
        .collect();
    let granted = here.iter().any(|other| **other == target || **other == app);
    if !granted && target == app && !here.is_empty() {
        return failed(
            "any unit level grants need to be revoked before granting access to the corresponding application",
        );
    }
    still_manages(model, context, &id)?;
    if !granted {
        context.buffer.secrets.grants.push((id, target, relation));
    }
    Ok(Output::Silent)
}

fn revoke(model: &mut Model, context: &mut Context, args: &Args<'_>) -> Result<Output> {
    let Some(uri) = args.at(0) else { return usage("missing secret URI") };
    let id = parse_uri(uri)?;
    let (app, unit) = (args.text("app").or(args.text("application")), args.text("unit"));
    if let Some(app) = app.filter(|app| !relations::valid_app(app)) {
        return usage(format!("application {app:?} not valid"));
    }
    if let Some(unit) = unit.filter(|unit| unit.parse::<UnitName>().is_err()) {
        return usage(format!("unit {unit:?} not valid"));
    }
    if app.is_some() && unit.is_some() {
        return usage("specify only one of application or unit");
    }
    let relation = relations::relation_id(model, context, args)?;
    if app.is_some() && relation.is_some() {
        return usage("do not specify both relation and app");
    }
    let remote = relation.and_then(|relation| relations::remote_app(model, context, relation));
    let Some(target) = unit.or(app).map(str::to_owned).or(remote) else {
        return usage("missing relation or application or unit");
    };
    args.at_most(1)?;
    still_manages(model, context, &id)?;
    context.buffer.secrets.revokes.push((id, target));
    Ok(Output::Silent)
}

/// Buffers a removal without checks: errors show at the commit. Drops this hook's other changes of
/// the secret.
fn remove(model: &mut Model, context: &mut Context, args: &Args<'_>) -> Result<Output> {
    let revision = match args.value("revision").map(|text| (text, text.parse::<i64>())) {
        None => None,
        // A number below 1 names no revision.
        Some((_, Ok(revision))) => u32::try_from(revision).ok().filter(|revision| *revision > 0),
        Some((text, Err(_))) => {
            return usage(format!(
                "invalid value {text:?} for option --revision: strconv.ParseInt: parsing {text:?}: invalid syntax"
            ));
        }
    };
    let Some(uri) = args.at(0) else { return usage("missing secret URI") };
    let id = parse_uri(uri)?;
    args.at_most(1)?;
    still_manages(model, context, &id)?;
    let pending = &mut context.buffer.secrets;
    let created = pending.creates.len();
    pending.creates.retain(|(create, _)| *create != id);
    pending.updates.remove(&id);
    pending.tracking.remove(&id);
    pending.grants.retain(|(secret, _, _)| *secret != id);
    pending.revokes.retain(|(secret, _)| *secret != id);
    if pending.creates.len() < created {
        return Ok(Output::Silent);
    }
    let removed =
        pending.removes.entry(id).or_insert_with(|| Some(std::collections::BTreeSet::new()));
    match (revision, &mut *removed) {
        (Some(revision), Some(revisions)) => {
            if model.version.removes_one_revision_per_hook() {
                revisions.clear();
            }
            revisions.insert(revision);
        }
        _ => *removed = None,
    }
    Ok(Output::Silent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, Sim};

    const ID: &str = "0123456789abcdefghij";

    /// Charms are ordinary consumers of a user's secret.
    #[test]
    fn a_users_secret_is_readable_by_its_grantees() {
        let launcher = std::env::current_exe().expect("this test");
        let mut sim = Sim::new(&Options { launcher, ..Options::default() }).expect("a new model");
        for word in ["deploy actor:client shop", "settle"] {
            sim.run(word).expect("an actor");
        }
        let shop: UnitName = "shop/0".parse().expect("a unit");
        let mut model = sim.model;
        let content = |value: &str| Bag::from([("password".to_owned(), value.to_owned())]);
        model.secrets.insert(ID.to_owned(), Secret::new(Entity::Model, content("one")));
        let call = |model: &mut Model, tool: &str, args: &[&str]| {
            model.tool_as(&shop, tool, args).unwrap_or_else(|error| error.to_string())
        };
        let get = ["--label", "mine", ID];
        assert_eq!(call(&mut model, "secret-get", &get), "ERROR permission denied");
        model.secrets.get_mut(ID).expect("the secret").grants.insert("shop".to_owned(), None);
        assert_eq!(call(&mut model, "secret-get", &get), "password: one\n");
        model.secrets.get_mut(ID).expect("the secret").revise(content("two"));
        assert_eq!(call(&mut model, "secret-get", &["--label", "mine"]), "password: one\n");
        assert_eq!(
            call(&mut model, "secret-get", &["--label", "mine", "--refresh"]),
            "password: two\n"
        );
        assert_eq!(call(&mut model, "secret-ids", &["--format=json"]), "null\n");
        assert_eq!(
            call(&mut model, "secret-info-get", &[ID]),
            format!("ERROR secret {ID:?} not found")
        );
        assert_eq!(
            call(&mut model, "secret-set", &[ID, "password=three"]),
            "updating secrets: permission denied"
        );
    }
}
