//! What the charm sends to a server that is not what it should be, and how much it reads from it.

#![expect(clippy::disallowed_methods, reason = "a test sets up the servers it asks")]

mod servers;

use std::{
    error::Error,
    fs,
    io::{self, Read, Write},
    net::TcpListener,
    os::unix::{fs::symlink, net::UnixListener},
    path::Path,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::unistd::{getegid, geteuid};
use pgbouncer_k8s::{
    postgres::{AllowedMethods, Credentials, Server, TlsDemand},
    secret::Secret,
    workload::console::{Console, ConsoleError},
};
use servers::cluster::{Cluster, releases};

type Outcome = Result<(), Box<dyn Error>>;

/// How much the charm reads of one answer, and what the kernel may hold of it, in bytes.
const READ_AT_MOST: usize = 32 << 20;

const OK: u32 = 0;
const PASSWORD: u32 = 3;
const MD5: u32 = 5;
const SASL: u32 = 10;
const CONTINUE: u32 = 11;

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(size_of::<u32>() + body.len()).expect("it is short");
    [&[kind], &length.to_be_bytes()[..], body].concat()
}

fn authentication(code: u32, data: &[u8]) -> Vec<u8> {
    message(b'R', &[&code.to_be_bytes(), data].concat())
}

/// A server of one connection, which follows a script from the startup packet on.
struct Impostor<T>(JoinHandle<io::Result<T>>);

impl<T: Send + 'static> Impostor<T> {
    fn start(script: impl FnOnce(&mut dyn Stream) -> io::Result<T> + Send + 'static) -> Rogue<T> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let thread = thread::spawn(move || {
            let mut connection = listener.accept()?.0;
            connection.read_exact(&mut [0; 8])?;
            connection.write_all(b"N")?;
            start_up(&mut connection)?;
            script(&mut connection)
        });
        let credentials = Credentials {
            hosts: vec![("127.0.0.1".to_owned(), port)],
            user: "operator".to_owned(),
            password: Secret::new("operator's password"),
            database: "postgres".to_owned(),
            methods: AllowedMethods::Any,
            tls: TlsDemand::default(),
        };
        (Self(thread), credentials)
    }

    /// What the script returns.
    fn end(self) -> io::Result<T> {
        self.0.join().expect("it does not panic")
    }
}

type Rogue<T> = (Impostor<T>, Credentials);

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// Reads the startup packet.
fn start_up(stream: &mut dyn Stream) -> io::Result<()> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize - length.len();
    stream.read_exact(&mut vec![0; length])
}

/// Reads one message of the client.
fn receive(stream: &mut dyn Stream) -> io::Result<Vec<u8>> {
    stream.read_exact(&mut [0])?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut body = vec![0; u32::from_be_bytes(length) as usize - length.len()];
    stream.read_exact(&mut body)?;
    Ok(body)
}

/// Lets the client in.
fn let_in(stream: &mut dyn Stream) -> io::Result<()> {
    stream.write_all(&[authentication(OK, b""), message(b'Z', b"I")].concat())
}

/// Sends this, and returns all that the client sends after that.
fn sends(answer: Vec<u8>) -> impl FnOnce(&mut dyn Stream) -> io::Result<Vec<u8>> {
    move |stream| {
        stream.write_all(&answer)?;
        let mut received = Vec::new();
        match stream.read_to_end(&mut received) {
            // The client closes the connection before it has read everything.
            Err(error) if error.kind() != io::ErrorKind::ConnectionReset => Err(error),
            _ => Ok(received),
        }
    }
}

fn refusal(credentials: &Credentials) -> Result<String, &'static str> {
    let refused = Server::connect(credentials).err().ok_or("this is no server")?;
    Ok(format!("{refused} {refused:?}"))
}

