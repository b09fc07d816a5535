//! What PgBouncer makes of our files, told by real processes of every version that is here.

#![expect(clippy::disallowed_methods, reason = "a test sets up the processes it asks")]

mod servers;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use nix::unistd::{User as SystemUser, geteuid};
use pgbouncer_k8s::pgbouncer::difference::{Difference, Need};
use pgbouncer_k8s::pgbouncer::ini::{ConnectionString, Ini};
use pgbouncer_k8s::pgbouncer::settings::{Change, Initial, Kind, Section, Setting, TABLE, check};
use pgbouncer_k8s::pgbouncer::validate::validate;
use pgbouncer_k8s::pgbouncer::{User, UserList, Version};
use pgbouncer_k8s::postgres::AllowedMethods;
use pgbouncer_k8s::secret::Secret;
use pgbouncer_k8s::workload::console::{Console, ConsoleError, InForce};
use servers::bench::Bench;
use servers::pgbouncer::{Program, installed};
use tokio::runtime::Runtime;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, NoTls, SimpleColumn, SimpleQueryMessage, SimpleQueryRow};

/// What PgBouncer logs when it refuses a file.
const RELOAD_FAILED: &str = "config file loading failed";

impl Bench {
    /// The file of some settings that a console can be reached with.
    fn file(&self, settings: &Settings) -> String {
        let mut text = String::from("[databases]\nx = host=127.0.0.1 port=1\n[pgbouncer]\n");
        if !settings.contains_key("unix_socket_dir") {
            writeln!(text, "unix_socket_dir = {}", self.directory.display()).expect("a text");
        }
        for (name, value) in settings {
            writeln!(text, "{name} = {value}").expect("a text");
        }
        text
    }

    /// Values of a setting that we take and a process can be started with, each in the spelling of
    /// `SHOW CONFIG`.
    fn values(&self, setting: &Setting) -> Vec<String> {
        let own: &[&str] = match (setting.name, setting.kind) {
            // The process has only this directory, this user and these files.
            ("unix_socket_dir", _) => return vec![self.directory.display().to_string()],
            ("conffile", _) => return vec![self.path("pgbouncer.ini")],
            ("pidfile" | "logfile", _) => return vec![String::new(), self.path(setting.name)],
            ("client_tls_key_file" | "client_tls_cert_file", _) => {
                return vec![self.path(setting.name)];
            }
            ("client_tls_ca_file" | "server_tls_ca_file", _) => {
                return vec![self.path("client_tls_cert_file")];
            }
            ("server_tls_key_file" | "server_tls_cert_file" | "unix_socket_group", _) => &[""],
            ("user", _) => {
                let user = SystemUser::from_uid(geteuid()).ok().flatten().expect("we are somebody");
                return vec![user.name];
            }
            ("listen_addr", _) => &["", "127.0.3.9"],
            ("listen_port", _) => &["6432", "1025", "65535"],
            // 1 closes the console too, which speaks nothing but what it forbids.
            ("disable_pqexec", _) => &["0"],
            ("client_tls_ecdhcurve", _) => &["auto", "none", "prime256v1"],
            (name, _) if name.ends_with("_ciphers") => &["default", "HIGH"],
            (_, Kind::Int { min, max }) => {
                return [min, max, max / 2 + min / 2].map(|number| number.to_string()).into();
            }
            (_, Kind::Enum(words)) => words,
            (_, Kind::Words(_)) => &["secure", "all", "tlsv1.2", "tlsv1.2,tlsv1.3"],
            (_, Kind::Bool) => &["0", "1"],
            (_, Kind::Time) => &["0", "0.25", "30", "999999999"],
            (_, Kind::Octal) => &["0700", "0777"],
            (_, Kind::Path | Kind::MaybePath) => return vec![self.path("one"), self.path("two")],
            (_, Kind::Database | Kind::Short(_)) => &["a", "a b=\"c\"; é"],
            (_, Kind::List) => &["a", "a,b \"c\" [x]; # no comment \\ é"],
            _ => &["a", "it's a \"text\" = [x]; # no comment \\ é"],
        };
        own.iter().map(ToString::to_string).collect()
    }

    /// How many rounds it takes until every value was there.
    fn rounds(&self) -> usize {
        known(&self.program).map(|setting| self.values(setting).len()).max().unwrap_or_default()
    }

