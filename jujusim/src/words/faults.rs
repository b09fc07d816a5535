//! Words that prepare mishaps. Those of a unit are for its next hook, whether they strike or not.

use std::collections::BTreeSet;
use std::path::Path;

use super::Words;
use crate::Sim;
use crate::commit::Refused;
use crate::error::{Error, Result};
use crate::fault::{Fault, Mishap, Moment, Outcome, Syscall};
use crate::model::{Held, UnitName};

impl Sim {
    /// `kill UNIT at TOOL [N]`, `kill UNIT at syscall NAME [N] [--no-follow] [--path FILE]`
    pub(crate) fn kill(&mut self, mut words: Words) -> Result<String> {
        let (follow, path) = (!words.flag("--no-follow"), words.option("--path")?);
        let unit: UnitName = words.next("a unit")?.parse()?;
        if words.next("`at`")? != "at" {
            return Err(Error::refused("kill UNIT at TOOL [N], or kill UNIT at syscall NAME [N]"));
        }
        let tool = words.next("a hook tool, or syscall")?;
        if tool == "syscall" {
            let name = words.next("a system call")?;
            let (nth, outcome) = (words.nth()?, Outcome::Kill);
            words.end()?;
            let syscall = Syscall { name, nth, onwards: false, path, follow, outcome };
            return self.arm_syscall(&unit, Fault::Syscall(syscall));
        }
        self.arm_tool(&unit, tool, words, Mishap::Kill)
    }

    /// `fail UNIT TOOL [N] [--message TEXT]`,
    /// `fail UNIT syscall NAME [N] [--errno ENOSPC] [--onwards] [--no-follow] [--path FILE]`
    pub(crate) fn fail(&mut self, mut words: Words) -> Result<String> {
        let message = words.option("--message")?.unwrap_or_else(|| "cannot do this now".to_owned());
        let errno = words.option("--errno")?.unwrap_or_else(|| "EIO".to_owned());
        let (onwards, follow) = (words.flag("--onwards"), !words.flag("--no-follow"));
        let path = words.option("--path")?;
        let unit: UnitName = words.next("a unit")?.parse()?;
        let tool = words.next("a hook tool, or syscall")?;
        if tool == "syscall" {
            let name = words.next("a system call")?;
            let (nth, outcome) = (words.nth()?, Outcome::Error(errno));
            words.end()?;
            let syscall = Syscall { name, nth, onwards, path, follow, outcome };
            return self.arm_syscall(&unit, Fault::Syscall(syscall));
        }
        self.arm_tool(&unit, tool, words, Mishap::Fail(message))
    }

    /// `hang UNIT TOOL [N] [--for SECONDS]`
    pub(crate) fn hang(&mut self, mut words: Words) -> Result<String> {
        let seconds = words.option("--for")?;
        let not_seconds = |_| Error::refused("--for needs seconds");
        let seconds = seconds.map(|text| text.parse().map_err(not_seconds)).transpose()?;
        let unit: UnitName = words.next("a unit")?.parse()?;
        let tool = words.next("a hook tool")?;
        self.arm_tool(&unit, tool, words, Mishap::Hang(seconds))
    }

    /// `answer UNIT TOOL [N] --stdout TEXT [--code N]`: a wrong answer; `\n` in the text is a newline.
    pub(crate) fn wrong_answer(&mut self, mut words: Words) -> Result<String> {
        let stdout = words.option("--stdout")?.unwrap_or_default().replace("\\n", "\n");
        let code = words.option("--code")?.map(|code| code.parse());
        let code = code.transpose().map_err(|_| Error::refused("--code needs a number"))?.unwrap_or(0);
        let unit: UnitName = words.next("a unit")?.parse()?;
        let tool = words.next("a hook tool")?;
        self.arm_tool(&unit, tool, words, Mishap::Answer { stdout, code })
    }

    /// `at UNIT TOOL [N] do WORD…`, `at UNIT syscall NAME [N] [--no-follow] [--path FILE] do WORD…`, `at UNIT commit do WORD…`:
    /// another word within the unit's next hook.
    pub(crate) fn at(&mut self, words: Words) -> Result<String> {
        let (mut before, word) = words.split_at("do");
        let (follow, path) = (!before.flag("--no-follow"), before.option("--path")?);
        let unit: UnitName = before.next("a unit")?.parse()?;
        let tool = before.next("a hook tool, syscall, or commit")?;
        let at = match tool.as_str() {
            "commit" => Moment::Commit,
            "syscall" => {
                let (name, nth) = (before.next("a system call")?, before.nth()?);
                Moment::Syscall(Syscall { name, nth, onwards: false, path, follow, outcome: Outcome::Stop })
            }
            _ => Moment::Tool { tool: self.known_tool(tool)?, nth: before.nth()? },
        };
        before.end()?;
        if word.is_empty() {
            return Err(Error::refused("at UNIT TOOL [N] do WORD…: a word expected"));
        }
        let fault = Fault::Word { at, word: Words::join(&word) };
        if fault.syscall().is_some() { self.arm_syscall(&unit, fault) } else { self.arm(&unit, fault) }
    }

