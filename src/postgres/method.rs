//! Authentication methods: how a server wants its client to prove the password.

use std::fmt;

/// What a server asks for at a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Nothing: `trust`, `peer` and the like in `pg_hba.conf`.
    Trust,
    /// The password in clear: `password`, `ldap` and the like in `pg_hba.conf`.
    Password,
    /// The MD5 hash of the password, which is as good as the password to whoever cracks it.
    Md5,
    /// SCRAM-SHA-256. The server, too, proves that it knows the password.
    Scram,
}

/// The methods that a login may use, as `require_auth` of libpq limits them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AllowedMethods {
    /// Every method, but the password in clear only over TLS.
    #[default]
    Any,
    /// Only SCRAM: a server that used it before, or must know how, asks for nothing weaker.
    Scram,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trust => "no password",
            Self::Password => "the password in clear",
            Self::Md5 => "the MD5 hash of the password",
            Self::Scram => "a login by SCRAM",
        })
    }
}
