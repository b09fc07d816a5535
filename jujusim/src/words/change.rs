//! Words that change the model: what an operator, Kubernetes or bad luck would do.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use super::Words;
use crate::Sim;
use crate::charm::{Charm, Role};
use crate::commit::Refused;
use crate::error::{Error, Result};
use crate::events::Event;
use crate::hook::{Exit, Fault, HookRun};
use crate::model::{App, Bag, End, Entity, Kind, Relation, Stage, UnitName};

impl Sim {
    /// `deploy PATH|actor:KIND [NAME] [-n N] [--config k=v]…`
    pub(crate) fn deploy(&mut self, mut words: Words) -> Result<String> {
        let count = words.count("-n", 1)?;
        let mut config = Vec::new();
        while let Some(pair) = words.option("--config")? {
            config.push(pair);
        }
        let source = words.next("a charm's directory")?;
        let kind = match source.strip_prefix("actor:") {
            Some(actor) => crate::actors::make(actor, &mut self.model)?,
            None => Kind::Charm(Charm::read(Path::new(&source))?),
        };
        let charm = match &kind {
            Kind::Charm(charm) | Kind::Actor(_, charm) => charm.clone(),
        };
        let name = words.maybe().unwrap_or_else(|| charm.name.clone());
        words.end()?;
        if self.model.apps.contains_key(&name) {
            return Err(Error::refused(format!("application {name:?} already exists")));
        }
        let mut options = BTreeMap::new();
        for pair in config {
            let (key, value) =
                pair.split_once('=').ok_or_else(|| Error::refused(format!("expected k=v, got {pair:?}")))?;
            options.insert(key.to_owned(), charm.option_value(key, value)?);
        }
        let app = App {
            kind,
            config: options,
            leader: Some(UnitName { app: name.clone(), number: 0 }),
            term: 1,
            settings: Bag::new(),
            status: None,
            version: String::new(),
            next_unit: 0,
            dying: false,
        };
        self.model.apps.insert(name.clone(), app);
        for (endpoint, _) in charm.endpoints.iter().filter(|(_, endpoint)| endpoint.role == Role::Peer) {
            let end = End { app: name.clone(), endpoint: endpoint.clone(), role: Role::Peer };
            self.model.relate(vec![end]);
        }
        for _ in 0..count {
            self.model.add_unit(&name)?;
        }
        Ok(String::new())
    }

    /// `add-unit APP [-n N]`
    pub(crate) fn add_unit(&mut self, mut words: Words) -> Result<String> {
        let count = words.count("-n", 1)?;
        let app = words.next("an application")?;
        words.end()?;
        for _ in 0..count {
            self.model.add_unit(&app)?;
        }
        Ok(String::new())
    }

    /// `remove-unit APP [-n N]`: the highest ordinals, as Kubernetes does.
    pub(crate) fn remove_unit(&mut self, mut words: Words) -> Result<String> {
        let count = words.count("-n", 1)?;
        let app = words.next("an application")?;
        words.end()?;
        self.model.app(&app)?;
        let mut alive = self.model.units_of(&app);
        alive.retain(|unit| self.model.units.get(unit).is_some_and(|unit| !unit.dying));
        if alive.len() < count {
            return Err(Error::refused(format!("cannot remove {count} units: {app} has {}", alive.len())));
        }
        for unit in alive.iter().rev().take(count) {
            self.model.unit_mut(unit)?.dying = true;
        }
        Ok(String::new())
    }

    /// `remove-application APP`
    pub(crate) fn remove_application(&mut self, mut words: Words) -> Result<String> {
        let app = words.next("an application")?;
        words.end()?;
        self.model.app_mut(&app)?.dying = true;
        for unit in self.model.units_of(&app) {
            self.model.unit_mut(&unit)?.dying = true;
        }
        let ids: Vec<u32> = self.model.relations.keys().copied().collect();
        for id in ids {
            let relation = self.model.relations.get(&id).filter(|r| !r.is_peer() && r.end(&app).is_some());
            if relation.is_some() {
                self.model.break_relation(id);
            }
        }
        Ok(String::new())
    }

