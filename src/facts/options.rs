//! The charm's options: parsed, validated, and chosen.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::pgbouncer::{Parameters, PoolMode, SharedConfig, SslMode, Version, hex};
use crate::workload::EXPORTER_PORT;

/// The options of `config.yaml`, each with a valid value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// TCP port of every PgBouncer process of every unit.
    pub listen_port: u16,
    /// When a server connection returns to the pool.
    pub pool_mode: PoolMode,
    /// Maximum number of server connections for each database and process; 0 means no limit.
    pub max_db_connections: u32,
    /// Number of prepared statements kept on each server connection; 0 turns tracking off.
    pub max_prepared_statements: u16,
    /// How much TLS clients must use.
    pub client_tls_sslmode: SslMode,
    /// How much TLS PgBouncer demands of PostgreSQL.
    pub server_tls_sslmode: SslMode,
    /// Other settings of PgBouncer.
    pub parameters: Parameters,
}

/// An option with an invalid value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Error)]
pub enum InvalidOption {
    /// A value that is malformed, out of range, or refused by PgBouncer.
    #[error("{option} is {value}: set it to {remedy}")]
    Value {
        /// The name of the option in `config.yaml`.
        option: &'static str,
        /// The value as Juju returned it.
        value: String,
        /// The values that the option accepts.
        remedy: &'static str,
    },
    /// A mode of TLS that cannot be met now.
    #[error("{option} is {mode}: {reason}")]
    Unmet {
        /// The name of the option in `config.yaml`.
        option: &'static str,
        /// Its value.
        mode: String,
        /// The reason and the remedy.
        reason: String,
    },
    /// Invalid settings in `pgbouncer-parameters`, with the reasons.
    #[error("pgbouncer-parameters: {0}")]
    Parameters(String),
}

impl InvalidOption {
    /// The name of the option in `config.yaml`.
    pub fn option(&self) -> &'static str {
        match self {
            Self::Value { option, .. } | Self::Unmet { option, .. } => option,
            Self::Parameters(_) => "pgbouncer-parameters",
        }
    }

    /// A mode of TLS that cannot be met now, with the reason.
    pub fn unmet(option: &'static str, mode: SslMode, reason: String) -> Self {
        Self::Unmet { option, mode: mode.to_string(), reason }
    }

    /// A port on which PgBouncer could not listen.
    pub fn refused_port(port: u16) -> Self {
        let remedy = "a port on which PgBouncer can listen; PgBouncer's log has the reason";
        invalid("listen_port", &port.into(), remedy)
    }
}

/// The ports of other listeners in a pod: the exporters of up to four processes, and Pebble in both
/// containers.
const TAKEN: [u16; 6] =
    [EXPORTER_PORT, EXPORTER_PORT + 1, EXPORTER_PORT + 2, EXPORTER_PORT + 3, 38812, 38813];

fn listen_port(config: &Map<String, Value>) -> Result<u16, InvalidOption> {
    let port = integer(config, "listen_port", 6432, 1..=u16::MAX, "a port between 1 and 65535")?;
    if TAKEN.contains(&port) {
        let remedy = "a port that nothing else in the pod uses: not 9127 to 9130, 38812 or 38813";
        return Err(invalid("listen_port", &port.into(), remedy));
    }
    Ok(port)
}

impl Options {
    /// Parses the output of `config-get`: the options, or all that are invalid. A missing option
    /// has the default of `config.yaml`.
    pub fn parse(config: &Map<String, Value>) -> Result<Self, Vec<InvalidOption>> {
        let mut invalid = Vec::new();
        let listen_port = valid(listen_port(config), &mut invalid);
        let pool_mode = valid(pool_mode(config), &mut invalid);
        let connections = integer(
            config,
            "max_db_connections",
            100,
            0..=i32::MAX.unsigned_abs(),
            "a number between 0 (no limit) and 2147483647",
        );
        let max_db_connections = valid(connections, &mut invalid);
        let statements = integer(
            config,
            "max_prepared_statements",
            100,
            0..=1000,
            "a number between 0 (off) and 1000",
        );
        let max_prepared_statements = valid(statements, &mut invalid);
        let client_tls_sslmode = valid(sslmode(config, "client_tls_sslmode"), &mut invalid);
        let server_tls_sslmode = valid(sslmode(config, "server_tls_sslmode"), &mut invalid);
        let parameters = Parameters::parse(&text(config, "pgbouncer-parameters", ""));
        let parameters = valid(parameters.map_err(InvalidOption::Parameters), &mut invalid);
        let options = || {
            Some(Self {
                listen_port: listen_port?,
                pool_mode: pool_mode?,
                max_db_connections: max_db_connections?,
                max_prepared_statements: max_prepared_statements?,
                client_tls_sslmode: client_tls_sslmode?,
                server_tls_sslmode: server_tls_sslmode?,
                parameters: parameters?,
            })
        };
        options().ok_or(invalid)
    }

