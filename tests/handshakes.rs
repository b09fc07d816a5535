//! TLS of PgBouncer as clients of libpq see it: the certificate that a handshake shows, and which
//! certificates each side refuses.

#![expect(clippy::disallowed_methods, reason = "a test sets up the servers it asks")]

mod servers;

use std::error::Error;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use servers::bench::Bench;
use servers::cluster::{Cluster, releases};
use servers::pgbouncer::installed;
use servers::tls::{Authority, Identity, Verified, fingerprint, handshake};

type Outcome = Result<(), Box<dyn Error>>;

const NAMES: &str = "DNS:pooler.test,IP:127.0.0.1";

fn serve(bench: &Bench, identity: &Identity) -> Outcome {
    fs::write(bench.path("server.key"), &identity.key)?;
    Ok(fs::write(bench.path("server.crt"), &identity.certificate)?)
}

fn login(server: SocketAddr, root: &Path) -> Verified<'_> {
    let (user, password, database) = ("app", "secret", "d");
    Verified { server, host: "pooler.test", root, user, password, database, more: "" }
}

#[test]
fn a_handshake_shows_the_certificate_and_both_sides_refuse_wrong_ones() -> Outcome {
    // The servers cannot run as root.
    servers::leave_root();
    let (ours, other) = (Authority::new(), Authority::new());
    let release = releases().pop().expect("a server");
    let cluster = Cluster::of(&release, "")?;
    cluster.psql("operator", "postgres", "CREATE ROLE app LOGIN PASSWORD 'secret'")?;
    cluster.serve_tls(&ours.sign("server", "IP:127.0.0.1", 1), None)?;
    cluster.admit("hostssl all all all scram-sha-256")?;
    for program in installed() {
        let mut bench = Bench::new(&program);
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let server = SocketAddr::from(([127, 0, 0, 1], port));
        let file = |backend: &Authority| {
            format!(
                "[databases]\nd = host=127.0.0.1 port={} dbname=postgres\n[pgbouncer]\n\
                 listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir = {}\n\
                 auth_type = plain\nauth_file = {}\nquery_wait_timeout = 3\n\
                 client_tls_sslmode = verify-ca\nclient_tls_key_file = {}\n\
                 client_tls_cert_file = {}\nclient_tls_ca_file = {}\n\
                 server_tls_sslmode = verify-full\nserver_tls_ca_file = {}\n",
                cluster.port,
                bench.directory.display(),
                bench.path("userlist.txt"),
                bench.path("server.key"),
                bench.path("server.crt"),
                ours.root().display(),
                backend.root().display(),
            )
        };
        let texts = [file(&ours), file(&other)];
        fs::write(bench.path("userlist.txt"), "\"app\" \"secret\"\n")?;
        let mut shown = Vec::new();
        for (authority, names, days, refusal) in [
            (&ours, NAMES, 1, ""),
            (&ours, NAMES, -1, "certificate verify failed"),
            (&ours, "DNS:another.test", 1, "does not match host name"),
            (&other, NAMES, 1, "certificate verify failed"),
        ] {
            let identity = authority.sign("pooler", names, days);
            serve(&bench, &identity)?;
            bench.start(&texts[0])?;
            shown.push(handshake(server)?.fingerprint);
            assert_eq!(shown.last(), Some(&fingerprint(&identity.certificate)));

            let root = ours.root();
            let without = login(server, &root).ask("SELECT 1").expect_err("no certificate");
            let mine = ours.sign("app", "DNS:app", 1);
            fs::write(bench.path("mine.crt"), &mine.certificate)?;
            fs::write(bench.path("mine.key"), &mine.key)?;
            let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            fs::set_permissions(bench.path("mine.key"), private)?;
            let more =
                format!("sslcert={} sslkey={}", bench.path("mine.crt"), bench.path("mine.key"));
            let with = Verified { more: &more, ..login(server, &root) };
            let answer = with.ask("SELECT 1");
            if refusal.is_empty() {
                assert_eq!(answer, Ok("1".to_owned()), "{}", bench.log());
                assert!(!without.contains("server certificate"), "{without}");
            } else {
                let text = answer.expect_err(refusal);
                assert!(text.contains(refusal), "{text}");
                continue;
            }
            bench.start(&texts[1])?;
            let text = with.ask("SELECT 1").expect_err("PostgreSQL's certificate is foreign");
            assert!(bench.log().contains("certificate verify failed"), "{text}\n{}", bench.log());
        }
        shown.dedup();
        assert_eq!(shown.len(), 4, "{shown:?}");
    }
    Ok(())
}