    /// `integrate A[:endpoint] B[:endpoint]`
    pub(crate) fn integrate(&mut self, mut words: Words) -> Result<String> {
        let (one, two) = (words.next("an application")?, words.next("another application")?);
        words.end()?;
        let (ones, twos) = (self.candidates(&one)?, self.candidates(&two)?);
        let mut found = Vec::new();
        for (a, interface) in &ones {
            for (b, other) in &twos {
                let opposite = matches!(
                    (a.role, b.role),
                    (Role::Provider, Role::Requirer) | (Role::Requirer, Role::Provider)
                );
                if interface == other && opposite {
                    let ends = if a.role == Role::Provider {
                        vec![a.clone(), b.clone()]
                    } else {
                        vec![b.clone(), a.clone()]
                    };
                    found.push(ends);
                }
            }
        }
        let ends = match found.len() {
            0 => return Err(Error::refused(format!("no relations found between {one} and {two}"))),
            1 => found.remove(0),
            _ => {
                return Err(Error::refused(format!(
                    "ambiguous relation: {one} and {two} fit in {} ways",
                    found.len()
                )));
            }
        };
        for end in &ends {
            let place = format!("{}:{}", end.app, end.endpoint);
            let limit =
                self.model.charm(&end.app).and_then(|charm| charm.endpoints.get(&end.endpoint)?.limit);
            if limit.is_some_and(|limit| self.model.relations_at(&place).len() >= limit) {
                return Err(Error::refused(format!(
                    "cannot add relation: establishing a new relation for {place} would exceed its maximum relation limit of {}",
                    limit.unwrap_or_default()
                )));
            }
        }
        let same = |relation: &Relation| {
            let pair = |ends: &[End]| {
                ends.iter().map(|end| (end.app.clone(), end.endpoint.clone())).collect::<Vec<_>>()
            };
            pair(&relation.ends) == pair(&ends)
        };
        if self.model.relations.values().any(same) {
            return Err(Error::refused(format!("cannot add relation: relation {one} {two} already exists")));
        }
        self.model.relate(ends);
        Ok(String::new())
    }

    /// Endpoints that `app` or `app:endpoint` may mean, with their interfaces.
    fn candidates(&self, text: &str) -> Result<Vec<(End, String)>> {
        let (app, wanted) =
            text.split_once(':').map_or((text, None), |(app, endpoint)| (app, Some(endpoint)));
        let charm = self.model.app(app)?.charm();
        if let Some(endpoint) = wanted.filter(|endpoint| !charm.endpoints.contains_key(*endpoint)) {
            return Err(Error::refused(format!("application {app:?} has no {endpoint:?} relation")));
        }
        let fits = charm.endpoints.iter().filter(|(name, _)| wanted.is_none_or(|wanted| wanted == *name));
        Ok(fits
            .map(|(name, endpoint)| {
                (
                    End { app: app.to_owned(), endpoint: name.clone(), role: endpoint.role },
                    endpoint.interface.clone(),
                )
            })
            .collect())
    }

    /// `remove-relation A[:endpoint] B[:endpoint]`
    pub(crate) fn remove_relation(&mut self, mut words: Words) -> Result<String> {
        let (one, two) = (words.next("an application")?, words.next("another application")?);
        words.end()?;
        let fits = |relation: &Relation, text: &str| {
            let (app, endpoint) =
                text.split_once(':').map_or((text, None), |(app, endpoint)| (app, Some(endpoint)));
            relation.end(app).is_some_and(|end| endpoint.is_none_or(|endpoint| endpoint == end.endpoint))
        };
        let wanted = |r: &&Relation| !r.is_peer() && !r.dying && fits(r, &one) && fits(r, &two);
        let found: Vec<u32> =
            self.model.relations.iter().filter(|(_, r)| wanted(r)).map(|(id, _)| *id).collect();
        match found.as_slice() {
            [id] => self.model.break_relation(*id),
            [] => return Err(Error::refused(format!("relation {one} {two} not found"))),
            _ => return Err(Error::refused(format!("ambiguous relation: {one} {two}; name the endpoints"))),
        }
        Ok(String::new())
    }

