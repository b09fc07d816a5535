//! What is written is read back, for names and values that nobody would think of.

use std::collections::BTreeMap;

use pgbouncer_k8s::pgbouncer::ini::{ConnectionString, Ini};
use pgbouncer_k8s::pgbouncer::settings::{Initial, Kind, Section, Setting, TABLE};
use pgbouncer_k8s::pgbouncer::validate::validate;
use pgbouncer_k8s::pgbouncer::{
    Auth, AuthType, Database, Parameters, PoolMode, SharedConfig, SslMode, User, UserList, Version,
    hash,
};
use pgbouncer_k8s::secret::Secret;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// Texts of 1 to 300 bytes, most of them of what a parser may stumble over.
fn text() -> impl Strategy<Value = String> {
    let awkward =
        select(&['\'', '"', '=', ' ', ';', '#', '\\', '[', ']', '%', '*', '\t', '\r', '\u{b}'][..]);
    let letter = || prop_oneof![3 => awkward.clone(), 4 => proptest::char::range('a', 'z'), 1 => any::<char>()];
    let joined = |letters: Vec<char>| {
        let mut text = String::new();
        for letter in letters {
            if text.len() + letter.len_utf8() <= 300 {
                text.push(letter);
            }
        }
        text
    };
    prop_oneof![
        4 => vec(letter(), 1..12).prop_map(joined),
        2 => vec(letter(), 1..300).prop_map(joined),
        1 => (vec(letter(), 0..9), select(&['\n', '\0'][..]), vec(letter(), 0..9))
            .prop_map(move |(before, end, after)| joined([before, vec![end], after].concat())),
        3 => "[a-zA-Z0-9_.-]{1,70}",
        1 => "['\"= ]{1,4}",
    ]
}

fn version() -> impl Strategy<Value = Version> {
    prop_oneof![18..=25_u16, Just(25)].prop_map(|minor| Version::new(1, minor))
}

/// Mostly names that every version reads.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![3 => "[a-zA-Z0-9_.-]{1,70}", 1 => text()]
}

fn connection(section: Section) -> impl Strategy<Value = ConnectionString> {
    let keys: Vec<_> =
        TABLE.iter().filter(|setting| setting.section == section).map(|s| s.name).collect();
    vec((select(keys), text()), 0..3).prop_map(|pairs| {
        pairs.into_iter().fold(ConnectionString::default(), |connection, (key, value)| {
            connection.with(key, value)
        })
    })
}

fn ini() -> impl Strategy<Value = Ini> {
    let peer =
        (text(), connection(Section::Peers)).prop_map(|(host, peer)| peer.with("host", host));
    let settings: Vec<_> = TABLE
        .iter()
        .filter(|setting| setting.section == Section::Pgbouncer)
        .map(|s| s.name.to_owned())
        .collect();
    (
        vec(name(), 0..2),
        btree_map(name(), connection(Section::Databases), 0..3),
        btree_map(name(), connection(Section::Users), 0..2),
        btree_map(any::<u16>(), peer, 0..2),
        vec((select(settings), name()), 0..3),
    )
        .prop_map(|(comment, databases, users, peers, pgbouncer)| Ini {
            comment,
            databases,
            users,
            peers,
            pgbouncer,
        })
}

fn value(kind: Kind) -> BoxedStrategy<String> {
    match kind {
        Kind::Int { min, max } => (min..=max).prop_map(|number| number.to_string()).boxed(),
        Kind::Octal => "0[0-7]{3}".boxed(),
        Kind::Enum(words) | Kind::Words(words) => select(words).prop_map(str::to_owned).boxed(),
        Kind::Bool => "[01]".boxed(),
        Kind::Time => "[0-9]{1,9}(\\.[0-9]{1,3})?".boxed(),
        Kind::Path | Kind::MaybePath | Kind::SocketDirectory => "/[a-z ]{0,20}[a-z]".boxed(),
        Kind::List | Kind::Addresses => "[a-z]{1,9}(,[a-z]{1,9})?".boxed(),
        Kind::Ciphers => select(&["secure", "HIGH:!aNULL"][..]).prop_map_into().boxed(),
        Kind::Suites => "(TLS_AES_128_GCM_SHA256:){0,2}TLS_AES_256_GCM_SHA384".boxed(),
        Kind::Text | Kind::Short(_) | Kind::Database => "[a-z,;'=]{1,20}".boxed(),
    }
}

/// A file that 1.25 takes in full.
fn valid_file() -> impl Strategy<Value = String> {
    let settings: Vec<&'static Setting> = TABLE
        .iter()
        .filter(|setting| setting.section == Section::Pgbouncer && setting.initial != Initial::Null)
        .collect();
    let setting = select(settings).prop_flat_map(|s| (Just(s.name), value(s.kind)));
    let database = ("[a-z]{1,8}", "[a-z0-9.' ]{1,12}", 1..65536_u32);
    (vec(database, 1..4), vec(setting, 1..8)).prop_filter_map("fit", |(databases, settings)| {
        let databases = databases.into_iter().map(|(name, host, port)| {
            (name, ConnectionString::default().with("host", host).with("port", port.to_string()))
        });
        let settings: BTreeMap<_, _> = settings.into_iter().collect();
        let ini = Ini {
            databases: databases.collect(),
            pgbouncer: settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            ..Ini::default()
        };
        let text = ini.render(Version::NEWEST).ok()?;
        validate(&text, Version::NEWEST).is_ok().then_some(text)
    })
}

