//! What each of Juju's commands does to the model.

use clap::Parser as _;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use serde_json::json;

use super::cli::{Command, DebugLog, Deploy, Juju, Kubectl};
use super::journal::Filter;
use super::serve::Front;
use super::{Answer, Call, Outcome, charms, config, tasks, wait};
use crate::error::{Error, Result};
use crate::model::UnitName;
use crate::report::{self, ApplicationInfo, Format, Ordered, Status, UnitInfo};
use crate::tables::Table;

impl Front {
    /// Runs a command, or returns that it has to wait.
    pub(super) fn attempt(&mut self, call: &Call) -> Outcome {
        let juju = match Juju::try_parse_from(&call.args) {
            Ok(juju) => juju,
            Err(error) => {
                if let (ErrorKind::UnknownArgument, Some(ContextValue::String(option))) =
                    (error.kind(), error.get(ContextKind::InvalidArg))
                    && option.starts_with('-')
                {
                    let text = format!("option provided but not defined: {option}");
                    return Answer::error(&text, 2).into();
                }
                let text = error.render().to_string();
                return Outcome::Done(if error.use_stderr() {
                    Answer {
                        stderr: text.replacen("error: ", "ERROR ", 1),
                        code: 2,
                        ..Answer::default()
                    }
                } else {
                    Answer::out(text)
                });
            }
        };
        let done = self
            .in_this_model(juju.model.as_deref())
            .and_then(|()| self.command(juju.command, call));
        done.unwrap_or_else(|error| Answer::error(error.to_string().trim_end(), 1).into())
    }

    /// Checks the model's name: `dev`, `admin/dev` or `jujusim:admin/dev`.
    fn in_this_model(&self, model: Option<&str>) -> Result<()> {
        let Some(text) = model else { return Ok(()) };
        let name = text.strip_prefix("jujusim:").unwrap_or(text);
        let name = name.strip_prefix("admin/").unwrap_or(name);
        if name == self.sim.model.name {
            return Ok(());
        }
        Err(Error::refused(format!("model jujusim:admin/{name} not found")))
    }

    fn command(&mut self, command: Command, call: &Call) -> Result<Outcome> {
        let answer = match command {
            Command::Deploy(deploy) => self.deploy(&deploy, call)?,
            Command::AddUnit { app, num_units } => {
                self.execute("add-unit", [app, "-n".into(), num_units.to_string()])?
            }
            Command::RemoveUnit { app, num_units, no_prompt: _ } => {
                self.remove_unit(&app, num_units)?
            }
            Command::ScaleApplication { app, scale } => {
                self.execute("scale-application", [app.clone(), scale.to_string()])?;
                Answer::message(format!("{app} scaled to {scale} units"))
            }
            Command::RemoveApplication { apps, no_prompt: _, force } => {
                self.remove_applications(apps, force)?
            }
            Command::Integrate { one, other } => self.execute("integrate", [one, other])?,
            Command::RemoveRelation { one, other, force } => {
                let force = force.then(|| "--force".to_owned());
                self.execute(
                    "remove-relation",
                    [one, other].into_iter().chain(force).collect::<Vec<_>>(),
                )?
            }
            Command::Config(asked) => {
                let trusted = self.trusted.contains(&asked.app);
                config::config(&mut self.sim, &asked, call, trusted)?
            }
            Command::Run(run) => return tasks::run(&mut self.sim, &run),
            Command::Exec(exec) => return tasks::exec(&mut self.sim, &exec),
            Command::Ssh { container, unit, command } => {
                return tasks::ssh(&self.sim.model, &container, &unit, &command);
            }
            Command::Status { apps, format, relations, watch } => {
                let answer = self.status(&apps, format, relations);
                match watch {
                    Some(every) => return Ok(Outcome::Repeat { answer, every }),
                    None => answer,
                }
            }
            Command::ShowApplication { apps, format } => self.show_applications(&apps, format)?,
            Command::ShowUnit { units, endpoint, format } => {
                self.show_units(&units, endpoint.as_deref(), format)?
            }
            Command::DebugLog(asked) => return Ok(self.debug_log(asked)),
            Command::WaitFor { what } => return wait::wait_for(&self.sim.model, &what),
            Command::Refresh { app, path } => {
                let path = path.ok_or_else(|| {
                    Error::NotModelled("refresh from Charmhub: use --path".into())
                })?;
                // Juju takes only these for paths (`isValidCharmOrBundlePath`).
                let text = path.to_string_lossy();
                if !text.starts_with(['.', '/']) {
                    return Err(Error::refused(format!(
                        "path {text:?} can not be a relative path"
                    )));
                }
                let dir = charms::local(&path, call, &self.sim.model)?;
                self.execute("refresh", [app.clone(), "--path".into(), dir.display().to_string()])?;
                Answer::message(format!(
                    "Added local charm {:?} to the model",
                    self.charm_name(&app)?
                ))
            }
            Command::Trust { app, remove, scope } => self.trust(app, remove, scope.as_deref())?,
            Command::Resolve { unit, no_retry } => {
                let no_retry = no_retry.then(|| "--no-retry".to_owned());
                self.execute("resolve", [unit].into_iter().chain(no_retry).collect::<Vec<_>>())?
            }
            Command::Models { format } => self.models(format),
            Command::Switch { model } => {
                self.in_this_model(model.as_deref())?;
                let name = format!("jujusim:admin/{}", self.sim.model.name);
                match model {
                    Some(_) => Answer::message(format!("{name} (no change)")),
                    None => Answer::out(name + "\n"),
                }
            }
            Command::Whoami => {
                let model = &self.sim.model.name;
                Answer::out(format!(
                    "Controller:  jujusim\nModel:       {model}\nUser:        admin\n"
                ))
            }
            Command::Version => Answer::out(format!("{}-ubuntu-amd64\n", self.sim.model.version)),
            Command::Kubectl(Kubectl::Delete { kind: _, pod, namespace, ignore_not_found }) => {
                self.in_this_model(Some(&namespace))?;
                self.delete_pod(&pod, ignore_not_found)?
            }
            Command::Other(args) => {
                Answer::error(&format!("jujusim's juju does not know {:?}", args.join(" ")), 2)
            }
        };
        Ok(answer.into())
    }