    /// One value of each setting.
    fn round(&self, round: usize) -> Settings {
        let value = |setting: &'static Setting| {
            let mut values = self.values(setting);
            (setting.name, values.swap_remove(round % values.len()))
        };
        let mut settings: Settings = known(&self.program).map(value).collect();
        if settings["auth_type"] == "cert" {
            // PgBouncer does not start otherwise.
            settings.insert("client_tls_sslmode", "verify-full".to_owned());
        }
        settings
    }

    /// The rows of one console command's answer, on a connection of its own.
    fn ask(&self, command: &str) -> Result<Rows, tokio_postgres::Error> {
        Asking::connect(self)?.ask(command)
    }

    /// A key and its certificate, which TLS for clients needs.
    fn make_certificate(&self) {
        let made = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
            ])
            .args(["-subj", "/CN=localhost", "-keyout"])
            .arg(self.path("client_tls_key_file"))
            .arg("-out")
            .arg(self.path("client_tls_cert_file"))
            .output()
            .expect("openssl comes with postgresql");
        assert!(made.status.success(), "{made:?}");
    }
}

type Settings = BTreeMap<&'static str, String>;

/// The rows of an answer, by column; what is not set is the empty text.
type Rows = Vec<BTreeMap<String, String>>;

/// A connection to the console for whatever the charm itself never asks.
struct Asking {
    runtime: Runtime,
    client: Client,
}

impl Asking {
    fn connect(bench: &Bench) -> Result<Self, tokio_postgres::Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("there is memory");
        let mut config = tokio_postgres::Config::new();
        config.host_path(&bench.directory).port(6432).user("pgbouncer").dbname("pgbouncer");
        config.ssl_mode(SslMode::Disable);
        let (client, connection) = runtime.block_on(config.connect(NoTls))?;
        runtime.spawn(connection);
        Ok(Self { runtime, client })
    }

    fn ask(&mut self, command: &str) -> Result<Rows, tokio_postgres::Error> {
        let messages = self.runtime.block_on(self.client.simple_query(command))?;
        let row =
            |message| if let SimpleQueryMessage::Row(row) = message { Some(row) } else { None };
        let columns = |row: SimpleQueryRow| {
            let names = row.columns().iter().map(SimpleColumn::name).enumerate();
            let column = |(number, name): (usize, &str)| {
                (name.to_owned(), row.get(number).unwrap_or_default().to_owned())
            };
            names.map(column).collect()
        };
        Ok(messages.into_iter().filter_map(row).map(columns).collect())
    }
}

/// The settings of `[pgbouncer]` that a version knows.
fn known(program: &Program) -> impl Iterator<Item = &'static Setting> {
    let version = program.version;
    TABLE
        .iter()
        .filter(move |setting| setting.section == Section::Pgbouncer && setting.since <= version)
}

/// A value as `SHOW CONFIG` gives it: a mode in decimal, an unset level as 0, times with six
/// digits.
fn as_shown(setting: &Setting, value: &str) -> String {
    match (setting.kind, setting.name, value) {
        (Kind::Octal, ..) => i64::from_str_radix(value, 8).expect("an octal number").to_string(),
        (_, "verbose", "") => "0".to_owned(),
        (Kind::Time, _, "999999999") => "1e+09".to_owned(),
        _ => value.to_owned(),
    }
}

fn shown(config: &BTreeMap<String, InForce>) -> impl Iterator<Item = (&str, &str, &str)> {
    config.iter().map(|(name, shown)| (name.as_str(), shown.value.as_str(), shown.default.as_str()))
}

#[test]
fn the_defaults_of_the_table_match_those_of_pgbouncer() {
    for program in installed() {
        let mut bench = Bench::new(&program);
        bench.start(&bench.file(&Settings::new())).expect("it starts");
        let config = bench.console().show_config().expect("it answers");
        let rows = bench.ask("SHOW CONFIG").expect("it answers");
        let changeable: BTreeMap<_, _> =
            rows.iter().map(|row| (row["key"].as_str(), row["changeable"].as_str())).collect();
        let listed: BTreeSet<_> = known(&program).map(|setting| setting.name).collect();
        assert!(config.keys().map(String::as_str).eq(listed), "{program:?}");
        for setting in known(&program) {
            let shown = &config[setting.name];
            assert_eq!(
                shown.default,
                setting.default(program.version).unwrap_or_default(),
                "{setting:?}"
            );
            assert_eq!(
                changeable[setting.name] == "yes",
                setting.change != Change::Restart,
                "{setting:?}"
            );
            if !["conffile", "unix_socket_dir"].contains(&setting.name) {
                assert_eq!(shown.value, as_shown(setting, &shown.default), "{setting:?}");
            }
        }
    }
}

