//! The command-line syntax of Juju's commands.

use clap::{Args, Parser, Subcommand};

use crate::report::Format;

/// Juju's client for a model of jujusim.
#[derive(Parser)]
#[command(name = "juju", no_binary_name = true, disable_help_subcommand = true)]
pub(super) struct Juju {
    #[command(subcommand)]
    pub(super) command: Command,
    /// The model; only one exists.
    #[arg(short, long, global = true, value_name = "MODEL")]
    pub(super) model: Option<String>,
}

#[derive(Subcommand)]
pub(super) enum Command {
    Deploy(Deploy),
    AddUnit {
        app: String,
        #[arg(short = 'n', long, default_value_t = 1)]
        num_units: usize,
    },
    RemoveUnit {
        app: String,
        #[arg(long)]
        num_units: Option<usize>,
        #[arg(long)]
        no_prompt: bool,
    },
    ScaleApplication {
        app: String,
        scale: usize,
    },
    RemoveApplication {
        #[arg(required = true)]
        apps: Vec<String>,
        #[arg(long)]
        no_prompt: bool,
        #[arg(long)]
        force: bool,
    },
    #[command(alias = "relate")]
    Integrate {
        one: String,
        other: String,
    },
    RemoveRelation {
        one: String,
        other: String,
        #[arg(long)]
        force: bool,
    },
    Config(Config),
    Run(Run),
    Exec(Exec),
    Ssh {
        #[arg(long, default_value = "charm")]
        container: String,
        unit: String,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    Status {
        apps: Vec<String>,
        #[arg(long, value_enum, default_value_t)]
        format: Format,
        #[arg(long)]
        relations: bool,
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        watch: Option<std::time::Duration>,
    },
    ShowApplication {
        #[arg(required = true)]
        apps: Vec<String>,
        #[arg(long, value_enum, default_value = "yaml")]
        format: Format,
    },
    ShowUnit {
        #[arg(required = true)]
        units: Vec<String>,
        #[arg(long)]
        endpoint: Option<String>,
        #[arg(long, value_enum, default_value = "yaml")]
        format: Format,
    },
    DebugLog(DebugLog),
    WaitFor {
        #[command(subcommand)]
        what: WaitFor,
    },
    Refresh {
        app: String,
        #[arg(long)]
        path: Option<std::path::PathBuf>,
    },
    Trust {
        app: String,
        #[arg(long)]
        remove: bool,
        #[arg(long)]
        scope: Option<String>,
    },
    #[command(alias = "resolved")]
    Resolve {
        unit: String,
        #[arg(long)]
        no_retry: bool,
    },
    Models {
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    Switch {
        model: Option<String>,
    },
    Whoami,
    Version,
    /// The program `kubectl`.
    #[command(hide = true, subcommand)]
    Kubectl(Kubectl),
    #[command(external_subcommand)]
    Other(Vec<String>),
}

/// The commands of `kubectl` that an integration test of a charm needs.
#[derive(Subcommand)]
pub(super) enum Kubectl {
    Delete {
        #[arg(value_parser = ["pod"])]
        kind: String,
        pod: String,
        #[arg(short, long)]
        namespace: String,
        #[arg(long)]
        ignore_not_found: bool,
    },
}

#[derive(Args)]
pub(super) struct Deploy {
    pub(super) charm: String,
    pub(super) name: Option<String>,
    #[arg(short = 'n', long, default_value_t = 1)]
    pub(super) num_units: usize,
    #[arg(long, value_name = "KEY=VALUE|FILE")]
    pub(super) config: Vec<String>,
    #[arg(long)]
    pub(super) trust: bool,
    /// Without effect: an actor stands for the charm, whatever the channel.
    #[arg(long)]
    channel: Option<String>,
    /// Without effect: units use the machine's files, not those of an image.
    #[arg(long)]
    resource: Vec<String>,
    /// Without effect, as `--resource`.
    #[arg(long)]
    base: Option<String>,
}

#[derive(Args)]
pub(super) struct Config {
    pub(super) app: String,
    pub(super) settings: Vec<String>,
    #[arg(long, value_delimiter = ',')]
    pub(super) reset: Vec<String>,
    #[arg(long, value_enum, default_value = "yaml")]
    pub(super) format: Format,
    #[arg(long)]
    pub(super) file: Option<std::path::PathBuf>,
}

#[derive(Args)]
pub(super) struct Run {
    /// Units, an action and its parameters.
    #[arg(required = true, num_args = 2..)]
    pub(super) args: Vec<String>,
    /// The output format; plain text by default.
    #[arg(long, value_enum)]
    pub(super) format: Option<Format>,
    /// How long to wait for the task to start.
    #[arg(long, value_parser = duration)]
    pub(super) wait: Option<std::time::Duration>,
}

#[derive(Args)]
pub(super) struct Exec {
    #[arg(short, long, value_delimiter = ',')]
    pub(super) unit: Vec<String>,
    #[arg(short, long, value_delimiter = ',')]
    pub(super) application: Vec<String>,
    #[arg(long, value_enum)]
    pub(super) format: Option<Format>,
    #[arg(long, value_parser = duration)]
    pub(super) wait: Option<std::time::Duration>,
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(super) command: Vec<String>,
}

#[derive(Args)]
pub(super) struct DebugLog {
    /// Print existing lines; always done.
    #[arg(long)]
    replay: bool,
    #[arg(short, long)]
    pub(super) include: Vec<String>,
    /// Print only the last lines.
    #[arg(long, default_value_t = usize::MAX)]
    pub(super) limit: usize,
    #[arg(short, long, default_value = "DEBUG")]
    pub(super) level: super::journal::Level,
    /// Keep printing new lines.
    #[arg(long)]
    pub(super) tail: bool,
    #[arg(long)]
    no_tail: bool,
}

#[derive(Subcommand)]
pub(super) enum WaitFor {
    Application(Wanted),
    Unit(Wanted),
    Model(Wanted),
}

#[derive(Args)]
pub(super) struct Wanted {
    pub(super) name: String,
    #[arg(long)]
    pub(super) query: Option<String>,
    #[arg(long, default_value = "10m", value_parser = duration)]
    pub(super) timeout: std::time::Duration,
}

/// A duration as Go writes it: `10m`, `1h30m`, `2.5s`.
fn duration(text: &str) -> Result<std::time::Duration, String> {
    let wrong = || format!("invalid duration {text:?}");
    let (mut rest, mut total) = (text, 0.0);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        let unit = &rest[digits..];
        let end = unit.find(|c: char| c.is_ascii_digit()).unwrap_or(unit.len());
        total += number
            * match &unit[..end] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 0.001,
                _ => return Err(wrong()),
            };
        rest = &unit[end..];
    }
    if text.is_empty() {
        return Err(wrong());
    }
    std::time::Duration::try_from_secs_f64(total).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_parsed_as_in_go() {
        let seconds = |text| duration(text).map(|found| found.as_secs_f64());
        assert_eq!(seconds("10m"), Ok(600.0));
        assert_eq!(seconds("1h30m2.5s"), Ok(5402.5));
        assert_eq!(seconds("250ms"), Ok(0.25));
        for wrong in ["", "10", "m", "1x", "-1s", "99999999999999999999h"] {
            assert!(duration(wrong).is_err(), "{wrong:?}");
        }
    }
}
