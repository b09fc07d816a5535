//! Commands that change the model, as an operator, Kubernetes or a failure would.

use std::collections::BTreeMap;
use std::path::Path;

use super::Arguments;
use super::edit::outside_value;
use crate::Sim;
use crate::charm::{Charm, Role};
use crate::error::{Error, Result};
use crate::model::{App, Bag, End, Kind, Relation, Unit, UnitName};
use crate::tools::relations::valid_app;

impl Sim {
    /// `deploy PATH|actor:KIND [NAME] [-n N] [--channel CHANNEL] [--config k=v]…`
    pub(crate) fn deploy(&mut self, mut args: Arguments) -> Result<String> {
        let count = args.count("-n", 1)?;
        let channel = args.option("--channel")?;
        let mut config = Vec::new();
        while let Some(pair) = args.option("--config")? {
            config.push(pair);
        }
        let source = args.next("a charm's directory")?;
        let kind = match source.strip_prefix("actor:") {
            Some(actor) => crate::actors::make(actor, channel.as_deref(), &mut self.model)?,
            None if channel.is_some() => {
                return Err(Error::refused("a local charm has no channels"));
            }
            None => Kind::Charm(Charm::read(Path::new(&source))?),
        };
        let charm = match &kind {
            Kind::Charm(charm) | Kind::Actor(_, charm) => charm.clone(),
        };
        let name = args.maybe().unwrap_or_else(|| charm.name.clone());
        args.end()?;
        if !valid_app(&name) {
            return Err(Error::refused(format!("invalid application name {name:?}")));
        }
        self.model.fits(&name, count)?;
        if self.model.apps.contains_key(&name) {
            return Err(Error::refused(format!("application {name:?} already exists")));
        }
        let mut options = BTreeMap::new();
        for pair in config {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| Error::refused(format!("expected k=v, got {pair:?}")))?;
            options.insert(key.to_owned(), charm.option_value(key, value)?);
        }
        let app = App {
            kind,
            config: options,
            leader: None,
            vacant_until: None,
            term: 0,
            settings: Bag::new(),
            status: None,
            version: String::new(),
            revision: 0,
            dying: false,
        };
        self.model.apps.insert(name.clone(), app);
        for (endpoint, _) in
            charm.endpoints.iter().filter(|(_, endpoint)| endpoint.role == Role::Peer)
        {
            let end = End { app: name.clone(), endpoint: endpoint.clone(), role: Role::Peer };
            self.model.relate(vec![end]);
        }
        self.model.add_units(&name, count)?;
        Ok(String::new())
    }

    /// `add-unit APP [-n N]`
    pub(crate) fn add_unit(&mut self, mut args: Arguments) -> Result<String> {
        let count = args.count("-n", 1)?;
        let app = args.next("an application")?;
        args.end()?;
        self.alive(&app)?;
        self.model.fits(&app, self.model.units_of(&app).len().saturating_add(count))?;
        self.model.add_units(&app, count)?;
        Ok(String::new())
    }

    /// Refuses an application that is being removed.
    fn alive(&self, app: &str) -> Result<()> {
        if self.model.app(app)?.dying {
            return Err(Error::refused(format!("application {app:?} is not alive")));
        }
        Ok(())
    }

    /// `remove-unit APP [-n N] [--force]`: removes the highest ordinals, as Kubernetes does; by
    /// force without hooks.
    pub(crate) fn remove_unit(&mut self, mut args: Arguments) -> Result<String> {
        let force = args.flag("--force");
        let count = args.count("-n", 1)?;
        let app = args.next("an application")?;
        args.end()?;
        self.model.app(&app)?;
        let mut alive = self.model.units_of(&app);
        alive.retain(|unit| self.model.units.get(unit).is_some_and(|unit| !unit.dying));
        if alive.len() < count {
            return Err(Error::refused(format!(
                "cannot remove {count} units: {app} has {}",
                alive.len()
            )));
        }
        let leaving: Vec<&UnitName> = alive.iter().rev().take(count).collect();
        let busy = |unit: &&&UnitName| self.model.units.get(unit).is_some_and(Unit::is_busy);
        if let Some(unit) = leaving.iter().find(busy).filter(|_| force) {
            return Err(Error::refused(format!("a hook of {unit} is running")));
        }
        for unit in leaving {
            self.model.unit_mut(unit)?.dying = true;
            if force {
                self.model.forget_unit(unit);
            }
        }
        Ok(String::new())
    }

    /// `remove-application APP [--force]`
    pub(crate) fn remove_application(&mut self, mut args: Arguments) -> Result<String> {
        let force = args.flag("--force");
        let app = args.next("an application")?;
        args.end()?;
        self.model.app_mut(&app)?.dying = true;
        for unit in self.model.units_of(&app) {
            self.model.unit_mut(&unit)?.dying = true;
        }
        let ids: Vec<u32> = self.model.relations.keys().copied().collect();
        for id in ids {
            let relation =
                self.model.relations.get(&id).filter(|r| !r.is_peer() && r.end(&app).is_some());
            if relation.is_some() {
                self.model.break_relation(id);
            }
        }
        if force {
            for unit in self.model.units_of(&app) {
                self.model.forget_unit(&unit);
            }
        }
        self.model.reap_application(&app);
        Ok(String::new())
    }

    /// `refresh APP [--path DIR]`: replaces every pod by one with the new charm, highest ordinal
    /// first.
    ///
    /// Does not wait between pods: a pod without its own readiness check is ready before its hooks
    /// have run.
    pub(crate) fn refresh(&mut self, mut args: Arguments) -> Result<String> {
        let path = args.option("--path")?;
        let name = args.next("an application")?;
        args.end()?;
        self.alive(&name)?;
        let app = self.model.app_mut(&name)?;
        let Kind::Charm(charm) = &mut app.kind else {
            return Err(Error::NotModelled(format!("another revision of {name}: it is an actor")));
        };
        let new = Charm::read(Path::new(&path.unwrap_or_else(|| charm.dir.display().to_string())))?;
        if new.name != charm.name {
            return Err(Error::refused(format!(
                "cannot upgrade {name:?} from {:?} to {:?}",
                charm.name, new.name
            )));
        }
        let ends = self.model.relations.values().filter_map(|relation| relation.end(&name));
        for end in ends {
            if new.endpoints.get(&end.endpoint).is_none_or(|endpoint| endpoint.role != end.role) {
                return Err(Error::refused(format!(
                    "cannot upgrade application {name:?}: would break relation \"{name}:{}\"",
                    end.endpoint
                )));
            }
        }
        let peers: Vec<String> = new
            .endpoints
            .iter()
            .filter(|(_, e)| e.role == Role::Peer)
            .map(|(name, _)| name.clone())
            .collect();
        let app = self.model.app_mut(&name)?;
        app.kind = Kind::Charm(new);
        app.revision += 1;
        for endpoint in peers {
            if self.model.relations_at(&format!("{name}:{endpoint}")).is_empty() {
                self.model.relate(vec![End { app: name.clone(), endpoint, role: Role::Peer }]);
            }
        }
        let units = self.model.units_of(&name).into_iter().rev();
        units.map(|unit| self.end_pod(&unit)).collect()
    }

    /// `integrate A[:endpoint] B[:endpoint]`
    pub(crate) fn integrate(&mut self, mut args: Arguments) -> Result<String> {
        let (one, two) = (args.next("an application")?, args.next("another application")?);
        args.end()?;
        let app = |text: &str| text.split(':').next().unwrap_or_default().to_owned();
        for text in [&one, &two] {
            self.alive(&app(text))?;
        }
        if app(&one) == app(&two) {
            return Err(Error::NotModelled("a relation of an application with itself".to_owned()));
        }
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
            let limit = self
                .model
                .charm(&end.app)
                .and_then(|charm| charm.endpoints.get(&end.endpoint)?.limit);
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
            return Err(Error::refused(format!(
                "cannot add relation: relation {one} {two} already exists"
            )));
        }
        self.model.relate(ends);
        Ok(String::new())
    }

    /// The endpoints that `app` or `app:endpoint` can mean, with their interfaces.
    fn candidates(&self, text: &str) -> Result<Vec<(End, String)>> {
        let (app, wanted) =
            text.split_once(':').map_or((text, None), |(app, endpoint)| (app, Some(endpoint)));
        let charm = self.model.app(app)?.charm();
        if let Some(endpoint) = wanted.filter(|endpoint| !charm.endpoints.contains_key(*endpoint)) {
            return Err(Error::refused(format!(
                "application {app:?} has no {endpoint:?} relation"
            )));
        }
        let fits =
            charm.endpoints.iter().filter(|(name, _)| wanted.is_none_or(|wanted| wanted == *name));
        Ok(fits
            .map(|(name, endpoint)| {
                (
                    End { app: app.to_owned(), endpoint: name.clone(), role: endpoint.role },
                    endpoint.interface.clone(),
                )
            })
            .collect())
    }

    /// `remove-relation A[:endpoint] B[:endpoint] [--force]`: by force the controller removes the
    /// relation at once, and the agents later.
    pub(crate) fn remove_relation(&mut self, mut args: Arguments) -> Result<String> {
        let force = args.flag("--force");
        let id = self.one_relation(args)?;
        self.model.break_relation(id);
        if let Some(relation) = self.model.relations.get_mut(&id) {
            relation.forgotten = force;
        }
        Ok(String::new())
    }

    /// `suspend-relation A[:endpoint] B[:endpoint]`: the units leave the relation, the databags
    /// stay.
    pub(crate) fn suspend_relation(&mut self, args: Arguments) -> Result<String> {
        let id = self.one_relation(args)?;
        if let Some(relation) = self.model.relations.get_mut(&id) {
            relation.suspended = true;
        }
        self.model.leave_uncreated(id);
        Ok(String::new())
    }

    /// `resume-relation A[:endpoint] B[:endpoint]`: the units that left join again
    /// (uniter/relation/statetracker.go).
    pub(crate) fn resume_relation(&mut self, args: Arguments) -> Result<String> {
        let id = self.one_relation(args)?;
        if let Some(relation) = self.model.relations.get_mut(&id) {
            relation.suspended = false;
        }
        for unit in self.model.units.values_mut() {
            unit.views.retain(|relation, view| *relation != id || !view.broken);
        }
        Ok(String::new())
    }

    /// The only living relation between two applications, or between two of their endpoints.
    fn one_relation(&self, mut args: Arguments) -> Result<u32> {
        let (one, two) = (args.next("an application")?, args.next("another application")?);
        args.end()?;
        let fits = |relation: &Relation, text: &str| {
            let (app, endpoint) =
                text.split_once(':').map_or((text, None), |(app, endpoint)| (app, Some(endpoint)));
            relation
                .end(app)
                .is_some_and(|end| endpoint.is_none_or(|endpoint| endpoint == end.endpoint))
        };
        let wanted = |r: &&Relation| !r.is_peer() && !r.dying && fits(r, &one) && fits(r, &two);
        let found: Vec<u32> =
            self.model.relations.iter().filter(|(_, r)| wanted(r)).map(|(id, _)| *id).collect();
        match found.as_slice() {
            [id] => Ok(*id),
            [] => Err(Error::refused(format!("relation {one} {two} not found"))),
            _ => {
                Err(Error::refused(format!("ambiguous relation: {one} {two}: name the endpoints")))
            }
        }
    }

    /// `config APP k=v… [--reset k,…]`; without values prints the options in effect.
    pub(crate) fn config(&mut self, mut args: Arguments) -> Result<String> {
        let mut reset = Vec::new();
        while let Some(keys) = args.option("--reset")? {
            reset.extend(keys.trim_matches(',').split(',').map(str::to_owned));
        }
        if let Some(pair) = reset.iter().find(|key| key.contains('=')) {
            return Err(Error::refused(format!(
                "--reset accepts a comma delimited set of keys \"a,b,c\", received: {pair:?}"
            )));
        }
        let app = args.next("an application")?;
        let pairs = args.rest();
        self.alive(&app)?;
        let charm = self.model.app(&app)?.charm().clone();
        if let Some(unknown) = reset.iter().find(|key| !charm.options.contains_key(*key)) {
            return Err(Error::refused(format!("unknown option {unknown:?}")));
        }
        if reset.is_empty() && pairs.is_empty() {
            let values = self.model.app(&app)?.effective_config();
            return Ok(serde_yaml::to_string(&values).unwrap_or_default());
        }
        let mut values = BTreeMap::new();
        for pair in pairs {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| Error::refused(format!("expected k=v, got {pair:?}")))?;
            values.insert(key.to_owned(), charm.option_value(key, &outside_value(value)?)?);
        }
        if let Some(key) = reset.iter().find(|key| values.contains_key(*key)) {
            return Err(Error::refused(format!("cannot set and reset key {key:?} simultaneously")));
        }
        let config = &mut self.model.app_mut(&app)?.config;
        config.retain(|key, _| !reset.contains(key));
        config.extend(values);
        Ok(String::new())
    }
}
