//! Password verifiers in PostgreSQL's text forms, as in PgBouncer's user list.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use postgres_protocol::password;
use sha2::{Digest, Sha256};

use crate::secret::Secret;

/// The iterations of a new verifier: PostgreSQL's default (`scram_iterations`).
pub const ITERATIONS: u32 = 4096;

/// The most iterations of a stored verifier that a hook takes the time to check.
const ITERATIONS_MAX: u32 = 1_000_000;

const SCRAM: &str = "SCRAM-SHA-256$";

/// How PgBouncer interprets a secret of the user list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A plain password.
    Plain,
    /// An MD5 verifier: `md5` and 32 lower-case digits. `auth_type = scram-sha-256` refuses it.
    Md5,
    /// A SCRAM-SHA-256 verifier. PgBouncer can log in to a server with it only if it is the
    /// server's own.
    Scram,
}

/// The MD5 verifier of a password: `md5` and 32 lower-case digits. PgBouncer would treat a
/// verifier with upper-case digits as a plain password.
pub fn md5(user: &str, password: &Secret) -> Secret {
    Secret::new(password::md5(password.reveal().as_bytes(), user))
}

/// The SCRAM verifier of a password, `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`
/// (RFC 5803 in PostgreSQL's spelling).
///
/// `iterations` is at least 1. The salts of PostgreSQL have 16 bytes.
pub fn scram_sha_256(password: &Secret, salt: &[u8], iterations: u32) -> Secret {
    let salted = pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(&prepared(password), salt, iterations);
    let stored_key = Sha256::digest(hmac_sha_256(&salted, b"Client Key"));
    let server_key = hmac_sha_256(&salted, b"Server Key");
    Secret::new(format!(
        "{SCRAM}{iterations}:{}${}:{}",
        BASE64.encode(salt),
        BASE64.encode(stored_key),
        BASE64.encode(server_key)
    ))
}

/// Whether the verifier, of either form, was made of this password for this user.
///
/// A text of neither form matches nothing.
pub fn matches(verifier: &str, user: &str, password: &Secret) -> bool {
    if verifier.starts_with("md5") {
        return md5(user, password).reveal() == verifier;
    }
    let Some((iterations, salt)) = scram_parameters(verifier) else { return false };
    scram_sha_256(password, &salt, iterations).reveal() == verifier
}

impl Form {
    /// The form of a secret. A malformed verifier is refused: PgBouncer would silently treat it as
    /// a plain password (`get_password_type` in its `src/util.c`).
    pub fn of(secret: &str) -> Result<Self, &'static str> {
        if let Some(digits) = secret.strip_prefix("md5").filter(|digits| digits.len() == 32) {
            if digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
                return Ok(Self::Md5);
            }
            if digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(
                    "an MD5 verifier must be in lower case, or it counts as a plain password",
                );
            }
        }
        if secret.starts_with(SCRAM) {
            return if is_scram(secret) {
                Ok(Self::Scram)
            } else {
                Err("a SCRAM verifier is malformed and would count as a plain password")
            };
        }
        Ok(Self::Plain)
    }
}

/// The verifier that PostgreSQL is to store for a secret of the user list: a verifier as it is, and
/// a SCRAM verifier of a plain password.
pub fn for_secret(secret: &Secret, salt: &[u8]) -> Secret {
    match Form::of(secret.reveal()) {
        Ok(Form::Plain) => scram_sha_256(secret, salt, ITERATIONS),
        _ => secret.clone(),
    }
}

/// Whether the verifier that PostgreSQL stores for a user belongs to this secret of the user list.
pub fn matches_secret(verifier: &str, user: &str, secret: &Secret) -> bool {
    verifier == secret.reveal() || matches(verifier, user, secret)
}

/// Whether PgBouncer reads a text as a SCRAM verifier: all base64 is valid and the keys have 32
/// bytes (`parse_scram_secret` in its `src/scram.c`).
fn is_scram(verifier: &str) -> bool {
    let is_key = |key: &str| BASE64.decode(key).is_ok_and(|key| key.len() == 32);
    let keys = verifier.rsplit_once('$').and_then(|(_, keys)| keys.split_once(':'));
    scram_parameters(verifier).is_some()
        && verifier.matches('$').count() == 2
        && keys.is_some_and(|(stored, server)| is_key(stored) && is_key(server))
}