fn plain_or_refused(
    result: Result<String, impl std::fmt::Display>,
    secret: &str,
) -> Option<String> {
    result
        .inspect_err(|error| {
            // Short texts are in any message.
            assert!(secret.len() < 12 || !error.to_string().contains(secret), "{error}");
        })
        .ok()
}

const SSL_MODES: [SslMode; 6] = [
    SslMode::Disable,
    SslMode::Allow,
    SslMode::Prefer,
    SslMode::Require,
    SslMode::VerifyCa,
    SslMode::VerifyFull,
];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn a_file_is_refused_or_read_back(ini in ini(), version in version()) {
        if let Ok(text) = ini.render(version) {
            prop_assert_eq!(Ini::parse(&text, version), Ok(ini));
        }
    }

    #[test]
    fn a_connection_string_is_refused_or_read_back(password in text(), host in text(), version in version()) {
        let connection = ConnectionString::default().with("password", &password).with("host", host);
        let text = connection.render(Section::Databases, "the database d", version);
        if let Some(text) = plain_or_refused(text, &password) {
            prop_assert_eq!(ConnectionString::parse(&text, Section::Databases, version), Ok(connection));
        }
    }

    #[test]
    fn a_name_is_refused_or_read_back_from_every_section(name in text(), version in version()) {
        for section in [Section::Databases, Section::Users] {
            let named = BTreeMap::from([(name.clone(), ConnectionString::default())]);
            let ini = match section {
                Section::Users => Ini { users: named, ..Ini::default() },
                _ => Ini { databases: named, ..Ini::default() },
            };
            if let Ok(text) = ini.render(version) {
                prop_assert_eq!(Ini::parse(&text, version), Ok(ini));
            }
        }
    }

    #[test]
    fn a_user_list_is_refused_or_read_back(users in vec((name(), text()), 1..4)) {
        let list = UserList(
            users.iter().map(|(name, secret)| User { name: name.clone(), secret: Secret::new(secret) }).collect(),
        );
        if let Some(text) = plain_or_refused(list.render(), &users[0].1) {
            prop_assert_eq!(UserList::parse(&text), Ok(list));
        }
    }

    #[test]
    fn a_shared_configuration_is_refused_or_read_back(
        databases in btree_map(name(), ("[a-z0-9.:-]{1,20}", 0..=65535_u16, proptest::option::of(name())), 0..3),
        auth in proptest::option::of("[a-z_]{1,20}"),
        listen_port: u16,
        max_db_connections: u32,
        max_prepared_statements: u16,
        client_tls_sslmode in select(&SSL_MODES[..]),
        server_tls_sslmode in select(&SSL_MODES[..]),
        pool_mode in select(&[PoolMode::Session, PoolMode::Transaction, PoolMode::Statement][..]),
        parameters in select(&["", "{verbose: 2, dns_max_ttl: 9}", "ignore_startup_parameters: [a, b]", "server_check_query: ''"][..]),
    ) {
        let config = SharedConfig {
            databases_hash: hash("{}"),
            databases: databases
                .into_iter()
                .map(|(name, (host, port, dbname))| {
                    (name, Database { hosts: vec![host], port, dbname, auth_dbname: None, pool_size: (port % 2 == 0).then_some(port) })
                })
                .collect(),
            auth: auth.map(|name| Auth {
                auth_user: name.clone(),
                stats_user: name.clone(),
                admin_user: name,
                auth_type: AuthType::ScramSha256,
            }),
            listen_port,
            pool_mode,
            max_db_connections,
            max_prepared_statements,
            client_tls_sslmode,
            server_tls_sslmode,
            parameters: Parameters::parse(parameters).expect("a map"),
        };
        if let Ok(text) = config.render() {
            prop_assert_eq!(SharedConfig::parse(&text), Ok(config));
        }
    }

    #[test]
    fn a_damaged_file_is_refused_or_has_only_one_meaning(
        text in valid_file(),
        line: Index,
        byte: Index,
        flip in 1..128_u8,
    ) {
        let lines: Vec<_> = text.lines().collect();
        let at = line.index(lines.len());
        let cut = [&lines[..at], &lines[at + 1..]].concat().join("\n");
        let doubled = [&lines[..=at], &lines[at..]].concat().join("\n");
        let joined = lines[..=at].join("\n") + &lines[at + 1..].join("\n");
        let mut flipped = text.clone().into_bytes();
        let place = byte.index(flipped.len());
        flipped[place] ^= flip;
        let flipped = String::from_utf8(flipped).expect("the file is ASCII, and so is what a low bit makes of it");
        for damaged in [cut, doubled, joined, flipped, text[..place].to_owned()] {
            if validate(&damaged, Version::NEWEST).is_ok() {
                // What passes has a meaning that we can write down again, and that reads the same.
                let ini = Ini::parse(&damaged, Version::NEWEST);
                prop_assert!(ini.is_ok(), "{damaged:?}");
                let again = ini.clone().expect("asserted above").render(Version::NEWEST);
                prop_assert_eq!(Ini::parse(&again.expect("it was read"), Version::NEWEST), ini);
            }
        }
    }
}
