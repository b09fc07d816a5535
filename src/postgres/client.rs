//! The role of a client, and its attributes and groups by what the server has.

use super::{error::Refused, roles::Roles};
use crate::secret::Secret;

/// The group whose members may log in from other hosts, where PostgreSQL's charm has one.
pub(super) const ACCESS: &str = "relation_access";
/// The group that reads and writes everything, in charms up to 15.
pub(super) const ADMIN: &str = "admin";
/// The owner of all clients' databases, from 16 on.
pub(super) const DATABASES_OWNER: &str = "charmed_databases_owner";
/// The groups whose members work in all databases and belong to none.
pub(super) const INSTANCE_ROLES: [&str; 3] = ["charmed_dml", "charmed_read", "charmed_stats"];

/// A role that logs in to one database through the pooler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// The name of the role.
    pub role: String,
    /// The name of its database.
    pub database: String,
    /// The verifier of its password, as `pg_authid` keeps it.
    pub verifier: Secret,
    /// The comment that marks the role as this charm's: the model and the relation it belongs to.
    pub comment: String,
    /// The groups and attributes that the client asked for.
    pub roles: Roles,
    /// Whether the client has its credentials.
    pub is_answered: bool,
}

/// The groups of a server that matter to a client.
pub(super) struct Groups {
    /// The groups that a client may be a member of.
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

/// The attributes and groups of a client's role.
#[derive(Default)]
pub(super) struct Shape {
    pub(super) attributes: Vec<&'static str>,
    pub(super) groups: Vec<String>,
}

impl Client {
    /// The name of a role of its database, from 16 on.
    pub(super) fn catalog_role(&self, kind: &str) -> String {
        format!("charmed_{}_{kind}", self.database)
    }

    /// Whether the client is a member of the roles of its database.
    pub(super) fn is_of_its_database(&self) -> bool {
        !self.roles.names().iter().any(|role| INSTANCE_ROLES.contains(&role.as_str()))
    }

    /// The groups that every client's role is in.
    pub(super) fn least_shape(&self, groups: &Groups) -> Shape {
        let mut shape = Shape::default();
        if groups.has_catalog_roles() && self.is_of_its_database() {
            shape.groups.extend(["admin", "dml"].map(|kind| self.catalog_role(kind)));
        }
        shape.groups.extend(groups.has(ACCESS).then(|| ACCESS.to_owned()));
        shape
    }

    /// The attributes and groups to give to the role.
    pub(super) fn shape(&self, groups: &Groups) -> Result<Shape, Refused> {
        let mut shape = self.least_shape(groups);
        let mut unknown = Vec::new();
        for role in self.roles.names() {
            match role.as_str() {
                "createdb" if groups.has_catalog_roles() => {
                    shape.groups.push(DATABASES_OWNER.to_owned());
                }
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
        // PostgreSQL refuses an attribute that a statement has twice.
        shape.attributes.sort_unstable();
        shape.attributes.dedup();
        Ok(shape)
    }
}
