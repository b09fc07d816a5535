//! The events for which a unit's charm is run.

use serde_json::Value;

use crate::model::{Model, UnitName};

/// An event for which a unit's charm is run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event {
    Install,
    ConfigChanged,
    Start,
    Stop,
    Remove,
    UpgradeCharm,
    LeaderElected,
    LeaderSettingsChanged,
    Created {
        relation: u32,
    },
    Joined {
        relation: u32,
        unit: UnitName,
    },
    /// `unit` is `None` when the remote application's databag changed.
    Changed {
        relation: u32,
        unit: Option<UnitName>,
    },
    Departed {
        relation: u32,
        unit: UnitName,
        departing: UnitName,
    },
    Broken {
        relation: u32,
    },
    SecretChanged {
        id: String,
    },
    SecretRotate {
        id: String,
    },
    SecretExpired {
        id: String,
        revision: u32,
    },
    SecretRemove {
        id: String,
        revision: u32,
    },
    UpdateStatus,
    /// A hook of a workload container, by its name, such as `<container>-pebble-ready`.
    Workload(String),
    /// `<container>-pebble-check-failed` or `-recovered`, with the check and the notice that caused
    /// it.
    Check {
        hook: String,
        check: String,
        notice: String,
        change: String,
    },
    Action {
        name: String,
        task: Task,
    },
    /// `juju exec`, with or without a relation.
    Exec {
        command: Vec<String>,
        relation: Option<u32>,
        /// Set where Juju runs the command as an action.
        task: Option<Task>,
    },
}

/// What an action's process can learn about its task.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Task {
    pub(crate) number: u32,
    pub(crate) parameters: Value,
}

impl Event {
    /// The relation of a relation hook.
    pub(crate) fn relation(&self) -> Option<u32> {
        match self {
            Event::Created { relation }
            | Event::Joined { relation, .. }
            | Event::Changed { relation, .. }
            | Event::Departed { relation, .. }
            | Event::Broken { relation } => Some(*relation),
            Event::Exec { relation, .. } => *relation,
            _ => None,
        }
    }

    /// The task of an action.
    pub(crate) fn task(&self) -> Option<&Task> {
        match self {
            Event::Action { task, .. } => Some(task),
            Event::Exec { task, .. } => task.as_ref(),
            _ => None,
        }
    }

    /// Whether the agent runs this event before actions and commands (uniter/resolver.go).
    pub(crate) fn comes_before_actions(&self) -> bool {
        matches!(
            self,
            Event::Install
                | Event::Created { .. }
                | Event::LeaderElected
                | Event::LeaderSettingsChanged
                | Event::Workload(_)
                | Event::Check { .. }
        ) || self.secret().is_some()
    }

    /// The secret of a secret hook.
    pub(crate) fn secret(&self) -> Option<&str> {
        match self {
            Event::SecretChanged { id }
            | Event::SecretRotate { id }
            | Event::SecretExpired { id, .. }
            | Event::SecretRemove { id, .. } => Some(id),
            _ => None,
        }
    }

    /// The unit in `JUJU_REMOTE_UNIT`.
    pub(crate) fn remote_unit(&self) -> Option<&UnitName> {
        match self {
            Event::Joined { unit, .. }
            | Event::Departed { unit, .. }
            | Event::Changed { unit: Some(unit), .. } => Some(unit),
            _ => None,
        }
    }

    /// Whether this is a hook; actions and `juju exec` are not.
    pub(crate) fn is_hook(&self) -> bool {
        !matches!(self, Event::Action { .. } | Event::Exec { .. })
    }

    /// The hook's name, with the endpoint name of this unit's side. For an action, the action's
    /// name; for `juju exec`, `juju-exec`.
    pub(crate) fn name(&self, model: &Model, app: &str) -> String {
        let endpoint = |suffix: &str| {
            let end =
                self.relation().and_then(|id| model.relations.get(&id)).and_then(|r| r.end(app));
            format!("{}-relation-{suffix}", end.map_or("", |end| end.endpoint.as_str()))
        };
        match self {
            Event::Install => "install".to_owned(),
            Event::ConfigChanged => "config-changed".to_owned(),
            Event::Start => "start".to_owned(),
            Event::Stop => "stop".to_owned(),
            Event::Remove => "remove".to_owned(),
            Event::UpgradeCharm => "upgrade-charm".to_owned(),
            Event::LeaderElected => "leader-elected".to_owned(),
            Event::LeaderSettingsChanged => "leader-settings-changed".to_owned(),
            Event::Created { .. } => endpoint("created"),
            Event::Joined { .. } => endpoint("joined"),
            Event::Changed { .. } => endpoint("changed"),
            Event::Departed { .. } => endpoint("departed"),
            Event::Broken { .. } => endpoint("broken"),
            Event::SecretChanged { .. } => "secret-changed".to_owned(),
            Event::SecretRotate { .. } => "secret-rotate".to_owned(),
            Event::SecretExpired { .. } => "secret-expired".to_owned(),
            Event::SecretRemove { .. } => "secret-remove".to_owned(),
            Event::UpdateStatus => "update-status".to_owned(),
            Event::Workload(name)
            | Event::Check { hook: name, .. }
            | Event::Action { name, .. } => name.clone(),
            Event::Exec { .. } => "juju-exec".to_owned(),
        }
    }
}