#[test]
fn a_server_that_may_not_have_the_password_gets_nothing_of_it() -> Outcome {
    let clear = "asks for the password in clear without TLS; use scram-sha-256";
    let weaker = |what| format!("asks for {what}, and used SCRAM before; check that PostgreSQL");
    for (code, methods, expected) in [
        (PASSWORD, AllowedMethods::Any, clear.to_owned()),
        (PASSWORD, AllowedMethods::Scram, clear.to_owned()),
        (MD5, AllowedMethods::Scram, weaker("the MD5 hash of the password")),
        (OK, AllowedMethods::Scram, weaker("no password")),
    ] {
        let (impostor, mut credentials) = Impostor::start(sends(authentication(code, b"salt")));
        credentials.methods = methods;
        let error = refusal(&credentials)?;
        assert!(error.contains(&expected), "{code} {methods:?}: {error}");
        assert!(!error.contains("operator's password"), "{error}");
        let received = impostor.end()?;
        assert!(received.is_empty(), "{code} {methods:?}: {received:?}");
    }
    Ok(())
}

#[test]
fn md5_is_allowed_where_scram_was_never_used() -> Outcome {
    let (impostor, credentials) = Impostor::start(|stream| {
        stream.write_all(&authentication(MD5, b"salt"))?;
        let hash = receive(stream)?;
        let_in(stream)?;
        receive(stream)?;
        stream.write_all(&message(b'Z', b"I"))?;
        Ok(hash)
    });
    let server = Server::connect(&credentials)?;
    assert!(!server.has_used_scram());
    assert!(impostor.end()?.starts_with(b"md5"));
    Ok(())
}

#[test]
fn a_server_cannot_hold_up_the_charm_with_iterations_of_scram() -> Outcome {
    let (impostor, credentials) = Impostor::start(|stream| {
        stream.write_all(&authentication(SASL, b"SCRAM-SHA-256\0\0"))?;
        let first = receive(stream)?;
        let first = String::from_utf8_lossy(&first).into_owned();
        let nonce = first.rsplit("r=").next().unwrap_or_default();
        let challenge = format!("r={nonce}x,s=c2FsdA==,i={}", u32::MAX);
        sends(authentication(CONTINUE, challenge.as_bytes()))(stream)
    });
    let error = refusal(&credentials)?;
    assert!(error.contains("asks for too many iterations of SCRAM"), "{error}");
    assert_eq!(impostor.end()?, b"");
    Ok(())
}

#[test]
fn a_giant_message_is_refused_by_its_header() -> Outcome {
    let header = |kind| [&[kind][..], &0x7fff_ffff_u32.to_be_bytes()].concat();
    let (at_login, credentials) = Impostor::start(sends(header(b'R')));
    let error = refusal(&credentials)?;
    assert!(error.contains("announces a message of 2147483647 bytes, and 8192 are"), "{error}");
    assert_eq!(at_login.end()?, b"");

    let (later, credentials) = Impostor::start(move |stream| {
        let_in(stream)?;
        receive(stream)?;
        sends(header(b'D'))(stream)
    });
    let error = refusal(&credentials)?;
    assert!(error.contains("announces a message of 2147483647 bytes, and 1048576 are"), "{error}");
    assert_eq!(later.end()?, b"");
    Ok(())
}

/// Sends a message again and again, until the client closes the connection. Returns how many bytes
/// were sent.
fn repeat(stream: &mut dyn Stream, message: &[u8]) -> usize {
    let many = message.repeat(1 + (1 << 16) / message.len());
    let mut sent = 0;
    while stream.write_all(&many).is_ok() {
        sent += many.len();
    }
    sent
}

