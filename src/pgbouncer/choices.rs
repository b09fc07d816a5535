//! Settings whose values are a few words.

use std::fmt;

macro_rules! words {
    (
        $(#[$doc:meta])*
        $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// Reads the word, spelled as in PgBouncer's documentation.
            pub fn parse(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $word,)+ })
            }
        }
    };
}

words! {
    /// The values of `auth_type` that the charm uses.
    AuthType {
        /// The user list may have verifiers of any kind, SCRAM included.
        Md5 = "md5",
        /// The user list must not have MD5 verifiers.
        ScramSha256 = "scram-sha-256",
    }
}

words! {
    /// `pool_mode`: when a server connection goes back to its pool.
    PoolMode {
        /// When the client leaves.
        Session = "session",
        /// When the transaction ends.
        Transaction = "transaction",
        /// When the statement ends.
        Statement = "statement",
    }
}

words! {
    /// `client_tls_sslmode` and `server_tls_sslmode`: how much TLS one side of PgBouncer demands,
    /// from the least to the most.
    SslMode {
        /// No TLS.
        Disable = "disable",
        /// TLS if the other side asks for it.
        Allow = "allow",
        /// TLS if the other side has it.
        Prefer = "prefer",
        /// Only TLS, with any certificate.
        Require = "require",
        /// Only TLS, with a certificate of a known CA.
        VerifyCa = "verify-ca",
        /// Only TLS, with a certificate of a known CA for the server's name. Towards clients,
        /// PgBouncer treats it as `verify-ca`.
        VerifyFull = "verify-full",
    }
}

impl SslMode {
    /// Whether a connection without TLS is refused.
    pub fn demands_tls(self) -> bool {
        self >= Self::Require
    }

    /// Whether the certificate of the other side is verified.
    pub fn verifies(self) -> bool {
        self >= Self::VerifyCa
    }
}
