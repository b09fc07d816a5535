//! Commands about workload containers.

use std::process::{Command, Stdio};

use super::Arguments;
use crate::Sim;
use crate::container::{Container, Pod};
use crate::error::{Doing as _, Error, Result};
use crate::model::UnitName;

impl Sim {
    /// `restart-container UNIT [CONTAINER]`: as the kubelet does when the first process of a
    /// container ended.
    pub(crate) fn restart_container(&mut self, args: Arguments) -> Result<String> {
        let (pod, container) = self.pod(args)?;
        pod.stop(container.as_deref());
        pod.start(container.as_deref())?;
        Ok(String::new())
    }

    /// `stop-container UNIT [CONTAINER]`
    pub(crate) fn stop_container(&mut self, args: Arguments) -> Result<String> {
        let (pod, container) = self.pod(args)?;
        pod.stop(container.as_deref());
        Ok(String::new())
    }

    /// `start-container UNIT [CONTAINER]`
    pub(crate) fn start_container(&mut self, args: Arguments) -> Result<String> {
        let (pod, container) = self.pod(args)?;
        pod.start(container.as_deref())?;
        Ok(String::new())
    }

    /// `limit UNIT CPUS|none`
    pub(crate) fn limit(&mut self, mut args: Arguments) -> Result<String> {
        let unit: UnitName = args.next("a unit")?.parse()?;
        let text = args.next("a number of CPUs or none")?;
        args.end()?;
        let not_a_number =
            |_| Error::refused(format!("expected a number of CPUs or none, got {text:?}"));
        let cpus = (text != "none").then(|| text.parse().map_err(not_a_number)).transpose()?;
        for container in &mut self.pod_of(&unit)?.containers {
            container.cpus = cpus;
        }
        Ok(String::new())
    }

    /// `ssh UNIT [--container NAME] -- COMMAND…`
    pub(crate) fn ssh(&mut self, args: Arguments) -> Result<String> {
        let (mut before, command) = args.split_at("--");
        let name = before.option("--container")?;
        let unit: UnitName = before.next("a unit")?.parse()?;
        before.end()?;
        let pod = self.pod_of(&unit)?;
        let found =
            pod.containers.iter().find(|one| name.as_ref().is_none_or(|name| one.name == *name));
        let pid = found.and_then(Container::pid);
        let pid =
            pid.ok_or_else(|| Error::refused(format!("{unit} has no such running container")))?;
        let mut nsenter = Command::new("nsenter");
        nsenter.arg("--target").arg(pid.to_string()).args(["--all", "--root", "--wd", "--"]);
        nsenter.args(["env", "PEBBLE_SOCKET=/charm/container/pebble.socket"]).args(command);
        let output = nsenter.stdin(Stdio::null()).output().doing(|| "run nsenter".to_owned())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(text);
        }
        Err(Error::refused(format!(
            "{text}{}{}",
            String::from_utf8_lossy(&output.stderr),
            output.status
        )))
    }

    /// The pod of the unit named next, and the container that may be named after the unit.
    fn pod(&mut self, mut args: Arguments) -> Result<(&mut Pod, Option<String>)> {
        let unit: UnitName = args.next("a unit")?.parse()?;
        let container = args.maybe();
        args.end()?;
        let pod = self.pod_of(&unit)?;
        if let Some(name) = &container
            && !pod.containers.iter().any(|one| one.name == *name)
        {
            return Err(Error::refused(format!("{unit} has no container {name:?}")));
        }
        Ok((pod, container))
    }

    fn pod_of(&mut self, unit: &UnitName) -> Result<&mut Pod> {
        let pod = self.model.unit_mut(unit)?.pod.as_mut();
        pod.ok_or_else(|| {
            Error::refused(format!("{unit} has no workload container: start with --containers"))
        })
    }
}