    /// `config APP k=v… [--reset k]`; without values prints what is in effect.
    pub(crate) fn config(&mut self, mut words: Words) -> Result<String> {
        let reset = words.option("--reset")?;
        let app = words.next("an application")?;
        let pairs = words.rest();
        let charm = self.model.app(&app)?.charm().clone();
        if let Some(key) = &reset {
            self.model.app_mut(&app)?.config.remove(key);
        } else if pairs.is_empty() {
            let values = self.model.app(&app)?.effective_config();
            return Ok(serde_yaml::to_string(&values).unwrap_or_default());
        }
        for pair in pairs {
            let (key, value) =
                pair.split_once('=').ok_or_else(|| Error::refused(format!("expected k=v, got {pair:?}")))?;
            let value = charm.option_value(key, &outside_value(value)?)?;
            self.model.app_mut(&app)?.config.insert(key.to_owned(), value);
        }
        Ok(String::new())
    }

    /// `leader UNIT`: moves the lease.
    pub(crate) fn leader(&mut self, mut words: Words) -> Result<String> {
        let unit: UnitName = words.next("a unit")?.parse()?;
        words.end()?;
        self.model.unit(&unit)?;
        let old = self.model.leader(&unit.app).cloned();
        if old.as_ref() == Some(&unit) {
            return Ok(String::new());
        }
        let app = self.model.app_mut(&unit.app)?;
        app.leader = Some(unit);
        app.term += 1;
        Ok(String::new())
    }

    /// `replace-pod UNIT [--mid-hook]`: what the pod held is gone; the unit and what the controller knows stay.
    ///
    /// With `--mid-hook` the pod dies within the unit's next hook, at its first hook tool: the new pod resumes that hook, and
    /// there is no `upgrade-charm`.
    pub(crate) fn replace_pod(&mut self, mut words: Words) -> Result<String> {
        let mid_hook = words.flag("--mid-hook");
        let name: UnitName = words.next("a unit")?.parse()?;
        words.end()?;
        let unit = self.model.unit(&name)?;
        if mid_hook {
            let event = self
                .model
                .next_event(&name)
                .ok_or_else(|| Error::refused(format!("{name} has no hook to run")))?;
            for tool in crate::tools::names(self.model.version) {
                self.model.unit_mut(&name)?.faults.push(Fault::KillAtTool { tool: tool.to_owned(), nth: 1 });
            }
            let run = self.model.run(&name, &event)?;
            if !matches!(run.exit, Exit::Killed(_)) {
                return Err(Error::refused(format!(
                    "{name} {} ended before it called a hook tool",
                    run.hook
                )));
            }
        } else if unit.stage == Stage::Started {
            // `stop` has no second chance: whatever it returns, the pod goes.
            let pending = unit.pending.clone();
            self.model.run(&name, &Event::Stop)?;
            self.model.unit_mut(&name)?.pending = pending;
        }
        self.model.new_pod(&name)?;
        Ok(String::new())
    }

    /// `trigger UNIT HOOK`: queues a hook that nothing else would cause.
    pub(crate) fn trigger(&mut self, mut words: Words) -> Result<String> {
        let unit: UnitName = words.next("a unit")?.parse()?;
        let hook = words.next("a hook")?;
        words.end()?;
        let event = match hook.as_str() {
            "config-changed" => Event::ConfigChanged,
            "start" => Event::Start,
            "stop" => Event::Stop,
            "upgrade-charm" => Event::UpgradeCharm,
            "leader-elected" => Event::LeaderElected,
            "leader-settings-changed" => Event::LeaderSettingsChanged,
            "update-status" => Event::Other(hook),
            hook if hook.contains("-pebble-") => Event::Other(hook.to_owned()),
            other => {
                return Err(Error::refused(format!(
                    "cannot trigger {other:?}: only hooks without a relation or secret"
                )));
            }
        };
        self.model.unit_mut(&unit)?.queue.push_back(event);
        Ok(String::new())
    }

    /// `run UNIT ACTION [k=v]…`: at once, also with the unit in error.
    pub(crate) fn action(&mut self, mut words: Words) -> Result<String> {
        let unit: UnitName = words.next("a unit")?.parse()?;
        let name = words.next("an action")?;
        self.has_process(&unit)?;
        let charm = self.model.charm(&unit.app).cloned().unwrap_or_default();
        let action = charm.actions.get(&name);
        let action =
            action.ok_or_else(|| Error::refused(format!("action {name:?} not defined on unit {unit}")))?;
        let mut parameters = json!({});
        for (key, schema) in action["params"].as_object().into_iter().flatten() {
            if let Some(default) = schema.get("default") {
                parameters[key] = default.clone();
            }
        }
        for pair in words.rest() {
            let (key, value) =
                pair.split_once('=').ok_or_else(|| Error::refused(format!("expected k=v, got {pair:?}")))?;
            let value = serde_yaml::from_str::<Value>(value).unwrap_or_else(|_| Value::from(value));
            parameters[key] = value;
        }
        self.model.next_action += 1;
        let number = self.model.next_action;
        let run = self.model.run(&unit, &Event::Action { name, number, parameters })?;
        Ok(action_text(run))
    }