    /// The options of a configuration.
    pub fn of(config: SharedConfig) -> Self {
        let SharedConfig {
            listen_port,
            pool_mode,
            max_db_connections,
            max_prepared_statements,
            client_tls_sslmode,
            server_tls_sslmode,
            parameters,
            ..
        } = config;
        Self {
            listen_port,
            pool_mode,
            max_db_connections,
            max_prepared_statements,
            client_tls_sslmode,
            server_tls_sslmode,
            parameters,
        }
    }

    /// `pgb-` and 24 hexadecimal digits of a SHA-256 digest of all values.
    pub fn digest(&self) -> String {
        format!("pgb-{}", &hex(&Sha256::digest(format!("{self:?}")))[..24])
    }

    /// Checks the options about clients outside the cluster. The check is separate from
    /// [`Self::parse`], so that an invalid value here does not affect clients inside the cluster.
    pub fn check_exposure(config: &Map<String, Value>) -> Result<(), InvalidOption> {
        expose_external(config)?;
        let (option, default) = ("loadbalancer-extra-annotations", "{}");
        let value = text(config, option, default);
        match serde_json::from_str::<BTreeMap<String, String>>(&value) {
            Ok(_) => Ok(()),
            Err(_) => Err(invalid(
                option,
                &value.into(),
                "a JSON object of strings, such as {\"a\": \"b\"}, or to {}",
            )),
        }
    }

    /// Checks the options against PgBouncer's version, and against the port that was `refused`.
    pub fn check(&self, version: Version, refused: Option<u16>) -> Result<(), Vec<InvalidOption>> {
        let port = refused.filter(|port| *port == self.listen_port);
        let parameters = self.parameters.check(version).map_err(InvalidOption::Parameters).err();
        let invalid: Vec<_> =
            port.map(InvalidOption::refused_port).into_iter().chain(parameters).collect();
        if invalid.is_empty() { Ok(()) } else { Err(invalid) }
    }
}

/// The options in force, and the options that are invalid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChosenOptions {
    /// The options in force; `None` if no valid options were ever published or loaded.
    pub options: Option<Options>,
    /// The invalid options. If there are any, `options` are the last valid ones.
    pub invalid: Vec<InvalidOption>,
}

/// The input of [`ChosenOptions::choose`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionFacts {
    /// The options that the operator set.
    pub wanted: Result<Options, Vec<InvalidOption>>,
    /// The version of this unit's PgBouncer; the newest known version if it is unknown.
    pub version: Version,
    /// The port on which PgBouncer could not listen here.
    pub refused_port: Option<u16>,
    /// The modes of TLS that cannot be met now.
    pub unmet_tls: Vec<InvalidOption>,
    /// The options of the published configuration.
    pub published: Option<Options>,
    /// The options of the configuration in this unit's files.
    pub kept: Option<Options>,
    /// This unit's PgBouncer is reachable.
    pub is_reachable: bool,
}

impl ChosenOptions {
    /// Chooses the options in force. If one option is invalid, all options keep their last valid
    /// values, so that clients and changes of the primary are still handled.
    pub fn choose(facts: OptionFacts) -> Self {
        let OptionFacts { wanted, version, refused_port, published, kept, is_reachable, .. } =
            facts;
        let checked = wanted.and_then(|options| {
            let mut invalid = options.check(version, refused_port).err().unwrap_or_default();
            invalid.extend(facts.unmet_tls);
            if invalid.is_empty() { Ok(options) } else { Err(invalid) }
        });
        match checked {
            Ok(mut options) => {
                // The port changes only while the leader's own processes can try it first.
                if let Some(last) = published.filter(|_| !is_reachable) {
                    options.listen_port = last.listen_port;
                }
                Self { options: Some(options), invalid: Vec::new() }
            }
            Err(invalid) => Self { options: published.or(kept), invalid },
        }
    }
}

