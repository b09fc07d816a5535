//! `render`: the configuration that the processes of this unit should run.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use serde_json::json;

use super::{Format, print, to_json};
use crate::event::{Event, Unit};
use crate::hook::{self, Counted};
use crate::journal::Journal;

/// Dry-runs a hook that treats nothing as loaded, and prints the files that it would load.
pub(super) fn run(unit: &Unit, instance: u16, format: Format) -> anyhow::Result<ExitCode> {
    crate::log::to_stderr();
    let outcome = hook::run(unit, &Event::ConfigChanged, Journal::dry_run(), Counted::Nothing)?;
    let Some(files) = outcome.files else {
        bail!(
            "cannot render pgbouncer.ini: there is no configuration yet; {}",
            outcome.waits.join("; ")
        );
    };
    let shown = match format {
        Format::Text => {
            let mut instances = files.instances.iter();
            let found = instances.find(|config| config.instance == instance);
            let count = files.instances.len();
            let none = || {
                format!(
                    "cannot render instance {instance}: this unit runs {count} processes, numbered from 0"
                )
            };
            found.with_context(none)?.text.clone()
        }
        Format::Json => {
            let instance = |config: &crate::pgbouncer::InstanceConfig| {
                json!({
                    "instance": config.instance,
                    "digest": config.digest,
                    "left-out": config.left_out,
                    "pgbouncer-ini": config.text,
                })
            };
            to_json(&json!({
                "pgbouncer-version": files.version.to_string(),
                "users": files.users.0.iter().map(|user| user.name.as_str()).collect::<Vec<_>>(),
                "instances": files.instances.iter().map(instance).collect::<Vec<_>>(),
                "waits": outcome.waits,
            }))?
        }
    };
    print(&shown)?;
    Ok(ExitCode::SUCCESS)
}