#[test]
fn a_process_runs_every_value_that_we_accept() {
    for program in installed() {
        let mut bench = Bench::new(&program);
        bench.make_certificate();
        for round in 0..bench.rounds() {
            let settings = bench.round(round);
            for (name, value) in &settings {
                assert_eq!(check(Section::Pgbouncer, name, value, program.version), Ok(()));
            }
            bench
                .start(&bench.file(&settings))
                .unwrap_or_else(|log| panic!("{program:?} {settings:?}\n{log}"));
            let config = bench.console().show_config().expect("it answers");
            for setting in known(&program) {
                let wanted = as_shown(setting, &settings[setting.name]);
                assert_eq!(config[setting.name].value, wanted, "{program:?} {}", setting.name);
            }
        }
    }
}

#[test]
fn a_difference_needs_a_restart_if_a_reload_is_not_enough() {
    for program in installed() {
        let mut bench = Bench::new(&program);
        bench.make_certificate();
        // The last round names no setting, so that each is taken away and added, too.
        let mut rounds: Vec<_> = (0..bench.rounds()).map(|round| bench.round(round)).collect();
        rounds.push(Settings::new());
        let mut restarts = BTreeSet::new();
        let pairs =
            rounds.iter().flat_map(|before| rounds.iter().map(move |after| (before, after)));
        for (before, after) in pairs {
            let (old, new) = (bench.file(before), bench.file(after));
            bench.start(&old).unwrap_or_else(|log| panic!("{program:?} {before:?}\n{log}"));
            bench.write(&new);
            let mut console = bench.console();
            console.reload().expect("it reloads");
            let config = console.show_config().expect("it answers");
            assert!(!bench.log().contains(RELOAD_FAILED), "{}", bench.log());

            let read = |text: &str| Ini::parse(text, program.version).expect("we wrote it");
            let (old, new) = (read(&old), read(&new));
            let difference = Difference::between(&old, &new, program.version);
            let told = |difference: &Difference| -> BTreeSet<String> {
                let causes = difference.causes().filter(|cause| cause.need() == Need::Restart);
                causes.map(|cause| cause.what.to_string()).collect()
            };
            let stayed = |setting: &&Setting| {
                let wanted = new.setting(setting.name).or(setting.default(program.version));
                config[setting.name].value != as_shown(setting, wanted.unwrap_or_default())
            };
            let own = ["conffile", "unix_socket_dir"];
            let ignored: BTreeSet<_> = known(&program)
                .filter(|setting| !own.contains(&setting.name))
                .filter(stayed)
                .map(|setting| setting.name.to_owned())
                .collect();
            let mut verdict = told(&difference);
            verdict.remove("conffile");
            assert_eq!(verdict, ignored, "{program:?} {before:?} {after:?}");
            assert_eq!(told(&Difference::left(&new, shown(&config))), ignored);
            restarts.extend(ignored);
        }
        for name in ["listen_port", "so_reuseport", "auth_user", "verbose"] {
            assert!(restarts.contains(name), "{restarts:?}");
        }
    }
}

#[test]
fn a_difference_reports_database_values_that_a_reload_keeps() {
    for program in installed() {
        let mut bench = Bench::new(&program);
        let file = |databases: &str| bench.file(&Settings::new()).replace("[pgbouncer]", databases);
        let old = file("* = host=h\na = host=h user=u\n[pgbouncer]");
        let new = file("a = host=h\n[pgbouncer]");
        bench.start(&old).expect("it starts");
        let mut console = bench.console();
        bench.ask("RECONNECT \"not listed\"").expect("* stands for it");
        bench.write(&new);
        console.reload().expect("it reloads");
        console.reconnect().expect("it takes the command");
        bench.ask("RECONNECT \"not listed\"").expect("* still stands for it");
        let databases = bench.ask("SHOW DATABASES").expect("it answers");
        let a = databases.iter().find(|database| database["name"] == "a").expect("it is listed");
        assert_eq!(a["force_user"], "u");

        let read = |text: &str| Ini::parse(text, program.version).expect("we wrote it");
        assert_eq!(
            Difference::between(&read(&old), &read(&new), program.version).to_string(),
            "restart for the database * (a reload without it keeps the old one), \
             user of the database a (a reload without it keeps the old one)"
        );
        bench.start(&new).expect("it starts");
        let error = bench.ask("RECONNECT \"not listed\"").expect_err("nothing stands for it");
        assert!(error.as_db_error().is_some(), "{error}");
    }
}

