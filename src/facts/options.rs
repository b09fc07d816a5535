//! The charm's options, typed and validated.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use thiserror::Error;

use crate::pgbouncer::{Parameters, PoolMode, SharedConfig, Version};

/// The options of `config.yaml` with a valid value each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// TCP port of every PgBouncer process of every unit.
    pub listen_port: u16,
    /// When a server connection goes back to the pool.
    pub pool_mode: PoolMode,
    /// Server connections for each database and process; 0 is no limit.
    pub max_db_connections: u32,
    /// Prepared statements kept for each server connection; 0 turns the tracking off.
    pub max_prepared_statements: u16,
    /// Other settings of PgBouncer.
    pub parameters: Parameters,
}

/// An option whose value cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Error)]
pub enum InvalidOption {
    /// Out of its range.
    #[error("{option} is {value}: set it to {remedy}")]
    Value {
        /// Its name in `config.yaml`.
        option: &'static str,
        /// The value as Juju gave it.
        value: String,
        /// What it may be.
        remedy: &'static str,
    },
    /// Something in `pgbouncer-parameters`, with the reason.
    #[error("pgbouncer-parameters: {0}")]
    Parameters(String),
}

impl InvalidOption {
    /// A port that PgBouncer could not have.
    pub fn refused_port(port: u16) -> Self {
        let remedy = "a port that PgBouncer can have; its log says why not this one";
        invalid("listen_port", &port.into(), remedy)
    }
}

/// What else listens in a pod: the exporters of up to four processes, and Pebble in both containers.
const TAKEN: [u16; 6] = [9127, 9128, 9129, 9130, 38812, 38813];

fn listen_port(config: &Map<String, Value>) -> Result<u16, InvalidOption> {
    let port = integer(config, "listen_port", 6432, 1, "a port between 1 and 65535")?;
    if TAKEN.contains(&port) {
        let remedy = "a port that nothing else in the pod has: not 9127 to 9130, 38812 or 38813";
        return Err(invalid("listen_port", &port.into(), remedy));
    }
    Ok(port)
}

impl Options {
    /// Reads what `config-get` answered. An option that is missing has the default of `config.yaml`.
    pub fn parse(config: &Map<String, Value>) -> Result<Self, InvalidOption> {
        Ok(Self {
            listen_port: listen_port(config)?,
            pool_mode: pool_mode(config)?,
            max_db_connections: integer(
                config,
                "max_db_connections",
                100,
                0,
                "a number between 0 (no limit) and 2147483647",
            )?,
            max_prepared_statements: integer(
                config,
                "max_prepared_statements",
                100,
                0,
                "a number between 0 (off) and 1000",
            )
            .and_then(|value: u16| {
                (value <= 1000).then_some(value).ok_or_else(|| {
                    invalid("max_prepared_statements", &value.into(), "a number between 0 (off) and 1000")
                })
            })?,
            parameters: Parameters::parse(&text(config, "pgbouncer-parameters", ""))
                .map_err(InvalidOption::Parameters)?,
        })
    }

    /// Those that a configuration was made with.
    pub fn of(config: SharedConfig) -> Self {
        let SharedConfig {
            listen_port,
            pool_mode,
            max_db_connections,
            max_prepared_statements,
            parameters,
            ..
        } = config;
        Self { listen_port, pool_mode, max_db_connections, max_prepared_statements, parameters }
    }

    /// Whether clients outside the cluster are served as the options say. That they are not is no reason to keep
    /// those inside from what they need.
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

    /// Whether PgBouncer of this version, to which that port was `refused`, can do what the options ask for.
    pub fn check(&self, version: Version, refused: Option<u16>) -> Result<(), InvalidOption> {
        if refused == Some(self.listen_port) {
            return Err(InvalidOption::refused_port(self.listen_port));
        }
        self.parameters.check(version).map_err(InvalidOption::Parameters)
    }
}

/// The options to go by, and the one that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChosenOptions {
    /// The options; nothing where none were ever usable.
    pub options: Option<Options>,
    /// The option that cannot be used. While there is one, `options` are the last usable ones.
    pub invalid: Option<InvalidOption>,
}

/// What [`ChosenOptions::choose`] chooses from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionFacts {
    /// What the operator asks for.
    pub wanted: Result<Options, InvalidOption>,
    /// The PgBouncer of this unit; the newest known while nothing is known of it.
    pub version: Version,
    /// The port that PgBouncer could not have here.
    pub refused_port: Option<u16>,
    /// The options of the published configuration.
    pub published: Option<Options>,
    /// The options of the configuration in this unit's files.
    pub kept: Option<Options>,
    /// The processes of this unit can be reached.
    pub is_here: bool,
}

impl ChosenOptions {
    /// While one option cannot be used, all options stay as they were when they last could be:
    /// clients come and go, and another primary is followed.
    pub fn choose(facts: OptionFacts) -> Self {
        let OptionFacts { wanted, version, refused_port, published, kept, is_here } = facts;
        match wanted.and_then(|options| options.check(version, refused_port).map(|()| options)) {
            Ok(mut options) => {
                // A port moves only when the leader's own processes can try it first.
                if let Some(last) = published.filter(|_| !is_here) {
                    options.listen_port = last.listen_port;
                }
                Self { options: Some(options), invalid: None }
            }
            Err(invalid) => Self { options: published.or(kept), invalid: Some(invalid) },
        }
    }
}

