//! Relations that this revision does not support.

use anyhow::Result;

use crate::event::Endpoint;
use crate::look::Look;
use crate::plan::Plan;
use crate::status::Wait;

/// Says so while there is one.
pub fn plan(look: &mut Look<'_>, endpoint: Endpoint) -> Result<Plan> {
    Ok(decide(endpoint, !look.relations(endpoint)?.is_empty()))
}

fn decide(endpoint: Endpoint, is_related: bool) -> Plan {
    if is_related { Plan::waiting(Wait::NotBuilt(endpoint)) } else { Plan::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relation_is_named_while_it_is_there() {
        assert_eq!(decide(Endpoint::Db, true).waits, [Wait::NotBuilt(Endpoint::Db)]);
        assert_eq!(decide(Endpoint::Db, false), Plan::default());
    }
}
