//! `auth_type` and `pool_mode`: settings that are one of a few words.

use std::fmt;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// Reads the word as PgBouncer's documentation spells it.
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
    /// `auth_type`, as far as it is used here.
    AuthType {
        /// Any verifier will do, SCRAM included.
        Md5 = "md5",
        /// No MD5 verifier is accepted.
        ScramSha256 = "scram-sha-256",
    }
}

words! {
    /// `pool_mode`.
    PoolMode {
        /// When the client leaves.
        Session = "session",
        /// When the transaction ends.
        Transaction = "transaction",
        /// When the statement ends.
        Statement = "statement",
    }
}
