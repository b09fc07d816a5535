//! Command-line flags, parsed as Juju's command package does: anywhere among the arguments, until
//! `--`.

use super::format::Format;
use super::{Refusal, Request, Result, usage};

/// A flag: its names separated by `|`, the long name last.
pub(super) struct Flag(pub(super) &'static str, pub(super) Kind);

/// What a flag takes as its value.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// No value, or `=` and a boolean.
    Switch,
    /// Any text.
    Text,
    /// An output format; the first one is the default.
    Format(&'static [(&'static str, Format)]),
}

/// `--format` with `smart` (the default), `yaml` and `json`.
pub(super) const FORMAT: Flag = Flag(
    "format",
    Kind::Format(&[("smart", Format::Smart), ("yaml", Format::Yaml), ("json", Format::Json)]),
);
/// `--format` with `yaml` (the default) and `json`.
pub(super) const YAML_OR_JSON: Flag =
    Flag("format", Kind::Format(&[("yaml", Format::Yaml), ("json", Format::Json)]));
pub(super) const OUTPUT: Flag = Flag("o|output", Kind::Text);
pub(super) const RELATION: Flag = Flag("r|relation", Kind::Text);

/// The values that `strconv.ParseBool` accepts.
const BOOLEANS: [(&str, bool); 12] = [
    ("1", true),
    ("t", true),
    ("T", true),
    ("TRUE", true),
    ("true", true),
    ("True", true),
    ("0", false),
    ("f", false),
    ("F", false),
    ("FALSE", false),
    ("false", false),
    ("False", false),
];

/// The parsed command line of a tool.
pub(super) struct Args<'a> {
    given: Vec<Given<'a>>,
    pub(super) rest: Vec<String>,
    /// The call: the caller's directory and standard input.
    pub(super) request: &'a Request,
    /// The output format.
    pub(super) format: Format,
}

/// A flag with its value; the value of a switch is a boolean.
struct Given<'a> {
    name: &'static str,
    spelling: String,
    value: &'a str,
}

impl<'a> Args<'a> {
    pub(super) fn parse(request: &'a Request, flags: &[Flag]) -> Result<Args<'a>> {
        let format = flags.iter().find_map(|flag| match flag.1 {
            Kind::Format(formats) => formats.first().map(|(_, format)| *format),
            _ => None,
        });
        let format = format.unwrap_or(Format::Smart);
        let mut parsed = Args { given: Vec::new(), rest: Vec::new(), request, format };
        let mut args = request.args.iter().map(String::as_str);
        while let Some(arg) = args.next() {
            if arg == "--" {
                parsed.rest.extend(args.map(str::to_owned));
                break;
            }
            if let Some(long) = arg.strip_prefix("--") {
                let (name, value) =
                    long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
                parsed.take(flags, format!("--{name}"), value, &mut args)?;
            } else if let Some(short) = arg.strip_prefix('-').filter(|short| !short.is_empty()) {
                parsed.take_short(flags, short, &mut args)?;
            } else {
                parsed.rest.push(arg.to_owned());
            }
        }
        Ok(parsed)
    }

    /// Parses `-abc`: several switches, or a flag directly followed by its value.
    fn take_short(
        &mut self,
        flags: &[Flag],
        mut letters: &'a str,
        args: &mut impl Iterator<Item = &'a str>,
    ) -> Result<()> {
        while let Some(letter) = letters.chars().next() {
            let tail = &letters[letter.len_utf8()..];
            let spelling = format!("-{letter}");
            let value = tail.strip_prefix('=').or((!tail.is_empty()).then_some(tail));
            let switch = find(flags, &spelling).is_some_and(|flag| matches!(flag.1, Kind::Switch));
            if switch && !tail.starts_with('=') {
                self.take(flags, spelling, None, args)?;
                letters = tail;
            } else {
                return self.take(flags, spelling, value, args);
            }
        }
        Ok(())
    }

    fn take(
        &mut self,
        flags: &[Flag],
        spelling: String,
        inline: Option<&'a str>,
        args: &mut impl Iterator<Item = &'a str>,
    ) -> Result<()> {
        let Some(Flag(names, kind)) = find(flags, &spelling) else {
            if ["--help", "-h"].contains(&spelling.as_str()) {
                return Err(Refusal::Help);
            }
            return usage(format!("option provided but not defined: {spelling}"));
        };
        let value = match (kind, inline) {
            (_, Some(value)) => value,
            (Kind::Switch, None) => "true",
            (_, None) => match args.next() {
                Some(value) => value,
                None => return usage(format!("option needs an argument: {spelling}")),
            },
        };
        let invalid =
            |why: String| usage(format!("invalid value {value:?} for option {spelling}: {why}"));
        match kind {
            Kind::Switch if boolean(value).is_none() => {
                return invalid(format!("strconv.ParseBool: parsing {value:?}: invalid syntax"));
            }
            Kind::Format(formats) => match formats.iter().find(|(name, _)| *name == value) {
                Some((_, format)) => self.format = *format,
                None => return invalid(format!("unknown format {value:?}")),
            },
            Kind::Switch | Kind::Text => {}
        }
        let name = names.rsplit('|').next().unwrap_or(names);
        self.given.push(Given { name, spelling, value });
        Ok(())
    }

    fn last(&self, long: &str) -> Option<&Given<'a>> {
        self.given.iter().rev().find(|given| given.name == long)
    }

    /// The last value given for a flag.
    pub(super) fn value(&self, long: &str) -> Option<&'a str> {
        self.last(long).map(|given| given.value)
    }

    /// The last value given for a flag; `None` for an empty value, as most of Juju's tools treat
    /// it.
    pub(super) fn text(&self, long: &str) -> Option<&'a str> {
        self.value(long).filter(|value| !value.is_empty())
    }

    /// Whether a switch is on.
    pub(super) fn has(&self, long: &str) -> bool {
        self.value(long).and_then(boolean).unwrap_or(false)
    }

    /// The spelling in which a flag was given, for error texts.
    pub(super) fn spelling(&self, long: &str) -> &str {
        self.last(long).map_or("", |given| given.spelling.as_str())
    }

    /// The n-th positional argument.
    pub(super) fn at(&self, index: usize) -> Option<&str> {
        self.rest.get(index).map(String::as_str)
    }

    /// Rejects more than `count` positional arguments.
    pub(super) fn at_most(&self, count: usize) -> Result<()> {
        match self.rest.get(count..) {
            Some(surplus) if !surplus.is_empty() => {
                let quoted: Vec<String> = surplus.iter().map(|arg| format!("{arg:?}")).collect();
                usage(format!("unrecognized args: [{}]", quoted.join(" ")))
            }
            _ => Ok(()),
        }
    }
}

/// Finds the flag of this spelling: one dash before a name of one letter, two before a longer name.
fn find<'a>(flags: &'a [Flag], spelling: &str) -> Option<&'a Flag> {
    let name = spelling.trim_start_matches('-');
    let short = !spelling.starts_with("--");
    flags
        .iter()
        .find(|flag| flag.0.split('|').any(|known| known == name && (known.len() == 1) == short))
}

fn boolean(text: &str) -> Option<bool> {
    BOOLEANS.iter().find(|(name, _)| *name == text).map(|(_, value)| *value)
}