#[test]
fn values_that_pgbouncer_refuses_are_refused() {
    for program in installed() {
        let mut bench = Bench::new(&program);
        for setting in known(&program) {
            let bad: &[&str] = match setting.kind {
                Kind::Int { .. } => &["", "x", "1.5", "6432 ; x"],
                Kind::Bool => &["", "yes", "true"],
                Kind::Time => &["", "5s", "-1"],
                // PgBouncer reads them only with a certificate.
                Kind::Enum(_) if setting.name.starts_with("client_tls_d") => &[],
                Kind::Enum(_) if setting.name == "client_tls_ecdhcurve" => &[],
                Kind::Enum(_) if setting.name == "syslog_facility" => &[],
                Kind::Enum(_) => &["", "nonsense", "'session'"],
                Kind::Octal => &["", "rwx"],
                Kind::Database => &["pgbouncer"],
                _ => &[],
            };
            for value in bad {
                let refused = check(Section::Pgbouncer, setting.name, value, program.version);
                assert!(refused.is_err(), "{} {value:?}", setting.name);
                let settings = Settings::from([(setting.name, (*value).to_owned())]);
                assert!(bench.start(&bench.file(&settings)).is_err(), "{program:?} {settings:?}");
            }
        }
    }
}

#[test]
fn values_that_only_we_refuse_are_misread_by_pgbouncer() {
    for program in installed() {
        let mut bench = Bench::new(&program);
        // With these nobody reaches the console any more.
        let deadly = ["pkt_buf", "max_packet_size", "disable_pqexec", "unix_socket_mode"];
        let settings: Vec<_> =
            known(&program).filter(|setting| !deadly.contains(&setting.name)).collect();
        for round in 0..4 {
            let misread: Vec<_> = settings
                .iter()
                .filter_map(|setting| Some((setting.name, *setting.kind.misread().get(round)?)))
                .collect();
            let written =
                misread.iter().map(|(name, (value, _))| (*name, (*value).to_owned())).collect();
            bench.start(&bench.file(&written)).unwrap_or_else(|log| panic!("{written:?}\n{log}"));
            let config = bench.console().show_config().expect("it answers");
            for (name, (value, taken)) in misread {
                assert!(check(Section::Pgbouncer, name, value, program.version).is_err());
                assert_eq!(config[name].value, taken, "{program:?} {name} = {value}");
            }
        }
    }
}

#[test]
fn a_setting_unknown_to_a_version_is_refused() {
    for program in installed() {
        let mut bench = Bench::new(&program);
        for setting in TABLE.iter().filter(|setting| setting.section == Section::Pgbouncer) {
            if setting.since > program.version {
                let value = bench.values(setting).swap_remove(0);
                assert!(check(Section::Pgbouncer, setting.name, &value, program.version).is_err());
                let settings = Settings::from([(setting.name, value)]);
                assert!(
                    bench.start(&bench.file(&settings)).is_err(),
                    "{program:?} {}",
                    setting.name
                );
            }
        }
    }
}

/// Pseudo-random numbers that are the same in each run (Marsaglia's xorshift).
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("31 bits") % limit
    }

    fn text(&mut self, alphabet: &[&str], longest: usize) -> String {
        let length = 1 + self.below(longest);
        (0..length).map(|_| alphabet[self.below(alphabet.len())]).collect()
    }
}

const PLAIN: [&str; 12] = ["a", "b", "Z", "0", "9", "_", ".", "-", "*", "x", "yz", "Q7"];
const AWKWARD: [&str; 16] =
    ["'", "''", "=", ";", "#", "\\", "\"", "[", "]", "%", "\t", " b", "é", "日本", "\u{1}", "a"];

