//! The user list (`auth_file`): the users that PgBouncer knows, and their passwords or verifiers.

use std::collections::BTreeSet;

use super::names::{AUTH_USER_PREFIX, USER_NAME_LIMIT};
use super::text::Unrepresentable;
use super::verifier::Form;
use crate::secret::Secret;

/// The users, in the order of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserList(pub Vec<User>);

/// One line of the user list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The name of the role or console user.
    pub name: String,
    /// The verifier or plain password.
    pub secret: Secret,
}

/// Why a text is not a user list. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUserList {
    /// The text is empty, or the word `None`, which an old charm wrote before it had users.
    #[error("cannot read the user list: no users")]
    NoUsers,
    /// A line is malformed. PgBouncer would skip every user below it.
    #[error("cannot read line {line} of the user list: {reason}")]
    Line {
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// The longest secret, in bytes with doubled quotes (PgBouncer's `MAX_PASSWORD` without the
/// terminating NUL).
const SECRET_MAX: usize = 2047;

impl UserList {
    /// The secret of a user.
    pub fn line(&self, name: &str) -> Option<&Secret> {
        self.0.iter().find(|user| user.name == name).map(|user| &user.secret)
    }

    /// Reads lines of `"name" "secret"`, and nothing else but empty lines.
    pub fn parse(text: &str) -> Result<Self, InvalidUserList> {
        let mut users = Vec::new();
        let mut names = BTreeSet::new();
        if matches!(text.trim(), "" | "None") {
            return Err(InvalidUserList::NoUsers);
        }
        for (number, line) in (1..).zip(text.split('\n')) {
            let line = line.strip_suffix('\r').unwrap_or(line);
            if line.is_empty() {
                continue;
            }
            let user = user(line).and_then(|user| {
                check(&user)?;
                if names.insert(user.name.clone()) {
                    Ok(user)
                } else {
                    Err("the user was listed before")
                }
            });
            users.push(user.map_err(|reason| InvalidUserList::Line { line: number, reason })?);
        }
        Ok(Self(users))
    }

    /// The lines separated by a line feed, with none at the end: the form in the peer relation.
    pub fn render(&self) -> Result<String, Unrepresentable> {
        let mut names = BTreeSet::new();
        let mut lines = Vec::new();
        for (number, user) in (1..).zip(&self.0) {
            let refused =
                |reason| Unrepresentable::new(format!("user {number} of the user list"), reason);
            check(user).map_err(refused)?;
            if !names.insert(&user.name) {
                return Err(refused("the user was listed before"));
            }
            lines.push(format!("{} {}", quoted(&user.name), quoted(user.secret.reveal())));
        }
        Ok(lines.join("\n"))
    }

    /// The lines, each with a line feed at its end: the form on disk.
    pub fn file_text(&self) -> Result<String, Unrepresentable> {
        let text = self.render()?;
        Ok(if text.is_empty() { text } else { text + "\n" })
    }

    /// The role that looks up passwords: the first one whose name begins with `pgbouncer_auth_`.
    pub fn auth_user(&self) -> Option<&str> {
        self.0.iter().map(|user| user.name.as_str()).find(|name| name.starts_with(AUTH_USER_PREFIX))
    }

    /// Whether the list has a role that looks up passwords, which means that the backend is set up.
    pub fn is_initialised(&self) -> bool {
        self.auth_user().is_some()
    }
}

fn check(user: &User) -> Result<(), &'static str> {
    let broken = |text: &str| text.contains(['\n', '\r', '\0']);
    if user.name.is_empty() {
        Err("the name is empty")
    } else if broken(&user.name) || broken(user.secret.reveal()) {
        Err("a line break or a NUL byte")
    } else if quoted(&user.name).len() - 2 > USER_NAME_LIMIT {
        Err("the name is longer than 127 bytes")
    } else if quoted(user.secret.reveal()).len() - 2 > SECRET_MAX {
        Err("the secret is longer than 2047 bytes")
    } else {
        Form::of(user.secret.reveal()).map(|_| ())
    }
}

fn user(line: &str) -> Result<User, &'static str> {
    let (name, rest) = unquoted(line)?;
    let secret = rest.trim_start_matches([' ', '\t']);
    if secret.len() == rest.len() {
        return Err("no blank between name and secret");
    }
    let (secret, rest) = unquoted(secret)?;
    if !rest.trim_end_matches([' ', '\t']).is_empty() {
        return Err("something after the secret");
    }
    Ok(User { name, secret: Secret::new(secret) })
}

/// A text in double quotes. The quote itself is doubled; nothing else is special.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