fn integer<T: TryFrom<i32> + PartialOrd + From<u8>>(
    config: &Map<String, Value>,
    option: &'static str,
    default: i32,
    least: u8,
    remedy: &'static str,
) -> Result<T, InvalidOption> {
    let value = config.get(option).filter(|value| !value.is_null()).cloned().unwrap_or(default.into());
    // Juju carries numbers as floats, so 6432 may arrive as 6432.0.
    #[expect(clippy::cast_possible_truncation, reason = "only whole numbers within i32 pass the filter")]
    let number = value
        .as_f64()
        .filter(|number| number.fract() == 0.0 && (0.0..=f64::from(i32::MAX)).contains(number))
        .map(|number| number as i32);
    number
        .and_then(|number| T::try_from(number).ok())
        .filter(|number| *number >= T::from(least))
        .ok_or_else(|| invalid(option, &value, remedy))
}

fn pool_mode(config: &Map<String, Value>) -> Result<PoolMode, InvalidOption> {
    let value = text(config, "pool_mode", "session");
    PoolMode::parse(&value)
        .ok_or_else(|| invalid("pool_mode", &value.into(), "session, transaction or statement"))
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
    config.get(option).and_then(Value::as_str).filter(|text| !text.is_empty()).unwrap_or(default).to_owned()
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
        Options::parse(config.as_object().expect("a map")).map_err(|invalid| invalid.to_string())
    }

    #[test]
    fn what_is_missing_has_the_default_of_config_yaml() {
        let expected = Options {
            listen_port: 6432,
            pool_mode: PoolMode::Session,
            max_db_connections: 100,
            max_prepared_statements: 100,
            parameters: Parameters::default(),
        };
        assert_eq!(options(&json!({})), Ok(expected.clone()));
        assert_eq!(
            options(&json!({"listen_port": 6432.0, "pool_mode": "", "expose-external": "false"})),
            Ok(expected)
        );
    }

    #[test]
    fn an_invalid_value_is_refused_with_option_value_and_remedy() {
        for (config, words) in [
            (json!({"listen_port": 0}), "listen_port is 0: set it to a port between 1 and 65535"),
            (json!({"listen_port": 70000}), "listen_port is 70000"),
            (json!({"listen_port": 9127}), "listen_port is 9127: set it to a port that nothing else"),
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
        ] {
            let error = options(&config).expect_err(words);
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn what_is_not_exposed_as_asked_for_is_told_and_stops_nothing_else() {
        for (config, words) in [
            (json!({"expose-external": "nodeport"}), "not supported yet"),
            (json!({"expose-external": "moon"}), "false, nodeport or loadbalancer"),
            (json!({"loadbalancer-extra-annotations": "{"}), "annotations is \"{\": set it to a JSON object"),
            (json!({"loadbalancer-extra-annotations": "{\"a\": 1}"}), "set it to a JSON object of strings"),
        ] {
            assert!(options(&config).is_ok());
            let error = Options::check_exposure(config.as_object().expect("a map")).expect_err(words);
            assert!(error.to_string().contains(words), "{error}");
        }
        let annotated = json!({"loadbalancer-extra-annotations": "{\"a\": \"b\"}"});
        assert_eq!(Options::check_exposure(annotated.as_object().expect("a map")), Ok(()));
    }

    fn facts() -> OptionFacts {
        let options = |port| Options { listen_port: port, ..Options::parse(&Map::new()).expect("defaults") };
        OptionFacts {
            wanted: Ok(options(6543)),
            version: Version::new(1, 18),
            refused_port: None,
            published: Some(options(6432)),
            kept: Some(options(6000)),
            is_here: true,
        }
    }

    #[track_caller]
    fn choose(facts: OptionFacts) -> (Option<u16>, Option<String>) {
        let ChosenOptions { options, invalid } = ChosenOptions::choose(facts);
        (options.map(|options| options.listen_port), invalid.map(|invalid| invalid.to_string()))
    }

    #[test]
    fn usable_options_are_taken() {
        assert_eq!(choose(facts()), (Some(6543), None));
    }

    #[test]
    fn an_option_that_cannot_be_used_leaves_all_as_they_last_were() {
        let unusable = || InvalidOption::Parameters("no".into());
        let invalid = Some("pgbouncer-parameters: no".to_owned());
        let wanted = || Err(unusable());
        assert_eq!(choose(OptionFacts { wanted: wanted(), ..facts() }), (Some(6432), invalid.clone()));
        let unpublished = OptionFacts { wanted: wanted(), published: None, ..facts() };
        assert_eq!(choose(unpublished.clone()), (Some(6000), invalid.clone()));
        assert_eq!(choose(OptionFacts { kept: None, ..unpublished }), (None, invalid));
    }

    #[test]
    fn a_setting_that_the_running_version_does_not_know_cannot_be_used() {
        let config = json!({"pgbouncer-parameters": "{client_idle_timeout: 5, query_wait_notify: 7}"});
        let wanted = Options::parse(config.as_object().expect("a map"));
        let asks = |version| OptionFacts { wanted: wanted.clone(), version, ..facts() };
        assert_eq!(choose(asks(Version::NEWEST)).1, None);
        assert!(choose(asks(Version::new(1, 18))).1.expect("a reason").contains("query_wait_notify"));
    }

    #[test]
    fn a_refused_port_cannot_be_used() {
        let refused = choose(OptionFacts { refused_port: Some(6543), ..facts() });
        assert_eq!(refused.0, Some(6432));
        assert!(refused.1.expect("a reason").starts_with("listen_port is 6543: set it to a port that"));
    }

    #[test]
    fn a_port_does_not_move_while_the_leaders_own_processes_cannot_be_reached() {
        assert_eq!(choose(OptionFacts { is_here: false, ..facts() }), (Some(6432), None));
        let first = OptionFacts { is_here: false, published: None, ..facts() };
        assert_eq!(choose(first), (Some(6543), None));
    }
}
