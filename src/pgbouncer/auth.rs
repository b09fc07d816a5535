//! The lines about logins, which are forced once there is a backend: the lookup of passwords, and
//! the users of the console.

use super::choices::AuthType;
use super::ini::Ini;
use super::text::Unrepresentable;

/// The role that looks up passwords, and the users of the console. All three names consist of
/// letters, digits and `_`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auth {
    /// The role that looks up passwords. It owns a schema of the same name, with the lookup
    /// function.
    pub auth_user: String,
    /// The user that may use `SHOW`.
    pub stats_user: String,
    /// The user that may use every console command.
    pub admin_user: String,
    /// How clients prove their password.
    pub auth_type: AuthType,
}

/// The names of [`Auth::lines`], in their order.
pub(super) const LINES: [&str; 4] = ["auth_type", "auth_query", "admin_users", "stats_users"];

const QUERY: (&str, &str) = ("SELECT username, password FROM ", ".get_auth($1)");

impl Auth {
    /// The lines to force. An operator who changed one of them could let in everybody, or nobody.
    pub(super) fn lines(&self) -> Result<[(&'static str, String); 4], Unrepresentable> {
        for (name, what) in [
            (&self.auth_user, "auth_user"),
            (&self.stats_user, "stats_user"),
            (&self.admin_user, "admin_user"),
        ] {
            if !is_identifier(name) {
                return Err(Unrepresentable::new(
                    what,
                    "it is not a name of a-z, 0-9 and _ of at most 63 bytes",
                ));
            }
        }
        let [auth_type, auth_query, admin_users, stats_users] = LINES;
        Ok([
            // It must fit the verifiers in the user list: SCRAM refuses a list of MD5 ones.
            (auth_type, self.auth_type.to_string()),
            // The function that the charm made; the default reads pg_authid, which needs a
            // superuser.
            (auth_query, format!("{}{}{}", QUERY.0, self.auth_user, QUERY.1)),
            // Only the user whose password the charm keeps: others could read secrets by SHOW FDS.
            (admin_users, self.admin_user.clone()),
            // The user that the exporter logs in as.
            (stats_users, self.stats_user.clone()),
        ])
    }

    /// Reads the lines back: all of them as [`Auth::lines`] gives them, or none. The error is the
    /// name of a line and what is wrong with it.
    pub(super) fn read(ini: &Ini) -> Result<Option<Self>, (&'static str, &'static str)> {
        if LINES.iter().all(|name| ini.setting(name).is_none()) {
            return Ok(None);
        }
        let required = |name| ini.setting(name).ok_or((name, "it is missing"));
        let query = required("auth_query")?;
        let auth_user = query.strip_prefix(QUERY.0).and_then(|rest| rest.strip_suffix(QUERY.1));
        let auth = Self {
            auth_user: auth_user.unwrap_or_default().into(),
            stats_user: required("stats_users")?.into(),
            admin_user: required("admin_users")?.into(),
            auth_type: AuthType::parse(required("auth_type")?)
                .ok_or(("auth_type", "it is neither md5 nor scram-sha-256"))?,
        };
        for (name, value) in [
            ("auth_query", &auth.auth_user),
            ("stats_users", &auth.stats_user),
            ("admin_users", &auth.admin_user),
        ] {
            if !is_identifier(value) {
                return Err((name, "it is not what this charm writes"));
            }
        }
        Ok(Some(auth))
    }
}

/// Whether a name needs no quotes, and keeps its case, in SQL and in PgBouncer's lists.
fn is_identifier(name: &str) -> bool {
    let start = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'_');
    start
        && name.len() <= 63
        && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auth_lines_are_parsed_all_or_none() {
        let auth = Auth {
            auth_user: "pgbouncer_auth_relation_id_4".into(),
            stats_user: "stats".into(),
            admin_user: "admin".into(),
            auth_type: AuthType::Md5,
        };
        let lines = auth.lines().expect("all are names");
        assert_eq!(lines.each_ref().map(|(name, _)| *name), LINES);
        let ini = |lines: &[(&str, String)]| Ini {
            pgbouncer: lines.iter().map(|(name, value)| ((*name).into(), value.clone())).collect(),
            ..Ini::default()
        };
        assert_eq!(Auth::read(&ini(&lines)), Ok(Some(auth)));
        assert_eq!(Auth::read(&ini(&[])), Ok(None));
        for missing in LINES {
            let rest: Vec<_> = lines.iter().filter(|(name, _)| *name != missing).cloned().collect();
            assert_eq!(Auth::read(&ini(&rest)), Err((missing, "it is missing")));
        }
    }
}