#[test]
fn pgbouncer_has_the_written_databases_and_users() {
    for program in installed() {
        let mut bench = Bench::new(&program);
        let mut chance = Chance(20_261_122);
        for _ in 0..8 {
            let mut ini = Ini::default();
            for _ in 0..50 {
                let connection = ConnectionString::default()
                    .with("host", chance.text(&AWKWARD, 20).replace('=', ","))
                    .with("port", (1 + chance.below(65535)).to_string())
                    .with("dbname", chance.text(&AWKWARD, 12))
                    .with("user", chance.text(&AWKWARD, 20))
                    .with("password", chance.text(&AWKWARD, 60))
                    .with("pool_size", (1 + chance.below(1000)).to_string());
                ini.databases.insert(chance.text(&PLAIN, 20), connection);
            }
            ini.databases.remove("*");
            let users = (0..4).map(|number| User {
                name: format!("user_{number}"),
                secret: Secret::new(chance.text(&AWKWARD, 60)),
            });
            let users = UserList(users.collect());
            fs::write(bench.path("userlist.txt"), users.file_text().expect("it can be written"))
                .expect("the directory is ours");
            let names: Vec<_> = users.0.iter().map(|user| user.name.as_str()).collect();
            for (name, value) in [
                ("unix_socket_dir", bench.directory.display().to_string()),
                ("auth_type", "scram-sha-256".to_owned()),
                ("auth_file", bench.path("userlist.txt")),
                ("stats_users", names.join(",")),
            ] {
                ini.pgbouncer.push((name.to_owned(), value));
            }

            let text = ini.render(program.version).expect("it can be written");
            assert_eq!(validate(&text, program.version).map(drop), Ok(()), "{text}");
            bench.start(&text).unwrap_or_else(|log| panic!("{program:?}\n{text}\n{log}"));
            let shown = bench.ask("SHOW DATABASES").expect("it answers");
            let shown: BTreeMap<_, _> = shown
                .into_iter()
                .filter(|database| database["name"] != "pgbouncer")
                .map(|database| (database["name"].clone(), database))
                .collect();
            assert!(shown.keys().eq(ini.databases.keys()), "{text}");
            for (name, written) in &ini.databases {
                for (column, key) in [
                    ("host", "host"),
                    ("port", "port"),
                    ("database", "dbname"),
                    ("force_user", "user"),
                    ("pool_size", "pool_size"),
                ] {
                    assert_eq!(
                        Some(shown[name][column].as_str()),
                        written.get(key),
                        "{name}: {column}"
                    );
                }
            }
            for user in &users.0 {
                let log_in = |password| {
                    Console::log_in(&bench.directory, &user.name, password, AllowedMethods::Any)
                };
                log_in(&user.secret)
                    .unwrap_or_else(|error| panic!("{error}: {:?}", user.secret.reveal()));
                let error = log_in(&Secret::new("another")).err();
                assert!(matches!(error, Some(ConsoleError::Refused(_))), "{error:?}");
            }
        }
    }
}

/// A line cut out, doubled or joined with the next, or a bit of a byte flipped.
fn mutated(text: &str, chance: &mut Chance) -> Option<String> {
    let mut lines: Vec<_> = text.lines().collect();
    let place = chance.below(lines.len() - 1);
    match chance.below(6) {
        0 => drop(lines.remove(place)),
        1 => lines.insert(place, lines[place]),
        2 => {
            let joined = format!("{}{}", lines[place], lines[place + 1]);
            lines.splice(place..place + 2, [joined.as_str()]);
            return Some(lines.join("\n") + "\n");
        }
        _ => {
            let mut bytes = text.as_bytes().to_vec();
            let place = chance.below(bytes.len());
            bytes[place] ^= 1 << chance.below(8);
            return String::from_utf8(bytes).ok();
        }
    }
    Some(lines.join("\n") + "\n")
}

