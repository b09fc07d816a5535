//! The settings `auth_type` and `pool_mode`, whose values are a few words.

use std::fmt;

macro_rules! words {
    (
        $(#[$doc:meta])*
        $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
