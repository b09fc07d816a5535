//! Commands that inject faults. Faults of a unit are for its next hook, whether they occur or not.

use std::collections::BTreeSet;
use std::path::Path;

use super::Arguments;
use crate::Sim;
use crate::commit::Refused;
use crate::error::{Error, Result};
use crate::fault::{Fault, HookPoint, Outcome, Syscall, ToolFault};
use crate::model::{Held, UnitName};

impl Sim {
    /// `kill UNIT at TOOL [N]`, `kill UNIT at syscall NAME [N] [--no-follow] [--path FILE]`
    pub(crate) fn kill(&mut self, mut args: Arguments) -> Result<String> {
        let (follow, path) = (!args.flag("--no-follow"), args.option("--path")?);
        let unit: UnitName = args.next("a unit")?.parse()?;
        if args.next("`at`")? != "at" {
            return Err(Error::refused("kill UNIT at TOOL [N], or kill UNIT at syscall NAME [N]"));
        }
        let tool = args.next("a hook tool, or syscall")?;
        if tool == "syscall" {
            let name = args.next("a system call")?;
            let (nth, outcome) = (args.nth()?, Outcome::Kill);
            args.end()?;
            let syscall = Syscall { name, nth, onwards: false, path, follow, outcome };
            return self.arm_syscall(&unit, Fault::Syscall(syscall));
        }
        self.arm_tool(&unit, tool, args, ToolFault::Kill)
    }

    /// `fail UNIT TOOL [N] [--message TEXT]`,
    /// `fail UNIT syscall NAME [N] [--errno ENOSPC] [--onwards] [--no-follow] [--path FILE]`
    pub(crate) fn fail(&mut self, mut args: Arguments) -> Result<String> {
        let message = args.option("--message")?.unwrap_or_else(|| "cannot do this now".to_owned());
        let errno = args.option("--errno")?.unwrap_or_else(|| "EIO".to_owned());
        let (onwards, follow) = (args.flag("--onwards"), !args.flag("--no-follow"));
        let path = args.option("--path")?;
        let unit: UnitName = args.next("a unit")?.parse()?;
        let tool = args.next("a hook tool, or syscall")?;
        if tool == "syscall" {
            let name = args.next("a system call")?;
            let (nth, outcome) = (args.nth()?, Outcome::Error(errno));
            args.end()?;
            let syscall = Syscall { name, nth, onwards, path, follow, outcome };
            return self.arm_syscall(&unit, Fault::Syscall(syscall));
        }
        self.arm_tool(&unit, tool, args, ToolFault::Fail(message))
    }

    /// `hang UNIT TOOL [N] [--for SECONDS]`
    pub(crate) fn hang(&mut self, mut args: Arguments) -> Result<String> {
        let seconds = args.option("--for")?;
        let not_seconds = |_| Error::refused("--for needs seconds");
        let seconds = seconds.map(|text| text.parse().map_err(not_seconds)).transpose()?;
        let unit: UnitName = args.next("a unit")?.parse()?;
        let tool = args.next("a hook tool")?;
        self.arm_tool(&unit, tool, args, ToolFault::Hang(seconds))
    }

    /// `answer UNIT TOOL [N] --stdout TEXT [--code N]`: a wrong answer; `\n` in the text is a
    /// newline.
    pub(crate) fn wrong_answer(&mut self, mut args: Arguments) -> Result<String> {
        let stdout = args.option("--stdout")?.unwrap_or_default().replace("\\n", "\n");
        let code = args.option("--code")?.map(|code| code.parse());
        let code =
            code.transpose().map_err(|_| Error::refused("--code needs a number"))?.unwrap_or(0);
        let unit: UnitName = args.next("a unit")?.parse()?;
        let tool = args.next("a hook tool")?;
        self.arm_tool(&unit, tool, args, ToolFault::Answer { stdout, code })
    }

    /// `at UNIT TOOL [N] do COMMAND…`, `at UNIT syscall NAME [N] [--no-follow] [--path FILE] do
    /// COMMAND…`, `at UNIT commit do COMMAND…`: runs a command during the unit's next hook.
    pub(crate) fn at(&mut self, args: Arguments) -> Result<String> {
        let (mut before, command) = args.split_at("do");
        let (follow, path) = (!before.flag("--no-follow"), before.option("--path")?);
        let unit: UnitName = before.next("a unit")?.parse()?;
        let tool = before.next("a hook tool, syscall, or commit")?;
        let at = match tool.as_str() {
            "commit" => HookPoint::Commit,
            "syscall" => {
                let (name, nth) = (before.next("a system call")?, before.nth()?);
                HookPoint::Syscall(Syscall {
                    name,
                    nth,
                    onwards: false,
                    path,
                    follow,
                    outcome: Outcome::Stop,
                })
            }
            _ => HookPoint::Tool { tool: self.known_tool(tool)?, nth: before.nth()? },
        };
        before.end()?;
        if command.is_empty() {
            return Err(Error::refused("at UNIT TOOL [N] do COMMAND…: expected a command"));
        }
        let fault = Fault::Command { at, command: Arguments::join(&command) };
        if fault.syscall().is_some() {
            self.arm_syscall(&unit, fault)
        } else {
            self.arm(&unit, fault)
        }
    }

    /// `fail-commit UNIT [--torn]`
    pub(crate) fn fail_commit(&mut self, mut args: Arguments) -> Result<String> {
        let refused = if args.flag("--torn") { Refused::Torn } else { Refused::Whole };
        let unit: UnitName = args.next("a unit")?.parse()?;
        args.end()?;
        self.arm(&unit, Fault::Commit(refused))
    }

