//! Commands about units and what runs in them: leadership, pods, agents, actions, commands, time.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::Arguments;
use crate::Sim;
use crate::error::{Error, Result};
use crate::events::{Event, Task};
use crate::fault::{Fault, ToolFault};
use crate::hook::{Exit, HookRun};
use crate::model::{Kind, Stage, UnitName};

impl Sim {
    /// `leader UNIT`: moves the lease. `leader --none APP`: ends the lease; no unit has it for a
    /// minute.
    pub(crate) fn leader(&mut self, mut args: Arguments) -> Result<String> {
        let nobody = args.flag("--none");
        let name = args.next(if nobody { "an application" } else { "a unit" })?;
        args.end()?;
        if nobody {
            self.model.app(&name)?;
            self.model.lease(&name, None);
        } else {
            let unit: UnitName = name.parse()?;
            self.model.unit(&unit)?;
            self.model.lease(&unit.app.clone(), Some(unit));
        }
        Ok(String::new())
    }

    /// `replace-pod UNIT [--mid-hook [--hard] | --after-hook]`: removes everything in the pod; the
    /// unit and the controller's data stay.
    ///
    /// With `--mid-hook` the pod ends during the unit's next hook, at its first hook tool. The new
    /// pod resumes that hook, without `upgrade-charm` (uniter/operation/deploy.go); after a
    /// `--hard` kill the hook first counts as failed. With `--after-hook` the pod ends after the
    /// hook's effects are committed and before the agent records that: the hook counts as done.
    pub(crate) fn replace_pod(&mut self, mut args: Arguments) -> Result<String> {
        let (mid_hook, hard) = (args.flag("--mid-hook"), args.flag("--hard"));
        let after_hook = args.flag("--after-hook");
        let name: UnitName = args.next("a unit")?.parse()?;
        args.end()?;
        let unit = self.model.unit(&name)?;
        if hard && !mid_hook || mid_hook && after_hook {
            return Err(Error::refused("replace-pod UNIT [--mid-hook [--hard] | --after-hook]"));
        }
        if !mid_hook && !after_hook {
            return self.end_pod(&name);
        }
        if unit.pending.is_some() {
            return Err(Error::refused(format!(
                "{name} has a hook that did not finish: replace-pod {name}"
            )));
        }
        let event = self.model.next_event(&name);
        let event = event.ok_or_else(|| Error::refused(format!("{name} has no hook to run")))?;
        if mid_hook {
            for tool in crate::tools::names(self.model.version) {
                let fault =
                    Fault::Tool { tool: tool.to_owned(), nth: 1, tool_fault: ToolFault::Kill };
                self.model.unit_mut(&name)?.faults.push(fault);
            }
        }
        let run = self.run_event(&name, &event)?;
        let (hook, killed) = (run.hook.clone(), matches!(run.exit, Exit::Killed(_)));
        if mid_hook && !killed {
            return Err(Error::refused(format!(
                "{name} {hook} ended before it called a hook tool: use --after-hook"
            )));
        }
        if let Some(pending) = &mut self.model.unit_mut(&name)?.pending
            && hard
        {
            pending.error = true;
        }
        if hard {
            // Dropping the pod kills its processes without SIGTERM.
            self.model.unit_mut(&name)?.pod = None;
        }
        self.model.new_pod(&name, false)
    }

    /// Terminates everything in the pod, and creates another pod.
    pub(super) fn end_pod(&mut self, name: &UnitName) -> Result<String> {
        if let Some(pod) = &mut self.model.idle(name)?.pod {
            pod.terminate();
        }
        self.stop_agent(name)?;
        self.model.new_pod(name, true)
    }

    /// What the agent does after SIGTERM: it starts no more hooks except `stop`, which is not
    /// retried.
    fn stop_agent(&mut self, name: &UnitName) -> Result<()> {
        let unit = self.model.unit(name)?;
        // The agent of a unit that is being removed just ends.
        if unit.stage != Stage::Started || unit.dying {
            return Ok(());
        }
        let pending = unit.pending.clone();
        self.run_event(name, &Event::Stop)?;
        self.model.unit_mut(name)?.pending = pending;
        Ok(())
    }

    /// `restart-agent UNIT [--killed]`: restarts only the charm container; its files are kept.
    pub(crate) fn restart_agent(&mut self, mut args: Arguments) -> Result<String> {
        let killed = args.flag("--killed");
        let name: UnitName = args.next("a unit")?.parse()?;
        args.end()?;
        self.has_process(&name)?;
        if !killed {
            self.stop_agent(&name)?;
        }
        self.model.restart_agent(&name)?;
        Ok(String::new())
    }

