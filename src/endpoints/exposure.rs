//! Access for clients outside the cluster, which is not implemented: options that request it are
//! reported as invalid, and everything else is served.

use anyhow::Result;

use crate::facts::options::InvalidOption;
use crate::look::Look;
use crate::plan::Plan;
use crate::status::Wait;

/// Reports an option that requests access from outside the cluster. Like every invalid option, it
/// is the leader's to report.
pub fn plan(look: &mut Look<'_>) -> Result<Plan> {
    if !look.leads()? {
        return Ok(Plan::default());
    }
    Ok(decide(look.check_exposure()?))
}

fn decide(exposure: Result<(), InvalidOption>) -> Plan {
    Plan { waits: exposure.err().map(Wait::Option).into_iter().collect(), ..Plan::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_option_is_a_wait() {
        let invalid = InvalidOption::Parameters("no".into());
        assert_eq!(decide(Err(invalid.clone())).waits, [Wait::Option(invalid)]);
        assert_eq!(decide(Ok(())), Plan::default());
    }
}