/// The value of an option. An invalid value is added to `invalid`.
fn valid<T>(parsed: Result<T, InvalidOption>, invalid: &mut Vec<InvalidOption>) -> Option<T> {
    parsed.map_err(|error| invalid.push(error)).ok()
}

fn integer<T: TryFrom<i32> + PartialOrd>(
    config: &Map<String, Value>,
    option: &'static str,
    default: i32,
    range: RangeInclusive<T>,
    remedy: &'static str,
) -> Result<T, InvalidOption> {
    let value =
        config.get(option).filter(|value| !value.is_null()).cloned().unwrap_or(default.into());
    // Juju handles numbers as floats, so 6432 may arrive as 6432.0.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "only whole numbers within i32 pass the filter"
    )]
    let number = value
        .as_f64()
        .filter(|number| number.fract() == 0.0 && (0.0..=f64::from(i32::MAX)).contains(number))
        .map(|number| number as i32);
    number
        .and_then(|number| T::try_from(number).ok())
        .filter(|number| range.contains(number))
        .ok_or_else(|| invalid(option, &value, remedy))
}

fn pool_mode(config: &Map<String, Value>) -> Result<PoolMode, InvalidOption> {
    let value = text(config, "pool_mode", "session");
    PoolMode::parse(&value)
        .ok_or_else(|| invalid("pool_mode", &value.into(), "session, transaction or statement"))
}

fn sslmode(config: &Map<String, Value>, option: &'static str) -> Result<SslMode, InvalidOption> {
    let value = text(config, option, "prefer");
    let remedy = "disable, allow, prefer, require, verify-ca or verify-full";
    SslMode::parse(&value).ok_or_else(|| invalid(option, &value.into(), remedy))
}

fn expose_external(config: &Map<String, Value>) -> Result<(), InvalidOption> {
    let option = "expose-external";
    match text(config, option, "false").as_str() {
        "false" => Ok(()),
        value @ ("nodeport" | "loadbalancer") => {
            Err(invalid(option, &value.into(), "false; other values are not supported yet"))
        }
        value => Err(invalid(option, &value.into(), "false, nodeport or loadbalancer")),
    }
}

fn text(config: &Map<String, Value>, option: &str, default: &str) -> String {
    config
        .get(option)
        .and_then(Value::as_str)
        .filter(|text| !text.is_empty())
        .unwrap_or(default)
        .to_owned()
}