#[test]
fn no_mutation_of_an_accepted_file_is_ignored_in_part() {
    for program in installed() {
        let mut bench = Bench::new(&program);
        let peers =
            if program.version >= Version::PEERS { "[peers]\n1 = host=/a port=6432\n" } else { "" };
        let settings = Settings::from([
            ("admin_users", "alice,bob".to_owned()),
            ("auth_type", "scram-sha-256".to_owned()),
            ("listen_port", "6432".to_owned()),
            ("max_client_conn", "10000".to_owned()),
            ("pool_mode", "transaction".to_owned()),
            ("query_wait_timeout", "30".to_owned()),
            ("server_reset_query", "DISCARD ALL".to_owned()),
            ("server_tls_sslmode", "prefer".to_owned()),
            ("syslog_ident", "pgb-0123456789".to_owned()),
        ]);
        let base = bench.file(&settings).replace(
            "[pgbouncer]\n",
            &format!(
                "shop = host='10.0.0.1' port='5432' dbname='it''s'\n* = host=h\n\
                 [users]\nu = pool_mode=session\n{peers}[pgbouncer]\n"
            ),
        );
        bench.start(&base).expect("it starts");
        let mut console = bench.console();
        let mut asking = Asking::connect(&bench).expect("it answers");
        let mut chance = Chance(1924);
        let mut taken = 0;
        for _ in 0..600 {
            let Some(text) = mutated(&base, &mut chance) else { continue };
            if validate(&text, program.version).is_err() {
                continue;
            }
            taken += 1;
            let ini = Ini::parse(&text, program.version).expect("it is fit");
            bench.write(&text);
            console.reload().expect("it reloads");
            let told = || format!("{program:?}\n{text}\n{}", bench.log());
            assert!(!bench.log().contains(RELOAD_FAILED), "{}", told());
            let config = console.show_config().expect("it answers");
            for setting in known(&program).filter(|setting| setting.change == Change::Reload) {
                if setting.initial != Initial::Null {
                    let wanted = ini.setting(setting.name).or(setting.default(program.version));
                    let wanted = as_shown(setting, wanted.unwrap_or_default());
                    assert_eq!(config[setting.name].value, wanted, "{} {}", setting.name, told());
                }
            }
            let databases = asking.ask("SHOW DATABASES").expect("it answers");
            for (name, written) in ini.databases.iter().filter(|(name, _)| *name != "*") {
                let shown =
                    databases.iter().find(|shown| shown["name"] == *name).expect("it is listed");
                assert_eq!(shown["host"], written.get("host").unwrap_or_default(), "{}", told());
                assert_eq!(shown["port"], written.get("port").unwrap_or("5432"), "{}", told());
                assert_eq!(shown["database"], written.get("dbname").unwrap_or(name), "{}", told());
            }
        }
        assert!(taken > 100, "{taken} files were fit");
        bench.write(&format!("{base}no_such_setting = 1\n"));
        console.reload().expect("it reloads");
        assert!(
            bench.log().contains(RELOAD_FAILED),
            "{program:?} says so of a file that is not fit"
        );
    }
}

#[test]
fn a_process_takes_every_database_user_and_peer_value_that_we_accept() {
    for program in installed() {
        let mut bench = Bench::new(&program);
        let empty = bench.file(&Settings::new());
        let file = |section: Section, line: &str| {
            empty.replace("[pgbouncer]", &format!("[{section}]\n{line}\n[pgbouncer]"))
        };
        for setting in TABLE.iter().filter(|setting| setting.section != Section::Pgbouncer) {
            let (good, bad): (Vec<String>, &[&str]) = match setting.kind {
                Kind::Int { min, max } => ([min, max].map(|number| number.to_string()).into(), &[]),
                Kind::Enum(words) => {
                    (words.iter().map(ToString::to_string).collect(), &["nonsense"])
                }
                Kind::Short(longest) => (vec!["a".into(), "'".into(), "x".repeat(longest)], &[]),
                Kind::Database => (vec!["a".into()], &[]),
                Kind::List => (vec!["a".into(), "/a,b 'c'".into()], &[]),
                _ => (vec!["a".into(), "a 'b' = \"c\"; é".into()], &[]),
            };
            let line = |number: usize, value: &str| {
                let host = if setting.name == "host" { "" } else { "host='h' " };
                let value = value.replace('\'', "''");
                format!("{} = {host}{}='{value}'", number + 1, setting.name)
            };
            let host = |line: String| {
                if setting.section == Section::Users { line.replace("host='h' ", "") } else { line }
            };
            if setting.since > program.version {
                let text = file(setting.section, &host(line(0, &good[0])));
                assert!(validate(&text, program.version).is_err(), "{text}");
                assert!(bench.start(&text).is_err(), "{program:?} {text}");
                continue;
            }
            let lines: Vec<_> =
                good.iter().enumerate().map(|(number, value)| host(line(number, value))).collect();
            let text = file(setting.section, &lines.join("\n"));
            assert_eq!(validate(&text, program.version).map(drop), Ok(()), "{text}");
            bench.start(&text).unwrap_or_else(|log| panic!("{program:?}\n{text}\n{log}"));
            let port: &[&str] = if setting.name == "port" { &["0", "x"] } else { bad };
            for value in port {
                let text = file(setting.section, &host(line(0, value)));
                assert!(validate(&text, program.version).is_err(), "{text}");
                assert!(bench.start(&text).is_err(), "{program:?} {text}");
            }
        }
    }
}
