//! A model at rest: the charm finds nothing to change.

use jujusim::Sim;

/// The output of the first command that still finds a change on a unit of the charm: `explain`, or
/// `reconcile`, which compares everything. `None` if neither does.
pub(crate) fn work_left(sim: &mut Sim, unit: &str) -> jujusim::Result<Option<String>> {
    for command in
        [format!("exec {unit} -- ./bin/pgbouncer-k8s explain"), format!("run {unit} reconcile")]
    {
        let told = sim.run(&command)?;
        let is_empty = |line: &str| line.trim_start_matches("done:").trim() == "nothing";
        if !told.lines().any(is_empty) {
            return Ok(Some(format!("{command}:\n{told}")));
        }
    }
    Ok(None)
}