    /// `exec UNIT -- COMMAND…`: at once, in the unit's context without a hook's name.
    pub(crate) fn exec(&mut self, mut words: Words) -> Result<String> {
        let unit: UnitName = words.next("a unit")?.parse()?;
        self.has_process(&unit)?;
        let mut command = words.rest();
        if command.first().is_some_and(|word| word == "--") {
            command.remove(0);
        }
        let run = self.model.run(&unit, &Event::Exec { command })?;
        let printed = format!("{}{}", run.stdout, run.stderr);
        match &run.exit {
            Exit::Success => Ok(printed),
            other => Err(Error::refused(format!("{printed}{other}"))),
        }
    }

    /// `databag APP:ENDPOINT ENTITY k=v…`: writes into a bag behind everybody's back; `k=@file` and `k=@hex:…` too.
    pub(crate) fn databag(&mut self, mut words: Words) -> Result<String> {
        let place = words.next("an endpoint (app:endpoint, or app:endpoint:id)")?;
        let name = words.next("an application or unit")?;
        let id = self.relation_at(&place)?;
        let entity = match name.parse::<UnitName>() {
            Ok(unit) => Entity::Unit(unit),
            Err(_) => Entity::App(name.clone()),
        };
        let app = match &entity {
            Entity::App(app) => app,
            Entity::Unit(unit) => &unit.app,
        };
        if self.model.relations.get(&id).is_none_or(|relation| relation.end(app).is_none()) {
            return Err(Error::refused(format!("{name} has no part in {place}")));
        }
        let mut bag = self.model.bag(id, &name);
        for pair in words.rest() {
            let (key, value) =
                pair.split_once('=').ok_or_else(|| Error::refused(format!("expected k=v, got {pair:?}")))?;
            let value = outside_value(value)?;
            if value.is_empty() {
                bag.remove(key);
            } else {
                bag.insert(key.to_owned(), value);
            }
        }
        self.model.write(id, &entity, bag);
        Ok(String::new())
    }

    /// The one relation at `app:endpoint`, or the named one at `app:endpoint:id`.
    pub(crate) fn relation_at(&self, place: &str) -> Result<u32> {
        let (endpoint, wanted) = match place.rsplit_once(':') {
            Some((endpoint, number)) if endpoint.contains(':') => (endpoint, number.parse::<u32>().ok()),
            _ => (place, None),
        };
        let found = self.model.relations_at(endpoint);
        match (wanted, found.as_slice()) {
            (Some(id), ids) if ids.contains(&id) => Ok(id),
            (None, [id]) => Ok(*id),
            (None, [_, ..]) => Err(Error::refused(format!(
                "{place} has relations {found:?}; add one's number: {place}:{}",
                found[0]
            ))),
            _ => Err(Error::refused(format!("no relation at {place}"))),
        }
    }

