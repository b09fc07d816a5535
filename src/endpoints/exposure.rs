//! How clients outside the cluster reach the application. Not built: options that ask for it are
//! refused, and everything else is served.

use anyhow::Result;

use crate::facts::options::{InvalidOption, Options};
use crate::look::Look;
use crate::plan::Plan;
use crate::status::Wait;

/// Names an option that asks for what is not built.
pub fn plan(look: &mut Look<'_>) -> Result<Plan> {
    Ok(decide(Options::check_exposure(look.config()?)))
}

fn decide(exposure: Result<(), InvalidOption>) -> Plan {
    Plan { waits: exposure.err().map(Wait::Option).into_iter().collect(), ..Plan::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_that_is_not_built_is_named() {
        let invalid = InvalidOption::Parameters("no".into());
        assert_eq!(decide(Err(invalid.clone())).waits, [Wait::Option(invalid)]);
        assert_eq!(decide(Ok(())), Plan::default());
    }
}
