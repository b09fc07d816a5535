//! Commands that show the model, as tables and YAML.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Group, Uid, User};

use super::Arguments;
use crate::Sim;
use crate::error::{Doing as _, Error, Result};
use crate::model::UnitName;
use crate::report::{self, Format, Hidden, Status, UnitInfo};
use crate::server::Sql;
use crate::tables::Table;
use crate::transcript::masked;

impl Sim {
    /// `status [--relations] [--format F]`: the model as `juju status` shows it.
    pub(crate) fn status(&mut self, mut args: Arguments) -> Result<String> {
        let relations = args.flag("--relations");
        let format =
            args.option("--format")?.map_or(Ok(Format::Tabular), |text| Format::parse(&text))?;
        args.end()?;
        let status = Status::of(&self.model);
        Ok(match format {
            Format::Json => report::json(&status),
            Format::Yaml => report::yaml(&status),
            Format::Tabular => {
                let mut tables = status.tables(relations);
                for table in &mut tables {
                    let passwords = self.model.passwords();
                    table.rewrite(|cell| self.cleaned_of(&passwords, cell));
                }
                tables.iter().map(Table::text).collect::<Vec<_>>().join("\n")
            }
        })
    }

    /// `show-unit UNIT [--endpoint NAME] [--format F]`: the unit as `juju show-unit` shows it, with
    /// its relations or only those at one endpoint. Then, in YAML, what Juju omits: the charm's
    /// state and the own application's databags.
    pub(crate) fn show_unit(&mut self, mut args: Arguments) -> Result<String> {
        let endpoint = args.option("--endpoint")?;
        let format =
            args.option("--format")?.map_or(Ok(Format::Yaml), |text| Format::parse(&text))?;
        let name: UnitName = args.next("a unit")?.parse()?;
        args.end()?;
        let endpoint = endpoint.as_deref();
        let info =
            BTreeMap::from([(name.to_string(), UnitInfo::of(&self.model, &name, endpoint)?)]);
        if format == Format::Json {
            return Ok(report::json(&info));
        }
        let hidden = Hidden::of(&self.model, &name, endpoint)?;
        let below = BTreeMap::from([("simulator", &hidden)]);
        let below = if hidden.is_empty() { String::new() } else { report::yaml(&below) };
        Ok(report::yaml(&info) + &below)
    }

