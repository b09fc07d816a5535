//! The option `pgbouncer-parameters`: settings that the operator chooses.

use std::collections::BTreeMap;

use serde_yaml::Value;

use super::ini::Ini;
use super::layers::reserved;
use super::settings::{Kind, Section, lookup};
use super::text::printable;
use super::validate::validate;
use super::version::Version;

/// Settings of `[pgbouncer]` by name. None of them is reserved for the charm.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parameters(BTreeMap<&'static str, String>);

impl Parameters {
    /// Reads a YAML map; an empty text is an empty map. A list stands for its words, separated by
    /// commas.
    ///
    /// The error is part of a status. [`check`](Self::check) checks the values for a version.
    pub fn parse(yaml: &str) -> Result<Self, String> {
        let map = match serde_yaml::from_str(yaml) {
            Ok(Value::Null) => return Ok(Self::default()),
            Ok(Value::Mapping(map)) => map,
            Ok(_) => {
                return Err("set it to a map in YAML, such as {query_wait_timeout: 60}".to_owned());
            }
            Err(error) => return Err(format!("set it to a map in YAML: {error}")),
        };
        let mut parameters = Self::default();
        let add = |(name, value)| parameters.add(name, value).err();
        let reasons: Vec<_> = map.iter().filter_map(add).collect();
        if reasons.is_empty() { Ok(parameters) } else { Err(reasons.join("; ")) }
    }

    fn add(&mut self, name: &Value, value: &Value) -> Result<(), String> {
        let name = name.as_str().ok_or("a name is not a word")?;
        let unknown = || {
            format!("cannot set {}: there is no such setting; check its spelling", printable(name))
        };
        let setting = lookup(Section::Pgbouncer, name).ok_or_else(unknown)?;
        let name = setting.name;
        let value = text(value, setting.kind).ok_or_else(|| {
            format!("cannot set {name}: its value is neither a word, a number nor a list of words")
        })?;
        // The charm still reads what an earlier revision published.
        if name == "server_login_retry" && value.parse().is_ok_and(|seconds: f64| seconds < 0.1) {
            return Err(format!(
                "cannot set {name} to {value}: a server that is down would then cost half a \
                 processor; set it to 0.1 or more"
            ));
        }
        self.insert(name, value)
    }

    /// Adds a setting, unless it is reserved for the charm.
    pub(super) fn insert(&mut self, name: &'static str, value: String) -> Result<(), String> {
        if let Some(reason) = reserved(name) {
            return Err(format!("cannot set {name}: {reason}"));
        }
        match self.0.insert(name, value) {
            None => Ok(()),
            Some(_) => Err(format!("cannot set {name}: it is given twice")),
        }
    }

    /// Checks that a process of this version accepts all settings.
    pub fn check(&self, version: Version) -> Result<(), String> {
        let own = |(name, value): (&&'static str, &String)| ((*name).to_owned(), value.clone());
        let ini = Ini { pgbouncer: self.0.iter().map(own).collect(), ..Ini::default() };
        let text = ini.render(Version::NEWEST).map_err(|error| error.to_string())?;
        match validate(&text, version) {
            Ok(_) => Ok(()),
            Err(found) => {
                let reasons: Vec<_> = found.into_iter().map(|finding| finding.reason).collect();
                Err(reasons.join("; "))
            }
        }
    }

    /// The value of a setting.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The settings, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(name, value)| (*name, value.as_str()))
    }

    /// Whether the operator has chosen no settings.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A value as it is written in the file.
fn text(value: &Value, kind: Kind) -> Option<String> {
    match value {
        Value::Bool(value) if kind == Kind::Bool => Some(u8::from(*value).to_string()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Number(value) => Some(value.to_string()),
        Value::String(value) => Some(value.clone()),
        Value::Sequence(values) => {
            let words: Option<Vec<_>> = values.iter().map(Value::as_str).collect();
            Some(words?.join(","))
        }
        Value::Null | Value::Mapping(_) | Value::Tagged(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn parameters(yaml: &str) -> Vec<(&'static str, String)> {
        let parameters = Parameters::parse(yaml).expect("it can be set");
        parameters.iter().map(|(name, value)| (name, value.to_owned())).collect()
    }

    #[test]
    fn values_are_converted_for_the_file() {
        assert_eq!(parameters(""), []);
        assert_eq!(parameters("{}"), []);
        assert_eq!(
            parameters(
                "query_wait_timeout: 60\nserver_round_robin: true\nmax_client_conn: '500'\n\
                 ignore_startup_parameters: [search_path, application_name]\ndns_max_ttl: 1.5\n"
            ),
            [
                ("dns_max_ttl", "1.5".to_owned()),
                ("ignore_startup_parameters", "search_path,application_name".to_owned()),
                ("max_client_conn", "500".to_owned()),
                ("query_wait_timeout", "60".to_owned()),
                ("server_round_robin", "1".to_owned()),
            ]
        );
    }

    #[test]
    fn invalid_parameters_are_refused_with_a_reason() {
        for (yaml, words) in [
            ("query_wait_timeout", "set it to a map in YAML, such as {query_wait_timeout: 60}"),
            ("{", "set it to a map in YAML: "),
            ("{a: 1, a: 2}", "duplicate entry"),
            ("querywait: 1", "cannot set querywait: there is no such setting; check its spelling"),
            ("7: 1", "a name is not a word"),
            (
                "query_wait_timeout:",
                "cannot set query_wait_timeout: its value is neither a word, a number nor",
            ),
            ("query_wait_timeout: {a: 1}", "its value is neither"),
            ("QUERY_WAIT_TIMEOUT: 2", "there is no such setting"),
            ("listen_port: 5432", "cannot set listen_port: it has an option of its own"),
            ("auth_type: trust", "cannot set auth_type: the charm decides who may log in and how"),
            (
                "server_tls_sslmode: verify-full",
                "cannot set server_tls_sslmode: it has an option of its own",
            ),
            (
                "server_login_retry: 0.0",
                "cannot set server_login_retry to 0.0: a server that is down would then cost half \
                 a processor; set it to 0.1 or more",
            ),
        ] {
            let error = Parameters::parse(yaml).expect_err(yaml);
            assert!(error.contains(words), "{yaml}: {error}");
        }
    }

    #[test]
    fn a_value_is_checked_for_the_running_version() {
        for (yaml, minor, words) in [
            (
                "pkt_buf: 1",
                24,
                "cannot set pkt_buf to 1: set it to a whole number from 512 to 1048576",
            ),
            (
                "transaction_timeout: 5",
                24,
                "cannot set transaction_timeout: PgBouncer 1.24.0 does not know it; it needs 1.25.0",
            ),
            (
                "server_round_robin: maybe",
                24,
                "cannot set server_round_robin to maybe: set it to 0 or 1",
            ),
            ("tcp_keepcnt: true", 24, "cannot set tcp_keepcnt to true"),
            ("track_extra_parameters: [options]", 24, "options cannot be tracked"),
            ("'server_check_query': \"select 1\\nmax_client_conn = 1\"", 24, "line break"),
        ] {
            let error = Parameters::parse(yaml)
                .expect("a map")
                .check(Version::new(1, minor))
                .expect_err(yaml);
            assert!(error.contains(words), "{yaml}: {error}");
        }
        let newest = Parameters::parse("transaction_timeout: 5").expect("a map");
        assert_eq!(newest.check(Version::new(1, 25)), Ok(()));
    }
}
