//! The lists that PgBouncer passes to OpenSSL.
//!
//! OpenSSL ignores unknown names in a list of ciphers, so a typo changes what is encrypted. The
//! charm refuses unknown names. A value that OpenSSL refuses keeps PgBouncer from starting.

/// The suites of TLS 1.3 (RFC 8446, B.4).
const SUITES: [&str; 5] = [
    "TLS_AES_128_CCM_8_SHA256",
    "TLS_AES_128_CCM_SHA256",
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
];

/// PgBouncer's own words for lists of ciphers, each of which stands alone.
const LISTS: [&str; 8] =
    ["all", "compat", "default", "fast", "insecure", "legacy", "normal", "secure"];

/// OpenSSL's words for groups of ciphers (openssl-ciphers(1), OpenSSL 3).
const GROUPS: [&str; 45] = [
    "3DES",
    "AES",
    "AES128",
    "AES256",
    "AESCCM",
    "AESCCM8",
    "AESGCM",
    "ALL",
    "ARIA",
    "ARIA128",
    "ARIA256",
    "CAMELLIA",
    "CAMELLIA128",
    "CAMELLIA256",
    "CHACHA20",
    "COMPLEMENTOFALL",
    "COMPLEMENTOFDEFAULT",
    "DEFAULT",
    "DHE",
    "ECDHE",
    "ECDSA",
    "EDH",
    "EECDH",
    "HIGH",
    "LOW",
    "MD5",
    "MEDIUM",
    "NULL",
    "PSK",
    "RSA",
    "SHA",
    "SHA1",
    "SHA256",
    "SHA384",
    "SRP",
    "SSLv3",
    "TLSv1",
    "TLSv1.0",
    "TLSv1.2",
    "aDSS",
    "aECDSA",
    "aNULL",
    "aRSA",
    "eNULL",
    "kRSA",
];

/// The ciphers of TLS 1.2 and earlier that OpenSSL 3 has, without those for pre-shared keys.
const CIPHERS: [&str; 44] = [
    "AES128-CCM",
    "AES128-CCM8",
    "AES128-GCM-SHA256",
    "AES128-SHA",
    "AES128-SHA256",
    "AES256-CCM",
    "AES256-CCM8",
    "AES256-GCM-SHA384",
    "AES256-SHA",
    "AES256-SHA256",
    "DHE-RSA-AES128-CCM",
    "DHE-RSA-AES128-CCM8",
    "DHE-RSA-AES128-GCM-SHA256",
    "DHE-RSA-AES128-SHA",
    "DHE-RSA-AES128-SHA256",
    "DHE-RSA-AES256-CCM",
    "DHE-RSA-AES256-CCM8",
    "DHE-RSA-AES256-GCM-SHA384",
    "DHE-RSA-AES256-SHA",
    "DHE-RSA-AES256-SHA256",
    "DHE-RSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES128-CCM",
    "ECDHE-ECDSA-AES128-CCM8",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-ECDSA-AES128-SHA256",
    "ECDHE-ECDSA-AES256-CCM",
    "ECDHE-ECDSA-AES256-CCM8",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-ECDSA-AES256-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-NULL-SHA",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA256",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-SHA",
    "ECDHE-RSA-AES256-SHA384",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-RSA-NULL-SHA",
    "NULL-MD5",
    "NULL-SHA",
    "NULL-SHA256",
];

/// The elliptic curves that every version of PgBouncer can use, and its two words.
pub(super) const CURVES: &[&str] =
    &["auto", "none", "prime256v1", "secp256k1", "secp384r1", "secp521r1"];

/// Whether OpenSSL takes the value as a list of suites of TLS 1.3.
pub(super) fn has_suites(value: &str) -> bool {
    value.split(':').all(|name| SUITES.contains(&name))
}

/// Whether OpenSSL takes the value as a list of ciphers, and knows every name in it.
pub(super) fn has_ciphers(value: &str) -> bool {
    if LISTS.contains(&value) {
        return true;
    }
    let mut chooses = false;
    let is_known = value.split([':', ',', ' ']).filter(|item| !item.is_empty()).all(|item| {
        if let Some(command) = item.strip_prefix('@') {
            return command == "STRENGTH"
                || command
                    .strip_prefix("SECLEVEL=")
                    .is_some_and(|level| level.len() == 1 && ("0"..="5").contains(&level));
        }
        let names = item.trim_start_matches(['!', '-', '+']);
        chooses |= names == item;
        names.split('+').all(|name| GROUPS.contains(&name) || CIPHERS.contains(&name))
    });
    is_known && chooses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lists_that_openssl_takes_and_knows_whole_are_accepted() {
        for (value, is_accepted) in [
            ("default", true),
            ("secure", true),
            ("HIGH:MEDIUM:+3DES:!aNULL", true),
            ("HIGH:!aNULL:@STRENGTH", true),
            ("DEFAULT:@SECLEVEL=2", true),
            ("ECDHE-RSA-AES128-GCM-SHA256,HIGH", true),
            ("ECDHE+AESGCM:DHE+AESGCM", true),
            ("", false),
            ("nonsense", false),
            ("HIGH:nonsense", false),
            ("!aNULL", false),
            ("@SECLEVEL=9", false),
            ("secure:HIGH", false),
            ("TLS_AES_128_GCM_SHA256", false),
        ] {
            assert_eq!(has_ciphers(value), is_accepted, "{value}");
        }
        for (value, is_accepted) in [
            ("TLS_AES_128_GCM_SHA256", true),
            ("TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256", true),
            ("", false),
            ("HIGH", false),
            ("TLS_AES_128_GCM_SHA256,TLS_AES_256_GCM_SHA384", false),
        ] {
            assert_eq!(has_suites(value), is_accepted, "{value}");
        }
    }
}
