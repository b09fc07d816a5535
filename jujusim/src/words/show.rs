//! Words that look: tables and YAML for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::Words;
use crate::Sim;
use crate::error::{Doing as _, Error, Result};
use crate::model::{Bag, Stage, UnitName};
use crate::transcript::masked;

impl Sim {
    /// `status`: applications, units, relations.
    pub(crate) fn status(&mut self, words: Words) -> Result<String> {
        words.end()?;
        let mut rows = vec![["App", "Version", "Scale", "Message"].map(str::to_owned).to_vec()];
        for (name, app) in &self.model.apps {
            let message = app.status.as_ref().map(|status| format!("{}: {}", status.word, status.message));
            rows.push(vec![
                name.clone(),
                app.version.clone(),
                self.model.units_of(name).len().to_string(),
                message.unwrap_or_default(),
            ]);
        }
        let mut text = self.table(rows);
        text.push('\n');
        let mut rows = vec![["Unit", "Workload", "Agent", "Address", "Message"].map(str::to_owned).to_vec()];
        for (name, unit) in &self.model.units {
            let mark = if self.model.is_leader(name) { "*" } else { "" };
            let failed = unit.pending.as_ref().filter(|pending| pending.error);
            let (workload, message) = match failed {
                Some(pending) => (
                    "error".to_owned(),
                    format!("hook failed: {:?}", pending.event.name(&self.model, &name.app)),
                ),
                None => (unit.status.word.clone(), unit.status.message.clone()),
            };
            let busy = self.model.next_event(name).is_some();
            let agent = if unit.stage == Stage::Fresh {
                "allocating"
            } else if busy {
                "executing"
            } else {
                "idle"
            };
            rows.push(vec![
                format!("{name}{mark}"),
                workload,
                agent.to_owned(),
                unit.address.to_string(),
                message,
            ]);
        }
        text.push_str(&self.table(rows));
        Ok(text)
    }

    /// `show-unit UNIT [--endpoint NAME]`: the unit's relations, or those at one endpoint, with their bags.
    pub(crate) fn show_unit(&mut self, mut words: Words) -> Result<String> {
        let endpoint = words.option("--endpoint")?;
        let name: UnitName = words.next("a unit")?.parse()?;
        words.end()?;
        let unit = self.model.unit(&name)?;
        let mut text =
            format!("{name}:\n  leader: {}\n  address: {}\n", self.model.is_leader(&name), unit.address);
        if !unit.ports.is_empty() {
            let ports: Vec<String> = unit.ports.iter().map(ToString::to_string).collect();
            let _ = writeln!(text, "  opened-ports: [{}]", ports.join(", "));
        }
        text.push_str("  relation-info:\n");
        for (id, relation) in &self.model.relations {
            let (Some(end), Some(remote)) = (relation.end(&name.app), relation.remote(&name.app)) else {
                continue;
            };
            if endpoint.as_ref().is_some_and(|endpoint| *endpoint != end.endpoint) {
                continue;
            }
            let _ = writeln!(
                text,
                "  - relation-id: {id}\n    endpoint: {}\n    related-endpoint: {}",
                end.endpoint, remote.endpoint
            );
            if relation.dying {
                text.push_str("    life: dying\n");
            }
            for (app, settings) in &relation.apps {
                bag_text(&mut text, app, &settings.values);
            }
            for (unit, settings) in &relation.units {
                let left = if relation.scope.contains(unit) { "" } else { " (left)" };
                bag_text(&mut text, &format!("{unit}{left}"), &settings.values);
            }
        }
        if !unit.state.is_empty() {
            text.push_str("  state:\n");
            for (key, value) in &unit.state {
                let _ = writeln!(text, "    {key}: {value}");
            }
        }
        Ok(text)
    }

    /// `show-secret LABEL`: without its values.
    pub(crate) fn show_secret(&mut self, mut words: Words) -> Result<String> {
        let label = words.next("a label or id")?;
        words.end()?;
        let id = self
            .model
            .find_secret(&label)
            .ok_or_else(|| Error::refused(format!("secret {label:?} not found")))?;
        let Some(secret) = self.model.secrets.get(&id) else { return Ok(String::new()) };
        let mut text = format!(
            "secret:{id}:\n  owner: {}\n  label: {}\n  revision: {}\n",
            secret.owner, secret.label, secret.latest
        );
        if secret.revisions.len() > 1 {
            let kept: Vec<String> = secret.revisions.keys().map(ToString::to_string).collect();
            let _ = writeln!(text, "  revisions: [{}]", kept.join(", "));
        }
        text.push_str("  content:\n");
        for (field, value) in secret.content() {
            let _ = writeln!(text, "    {field}: {}", masked(value));
        }
        for (target, relation) in &secret.grants {
            let relation = relation.and_then(|id| self.model.relations.get(&id));
            let key = relation.map(crate::model::Relation::key).unwrap_or_default();
            let _ = writeln!(text, "  granted: {target} ({key})");
        }
        for (unit, consumer) in &secret.consumers {
            let label = consumer.label.as_ref().map(|label| format!(" as {label}")).unwrap_or_default();
            let _ = writeln!(text, "  read by: {unit} at revision {}{label}", consumer.pin);
        }
        Ok(text)
    }