    /// Runs a command of the simulator, and ignores its output.
    fn execute(
        &mut self,
        name: &str,
        arguments: impl IntoIterator<Item = String, IntoIter: DoubleEndedIterator>,
    ) -> Result<Answer> {
        self.sim.run_command(name, arguments).map(Answer::out)
    }

    fn charm_name(&self, app: &str) -> Result<String> {
        Ok(self.sim.model.app(app)?.charm().name.clone())
    }

    fn deploy(&mut self, deploy: &Deploy, call: &Call) -> Result<Answer> {
        let (charm, kind, name) = match charms::find(&deploy.charm, call, &self.sim.model)? {
            charms::Source::Local(dir) => (dir.display().to_string(), "local", deploy.name.clone()),
            charms::Source::Charmhub { actor } => {
                let name = deploy.name.as_ref().unwrap_or(&deploy.charm);
                (actor.to_owned(), "charm-hub", Some(name.clone()))
            }
        };
        let mut args = vec![charm.clone()];
        args.extend(name.clone());
        args.extend(["-n".to_owned(), deploy.num_units.to_string()]);
        for setting in &deploy.config {
            let pairs = match (setting.contains('='), name.as_deref()) {
                (true, _) => vec![config::from_here(setting, call)],
                (false, Some(name)) => config::from_file(&call.dir.join(setting), name)?,
                (false, None) => {
                    return Err(Error::NotModelled("deploy --config FILE without a name".into()));
                }
            };
            args.extend(pairs.into_iter().flat_map(|pair| ["--config".to_owned(), pair]));
        }
        let before: Vec<String> = self.sim.model.apps.keys().cloned().collect();
        self.execute("deploy", args)?;
        let made = self
            .sim
            .model
            .apps
            .keys()
            .find(|name| !before.contains(name))
            .cloned()
            .unwrap_or_default();
        let charm = self.charm_name(&made)?;
        if deploy.trust {
            self.trusted.insert(made.clone());
        }
        let located = if kind == "local" {
            format!(
                "Located local charm {charm:?}, revision 0\nDeploying {made:?} from local charm {charm:?}, revision 0"
            )
        } else {
            format!("Deployed {made:?} from charm-hub charm {charm:?}, revision 0")
        };
        Ok(Answer::message(located))
    }

    /// Removes the highest ordinals: on Kubernetes Juju removes units only by number.
    fn remove_unit(&mut self, app: &str, count: Option<usize>) -> Result<Answer> {
        if app.parse::<UnitName>().is_ok() {
            return Err(Error::refused(
                "k8s models do not support removing named units.\nInstead specify an application with --num-units.",
            ));
        }
        let count = count.ok_or_else(|| {
            Error::refused("specify the number of units (> 0) to remove using --num-units")
        })?;
        self.execute("remove-unit", [app.to_owned(), "-n".to_owned(), count.to_string()])?;
        let left = self
            .sim
            .model
            .units
            .iter()
            .filter(|(name, unit)| name.app == app && !unit.dying)
            .count();
        Ok(Answer::message(format!("scaling down to {left} units")))
    }

    fn remove_applications(&mut self, apps: Vec<String>, force: bool) -> Result<Answer> {
        let mut said = Vec::new();
        for app in apps {
            said.push(format!("will remove application {app}"));
            let units = self.sim.model.units_of(&app);
            said.extend(units.iter().map(|unit| format!("- will remove unit {unit}")));
            self.trusted.remove(&app);
            let args = std::iter::once(app).chain(force.then(|| "--force".to_owned()));
            self.execute("remove-application", args.collect::<Vec<_>>())?;
        }
        Ok(Answer::message(said.join("\n")))
    }

