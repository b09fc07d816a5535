//! Relations that this revision does not support yet.

use anyhow::Result;

use crate::event::Endpoint;
use crate::look::Look;
use crate::plan::Plan;
use crate::status::Wait;

/// Reports a relation of this endpoint while one exists.
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
    fn an_unsupported_relation_is_a_wait_while_it_exists() {
        assert_eq!(decide(Endpoint::Db, true).waits, [Wait::NotBuilt(Endpoint::Db)]);
        assert_eq!(decide(Endpoint::Db, false), Plan::default());
    }
}