    /// `secret-edit LABEL field=value…`: a new revision from outside.
    pub(crate) fn secret_edit(&mut self, mut words: Words) -> Result<String> {
        let label = words.next("a label or id")?;
        let id = self
            .model
            .find_secret(&label)
            .ok_or_else(|| Error::refused(format!("secret {label:?} not found")))?;
        let pairs = words.rest();
        let Some(secret) = self.model.secrets.get_mut(&id) else { return Ok(String::new()) };
        let mut content = secret.content().clone();
        for pair in pairs {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| Error::refused(format!("expected field=value, got {pair:?}")))?;
            let value = outside_value(value)?;
            if value.is_empty() {
                content.remove(key);
            } else {
                content.insert(key.to_owned(), value);
            }
        }
        if content != *secret.content() {
            secret.latest += 1;
            secret.revisions.insert(secret.latest, content);
        }
        Ok(String::new())
    }

    /// `kill UNIT at TOOL [N]`, `kill UNIT at syscall NAME [N] [--no-follow]`
    pub(crate) fn kill(&mut self, mut words: Words) -> Result<String> {
        let follow = !words.flag("--no-follow");
        let unit: UnitName = words.next("a unit")?.parse()?;
        if words.next("`at`")? != "at" {
            return Err(Error::refused("kill UNIT at TOOL [N], or kill UNIT at syscall NAME [N]"));
        }
        let tool = words.next("a hook tool, or syscall")?;
        let fault = if tool == "syscall" {
            let name = words.next("a system call")?;
            Fault::KillAtSyscall { name, nth: words.nth()?, follow }
        } else {
            Fault::KillAtTool { nth: words.nth()?, tool: self.known_tool(tool)? }
        };
        words.end()?;
        self.arm(&unit, fault)
    }

    /// `fail UNIT TOOL [N] [--message TEXT]`
    pub(crate) fn fail(&mut self, mut words: Words) -> Result<String> {
        let message = words.option("--message")?.unwrap_or_else(|| "cannot do this now".to_owned());
        let unit: UnitName = words.next("a unit")?.parse()?;
        let tool = words.next("a hook tool")?;
        let fault = Fault::FailTool { tool: self.known_tool(tool)?, nth: words.nth()?, message };
        words.end()?;
        self.arm(&unit, fault)
    }

    /// `fail-commit UNIT [--torn]`
    pub(crate) fn fail_commit(&mut self, mut words: Words) -> Result<String> {
        let refused = if words.flag("--torn") { Refused::Torn } else { Refused::Whole };
        let unit: UnitName = words.next("a unit")?.parse()?;
        words.end()?;
        self.arm(&unit, Fault::Commit(refused))
    }

    fn known_tool(&self, tool: String) -> Result<String> {
        if crate::tools::names(self.model.version).contains(&tool.as_str()) {
            Ok(tool)
        } else {
            Err(Error::refused(format!("{tool:?} is no hook tool of Juju {}", self.model.version)))
        }
    }

    fn arm(&mut self, unit: &UnitName, fault: Fault) -> Result<String> {
        self.has_process(unit)?;
        self.model.unit_mut(unit)?.faults.push(fault);
        Ok(String::new())
    }

    /// Refuses actors, which have no process to run anything in or to kill.
    fn has_process(&self, unit: &UnitName) -> Result<()> {
        self.model.unit(unit)?;
        match &self.model.app(&unit.app)?.kind {
            Kind::Charm(_) => Ok(()),
            Kind::Actor(..) => Err(Error::NotModelled(format!("processes in {unit}: it is an actor"))),
        }
    }
}

/// A value given by hand: `@file`, `@hex:…`, or itself.
fn outside_value(text: &str) -> Result<String> {
    let not_text = || Error::refused(format!("{text}: jujusim does not model values that are not UTF-8"));
    if let Some(hex) = text.strip_prefix("@hex:") {
        let bytes: Option<Vec<u8>> =
            (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(hex.get(i..i + 2)?, 16).ok()).collect();
        let bytes = bytes.ok_or_else(|| Error::refused(format!("{text}: not hexadecimal")))?;
        return String::from_utf8(bytes).map_err(|_| not_text());
    }
    match text.strip_prefix('@') {
        Some(file) => std::fs::read_to_string(file)
            .map_err(|source| Error::Io { doing: format!("read {file}"), source }),
        None => Ok(text.to_owned()),
    }
}

/// An action's result as `juju run` prints it.
fn action_text(run: &HookRun) -> String {
    let mut text = String::new();
    let (code, failure) = match &run.exit {
        Exit::Success => (0, run.failure.clone()),
        Exit::Code(code) => (*code, run.failure.clone().or(Some(format!("exit status {code}")))),
        Exit::Killed(_) => (-1, Some("exit status -1".to_owned())),
        Exit::Refused(_) => (1, Some("committing requested changes failed".to_owned())),
    };
    for (key, value) in &run.results {
        let _ = writeln!(text, "{key}: {value}");
    }
    let _ = writeln!(text, "return-code: {code}");
    for (name, stream) in [("stdout", &run.stdout), ("stderr", &run.stderr)] {
        if !stream.is_empty() {
            let _ = writeln!(text, "{name}: |");
            text.extend(stream.lines().map(|line| format!("  {line}\n")));
        }
    }
    if let Some(why) = failure {
        let _ = writeln!(text, "action failed: {why}");
    }
    text
}