    /// Replaces a unit's pod. The new pod of a leader comes too late to keep the lease: on a real
    /// cluster it may come in time.
    fn delete_pod(&mut self, pod: &str, ignore_not_found: bool) -> Result<Answer> {
        let model = &self.sim.model;
        let Some(unit) = model.units.keys().find(|unit| unit.dashed() == pod).cloned() else {
            let missing = || Err(Error::refused(format!("pods {pod:?} not found")));
            return if ignore_not_found { Ok(Answer::default()) } else { missing() };
        };
        let leads = model.leader(&unit.app) == Some(&unit);
        let next = model.units_of(&unit.app).into_iter().find(|other| leads && *other != unit);
        self.execute("replace-pod", [unit.to_string()])?;
        if let Some(next) = next {
            self.execute("leader", [next.to_string()])?;
        }
        Ok(Answer::out(format!("pod {pod:?} deleted\n")))
    }

    fn trust(&mut self, app: String, remove: bool, scope: Option<&str>) -> Result<Answer> {
        self.sim.model.app(&app)?;
        if remove {
            self.trusted.remove(&app);
        } else if scope == Some("cluster") {
            self.trusted.insert(app);
        } else {
            return Err(Error::refused("'juju trust' currently requires --scope=cluster"));
        }
        Ok(Answer::default())
    }

    fn status(&self, names: &[String], format: Format, relations: bool) -> Answer {
        let mut status = Status::of(&self.sim.model);
        if !names.is_empty() {
            status.select(names);
        }
        let stderr = match names {
            [_, ..] if !status.applications.is_empty() => "",
            [] => "",
            [_] => "Nothing matched specified filter.\n",
            _ => "Nothing matched specified filters.\n",
        };
        let stdout = match format {
            Format::Json => report::json(&status),
            Format::Yaml => report::yaml(&status),
            Format::Tabular => {
                status.tables(relations).iter().map(Table::text).collect::<Vec<_>>().join("\n")
            }
        };
        Answer { stdout, stderr: stderr.to_owned(), code: 0 }
    }

    fn show_applications(&self, names: &[String], format: Format) -> Result<Answer> {
        let of = |name: &String| Ok((name.clone(), ApplicationInfo::of(&self.sim.model, name)?));
        let found = Ordered(names.iter().map(of).collect::<Result<Vec<_>>>()?);
        Ok(Answer::out(match format {
            Format::Json => report::json(&found),
            _ => report::yaml(&found),
        }))
    }

    fn show_units(
        &self,
        units: &[String],
        endpoint: Option<&str>,
        format: Format,
    ) -> Result<Answer> {
        let mut found = Vec::new();
        for name in units {
            let unit: UnitName = name.parse()?;
            found.push((name.clone(), UnitInfo::of(&self.sim.model, &unit, endpoint)?));
        }
        let found = Ordered(found);
        Ok(Answer::out(if format == Format::Json {
            report::json(&found)
        } else {
            report::yaml(&found)
        }))
    }

    fn debug_log(&self, asked: DebugLog) -> Outcome {
        let DebugLog { include, limit, level, tail, .. } = asked;
        let filter = Filter { include, level };
        if tail {
            return Outcome::Follow(filter);
        }
        let lines: Vec<String> = self.journal.since(0, &filter).collect();
        Answer::out(lines[lines.len().saturating_sub(limit)..].concat()).into()
    }

    fn models(&self, format: Format) -> Answer {
        let model = &self.sim.model;
        let listed = json!({
            "models": [{
                "name": format!("admin/{}", model.name),
                "short-name": model.name,
                "model-uuid": model.uuid,
                "model-type": "caas",
                "controller-name": "jujusim",
                "is-controller": false,
                "owner": "admin",
                "cloud": "kubernetes",
                "type": "kubernetes",
                "life": "alive",
                "status": {"current": "available"},
                "access": "admin",
                "agent-version": model.version.to_string(),
            }],
            "current-model": model.name,
        });
        Answer::out(match format {
            Format::Json => report::json(&listed),
            Format::Yaml => report::yaml(&listed),
            Format::Tabular => {
                let mut table =
                    Table::new(&["Model", "Cloud/Region", "Type", "Status", "Units", "Access"]);
                let units = model.units.len().to_string();
                let row = [
                    &format!("{}*", model.name),
                    "kubernetes",
                    "kubernetes",
                    "available",
                    &units,
                    "admin",
                ];
                table.push(row.map(str::to_owned).to_vec());
                format!("Controller: jujusim\n\n{}", table.text())
            }
        })
    }
}
