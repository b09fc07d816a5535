//! What a client's role is, and what it is made with, by the groups that a server has.

use super::{error::Refused, roles::Roles};
use crate::secret::Secret;

/// The group whose members may log in from outside, where the charm has one.
pub(super) const ACCESS: &str = "relation_access";
/// The group of charms up to 15 that reads and writes everything.
pub(super) const ADMIN: &str = "admin";
/// From 16 on: who owns all databases of clients.
pub(super) const DATABASES_OWNER: &str = "charmed_databases_owner";
/// Groups whose members work across databases and are not of any one.
const INSTANCE_ROLES: [&str; 3] = ["charmed_dml", "charmed_read", "charmed_stats"];

/// A role that logs in to one database through the pooler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its name.
    pub role: String,
    /// Its database.
    pub database: String,
    /// The verifier of its password, as `pg_authid` keeps it.
    pub verifier: Secret,
    /// What marks the role as ours: the model and the relation it was made for.
    pub comment: String,
    /// What it is beside.
    pub roles: Roles,
    /// Nobody else asked for that database.
    pub alone: bool,
    /// It has its credentials: if its role is there, it has what it was to have.
    pub is_answered: bool,
}

/// The groups of a server that matter to a client.
pub(super) struct Groups {
    /// Those that a client may be a member of.
    pub(super) open: Vec<String>,
}

impl Groups {
    pub(super) fn has(&self, name: &str) -> bool {
        self.open.iter().any(|open| open == name)
    }

    pub(super) fn has_catalog_roles(&self) -> bool {
        self.has(DATABASES_OWNER)
    }
}

/// What a client's role is made with.
pub(super) struct Shape {
    pub(super) attributes: Vec<&'static str>,
    pub(super) groups: Vec<String>,
}

impl Client {
    /// A role of its database, from 16 on.
    pub(super) fn catalog_role(&self, kind: &str) -> String {
        format!("charmed_{}_{kind}", self.database)
    }

    /// Whether it is a member of the roles of its database.
    pub(super) fn is_of_its_database(&self) -> bool {
        !self.roles.names().iter().any(|role| INSTANCE_ROLES.contains(&role.as_str()))
    }

    pub(super) fn shape(&self, groups: &Groups) -> Result<Shape, Refused> {
        let mut shape = Shape { attributes: Vec::new(), groups: Vec::new() };
        let mut unknown = Vec::new();
        for role in self.roles.names() {
            match role.as_str() {
                "createdb" if groups.has_catalog_roles() => shape.groups.push(DATABASES_OWNER.to_owned()),
                "createdb" => shape.attributes.push("CREATEDB"),
                "createrole" if !groups.has_catalog_roles() => shape.attributes.push("CREATEROLE"),
                name if !groups.has(name) => unknown.push(name),
                name => {
                    if name == ADMIN {
                        shape.attributes.push("CREATEDB");
                    }
                    shape.groups.push(name.to_owned());
                }
            }
        }
        if !unknown.is_empty() {
            return Err(Refused::InvalidRoles { roles: unknown.join(", ") });
        }
        if groups.has_catalog_roles() && self.is_of_its_database() {
            shape.groups.extend(["admin", "dml"].map(|kind| self.catalog_role(kind)));
        }
        shape.groups.extend(groups.has(ACCESS).then(|| ACCESS.to_owned()));
        Ok(shape)
    }
}