    /// `trigger UNIT HOOK`: queues a hook that Kubernetes, Pebble or time causes.
    pub(crate) fn trigger(&mut self, mut args: Arguments) -> Result<String> {
        let name: UnitName = args.next("a unit")?.parse()?;
        let hook = args.next("a hook")?;
        args.end()?;
        let (now, leads) = (self.model.now, self.model.is_leader(&name));
        let refuse =
            |why: &str| Err(Error::refused(format!("cannot trigger {hook:?} of {name}: {why}")));
        let containers = &self.model.app(&name.app)?.charm().containers;
        let known =
            hook.split_once("-pebble-").map(|(container, _)| containers.contains(container));
        let unit = self.model.unit_mut(&name)?;
        let queued = match hook.as_str() {
            _ if unit.stage < Stage::Installed => return refuse("the unit is not installed"),
            "update-status" if unit.stage == Stage::Started => {
                unit.update_status_due = Some(now);
                return Ok(String::new());
            }
            "update-status" => return refuse("the unit has not started"),
            "config-changed" => Event::ConfigChanged,
            "start" => Event::Start,
            "upgrade-charm" => Event::UpgradeCharm,
            "leader-elected" if !leads => return refuse("the unit is not the leader"),
            "leader-elected" => Event::LeaderElected,
            "leader-settings-changed" if leads => return refuse("the unit is the leader"),
            "leader-settings-changed" => Event::LeaderSettingsChanged,
            "stop" => {
                return refuse("the unit is not being removed: use restart-agent or replace-pod");
            }
            _ if known == Some(false) => return refuse("the charm has no such container"),
            _ if known.is_some() => {
                unit.workload.push_back(Event::Workload(hook));
                return Ok(String::new());
            }
            _ => return refuse("only hooks without a relation or secret can be triggered"),
        };
        unit.queue.push_back(queued);
        Ok(String::new())
    }

    /// `resolve UNIT [--no-retry]`: runs the failed hook again at once, or marks it as done.
    pub(crate) fn resolve(&mut self, mut args: Arguments) -> Result<String> {
        let skip = args.flag("--no-retry");
        let name: UnitName = args.next("a unit")?.parse()?;
        args.end()?;
        let now = self.model.now;
        let unit = self.model.unit_mut(&name)?;
        let Some(pending) = unit.pending.as_mut().filter(|pending| pending.error) else {
            return Err(Error::refused(format!(
                "unit {:?} is not in an error state",
                name.to_string()
            )));
        };
        pending.due = now;
        if skip {
            let event = pending.event.clone();
            unit.pending = None;
            let version = self.model.version_for(&name, &event);
            self.model.after(&name, &event, version);
        }
        Ok(String::new())
    }

    /// `wait DURATION`: settles and advances the clock, with everything due until then:
    /// `update-status`, retries, leases, secrets.
    pub(crate) fn wait(&mut self, mut args: Arguments) -> Result<String> {
        let length = args.next("a duration (90s, 5m)")?;
        args.end()?;
        self.model.follow_real_clock();
        let end = self.model.later(&length)?;
        let mut printed = String::new();
        loop {
            let settled = self.settle_until(end, false)?;
            if !settled.starts_with("settled: 0 hooks") {
                printed.push_str(&settled);
            }
            match self.model.next_timer().filter(|next| *next <= end) {
                Some(next) => self.model.advance(next),
                None => break,
            }
        }
        self.model.advance(end);
        Ok(printed)
    }

    /// `clock +DURATION`: moves the clock at once, and shows it to hooks from now on.
    pub(crate) fn clock(&mut self, mut args: Arguments) -> Result<String> {
        let length = args.next("a duration (+9m, +30d)")?;
        args.end()?;
        self.model.show_clock()?;
        self.model.advance(self.model.later(&length)?);
        Ok(String::new())
    }

    /// `model-config automatically-retry-hooks=true|false`
    pub(crate) fn model_config(&mut self, mut args: Arguments) -> Result<String> {
        let pair = args.next("a setting")?;
        args.end()?;
        let retry = match pair.as_str() {
            "automatically-retry-hooks=true" => true,
            "automatically-retry-hooks=false" => false,
            other => return Err(Error::NotModelled(format!("the model setting {other:?}"))),
        };
        self.model.retries = retry;
        let now = self.model.now;
        for pending in self.model.units.values_mut().filter_map(|unit| unit.pending.as_mut()) {
            pending.due = if retry { now } else { Timestamp::MAX };
        }
        Ok(String::new())
    }

