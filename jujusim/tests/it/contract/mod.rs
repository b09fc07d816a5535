//! The hook tools, row by row: each table says which file of Juju (or which change of it) it was read from.

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
    /// A line for the shell in the charm's directory; `%NAME%` stands for what the bench knows under that name.
    line: &'static str,
    code: i32,
    stdout: &'static str,
    stderr: Stderr,
}

enum Stderr {
    Is(&'static str),
    /// Juju's own text is not known to the letter.
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

/// Wrong usage: exits with 2 and this after `ERROR `.
const fn misused(name: &'static str, line: &'static str, stderr: &'static str) -> Row {
    Row { name, line, code: 2, stdout: "", stderr: Stderr::Is(stderr) }
}

/// Fails while it runs: exits with 1 and this after `ERROR `.
const fn fails(name: &'static str, line: &'static str, stderr: &'static str) -> Row {
    Row { name, line, code: 1, stdout: "", stderr: Stderr::Is(stderr) }
}

/// The same, with this somewhere in the error.
const fn fails_with(name: &'static str, line: &'static str, part: &'static str) -> Row {
    Row { name, line, code: 1, stdout: "", stderr: Stderr::Has(part) }
}

/// A model and what a table's rows may name.
struct Bench {
    sim: Sim,
    names: Vec<(&'static str, String)>,
}

impl Bench {
    fn new(words: &[&str]) -> Bench {
        Bench::of("3.6.14", words)
    }

    /// A model of this release.
    fn of(juju: &str, words: &[&str]) -> Bench {
        let sim = model_of(words, &Options { juju: juju.to_owned(), ..options() });
        let uuid = sim.model().uuid.clone();
        Bench { sim, names: vec![("UUID", uuid)] }
    }

    fn knows(&mut self, name: &'static str, value: &str) {
        self.names.insert(0, (name, value.trim().to_owned()));
    }

    fn word(&mut self, word: &str) -> String {
        let word = self.filled(word);
        run(&mut self.sim, &word)
    }

    /// What a shell line of the unit prints, in a context of its own; it must not fail.
    fn output(&mut self, unit: &str, line: &str) -> String {
        let line = self.filled(line);
        let (code, stdout, stderr) = self.call(unit, &line);
        assert_eq!((code, stderr.as_str()), (0, ""), "{line}");
        stdout
    }

    /// Adds a secret and knows its id under a name.
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
        // The word fails when the line does; what it said is in the run.
        let _ = self.sim.run(&format!("exec {unit} -- sh {file}"));
        let run = self.sim.model().hook_runs().last().expect("a run");
        let code = match &run.exit {
            Exit::Success => 0,
            Exit::Code(code) => *code,
            other => panic!("{line}: {other}"),
        };
        (code, run.stdout.clone(), run.stderr.clone())
    }

    /// Why the commit after a shell line is refused.
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

    /// Each row in a context of its own, committed.
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

    /// All rows in one context, then the commit.
    fn together(&mut self, unit: &str, source: &str, rows: &[Row]) {
        let lines = self.write_lines(unit, rows);
        self.output(unit, &lines);
        let answers = self.read_answers(unit, rows.len());
        self.compare(source, rows, &answers);
    }

    /// All rows in the unit's next hook of this name, which the word brings about.
    fn within(&mut self, unit: &str, hook: &str, word: &str, source: &str, rows: &[Row]) {
        let lines = self.write_lines(unit, rows);
        let lines = format!("cd $JUJU_CHARM_DIR\n{lines}rm $root/etc/{hook}\n");
        script(&self.sim, unit, hook, &lines);
        self.word(word);
        self.word("settle");
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
            let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
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