    /// `fail-commit UNIT [--torn]`
    pub(crate) fn fail_commit(&mut self, mut words: Words) -> Result<String> {
        let refused = if words.flag("--torn") { Refused::Torn } else { Refused::Whole };
        let unit: UnitName = words.next("a unit")?.parse()?;
        words.end()?;
        self.arm(&unit, Fault::Commit(refused))
    }

    /// `twice UNIT`
    pub(crate) fn twice(&mut self, mut words: Words) -> Result<String> {
        let unit: UnitName = words.next("a unit")?.parse()?;
        words.end()?;
        self.arm(&unit, Fault::Twice)
    }

    /// `every-hook twice|torn|once`
    pub(crate) fn every_hook(&mut self, mut words: Words) -> Result<String> {
        let habit = words.next("twice, torn or once")?;
        words.end()?;
        match habit.as_str() {
            "twice" => self.model.habits.twice = true,
            "torn" => self.model.habits.torn = true,
            "once" => self.model.habits = crate::model::Habits::default(),
            other => return Err(Error::refused(format!("{other:?}: twice, torn or once"))),
        }
        Ok(String::new())
    }

    /// `seed N`: decides from now on where Juju's order is arbitrary; `seed none`: the first comes first.
    pub(crate) fn seed(&mut self, mut words: Words) -> Result<String> {
        let text = words.next("a number")?;
        words.end()?;
        let number = || text.parse().map_err(|_| Error::refused(format!("a number expected, got {text:?}")));
        self.model.seed = if text == "none" { None } else { Some(number()?) };
        Ok(String::new())
    }

    /// `hold UNIT ENDPOINT[:ID]`: no `-joined` and `-changed` of the relation reaches the unit until `release UNIT`.
    pub(crate) fn hold(&mut self, mut words: Words) -> Result<String> {
        let unit: UnitName = words.next("a unit")?.parse()?;
        let endpoint = words.next("an endpoint")?;
        words.end()?;
        let id = self.relation_at(&format!("{}:{endpoint}", unit.app))?;
        match &mut self.model.unit_mut(&unit)?.held {
            Held::Relations(held) => {
                held.insert(id);
            }
            Held::Everything => {}
        }
        Ok(String::new())
    }

    /// `lose-agent UNIT`: no hook runs on it until `release UNIT`.
    pub(crate) fn lose_agent(&mut self, mut words: Words) -> Result<String> {
        let unit: UnitName = words.next("a unit")?.parse()?;
        words.end()?;
        self.model.unit_mut(&unit)?.held = Held::Everything;
        Ok(String::new())
    }

    /// `release UNIT`
    pub(crate) fn release(&mut self, mut words: Words) -> Result<String> {
        let unit: UnitName = words.next("a unit")?.parse()?;
        words.end()?;
        self.model.unit_mut(&unit)?.held = Held::Relations(BTreeSet::new());
        Ok(String::new())
    }

    fn known_tool(&self, tool: String) -> Result<String> {
        if crate::tools::names(self.model.version).contains(&tool.as_str()) {
            Ok(tool)
        } else {
            Err(Error::refused(format!("{tool:?} is no hook tool of Juju {}", self.model.version)))
        }
    }

    fn arm_tool(
        &mut self,
        unit: &UnitName,
        tool: String,
        mut words: Words,
        mishap: Mishap,
    ) -> Result<String> {
        let fault = Fault::Tool { nth: words.nth()?, tool: self.known_tool(tool)?, mishap };
        words.end()?;
        self.arm(unit, fault)
    }

    /// `strace` takes one set of options for a run.
    fn arm_syscall(&mut self, unit: &UnitName, fault: Fault) -> Result<String> {
        let arguments = fault.syscall().map(|syscall| syscall.strace(Path::new("/dev/null")));
        let arguments = arguments.unwrap_or_default();
        let strace = std::process::Command::new("strace").args(arguments).arg("true").output();
        let strace = strace.map_err(|source| Error::Io { doing: "run strace".to_owned(), source })?;
        // What it says of a name that it does not know.
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

    /// The same fault again is still one.
    fn arm(&mut self, unit: &UnitName, fault: Fault) -> Result<String> {
        self.has_process(unit)?;
        let faults = &mut self.model.unit_mut(unit)?.faults;
        if !faults.contains(&fault) {
            faults.push(fault);
        }
        Ok(String::new())
    }
}
