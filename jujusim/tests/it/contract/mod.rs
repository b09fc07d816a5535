//! The hook tools, row by row: each table names the file of Juju, or the change to it, that it was
//! read from.

mod actions;
mod conventions;
mod grants;
mod network;
mod refused;
mod relations;
mod secrets;
mod unit;
mod versions;

use std::fmt::Write as _;

use jujusim::{Exit, Options, Sim};

use crate::puppets::{model_of, options, run, script};

/// A call and its answer.
struct Row {
    name: &'static str,
    /// A shell line for the charm's directory; `%NAME%` stands for a value that the bench has
    /// stored under that name.
    line: &'static str,
    code: i32,
    stdout: &'static str,
    stderr: Stderr,
}

enum Stderr {
    Is(&'static str),
    /// The exact text of Juju is not known.
    Has(&'static str),
}

/// Exits with 0 and prints this.
const fn prints(name: &'static str, line: &'static str, stdout: &'static str) -> Row {
    Row { name, line, code: 0, stdout, stderr: Stderr::Is("") }
}

/// Exits with 0 and prints nothing.
const fn silent(name: &'static str, line: &'static str) -> Row {
    prints(name, line, "")
}

/// Usage error: exits with 2 and prints this after `ERROR `.
const fn misused(name: &'static str, line: &'static str, stderr: &'static str) -> Row {
    Row { name, line, code: 2, stdout: "", stderr: Stderr::Is(stderr) }
}

/// Error while running: exits with 1 and prints this after `ERROR `.
const fn fails(name: &'static str, line: &'static str, stderr: &'static str) -> Row {
    Row { name, line, code: 1, stdout: "", stderr: Stderr::Is(stderr) }
}

/// The same, with this text somewhere in the error.
const fn fails_with(name: &'static str, line: &'static str, part: &'static str) -> Row {
    Row { name, line, code: 1, stdout: "", stderr: Stderr::Has(part) }
}

/// A model, and the values that the rows of a table may name.
struct Bench {
    sim: Sim,
    names: Vec<(&'static str, String)>,
}

impl Bench {
    fn new(commands: &[&str]) -> Bench {
        Bench::of("3.6.14", commands)
    }

    /// A model of this release.
    fn of(juju: &str, commands: &[&str]) -> Bench {
        let sim = model_of(commands, &Options { juju: juju.to_owned(), ..options() });
        let uuid = sim.model().uuid.clone();
        Bench { sim, names: vec![("UUID", uuid)] }
    }

    fn knows(&mut self, name: &'static str, value: &str) {
        self.names.insert(0, (name, value.trim().to_owned()));
    }

    fn command(&mut self, command: &str) -> String {
        let command = self.filled(command);
        run(&mut self.sim, &command)
    }

    /// The output of a shell line in a new context of the unit; the line must succeed.
    fn output(&mut self, unit: &str, line: &str) -> String {
        let line = self.filled(line);
        let (code, stdout, stderr) = self.call(unit, &line);
        assert_eq!((code, stderr.as_str()), (0, ""), "{line}");
        stdout
    }

    /// Adds a secret and stores its id under a name.
    fn secret(&mut self, unit: &str, name: &'static str, line: &str) {
        let uri = self.output(unit, line);
        let id = uri.trim().rsplit(['/', ':']).next().expect("an id").to_owned();
        self.knows(name, &id);
    }

    fn filled(&self, text: &str) -> String {
        self.names
            .iter()
            .fold(text.to_owned(), |text, (name, value)| text.replace(&format!("%{name}%"), value))
    }

    fn call(&mut self, unit: &str, line: &str) -> (i32, String, String) {
        let file = self.file(unit, "line");
        std::fs::write(&file, line).expect("a file");
        // The command fails when the line fails; the output is in the record of the run.
        let _ = self.sim.run(&format!("exec {unit} -- sh {file}"));
        let run = self.sim.model().hook_runs().last().expect("a run");
        let code = match &run.exit {
            Exit::Success => 0,
            Exit::Code(code) => *code,
            other => panic!("{line}: {other}"),
        };
        (code, run.stdout.clone(), run.stderr.clone())
    }

    /// The reason for which the commit after a shell line is refused.
    fn refusal(&mut self, unit: &str, line: &str) -> String {
        let file = self.file(unit, "line");
        std::fs::write(&file, self.filled(line)).expect("a file");
        let _ = self.sim.run(&format!("exec {unit} -- sh {file}"));
        let run = self.sim.model().hook_runs().last().expect("a run");
        match &run.exit {
            Exit::Refused(why) => why.clone(),
            other => panic!("{line}: {other}; {}{}", run.stdout, run.stderr),
        }
    }

    fn file(&self, unit: &str, name: &str) -> String {
        let root = self.sim.model().unit_root(unit).expect("a unit");
        root.join("dev/shm").join(name).display().to_string()
    }

    /// Runs each row in a new context, with a commit.
    fn each(&mut self, unit: &str, source: &str, rows: &[Row]) {
        let answers: Vec<_> = rows
            .iter()
            .map(|row| {
                let line = self.filled(row.line);
                self.call(unit, &line)
            })
            .collect();
        self.compare(source, rows, &answers);
    }

    /// Runs all rows in one context, then commits.
    fn together(&mut self, unit: &str, source: &str, rows: &[Row]) {
        let lines = self.write_lines(unit, rows);
        self.output(unit, &lines);
        let answers = self.read_answers(unit, rows.len());
        self.compare(source, rows, &answers);
    }

    /// Runs all rows in the unit's next hook of this name, which the command causes.
    fn within(&mut self, unit: &str, hook: &str, command: &str, source: &str, rows: &[Row]) {
        let lines = self.write_lines(unit, rows);
        let lines = format!("cd $JUJU_CHARM_DIR\n{lines}rm $root/etc/{hook}\n");
        script(&self.sim, unit, hook, &lines);
        self.command(command);
        self.command("settle");
        let answers = self.read_answers(unit, rows.len());
        self.compare(source, rows, &answers);
    }

    fn write_lines(&self, unit: &str, rows: &[Row]) -> String {
        let mut lines = String::new();
        for (number, row) in rows.iter().enumerate() {
            let file = self.file(unit, &number.to_string());
            std::fs::write(format!("{file}.line"), self.filled(row.line)).expect("a file");
            let _ = writeln!(
                lines,
                "sh {file}.line >{file}.out 2>{file}.err && echo 0 >{file}.code || echo $? >{file}.code"
            );
        }
        lines
    }

    fn read_answers(&self, unit: &str, count: usize) -> Vec<(i32, String, String)> {
        let read = |number: usize, what: &str| {
            let file = format!("{}.{what}", self.file(unit, &number.to_string()));
            let text =
                std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
            std::fs::remove_file(file).expect("read once");
            text
        };
        let code = |number| read(number, "code").trim().parse().expect("a code");
        (0..count).map(|number| (code(number), read(number, "out"), read(number, "err"))).collect()
    }

    fn compare(&self, source: &str, rows: &[Row], answers: &[(i32, String, String)]) {
        let mut wrong = String::new();
        for (row, (code, stdout, stderr)) in rows.iter().zip(answers) {
            let error = |text: &str| match (row.code, text) {
                (0, text) => self.filled(text),
                (_, text) => format!("ERROR {}\n", self.filled(text)),
            };
            let (matches, expected) = match row.stderr {
                Stderr::Is(text) => (*stderr == error(text), error(text)),
                Stderr::Has(part) => (stderr.contains(&self.filled(part)), part.to_owned()),
            };
            if *code != row.code || *stdout != self.filled(row.stdout) || !matches {
                let _ = writeln!(
                    wrong,
                    "\n{}\n  {}\n  expected {:?}\n  found    {:?}",
                    row.name,
                    self.filled(row.line),
                    (row.code, self.filled(row.stdout), expected),
                    (code, stdout, stderr),
                );
            }
        }
        assert!(wrong.is_empty(), "{source}:{wrong}");
    }
}