fn invalid(option: &'static str, value: &Value, remedy: &'static str) -> InvalidOption {
    let mut value = value.to_string();
    if value.chars().count() > 40 {
        value = value.chars().take(39).chain(['…']).collect();
    }
    InvalidOption::Value { option, value, remedy }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn options(config: &Value) -> Result<Options, String> {
        let all = |invalid: Vec<InvalidOption>| {
            invalid.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        };
        Options::parse(config.as_object().expect("a map")).map_err(all)
    }

    #[test]
    fn a_missing_option_has_the_default_of_config_yaml() {
        let expected = Options {
            listen_port: 6432,
            pool_mode: PoolMode::Session,
            max_db_connections: 100,
            max_prepared_statements: 100,
            client_tls_sslmode: SslMode::Prefer,
            server_tls_sslmode: SslMode::Prefer,
            parameters: Parameters::default(),
        };
        assert_eq!(options(&json!({})), Ok(expected.clone()));
        assert_eq!(
            options(&json!({"listen_port": 6432.0, "pool_mode": "", "expose-external": "false"})),
            Ok(expected)
        );
    }

    #[test]
    fn an_invalid_value_is_rejected_with_option_value_and_remedy() {
        for (config, words) in [
            (json!({"listen_port": 0}), "listen_port is 0: set it to a port between 1 and 65535"),
            (json!({"listen_port": 70000}), "listen_port is 70000"),
            (
                json!({"listen_port": 9127}),
                "listen_port is 9127: set it to a port that nothing else",
            ),
            (
                json!({"pool_mode": "swimming"}),
                "pool_mode is \"swimming\": set it to session, transaction or statement",
            ),
            (json!({"max_db_connections": -1}), "max_db_connections is -1"),
            (json!({"max_db_connections": 1.5}), "max_db_connections is 1.5"),
            (json!({"max_prepared_statements": 1001}), "between 0 (off) and 1000"),
            (
                json!({"pgbouncer-parameters": "{auth_type: any}"}),
                "pgbouncer-parameters: cannot set auth_type: the charm decides",
            ),
            (
                json!({"listen_port": 0, "pool_mode": "x", "max_prepared_statements": "y"}),
                "65535; pool_mode is \"x\": set it to session, transaction or statement; \
                 max_prepared_statements is \"y\"",
            ),
            (
                json!({"pgbouncer-parameters": "{nonsense: 1, auth_type: any}", "listen_port": -1}),
                "65535; pgbouncer-parameters: cannot set nonsense: there is no such setting; check \
                 its spelling; cannot set auth_type: the charm decides",
            ),
        ] {
            let error = options(&config).expect_err(words);
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn invalid_options_about_external_clients_do_not_affect_other_options() {
        for (config, words) in [
            (json!({"expose-external": "nodeport"}), "not supported yet"),
            (json!({"expose-external": "moon"}), "false, nodeport or loadbalancer"),
            (
                json!({"loadbalancer-extra-annotations": "{"}),
                "annotations is \"{\": set it to a JSON object",
            ),
            (
                json!({"loadbalancer-extra-annotations": "{\"a\": 1}"}),
                "set it to a JSON object of strings",
            ),
        ] {
            assert!(options(&config).is_ok());
            let error =
                Options::check_exposure(config.as_object().expect("a map")).expect_err(words);
            assert!(error.to_string().contains(words), "{error}");
        }
        let annotated = json!({"loadbalancer-extra-annotations": "{\"a\": \"b\"}"});
        assert_eq!(Options::check_exposure(annotated.as_object().expect("a map")), Ok(()));
    }

    fn facts() -> OptionFacts {
        let options =
            |port| Options { listen_port: port, ..Options::parse(&Map::new()).expect("defaults") };
        OptionFacts {
            wanted: Ok(options(6543)),
            version: Version::new(1, 18),
            refused_port: None,
            unmet_tls: Vec::new(),
            published: Some(options(6432)),
            kept: Some(options(6000)),
            is_reachable: true,
        }
    }

    #[track_caller]
    fn choose(facts: OptionFacts) -> (Option<u16>, Option<String>) {
        let ChosenOptions { options, invalid } = ChosenOptions::choose(facts);
        assert!(invalid.len() <= 1, "{invalid:?}");
        let invalid = invalid.first().map(ToString::to_string);
        (options.map(|options| options.listen_port), invalid)
    }

    #[test]
    fn valid_options_are_chosen() {
        assert_eq!(choose(facts()), (Some(6543), None));
    }

    #[test]
    fn an_invalid_option_keeps_the_last_valid_values_of_all() {
        let unusable = || InvalidOption::Parameters("no".into());
        let invalid = Some("pgbouncer-parameters: no".to_owned());
        let wanted = || Err(vec![unusable()]);
        assert_eq!(
            choose(OptionFacts { wanted: wanted(), ..facts() }),
            (Some(6432), invalid.clone())
        );
        let unpublished = OptionFacts { wanted: wanted(), published: None, ..facts() };
        assert_eq!(choose(unpublished.clone()), (Some(6000), invalid.clone()));
        assert_eq!(choose(OptionFacts { kept: None, ..unpublished }), (None, invalid));
    }

    #[test]
    fn a_setting_unknown_to_the_running_version_is_invalid() {
        let config =
            json!({"pgbouncer-parameters": "{client_idle_timeout: 5, query_wait_notify: 7}"});
        let wanted = Options::parse(config.as_object().expect("a map"));
        let asks = |version| OptionFacts { wanted: wanted.clone(), version, ..facts() };
        assert_eq!(choose(asks(Version::NEWEST)).1, None);
        assert!(
            choose(asks(Version::new(1, 18))).1.expect("a reason").contains("query_wait_notify")
        );
    }

    #[test]
    fn a_refused_port_is_invalid() {
        let refused = choose(OptionFacts { refused_port: Some(6543), ..facts() });
        assert_eq!(refused.0, Some(6432));
        assert!(
            refused
                .1
                .expect("a reason")
                .starts_with("listen_port is 6543: set it to a port on which")
        );
    }

    #[test]
    fn the_port_does_not_change_while_the_leaders_own_pgbouncer_is_unreachable() {
        assert_eq!(choose(OptionFacts { is_reachable: false, ..facts() }), (Some(6432), None));
        let first = OptionFacts { is_reachable: false, published: None, ..facts() };
        assert_eq!(choose(first), (Some(6543), None));
    }
}