    /// `twice UNIT`
    pub(crate) fn twice(&mut self, mut args: Arguments) -> Result<String> {
        let unit: UnitName = args.next("a unit")?.parse()?;
        args.end()?;
        self.arm(&unit, Fault::Twice)
    }

    /// `every-hook twice|torn|once`
    pub(crate) fn every_hook(&mut self, mut args: Arguments) -> Result<String> {
        let habit = args.next("twice, torn or once")?;
        args.end()?;
        match habit.as_str() {
            "twice" => self.model.permanent_faults.twice = true,
            "torn" => self.model.permanent_faults.torn = true,
            "once" => self.model.permanent_faults = crate::model::PermanentFaults::default(),
            other => {
                return Err(Error::refused(format!("expected twice, torn or once, got {other:?}")));
            }
        }
        Ok(String::new())
    }

    /// `seed N`: chooses where Juju's order is arbitrary; `seed none`: the first candidate is
    /// chosen.
    pub(crate) fn seed(&mut self, mut args: Arguments) -> Result<String> {
        let text = args.next("a number")?;
        args.end()?;
        let number =
            || text.parse().map_err(|_| Error::refused(format!("expected a number, got {text:?}")));
        self.model.seed = if text == "none" { None } else { Some(number()?) };
        Ok(String::new())
    }

    /// `first APP`: runs hooks of this application before those of others; `first none`: as before.
    pub(crate) fn first(&mut self, mut args: Arguments) -> Result<String> {
        let app = args.next("an application, or none")?;
        args.end()?;
        self.model.first = match app.as_str() {
            "none" => None,
            app => self.model.app(app).map(|_| Some(app.to_owned()))?,
        };
        Ok(String::new())
    }

    /// `hold UNIT ENDPOINT[:ID]`: withholds `-joined` and `-changed` of the relation until `release
    /// UNIT`.
    pub(crate) fn hold(&mut self, mut args: Arguments) -> Result<String> {
        let unit: UnitName = args.next("a unit")?.parse()?;
        let endpoint = args.next("an endpoint")?;
        args.end()?;
        let id = self.relation_at(&format!("{}:{endpoint}", unit.app))?;
        match &mut self.model.unit_mut(&unit)?.held {
            Held::Relations(held) => {
                held.insert(id);
            }
            Held::Everything => {}
        }
        Ok(String::new())
    }

    /// `lose secret-expired|none`: `secret-expired` reaches no unit, until `none`.
    pub(crate) fn lose(&mut self, mut args: Arguments) -> Result<String> {
        let what = args.next("secret-expired or none")?;
        args.end()?;
        self.model.loses_expiry = match what.as_str() {
            "secret-expired" => true,
            "none" => false,
            other => return Err(Error::NotModelled(format!("the loss of {other:?}"))),
        };
        Ok(String::new())
    }

    /// `lose-agent UNIT`: runs no hook of the unit until `release UNIT`. A lost leader does not
    /// renew its lease.
    pub(crate) fn lose_agent(&mut self, mut args: Arguments) -> Result<String> {
        let unit: UnitName = args.next("a unit")?.parse()?;
        args.end()?;
        self.model.unit_mut(&unit)?.held = Held::Everything;
        if self.model.is_leader(&unit) {
            self.model.let_lease_expire(&unit.app);
        }
        Ok(String::new())
    }

    /// `release UNIT`
    pub(crate) fn release(&mut self, mut args: Arguments) -> Result<String> {
        let unit: UnitName = args.next("a unit")?.parse()?;
        args.end()?;
        self.model.unit_mut(&unit)?.held = Held::Relations(BTreeSet::new());
        self.model.claim_lease(&unit);
        Ok(String::new())
    }

    fn known_tool(&self, tool: String) -> Result<String> {
        if crate::tools::names(self.model.version).contains(&tool.as_str()) {
            Ok(tool)
        } else {
            Err(Error::refused(format!(
                "{tool:?} is not a hook tool of Juju {}",
                self.model.version
            )))
        }
    }

    fn arm_tool(
        &mut self,
        unit: &UnitName,
        tool: String,
        mut args: Arguments,
        tool_fault: ToolFault,
    ) -> Result<String> {
        let fault = Fault::Tool { nth: args.nth()?, tool: self.known_tool(tool)?, tool_fault };
        args.end()?;
        self.arm(unit, fault)
    }

    /// Adds a system call fault, after a test run of `strace` with its options. `strace` accepts
    /// only one set of options per run.
    fn arm_syscall(&mut self, unit: &UnitName, fault: Fault) -> Result<String> {
        let arguments = fault.syscall().map(|syscall| syscall.strace(Path::new("/dev/null")));
        let arguments = arguments.unwrap_or_default();
        let strace = std::process::Command::new("strace").args(arguments).arg("true").output();
        let strace =
            strace.map_err(|source| Error::Io { doing: "run strace".to_owned(), source })?;
        // What `strace` prints for a name that it does not know.
        let said = String::from_utf8_lossy(&strace.stderr).into_owned();
        if let Some(line) = said.lines().find(|line| line.contains("invalid")) {
            return Err(Error::refused(line.trim_start_matches("strace: ")));
        }
        let armed = &self.model.unit(unit)?.faults;
        if armed.iter().any(|other| other.syscall().is_some() && *other != fault) {
            return Err(Error::NotModelled("two system call faults in one hook".to_owned()));
        }
        self.arm(unit, fault)
    }

    /// Adds a fault; an identical fault counts once.
    fn arm(&mut self, unit: &UnitName, fault: Fault) -> Result<String> {
        self.has_process(unit)?;
        let faults = &mut self.model.unit_mut(unit)?.faults;
        if !faults.contains(&fault) {
            faults.push(fault);
        }
        Ok(String::new())
    }
}
