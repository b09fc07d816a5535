//! `juju run`, `juju exec`, `juju ssh`.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::cli::{Exec, Run};
use super::{Answer, Outcome};
use crate::Sim;
use crate::error::{Error, Result};
use crate::hook::{Exit, HookRun};
use crate::model::{Model, Stage, UnitName};
use crate::report::{self, Format, Ordered};

/// How long to wait for the unit's agent before a task times out, by default.
const TASK_TIMEOUT: Duration = Duration::from_secs(60);

/// One task's result.
struct Task {
    unit: String,
    id: u32,
    results: Map<String, Value>,
    code: i32,
    failure: Option<String>,
}

/// `juju run UNIT… ACTION [k=v]…`
pub(super) fn run(sim: &mut Sim, asked: &Run) -> Result<Outcome> {
    let is_unit = |arg: &&String| arg.contains('/') && !arg.contains('=');
    let count = asked.args.iter().take_while(is_unit).count();
    let (names, rest) = asked.args.split_at(count);
    if names.is_empty() {
        return Err(Error::refused("no unit specified"));
    }
    let (action, parameters) =
        rest.split_first().ok_or_else(|| Error::refused("no action specified"))?;
    let units = units(&sim.model, names)?;
    for unit in &units {
        if !sim.model.app(&unit.app)?.charm().actions.contains_key(action) {
            return Err(Error::refused(format!(
                "action {action:?} not defined on unit \"{unit}\""
            )));
        }
    }
    if let Some(later) = not_up(&sim.model, &units, asked.wait) {
        return Ok(later);
    }
    let mut tasks = Vec::new();
    for unit in &units {
        let args = [unit.to_string(), action.clone()].into_iter().chain(parameters.iter().cloned());
        sim.run_command("run", args.collect::<Vec<_>>())?;
        tasks.push(Task::of(last(sim)?, sim.model.next_action));
    }
    let mut said = format!("Running operation {} with {} task", tasks[0].id, tasks.len());
    said.push_str(if tasks.len() == 1 { "\n" } else { "s\n" });
    for task in &tasks {
        let _ = writeln!(said, "  - task {} on unit-{}", task.id, task.unit.replace('/', "-"));
    }
    said.push('\n');
    for task in &tasks {
        let _ = writeln!(said, "Waiting for task {}...", task.id);
    }
    let stdout = match asked.format {
        None => tasks.iter().map(|task| task.text(tasks.len() > 1)).collect(),
        Some(format) => written(&tasks, format),
    };
    Ok(ended(&tasks, stdout, said).into())
}

/// `juju exec --unit UNIT -- COMMAND…`: one argument is a shell line, several are a command.
pub(super) fn exec(sim: &mut Sim, asked: &Exec) -> Result<Outcome> {
    let mut names = asked.unit.clone();
    for app in &asked.application {
        sim.model.app(app)?;
        names.extend(sim.model.units_of(app).iter().map(ToString::to_string));
    }
    let units = units(&sim.model, &names)?;
    if units.is_empty() {
        return Err(Error::refused(
            "You must specify a target, either through --unit or --application",
        ));
    }
    if let Some(later) = not_up(&sim.model, &units, asked.wait) {
        return Ok(later);
    }
    let command = match asked.command.as_slice() {
        [line] => ["bash", "-c", line].map(str::to_owned).to_vec(),
        args => args.to_vec(),
    };
    let mut tasks = Vec::new();
    for unit in &units {
        let args = [unit.to_string(), "--".to_owned()].into_iter().chain(command.iter().cloned());
        let before = sim.model.hook_runs().len();
        let done = sim.run_command("exec", args.collect::<Vec<_>>());
        // The command fails when the task's command fails; only a task that did not run has no
        // result.
        if !sim.model.hook_runs()[before..].iter().any(|run| run.hook == "juju-exec") {
            done?;
        }
        tasks.push(Task::of(last(sim)?, sim.model.next_action));
    }
    let Some(format) = asked.format else { return Ok(exec_text(&tasks).into()) };
    let stdout = written(&tasks, format);
    Ok(ended(&tasks, stdout, String::new()).into())
}

/// With one unit, the exit code and output are those of the command.
fn exec_text(tasks: &[Task]) -> Answer {
    let text = |task: &Task, stream: &str| {
        task.results.get(stream).and_then(Value::as_str).map(str::to_owned)
    };
    if let [task] = tasks
        && (task.code != 0 || task.failure.is_none())
    {
        return Answer {
            stdout: text(task, "stdout").unwrap_or_default(),
            stderr: text(task, "stderr").unwrap_or_default(),
            code: u8::try_from(task.code).unwrap_or(1),
        };
    }
    let stdout = tasks.iter().map(|task| task.text(true)).collect();
    ended(tasks, stdout, String::new())
}

