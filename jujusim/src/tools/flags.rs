//! Flags as Juju's command package reads them: anywhere among the arguments, until `--`.

use super::{Result, usage};

/// A flag: its names separated by `|`, the long one last, and whether it takes a value.
pub(super) type Flag = (&'static str, bool);

const FORMAT: Flag = ("format", true);
const OUTPUT: Flag = ("o|output", true);
const RELATION: Flag = ("r|relation", true);

/// The flags of a tool.
pub(super) fn of(tool: &str) -> &'static [Flag] {
    match tool {
        "relation-list" | "relation-get" => &[FORMAT, OUTPUT, RELATION, ("app", false)],
        "relation-set" => &[("format", true), RELATION, ("app", false), ("file", true)],
        "relation-model-get" => &[FORMAT, OUTPUT, RELATION],
        "config-get" => &[FORMAT, OUTPUT, ("a|all", false)],
        "status-set" => &[("application", false)],
        "status-get" => &[FORMAT, OUTPUT, ("include-data", false), ("application", false)],
        "application-version-set"
        | "action-set"
        | "action-fail"
        | "action-log"
        | "leader-set"
        | "state-delete" => &[],
        "juju-log" => &[("format", true), ("debug", false), ("l|log-level", true)],
        "state-get" => &[FORMAT, OUTPUT, ("strict", false)],
        "state-set" => &[("file", true)],
        "network-get" => &[
            FORMAT,
            OUTPUT,
            RELATION,
            ("bind-address", false),
            ("ingress-address", false),
            ("egress-subnets", false),
            ("primary-address", false),
        ],
        "open-port" | "close-port" => &[("format", true), ("endpoints", true)],
        "opened-ports" => &[FORMAT, OUTPUT, ("endpoints", false)],
        "secret-add" | "secret-set" => &[
            ("label", true),
            ("description", true),
            ("rotate", true),
            ("expire", true),
            ("owner", true),
            ("file", true),
        ],
        "secret-get" => &[FORMAT, OUTPUT, ("label", true), ("peek", false), ("refresh", false)],
        "secret-info-get" => &[FORMAT, OUTPUT, ("label", true)],
        "secret-grant" => &[RELATION, ("unit", true)],
        "secret-revoke" => &[RELATION, ("unit", true), ("app", true), ("application", true)],
        "secret-remove" => &[("revision", true)],
        _ => &[FORMAT, OUTPUT],
    }
}

/// The parsed command line of a tool.
#[derive(Default)]
pub(super) struct Args {
    /// Long name, the spelling used, the value (`true` for a flag without one).
    flags: Vec<(&'static str, String, String)>,
    pub(super) rest: Vec<String>,
}

impl Args {
    pub(super) fn parse(args: &[String], flags: &'static [Flag]) -> Result<Args> {
        let mut parsed = Args::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            if arg == "--" {
                parsed.rest.extend(args.cloned());
                break;
            }
            if !arg.starts_with('-') || arg == "-" {
                parsed.rest.push(arg.clone());
                continue;
            }
            let (spelled, inline) = if arg.starts_with("--") {
                match arg.split_once('=') {
                    Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                    None => (arg.clone(), None),
                }
            } else {
                let letter: String = arg.chars().take(2).collect();
                let tail = &arg[letter.len()..];
                (letter, (!tail.is_empty()).then(|| tail.strip_prefix('=').unwrap_or(tail).to_owned()))
            };
            let bare = spelled.trim_start_matches('-');
            let short = !spelled.starts_with("--");
            let known = flags
                .iter()
                .find(|(names, _)| names.split('|').any(|name| name == bare && (name.len() == 1) == short));
            let Some((names, takes_value)) = known else {
                return usage(format!("option provided but not defined: {spelled}"));
            };
            let long = names.rsplit('|').next().unwrap_or(names);
            let value = match (takes_value, inline) {
                (true, Some(value)) => value,
                (true, None) => match args.next() {
                    Some(value) => value.clone(),
                    None => return usage(format!("option needs an argument: {spelled}")),
                },
                (false, Some(value)) if short => {
                    return usage(format!("option provided but not defined: -{value}"));
                }
                (false, value) => value.unwrap_or_else(|| "true".to_owned()),
            };
            if long == "format" && !["smart", "yaml", "json"].contains(&value.as_str()) {
                return usage(format!(
                    "invalid value {value:?} for option --format: unknown format {value:?}"
                ));
            }
            parsed.flags.push((long, spelled, value));
        }
        Ok(parsed)
    }

    /// The last value given for a flag.
    pub(super) fn value(&self, long: &str) -> Option<&str> {
        self.flags.iter().rev().find(|(name, _, _)| *name == long).map(|(_, _, value)| value.as_str())
    }

    /// Whether a flag is given and not `=false`.
    pub(super) fn has(&self, long: &str) -> bool {
        self.value(long).is_some_and(|value| value != "false")
    }

    /// The spelling a flag was given in, for error texts.
    pub(super) fn spelling(&self, long: &str) -> &str {
        self.flags
            .iter()
            .rev()
            .find(|(name, _, _)| *name == long)
            .map_or("", |(_, spelled, _)| spelled.as_str())
    }

    /// The n-th positional argument.
    pub(super) fn at(&self, index: usize) -> Option<&str> {
        self.rest.get(index).map(String::as_str)
    }

    /// Refuses more than `count` positional arguments.
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