#[test]
fn the_charm_reads_no_endless_answer() -> Outcome {
    let notice = message(b'N', b"SNOTICE\0VNOTICE\0C00000\0Mmore\0\0");
    let parameter = message(b'S', b"name\0value\0");
    for endless in [
        message(b'D', b"\0\x01\xff\xff\xff\xff"),
        message(b'D', &[b"\0\x01\0\0\xff\xff".as_slice(), &vec![b'x'; 0xffff]].concat()),
        notice.clone(),
        parameter.clone(),
    ] {
        let (impostor, credentials) = Impostor::start(move |stream| {
            let_in(stream)?;
            receive(stream)?;
            stream.write_all(&message(b'T', &[b"\0\x01column\0", &[0; 18][..]].concat()))?;
            Ok(repeat(stream, &endless))
        });
        let error = refusal(&credentials)?;
        assert!(error.contains("answer is longer than the charm reads"), "{error}");
        let sent = impostor.end()?;
        assert!(sent < READ_AT_MOST, "{sent}");
    }
    for endless in [notice, parameter] {
        let (impostor, credentials) = Impostor::start(move |stream| {
            stream.write_all(&authentication(OK, b""))?;
            Ok(repeat(stream, &endless))
        });
        let error = refusal(&credentials)?;
        assert!(error.contains("answer is longer than the charm reads"), "at login: {error}");
        let sent = impostor.end()?;
        assert!(sent < READ_AT_MOST, "{sent}");
    }
    Ok(())
}

#[test]
fn a_listener_in_place_of_pgbouncer_gets_nothing_of_the_password() -> Outcome {
    servers::leave_root();
    let directory = tempfile::tempdir()?;
    let socket = directory.path().join(".s.PGSQL.6432");
    for (code, allowed, asked) in [
        (PASSWORD, AllowedMethods::Any, "the password in clear"),
        (PASSWORD, AllowedMethods::Scram, "the password in clear"),
        (MD5, AllowedMethods::Scram, "the MD5 hash of the password"),
        (OK, AllowedMethods::Scram, "no password"),
    ] {
        let listener = UnixListener::bind(&socket)?;
        let planted = thread::spawn(move || -> io::Result<Vec<u8>> {
            let mut connection = listener.accept()?.0;
            start_up(&mut connection)?;
            sends(authentication(code, b"salt"))(&mut connection)
        });
        let error = Console::log_in(directory.path(), "admin", &Secret::new("its own"), allowed)
            .err()
            .ok_or("this is no PgBouncer")?;
        assert!(matches!(error, ConsoleError::NotPgbouncer(_)), "{code} {allowed:?}: {error}");
        assert!(error.to_string().contains(&format!("asks for {asked};")), "{error}");
        assert_eq!(planted.join().expect("it does not panic")?, b"", "{code} {allowed:?}");
        fs::remove_file(&socket)?;
    }
    Ok(())
}

#[test]
fn the_console_gets_no_password_at_all() -> Outcome {
    servers::leave_root();
    let directory = tempfile::tempdir()?;
    let socket = directory.path().join(".s.PGSQL.6432");
    for code in [PASSWORD, MD5, SASL] {
        let listener = UnixListener::bind(&socket)?;
        let planted = thread::spawn(move || -> io::Result<Vec<u8>> {
            let mut connection = listener.accept()?.0;
            start_up(&mut connection)?;
            sends(authentication(code, b"SCRAM-SHA-256\0\0"))(&mut connection)
        });
        let opened = Console::connect(directory.path(), geteuid(), getegid());
        assert!(opened.is_err(), "{code}: this is no PgBouncer");
        assert_eq!(planted.join().expect("it does not panic")?, b"", "{code}");
        fs::remove_file(&socket)?;
    }
    Ok(())
}

/// Makes a directory of consoles what it should not be; returns what listens in it.
type Plant<'a> = &'a dyn Fn(&Path) -> io::Result<Vec<UnixListener>>;