    /// `hooks [UNIT] [--last N] [--cost]`: what ran, how it ended, its calls by tool; with `--cost` also what changes from run
    /// to run: time from start to end, CPU time, memory.
    pub(crate) fn hooks(&mut self, mut words: Words) -> Result<String> {
        let cost = words.flag("--cost");
        let last = words.count("--last", usize::MAX)?;
        let unit = words.maybe();
        words.end()?;
        let wanted: Vec<_> =
            self.model.runs.iter().filter(|run| unit.as_ref().is_none_or(|unit| *unit == run.unit)).collect();
        let mut rows = Vec::new();
        for run in wanted.iter().skip(wanted.len().saturating_sub(last)) {
            let counts: Vec<String> =
                run.tool_counts().iter().map(|(tool, count)| format!("{tool} {count}")).collect();
            let mut row = vec![run.unit.clone(), run.hook.clone(), run.exit.to_string(), counts.join(", ")];
            if cost {
                let (wall, cpu) = (run.wall.as_secs_f64() * 1e3, run.cpu.as_secs_f64() * 1e3);
                row.insert(3, format!("{wall:.1} ms, CPU {cpu:.1} ms, {} KiB", run.max_rss / 1024));
            }
            rows.push(row);
        }
        Ok(self.table(rows))
    }

    /// `log UNIT [--last N]`: the log of its last hooks, one by default.
    pub(crate) fn log(&mut self, mut words: Words) -> Result<String> {
        let last = words.count("--last", 1)?;
        let unit = words.next("a unit")?;
        words.end()?;
        let runs: Vec<_> = self.model.runs.iter().filter(|run| run.unit == unit).collect();
        let mut text = String::new();
        for run in runs.iter().skip(runs.len().saturating_sub(last)) {
            let _ = writeln!(text, "{}: {}", run.hook, run.exit);
            for line in &run.log {
                let _ = writeln!(text, "  {line}");
            }
        }
        Ok(text)
    }

    /// `files UNIT`: what lies under its root, without the charm's own files.
    pub(crate) fn files(&mut self, mut words: Words) -> Result<String> {
        let unit: UnitName = words.next("a unit")?.parse()?;
        words.end()?;
        let root = self.model.unit(&unit)?.root.clone();
        let mut found = BTreeMap::new();
        walk(&root, &mut found)?;
        let mut rows = Vec::new();
        for (path, metadata) in found {
            let inside = path.strip_prefix(&root).unwrap_or(&path).display().to_string();
            if !inside.starts_with("var/lib/juju") {
                let owner =
                    nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(metadata.uid())).ok().flatten();
                let owner = owner.map_or_else(|| metadata.uid().to_string(), |user| user.name);
                let mode = format!("{:04o}", metadata.mode() & 0o7777);
                let size = self.size(&path, &metadata, &inside);
                rows.push(vec![format!("/{inside}"), mode, owner, size]);
            }
        }
        Ok(self.table(rows))
    }

    /// A file's size in bytes, with stable names for what changes from run to run; none for what grows or is no file.
    fn size(&mut self, path: &Path, metadata: &fs::Metadata, inside: &str) -> String {
        if !metadata.is_file() || inside.starts_with("var/log") || inside.ends_with("pid") {
            return String::new();
        }
        match fs::read_to_string(path) {
            Ok(text) if self.stable.is_some() => self.cleaned(&text).len().to_string(),
            _ => metadata.len().to_string(),
        }
    }

    /// `cat UNIT PATH`
    pub(crate) fn cat(&mut self, mut words: Words) -> Result<String> {
        let unit: UnitName = words.next("a unit")?.parse()?;
        let path = words.next("a path")?;
        words.end()?;
        let path = self.model.unit(&unit)?.root.join(path.trim_start_matches('/'));
        fs::read_to_string(&path).doing(|| format!("read {}", path.display()))
    }

    /// Columns of equal width, after volatile names became stable ones.
    pub(crate) fn table(&mut self, rows: Vec<Vec<String>>) -> String {
        let rows: Vec<Vec<String>> =
            rows.into_iter().map(|row| row.iter().map(|cell| self.cleaned(cell)).collect()).collect();
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &rows {
            let cells: Vec<String> =
                row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            let _ = writeln!(text, "{}", cells.join("  ").trim_end());
        }
        text
    }
}

fn bag_text(text: &mut String, name: &str, bag: &Bag) {
    if bag.is_empty() {
        let _ = writeln!(text, "    {name}: {{}}");
        return;
    }
    let _ = writeln!(text, "    {name}:");
    for (key, value) in bag {
        let quoted = serde_yaml::to_string(value).unwrap_or_default();
        let _ = writeln!(text, "      {key}: {}", quoted.trim_end().replace('\n', "\n      "));
    }
}

fn walk(dir: &Path, found: &mut BTreeMap<std::path::PathBuf, fs::Metadata>) -> Result<()> {
    for entry in fs::read_dir(dir).doing(|| format!("read {}", dir.display()))?.flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            walk(&entry.path(), found)?;
        } else {
            found.insert(entry.path(), metadata);
        }
    }
    Ok(())
}