    /// `run UNIT ACTION [k=v]…`, also while the unit is in error.
    pub(crate) fn action(&mut self, mut args: Arguments) -> Result<String> {
        let unit: UnitName = args.next("a unit")?.parse()?;
        let name = args.next("an action")?;
        let charm = self.model.charm(&unit.app).cloned().unwrap_or_default();
        let action = charm.actions.get(&name);
        let action = action
            .ok_or_else(|| Error::refused(format!("action {name:?} not defined on unit {unit}")))?;
        let mut parameters = json!({});
        for (key, schema) in action["params"].as_object().into_iter().flatten() {
            if let Some(default) = schema.get("default") {
                parameters[key] = default.clone();
            }
        }
        for pair in args.rest() {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| Error::refused(format!("expected k=v, got {pair:?}")))?;
            let value = serde_yaml::from_str::<Value>(value).unwrap_or_else(|_| Value::from(value));
            parameters[key] = value;
        }
        self.urgent(&unit)?;
        let task = self.task(parameters);
        let run = self.run_event(&unit, &Event::Action { name, task })?;
        Ok(action_text(run))
    }

    /// `exec UNIT [--relation ID] -- COMMAND…`: in the unit's context, without a hook's name.
    pub(crate) fn exec(&mut self, args: Arguments) -> Result<String> {
        let (mut before, command) = args.split_at("--");
        let relation = before.option("--relation")?;
        let unit: UnitName = before.next("a unit")?.parse()?;
        let command = if command.is_empty() { before.rest() } else { command };
        before.end()?;
        self.has_process(&unit)?;
        let relation = relation.map(|id| self.relation_of(&unit, &id)).transpose()?;
        self.urgent(&unit)?;
        let task = self.task(json!({"command": command.join(" "), "timeout": 0}));
        let task = Some(task).filter(|_| self.model.version.executes_as_action());
        let run = self.run_event(&unit, &Event::Exec { command, relation, task })?;
        let printed = format!("{}{}", run.stdout, run.stderr);
        match (&run.exit, &run.failure) {
            (Exit::Success, None) => Ok(printed),
            (Exit::Success, Some(why)) => {
                Err(Error::refused(format!("{printed}action failed: {why}")))
            }
            (other, _) => Err(Error::refused(format!("{printed}{other}"))),
        }
    }

    /// A task with the next number.
    fn task(&mut self, parameters: Value) -> Task {
        self.model.next_action += 1;
        Task { number: self.model.next_action, parameters }
    }

    /// Runs what the agent runs before actions and commands: installation, new relations,
    /// leadership, workload, secrets.
    ///
    /// Fails while the agent retries a commit: it then runs nothing at all.
    fn urgent(&mut self, name: &UnitName) -> Result<()> {
        let unit = self.model.unit(name)?;
        if let Some(until) = unit.committing_until.filter(|_| unit.commits(self.model.now)) {
            let rest = until.duration_since(self.model.now).as_secs();
            return Err(Error::refused(format!(
                "the agent of {name} retries the commit of its last hook: wait {rest}s"
            )));
        }
        while self.model.unit(name)?.pending.is_none()
            && let Some(event) = self.model.next_event(name)
            && event.comes_before_actions()
        {
            self.run_event(name, &event)?;
        }
        Ok(())
    }

    fn relation_of(&self, unit: &UnitName, id: &str) -> Result<u32> {
        let number = id.rsplit(':').next().unwrap_or(id).parse::<u32>().ok();
        let mine = |number: &u32| {
            self.model.relations.get(number).is_some_and(|r| r.end(&unit.app).is_some())
        };
        number.filter(mine).ok_or_else(|| Error::refused(format!("relation {id:?} not found")))
    }

    /// Refuses an actor, which has no process.
    pub(super) fn has_process(&self, unit: &UnitName) -> Result<()> {
        self.model.unit(unit)?;
        match &self.model.app(&unit.app)?.kind {
            Kind::Charm(_) => Ok(()),
            Kind::Actor(..) => {
                Err(Error::NotModelled(format!("processes in {unit}: it is an actor")))
            }
        }
    }
}

/// An action's result, as `juju run` prints it.
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