fn unquoted(text: &str) -> Result<(String, &str), &'static str> {
    let mut rest = text.strip_prefix('"').ok_or("not a quoted name and a quoted secret")?;
    let mut value = String::new();
    loop {
        let (part, after) = rest.split_once('"').ok_or("a quote that is never closed")?;
        value += part;
        match after.strip_prefix('"') {
            Some(after) => {
                value.push('"');
                rest = after;
            }
            None => return Ok((value, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(users: &[(&str, &str)]) -> UserList {
        let user = |&(name, secret): &(&str, &str)| User {
            name: name.into(),
            secret: Secret::new(secret),
        };
        UserList(users.iter().map(user).collect())
    }

    #[test]
    fn a_list_is_rendered_for_the_peer_relation() {
        let users = list(&[
            ("pgbouncer_auth_relation_id_4", "md55e21e02687122653119af0b4eabb4dc0"),
            ("a \"b\"", "\\"),
        ]);
        let text = "\"pgbouncer_auth_relation_id_4\" \"md55e21e02687122653119af0b4eabb4dc0\"\n\"a \"\"b\"\"\" \"\\\"";
        assert_eq!(users.render().as_deref(), Ok(text));
        assert_eq!(users.file_text(), Ok(format!("{text}\n")));
        assert_eq!(UserList::parse(text), Ok(users.clone()));
        assert_eq!(UserList::parse(&format!("{text}\n")), Ok(users.clone()));
        assert_eq!(users.auth_user(), Some("pgbouncer_auth_relation_id_4"));
        assert!(users.is_initialised());
        assert!(!list(&[("pgbouncer_stats_pgbouncer_k8s", "x")]).is_initialised());
    }

    #[test]
    fn awkward_names_and_secrets_survive_a_round_trip() {
        for text in ["\"", "\"\"", " ", "\\\"", ";", "#", "'", "é", "\t"] {
            let users = list(&[(text, text), ("x", "")]);
            assert_eq!(
                UserList::parse(&users.render().expect("it can be written")),
                Ok(users),
                "{text:?}"
            );
        }
    }

    #[test]
    fn any_defect_is_an_error_without_the_secret() {
        for text in ["", "\n", "None", " None\n"] {
            assert_eq!(UserList::parse(text), Err(InvalidUserList::NoUsers));
        }
        for defect in [
            "\"u\"\"pencil\"",
            "\"u\"",
            "\"u\" \"pencil",
            "u \"pencil\"",
            "\"u\" pencil",
            "\"u\" \"pencil\" rest",
            "\"\" \"pencil\"",
            "# pencil",
            " \"u\" \"pencil\"",
            "\u{feff}\"u\" \"pencil\"",
            "\"u\" \"pen\0cil\"",
            "\"first\" \"pencil\"",
            "None",
        ] {
            let error =
                UserList::parse(&format!("\"first\" \"pencil\"\n{defect}\n\"last\" \"pencil\""))
                    .expect_err(defect);
            assert!(matches!(error, InvalidUserList::Line { line: 2, .. }), "{defect}: {error}");
            assert!(!error.to_string().contains("pencil"), "{error}");
        }
    }

    const SCRAM: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

    #[test]
    fn the_form_of_a_secret_is_recognised_as_in_pgbouncer() {
        let md5 = "md55e21e02687122653119af0b4eabb4dc0";
        for (secret, form) in [
            ("", Form::Plain),
            ("pencil", Form::Plain),
            ("md5", Form::Plain),
            (&md5[..34], Form::Plain),
            ("md5ge21e02687122653119af0b4eabb4dc00", Form::Plain),
            ("scram-sha-256$", Form::Plain),
            (md5, Form::Md5),
            (SCRAM, Form::Scram),
        ] {
            assert_eq!(Form::of(secret), Ok(form), "{secret}");
        }
        for broken in [
            "md55E21E02687122653119AF0B4EABB4DC0".to_owned(),
            "SCRAM-SHA-256$".into(),
            SCRAM.replace("4096", "0"),
            SCRAM.replace("4096", "many"),
            SCRAM.replace("W22Z", "!"),
            SCRAM.replace("$WG5d", "$"),
            SCRAM.replace(":wfPL", ":"),
            SCRAM.replace(":wfPL", "wfPL"),
            format!("{SCRAM} "),
        ] {
            assert!(Form::of(&broken).is_err(), "{broken}");
            let error = list(&[("u", &broken)]).render().expect_err("it is broken").to_string();
            assert!(!error.contains(&broken), "{error}");
        }
    }

    #[test]
    fn the_limits_count_doubled_quotes() {
        for (name, secret, fits) in [
            ("n".repeat(127), "s".repeat(2047), true),
            ("n".repeat(128), "s".into(), false),
            ("n".into(), "s".repeat(2048), false),
            ("\"".repeat(63), "\"".repeat(1023), true),
            ("\"".repeat(64), "s".into(), false),
            ("n".into(), "\"".repeat(1024), false),
        ] {
            assert_eq!(list(&[(&name, &secret)]).render().is_ok(), fits);
            let line = format!("{} {}", quoted(&name), quoted(&secret));
            assert_eq!(UserList::parse(&line).is_ok(), fits);
        }
    }

    #[test]
    fn unrepresentable_users_are_refused_without_their_text() {
        for users in [
            list(&[("pencil\n", "x")]),
            list(&[("u", "pencil\0")]),
            list(&[("", "pencil")]),
            list(&[("pencil", "a"), ("pencil", "b")]),
        ] {
            assert!(
                !users.render().expect_err("it cannot be written").to_string().contains("pencil")
            );
        }
    }
}