    /// `show-secret LABEL`: without the secret's values.
    pub(crate) fn show_secret(&mut self, mut args: Arguments) -> Result<String> {
        let label = args.next("a label or id")?;
        args.end()?;
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
            let label =
                consumer.label.as_ref().map(|label| format!(" as {label}")).unwrap_or_default();
            let _ = writeln!(text, "  read by: {unit} at revision {}{label}", consumer.pin);
        }
        Ok(text)
    }

    /// `hooks [UNIT] [--last N] [--juju-time] [--sql] [--pebble] [--cost]`: the hooks that ran, how
    /// they ended, and their calls by tool. With `--juju-time` also what these calls take on a real
    /// Juju, with `--sql` their SQL, with `--pebble` their requests to Pebble, with `--cost`
    /// wall-clock time, CPU time and memory, which change from run to run.
    pub(crate) fn hooks(&mut self, mut args: Arguments) -> Result<String> {
        let (cost, sql, pebble) = (args.flag("--cost"), args.flag("--sql"), args.flag("--pebble"));
        let juju_time = args.flag("--juju-time");
        if cost && !self.model.measures {
            return Err(Error::refused("this model does not measure its hooks"));
        }
        let last = args.count("--last", usize::MAX)?;
        let unit = args.maybe();
        args.end()?;
        let wanted: Vec<_> = self
            .model
            .runs
            .iter()
            .filter(|run| unit.as_ref().is_none_or(|unit| *unit == run.unit))
            .collect();
        let mut rows = Vec::new();
        for run in wanted.iter().skip(wanted.len().saturating_sub(last)) {
            let counts: Vec<String> =
                run.tool_counts().iter().map(|(tool, count)| format!("{tool} {count}")).collect();
            let mut row =
                vec![run.unit.clone(), run.hook.clone(), run.exit.to_string(), counts.join(", ")];
            if juju_time {
                row.insert(3, format!("Juju {} ms", run.juju_time().as_millis()));
            }
            if sql {
                row.insert(
                    3,
                    if run.sql == Sql::default() { String::new() } else { run.sql.to_string() },
                );
            }
            if pebble {
                row.insert(3, format!("Pebble {}", run.pebble));
            }
            if cost {
                let (wall, cpu) = (run.wall.as_secs_f64() * 1e3, run.cpu.as_secs_f64() * 1e3);
                row.insert(3, format!("{wall:.1} ms, CPU {cpu:.1} ms, {} KiB", run.max_rss / 1024));
            }
            rows.push(row);
        }
        Ok(self.table(rows))
    }

    /// `log UNIT [--last N]`: the log of the unit's last hooks, by default of one.
    pub(crate) fn log(&mut self, mut args: Arguments) -> Result<String> {
        let last = args.count("--last", 1)?;
        let unit = args.next("a unit")?;
        args.end()?;
        let runs: Vec<_> = self.model.runs.iter().filter(|run| run.unit == unit).collect();
        let mut text = String::new();
        for run in runs.iter().skip(runs.len().saturating_sub(last)) {
            let _ = writeln!(text, "{}: {}", run.hook, run.exit);
            let mut lines: Vec<&String> = run.log.iter().collect();
            if self.stable.is_some() {
                // Sort by stream: the order between standard output, standard error and `juju-log`
                // varies.
                let streams = ["WARNING", "DEBUG"];
                let stream =
                    |line: &&String| streams.iter().position(|level| line.starts_with(level));
                lines.sort_by_key(|line| stream(line).unwrap_or(streams.len()));
            }
            for line in lines {
                let _ = writeln!(text, "  {line}");
            }
        }
        Ok(text)
    }

    /// `files UNIT`: the files under the unit's root, without the charm's own; in a container the
    /// files that were put there, with directories and groups.
    pub(crate) fn files(&mut self, mut args: Arguments) -> Result<String> {
        let unit: UnitName = args.next("a unit")?.parse()?;
        args.end()?;
        let root = self.model.workload(&unit)?;
        let is_contained = self.model.unit(&unit)?.pod.is_some();
        let tops = if is_contained { &IN_A_CONTAINER[..] } else { &[""] };
        let mut found = BTreeMap::new();
        for top in tops.iter().map(|top| root.join(top)).filter(|top| top.exists()) {
            walk(&top, &mut found)?;
        }
        let mut rows = Vec::new();
        for (path, metadata) in
            found.into_iter().filter(|(_, metadata)| is_contained || !metadata.is_dir())
        {
            let inside = path.strip_prefix(&root).unwrap_or(&path).display().to_string();
            // The volume directory itself belongs to the pod.
            if !inside.starts_with("var/lib/juju") && inside != "dev/shm" {
                let owner = if is_contained {
                    format!("{}:{}", user(metadata.uid()), group(metadata.gid()))
                } else {
                    user(metadata.uid())
                };
                let mode = format!("{:04o}", metadata.mode() & 0o7777);
                let size = self.size(&path, &metadata, &inside);
                let slash = if metadata.is_dir() { "/" } else { "" };
                rows.push(vec![format!("/{inside}{slash}"), mode, owner, size]);
            }
        }
        Ok(self.table(rows))
    }

    /// A file's size in bytes, with stable names for values that change from run to run; empty for
    /// a file that grows and for anything except a regular file.
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
    pub(crate) fn cat(&mut self, mut args: Arguments) -> Result<String> {
        let unit: UnitName = args.next("a unit")?.parse()?;
        let path = args.next("a path")?;
        args.end()?;
        let path = self.model.workload(&unit)?.join(path.trim_start_matches('/'));
        fs::read_to_string(&path).doing(|| format!("read {}", path.display()))
    }

    /// Formats a table after replacing values that change from run to run by stable names.
    pub(crate) fn table(&mut self, rows: Vec<Vec<String>>) -> String {
        let mut table = Table::of(rows);
        let passwords = self.model.passwords();
        table.rewrite(|cell| self.cleaned_of(&passwords, cell));
        table.text()
    }
}

/// Where a workload puts its files in a container, which otherwise is a whole system.
const IN_A_CONTAINER: [&str; 3] = ["var/lib/pgbouncer", "dev/shm", "charm/container/pgbouncer"];

/// Collects a path and everything below it.
fn walk(path: &Path, found: &mut BTreeMap<PathBuf, fs::Metadata>) -> Result<()> {
    // Skip files that are removed meanwhile.
    let Ok(metadata) = path.symlink_metadata() else { return Ok(()) };
    if metadata.is_dir() {
        for entry in fs::read_dir(path).doing(|| format!("read {}", path.display()))?.flatten() {
            walk(&entry.path(), found)?;
        }
    }
    found.insert(path.to_owned(), metadata);
    Ok(())
}

/// The user's name, or the number if the machine has no such user.
fn user(id: u32) -> String {
    let known = User::from_uid(Uid::from_raw(id)).ok().flatten();
    known.map_or_else(|| id.to_string(), |user| user.name)
}

fn group(id: u32) -> String {
    let known = Group::from_gid(Gid::from_raw(id)).ok().flatten();
    known.map_or_else(|| id.to_string(), |group| group.name)
}