/// `juju ssh UNIT COMMAND…`: runs on the unit's machine, outside any hook.
pub(super) fn ssh(
    model: &Model,
    container: &str,
    unit: &str,
    command: &[String],
) -> Result<Outcome> {
    if container != "charm" {
        return Err(Error::NotModelled(format!("the container {container:?}")));
    }
    let unit = unit_named(model, unit)?;
    let line = if command.is_empty() { "exec sh".to_owned() } else { command.join(" ") };
    Ok(Outcome::Become { line, dir: model.unit(&unit)?.root.clone() })
}

/// Finds a unit by its name, or the leader by `app/leader`.
fn unit_named(model: &Model, name: &str) -> Result<UnitName> {
    if let Some(app) = name.strip_suffix("/leader") {
        model.app(app)?;
        let leader = model.leader(app).cloned();
        return leader
            .ok_or_else(|| Error::refused(format!("could not determine leader for {app:?}")));
    }
    let unit = name.parse()?;
    model.unit(&unit)?;
    Ok(unit)
}

fn units(model: &Model, names: &[String]) -> Result<Vec<UnitName>> {
    names.iter().map(|name| unit_named(model, name)).collect()
}

/// Waits, up to the limit, for the units whose agents have not yet started the charm or do not take
/// tasks.
fn not_up(model: &Model, units: &[UnitName], limit: Option<Duration>) -> Option<Outcome> {
    let up = |unit: &UnitName| {
        model.unit(unit).is_ok_and(|unit| unit.stage >= Stage::Started && !unit.commits(model.now))
    };
    let waits = units.iter().find(|unit| !up(unit))?;
    let overdue = format!("timed out waiting for results from: unit {waits}");
    Some(Outcome::Wait { limit: limit.unwrap_or(TASK_TIMEOUT), overdue })
}

fn last(sim: &Sim) -> Result<&HookRun> {
    sim.model.hook_runs().last().ok_or_else(|| Error::refused("no hook ran"))
}

impl Task {
    fn of(run: &HookRun, id: u32) -> Task {
        let (code, failure) = match &run.exit {
            Exit::Success => (0, run.failure.clone()),
            Exit::Code(code) => {
                (*code, Some(run.failure.clone().unwrap_or_else(|| format!("exit status {code}"))))
            }
            Exit::Killed(_) => (-1, Some("exit status -1".to_owned())),
            Exit::Refused(_) => (1, Some("committing requested changes failed".to_owned())),
        };
        let mut results = Map::new();
        for (key, value) in &run.results {
            insert(&mut results, key, value);
        }
        for (stream, text) in [("stdout", &run.stdout), ("stderr", &run.stderr)] {
            if !text.is_empty() {
                results.insert(stream.to_owned(), Value::from(text.as_str()));
            }
        }
        Task { unit: run.unit.clone(), id, results, code, failure }
    }

    fn value(&self) -> Value {
        let mut results = self.results.clone();
        results.insert("return-code".to_owned(), Value::from(self.code));
        let status = if self.failure.is_some() { "failed" } else { "completed" };
        let mut value = json!({"id": self.id.to_string(), "results": results, "status": status, "unit": self.unit});
        if let Some(message) = &self.failure {
            value["message"] = Value::from(message.as_str());
        }
        value
    }

    /// The result as plain text, with the task's name if there are several tasks.
    fn text(&self, several: bool) -> String {
        let mut text =
            if several { format!("{}: (task {})\n", self.unit, self.id) } else { String::new() };
        if let Some(message) = &self.failure {
            let _ = writeln!(text, "Action id {} failed: {message}", self.id);
        }
        if !self.results.is_empty() {
            text.push_str(&report::yaml(&self.results));
        }
        text
    }
}

/// Inserts a value by its path: `a.b` is the key `b` in the map `a`.
fn insert(results: &mut Map<String, Value>, key: &str, value: &str) {
    let Some((first, rest)) = key.split_once('.') else {
        results.insert(key.to_owned(), Value::from(value));
        return;
    };
    let inner = results.entry(first).or_insert_with(|| json!({}));
    if let Some(inner) = inner.as_object_mut() {
        insert(inner, rest, value);
    }
}

fn written(tasks: &[Task], format: Format) -> String {
    let all = Ordered(tasks.iter().map(|task| (task.unit.clone(), task.value())).collect());
    if format == Format::Json { report::json(&all) } else { report::yaml(&all) }
}

/// Fails the command if a task failed, after printing the results.
fn ended(tasks: &[Task], stdout: String, mut stderr: String) -> Answer {
    let failed: Vec<&Task> = tasks.iter().filter(|task| task.failure.is_some()).collect();
    if failed.is_empty() {
        return Answer { stdout, stderr, code: 0 };
    }
    let plural = if failed.len() == 1 { "" } else { "s" };
    let _ = writeln!(stderr, "ERROR the following task{plural} failed:");
    for task in failed {
        let _ = writeln!(stderr, " - id {:?} with return code {}", task.id.to_string(), task.code);
    }
    let _ = writeln!(stderr, "\nuse 'juju show-task' to inspect the failure{plural}");
    Answer { stdout, stderr, code: 1 }
}