#[test]
fn silent_sockets_have_one_limit_together_and_no_link_is_followed() -> Outcome {
    servers::leave_root();
    let outside = tempfile::tempdir()?;
    let elsewhere = outside.path().join(".s.PGSQL.6432");
    let other = UnixListener::bind(&elsewhere)?;
    other.set_nonblocking(true)?;
    let name = |port: u16| format!(".s.PGSQL.{port}");
    let fill = |directory: &Path| -> io::Result<Vec<UnixListener>> {
        (1..=50).map(|port| UnixListener::bind(directory.join(name(port)))).collect()
    };
    let link = |directory: &Path| symlink(&elsewhere, directory.join(name(6432)));
    let regular = |directory: &Path| fs::write(directory.join(name(6432)), "x");
    let plants: [(Plant, &str); 5] = [
        (&|directory| fill(directory), "no answer within"),
        (&|directory| link(directory).map(|()| Vec::new()), "cannot find a console socket"),
        (&|directory| regular(directory).map(|()| Vec::new()), "cannot find a console socket"),
        (&|directory| fs::create_dir(directory.join(name(6432))).map(|()| Vec::new()), "find a"),
        (
            &|directory| {
                fs::remove_dir(directory)?;
                symlink(outside.path(), directory).map(|()| Vec::new())
            },
            "cannot find a console socket",
        ),
    ];
    for (plant, expected) in plants {
        let parent = tempfile::tempdir()?;
        let directory = parent.path().join("0");
        fs::create_dir(&directory)?;
        let _listeners = plant(&directory)?;
        let start = Instant::now();
        let (user, password) = ("admin", Secret::new("its own"));
        let error = Console::log_in(&directory, user, &password, AllowedMethods::Any).err();
        let error = error.ok_or("this is no PgBouncer")?.to_string();
        assert!(error.contains(expected), "{error}");
        assert!(start.elapsed() < Duration::from_secs(3), "{error}: {:?}", start.elapsed());
        assert!(other.accept().is_err(), "{error}: the charm followed a link");
    }
    Ok(())
}

/// Roles, the database that they log in to, and the method that `pg_hba.conf` has for that.
const LINES: &str = "host postgres by_scram 127.0.0.1/32 scram-sha-256
host postgres by_md5 127.0.0.1/32 md5
host postgres in_clear 127.0.0.1/32 password
host postgres trusted 127.0.0.1/32 trust
host template1 by_scram 127.0.0.1/32 trust
";

const ROLES: &str = "
    CREATE ROLE by_scram SUPERUSER LOGIN PASSWORD 'x';
    CREATE ROLE in_clear SUPERUSER LOGIN PASSWORD 'x';
    CREATE ROLE trusted SUPERUSER LOGIN PASSWORD 'x';
    SET password_encryption = 'md5';
    CREATE ROLE by_md5 SUPERUSER LOGIN PASSWORD 'x'";

#[test]
fn a_real_server_is_held_to_scram_once_it_used_it() -> Outcome {
    use AllowedMethods::{Any, Scram};
    for release in releases() {
        let cluster = Cluster::of(&release, LINES)?;
        cluster.psql("operator", "postgres", ROLES)?;
        let log_in = |user: &str, methods| {
            let (user, password) = (user.to_owned(), Secret::new("x"));
            let credentials = Credentials { user, password, methods, ..cluster.credentials() };
            Server::connect(&credentials)
        };
        for has_tls in [false, true] {
            if has_tls {
                cluster.offer_tls()?;
            }
            for (user, methods, is_let_in) in [
                ("by_scram", Any, true),
                ("by_scram", Scram, true),
                ("by_md5", Any, true),
                ("by_md5", Scram, false),
                ("in_clear", Any, has_tls),
                ("in_clear", Scram, false),
                ("trusted", Any, true),
                ("trusted", Scram, false),
            ] {
                let place = format!("{release:?} {user} {methods:?} TLS {has_tls}");
                match log_in(user, methods) {
                    Ok(server) => {
                        assert!(is_let_in, "{place}");
                        assert_eq!(server.has_used_scram(), user == "by_scram", "{place}");
                    }
                    Err(error) => {
                        let error = error.to_string();
                        assert!(!is_let_in, "{place}: {error}");
                        assert!(error.contains("the server asks for "), "{place}: {error}");
                    }
                }
            }
        }
        let mut server = log_in("by_scram", Any)?;
        let next = server.install_get_auth("template1", "by_scram");
        let error = next.err().ok_or("the other database trusts everybody")?.to_string();
        assert!(error.contains("asks for no password, and used SCRAM before"), "{error}");
    }
    Ok(())
}
