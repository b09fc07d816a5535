//! The roles that a client may ask for, by the rules of PostgreSQL's charms.

use super::version::ServerVersion;

/// The number of roles that a client may ask for.
const MOST: usize = 20;

/// The longest name of a role, in bytes.
const LONGEST: usize = 63;

/// The roles of `extra-user-roles`: in lower case, sorted and without duplicates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roles(Vec<String>);

/// The roles whose members work in other databases than their own.
const EVERY_DATABASE: [&str; 10] = [
    "admin",
    "charmed_admin",
    "charmed_backup",
    "charmed_databases_owner",
    "charmed_dba",
    "charmed_dml",
    "charmed_read",
    "charmed_stats",
    "createdb",
    "superuser",
];

/// The combinations that the charm of PostgreSQL 16 allows.
const FROM_16: [&[&str]; 7] = [
    &[],
    &["createdb"],
    &["charmed_admin"],
    &["charmed_dml"],
    &["charmed_read"],
    &["charmed_stats"],
    &["charmed_admin", "createdb"],
];

impl Roles {
    /// Reads a list separated by commas, without names that cannot be those of a role.
    pub fn parse(text: &str) -> Self {
        let is_role = |role: &&str| {
            !role.is_empty() && role.len() <= LONGEST && !role.contains(char::is_control)
        };
        let mut roles: Vec<String> =
            text.split(',').map(str::trim).filter(is_role).map(str::to_lowercase).collect();
        roles.sort();
        roles.dedup();
        roles.truncate(MOST);
        Self(roles)
    }

    /// Checks that [`Self::parse`] leaves nothing out of this list; the error has the reason.
    pub fn check_text(text: &str) -> Result<(), String> {
        let roles = || text.split(',').map(str::trim).filter(|role| !role.is_empty());
        if roles().count() > MOST {
            return Err(format!("it has more than {MOST} roles; ask for fewer"));
        }
        if roles().any(|role| role.len() > LONGEST) {
            return Err(format!("a role has more than {LONGEST} bytes; ask for others"));
        }
        if text.contains(char::is_control) {
            return Err("it has control characters; ask for other roles".to_owned());
        }
        Ok(())
    }

    /// The names of the roles.
    pub fn names(&self) -> &[String] {
        &self.0
    }

    /// Whether a client with these roles is to reach every database, not only the one it asked for.
    pub fn reach_every_database(&self) -> bool {
        self.0.iter().any(|role| EVERY_DATABASE.contains(&role.as_str()))
    }

    /// Checks that a client may ask for these roles; the error has the reason and the remedy. Up to
    /// 15 a role may be any group of the server, which only the server can check. The same holds
    /// while the version is not known.
    pub fn check(&self, version: Option<ServerVersion>) -> Result<(), String> {
        let refused = |remedy: &str| {
            Err(format!("invalid role(s) for extra user roles: {}; {remedy}", self.0.join(", ")))
        };
        if self.0.iter().any(|role| role == "superuser") {
            return refused(
                "superusers cannot log in through PgBouncer: relate to PostgreSQL itself",
            );
        }
        match version {
            Some(version)
                if version.has_catalog_roles() && !FROM_16.contains(&self.as_strs().as_slice()) =>
            {
                refused(
                    "PostgreSQL 16 has createdb, charmed_admin, these two together, charmed_dml, \
                     charmed_read and charmed_stats",
                )
            }
            _ => Ok(()),
        }
    }

    fn as_strs(&self) -> Vec<&str> {
        self.0.iter().map(String::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_trimmed_and_their_case_does_not_matter() {
        let roles = Roles::parse(" Admin, createdb ,,ADMIN");
        assert_eq!(roles.names(), ["admin", "createdb"]);
        assert!(roles.reach_every_database());
        assert_eq!(Roles::parse(" , "), Roles::default());
        assert!(
            !Roles::default().reach_every_database()
                && !Roles::parse("accounting").reach_every_database()
        );
    }

    #[test]
    fn a_list_that_is_too_long_or_has_odd_characters_is_refused_and_read_in_part() {
        let many = (0..21).map(|n| format!("r{n}")).collect::<Vec<_>>().join(",");
        let long = format!("{},admin", "x".repeat(64));
        for (text, is_fine, read) in [
            (many.as_str(), false, MOST),
            (long.as_str(), false, 1),
            ("superuser\0x,admin", false, 1),
            ("a\nb", false, 0),
            ("admin, createdb", true, 2),
            ("", true, 0),
        ] {
            assert_eq!(Roles::check_text(text).is_ok(), is_fine, "{text:?}");
            assert_eq!(Roles::parse(text).names().len(), read, "{text:?}");
        }
    }

    /// The roles for which the Python charm publishes the wildcard. With the next client it forgot
    /// two of them.
    #[test]
    fn every_role_that_reaches_all_databases_is_known() {
        let all = "admin superuser createdb charmed_admin charmed_backup charmed_databases_owner \
                   charmed_dba charmed_dml charmed_read charmed_stats";
        let reaches = |roles: &str| Roles::parse(roles).reach_every_database();
        for role in all.split(' ') {
            assert!(
                reaches(role) && reaches(&format!("accounting,{}", role.to_uppercase())),
                "{role}"
            );
        }
        assert_eq!(all.split(' ').count(), EVERY_DATABASE.len());
        for role in ["createrole", "charmed_pgbouncer_admin", "charmed", "pg_monitor"] {
            assert!(!reaches(role), "{role}");
        }
    }

    #[test]
    fn the_server_decides_by_its_version() {
        let check =
            |roles: &str, version: &str| Roles::parse(roles).check(ServerVersion::parse(version));
        for (roles, to_15, from_16) in [
            ("", true, true),
            ("createdb", true, true),
            ("admin", true, false),
            ("charmed_admin, createdb", true, true),
            ("charmed_dml, createdb", true, false),
            ("charmed_stats", true, true),
            ("charmed_dba", true, false),
            ("accounting", true, false),
            ("superuser", false, false),
            ("createdb,superuser", false, false),
        ] {
            assert_eq!(check(roles, "14.20").is_ok(), to_15, "{roles}");
            assert_eq!(check(roles, "16.10").is_ok(), from_16, "{roles}");
            assert_eq!(Roles::parse(roles).check(None).is_ok(), to_15, "{roles}");
        }
        let refused = check("Admin", "16.10").expect_err("there is no such role");
        assert!(refused.starts_with("invalid role(s) for extra user roles: admin; "), "{refused}");
    }
}
