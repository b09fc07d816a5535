//! The PostgreSQL server behind the pooler: roles, databases, and the lookup of passwords.

mod admission;
mod client;
mod clients;
pub(crate) mod connection;
mod credentials;
mod error;
mod guard;
mod heir;
mod leaving;
mod lookup;
mod mark;
mod method;
mod roles;
mod seen;
mod server;
mod tls;
mod version;

pub use self::{
    client::Client,
    credentials::Credentials,
    error::{ConnectionError, Refused, Unreachable},
    lookup::Inspection,
    method::{AllowedMethods, Method},
    roles::Roles,
    seen::{Lack, Place},
    server::Server,
    tls::{TlsDemand, unverified, verified},
    version::ServerVersion,
};