fn scram_parameters(verifier: &str) -> Option<(u32, Vec<u8>)> {
    let (parameters, _keys) = verifier.strip_prefix(SCRAM)?.split_once('$')?;
    let (iterations, salt) = parameters.split_once(':')?;
    let iterations =
        iterations.parse().ok().filter(|count| (1..=ITERATIONS_MAX).contains(count))?;
    Some((iterations, BASE64.decode(salt).ok()?))
}

/// A password after `SASLprep` (RFC 4013), as libpq applies it: a password that it refuses, or that
/// it would leave empty, stays as it is.
fn prepared(password: &Secret) -> Vec<u8> {
    match stringprep::saslprep(password.reveal()) {
        Ok(text) if !text.is_empty() => text.as_bytes().to_vec(),
        _ => password.reveal().as_bytes().to_vec(),
    }
}

fn hmac_sha_256(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.chain_update(message).finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PENCIL: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

    #[test]
    fn md5_verifiers_match_those_of_the_python_charm() {
        let verifier =
            md5("pgbouncer_auth_relation_id_4", &Secret::new("Z4OtFCe6r5HG6mk1XuR6LkwZ"));
        assert_eq!(verifier.reveal(), "md55e21e02687122653119af0b4eabb4dc0");
        assert!(matches(
            verifier.reveal(),
            "pgbouncer_auth_relation_id_4",
            &Secret::new("Z4OtFCe6r5HG6mk1XuR6LkwZ")
        ));
        assert!(!matches(verifier.reveal(), "another", &Secret::new("Z4OtFCe6r5HG6mk1XuR6LkwZ")));
    }

    /// RFC 7677, section 3: the proof of its client and the signature of its server follow from the
    /// two keys.
    #[test]
    fn scram_agrees_with_rfc_7677() {
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").expect("the RFC's salt is base64");
        let verifier = scram_sha_256(&Secret::new("pencil"), &salt, ITERATIONS);
        let (stored_key, server_key) = verifier
            .reveal()
            .rsplit_once('$')
            .and_then(|(_, keys)| keys.split_once(':'))
            .expect("two keys");
        let [stored_key, server_key] =
            [stored_key, server_key].map(|key| BASE64.decode(key).expect("base64"));

        let without_proof = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let exchange = format!(
            "n=user,r=rOprNGfwEbeRWgbNEkqO,\
             r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,{without_proof}"
        );
        let proof = BASE64
            .decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
            .expect("the RFC's proof is base64");
        let client_signature = hmac_sha_256(&stored_key, exchange.as_bytes());
        let client_key: Vec<u8> = proof
            .iter()
            .zip(client_signature)
            .map(|(proof, signature)| proof ^ signature)
            .collect();

        assert_eq!(Sha256::digest(&client_key).as_slice(), stored_key);
        assert_eq!(
            BASE64.encode(hmac_sha_256(&server_key, exchange.as_bytes())),
            "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
        );
        assert_eq!(verifier.reveal(), PENCIL);
    }

    #[test]
    fn a_verifier_is_checked_with_its_own_salt_and_count() {
        let verifier = scram_sha_256(&Secret::new("s3cret"), b"another salt", 77);
        assert!(matches(verifier.reveal(), "any", &Secret::new("s3cret")));
        assert!(!matches(verifier.reveal(), "any", &Secret::new("s3creT")));
        assert!(matches(PENCIL, "user", &Secret::new("pencil")));
    }

    #[test]
    fn an_invalid_verifier_matches_no_password() {
        for text in [
            "",
            "None",
            "pencil",
            "md5",
            "md5pencil",
            "SCRAM-SHA-256$",
            "SCRAM-SHA-256$0:AA==$a:b",
            "SCRAM-SHA-256$4294967295:AA==$a:b",
            "SCRAM-SHA-256$4096:!$a:b",
        ] {
            assert!(!matches(text, "user", &Secret::new("pencil")), "{text}");
        }
    }

    #[test]
    fn passwords_are_prepared_as_in_libpq() {
        // RFC 4013, section 3: a soft hyphen is mapped to nothing, and a Roman numeral to a letter.
        for (written, meant) in [("I\u{ad}X", "IX"), ("\u{2168}", "IX"), ("\u{aa}", "a")] {
            assert_eq!(
                scram_sha_256(&Secret::new(written), b"salt", 1),
                scram_sha_256(&Secret::new(meant), b"salt", 1)
            );
        }
        // Refused by SASLprep, or empty after it: taken as it is.
        for raw in ["\u{7}", "\u{627}1", "\u{ad}"] {
            assert_eq!(prepared(&Secret::new(raw)), raw.as_bytes());
        }
    }
}
