//! Commands about the real processes: PgBouncer, PostgreSQL, and clients that log in.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use super::Arguments;
use crate::Sim;
use crate::console;
use crate::container::{self, Pod};
use crate::error::{Error, Result};
use crate::load::{Load, Target};
use crate::model::{Bag, Model, Unit, UnitName};
use crate::pooler::{self, Instance};
use crate::server::cells;
use crate::tls;

/// How long a client waits for an answer.
const ANSWER: Duration = Duration::from_secs(10);

/// The login that a client got over a relation.
struct Login {
    user: String,
    password: String,
    database: String,
    /// The host of the first endpoint.
    host: String,
    port: u16,
    /// The application that provided the login.
    provider: String,
}

impl Sim {
    /// `sql CLIENT STATEMENT [--through UNIT]`: logs in with the client's credentials and prints
    /// the rows.
    ///
    /// `sql SERVER STATEMENT [--database NAME]`: runs the statement as the superuser, without a
    /// password.
    ///
    /// With `--through` the client logs in at that unit, whose own processes must have counted the
    /// query.
    pub(crate) fn sql(&mut self, mut args: Arguments) -> Result<String> {
        let database = args.option("--database")?;
        let through = args.option("--through")?.map(|unit| unit.parse::<UnitName>()).transpose()?;
        let client = args.next("a client")?;
        let statement = args.next("a statement")?;
        args.end()?;
        if let Some(rows) = self.model.ask_server(&client, database.as_deref(), &statement)? {
            return Ok(lines(rows));
        }
        let mut login = self.model.login(&client)?;
        self.model.supervisor.wait();
        self.model.await_observers();
        if let Some(other) = database {
            login.database = other;
            self.model.await_standbys()?;
        }
        let Some(unit) = through else {
            let address = self.model.resolve(&login.host)?;
            return query(&login, address, &statement);
        };
        let address = self.model.unit(&unit)?.address;
        let before = self.model.queries(&unit);
        let printed = query(&login, address, &statement)?;
        // PgBouncer counts a query when it releases the server connection, just after the answer.
        let deadline = Instant::now() + Duration::from_secs(5);
        while self.model.queries(&unit) <= before {
            if Instant::now() > deadline {
                return Err(Error::refused(format!(
                    "{printed}but the processes of {unit} did not count the query"
                )));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(printed)
    }

    /// `kill-process UNIT [N]`: kills one PgBouncer process, by default the first.
    pub(crate) fn kill_process(&mut self, mut args: Arguments) -> Result<String> {
        let unit: UnitName = args.next("a unit")?.parse()?;
        let wanted = args.maybe();
        args.end()?;
        let instances = self.model.instances_of(&unit)?;
        let fits = |instance: &&Instance| {
            wanted.as_ref().is_none_or(|wanted| name_of(instance).ends_with(wanted))
        };
        let instance = instances
            .iter()
            .find(fits)
            .ok_or_else(|| Error::refused(format!("{unit} has no such process")))?;
        match (&self.model.unit(&unit)?.pod, instance.pid) {
            (Some(_), Some(pid)) => container::kill(pid),
            (Some(_), None) => {
                return Err(Error::refused(format!("{} does not run", name_of(instance))));
            }
            (None, _) => self.model.supervisor.kill(&instance.ini)?,
        }
        Ok(String::new())
    }

    /// `processes UNIT`
    pub(crate) fn processes(&mut self, mut args: Arguments) -> Result<String> {
        let unit: UnitName = args.next("a unit")?.parse()?;
        args.end()?;
        let mut rows = vec![["Instance", "Running", "Restarts"].map(str::to_owned).to_vec()];
        for instance in self.model.instances_of(&unit)? {
            let running = if instance.pid.is_some() { "yes" } else { "no" };
            rows.push(vec![name_of(&instance), running.to_owned(), instance.restarts.to_string()]);
        }
        Ok(self.table(rows))
    }

    /// `reloads UNIT`: how many SIGHUPs each process has logged.
    pub(crate) fn reloads(&mut self, mut args: Arguments) -> Result<String> {
        let unit: UnitName = args.next("a unit")?.parse()?;
        args.end()?;
        let mut printed = String::new();
        for instance in self.model.instances_of(&unit)? {
            let known = self.model.unit(&unit)?;
            let on_the_unit = || {
                let name = format!("var/log/pgbouncer-{}.log", name_of(&instance));
                std::fs::read_to_string(known.root.join(name)).unwrap_or_default()
            };
            let log = known.pod.as_ref().map_or_else(on_the_unit, |pod| pod.log_of(&instance));
            let _ =
                writeln!(printed, "{}: {}", name_of(&instance), log.matches("got SIGHUP").count());
        }
        Ok(printed)
    }

    /// `show-config UNIT NAME`: a setting, as each process of the unit reports it.
    pub(crate) fn show_config(&mut self, mut args: Arguments) -> Result<String> {
        let unit: UnitName = args.next("a unit")?.parse()?;
        let name = args.next("a setting")?;
        args.end()?;
        let mut printed = String::new();
        for instance in self.model.instances_of(&unit)? {
            let value = console::loaded(&instance, &name);
            let value =
                value.ok_or_else(|| Error::refused(format!("{unit} does not report {name}")))?;
            let _ = writeln!(printed, "{}: {value}", name_of(&instance));
        }
        Ok(printed)
    }

    /// `pooler APP`: what each unit should run, and how many of its processes have loaded it.
    pub(crate) fn pooler(&mut self, mut args: Arguments) -> Result<String> {
        let app = args.next("an application")?;
        args.end()?;
        let head = ["Unit", "Address", "Status", "Digest", "Loaded", "Queries"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        self.model.app(&app)?;
        for unit in self.model.units_of(&app) {
            let mark = if self.model.is_leader(&unit) { "*" } else { "" };
            let instances = self.model.instances_of(&unit)?;
            let digest = |i: &Instance| pooler::setting(&i.ini, "syslog_ident").unwrap_or_default();
            let loaded = |i: &&Instance| {
                console::loaded(i, "syslog_ident")
                    .is_some_and(|ident| !ident.is_empty() && ident == digest(i))
            };
            let loaded = instances.iter().filter(loaded).count();
            let known = self.model.unit(&unit)?;
            rows.push(vec![
                format!("{unit}{mark}"),
                known.address.to_string(),
                known.status.word.clone(),
                instances.first().map(digest).unwrap_or_default(),
                format!("{loaded}/{}", instances.len()),
                self.model.queries(&unit).to_string(),
            ]);
        }
        Ok(self.table(rows))
    }

    /// `load start CLIENT [-c N] [--through UNIT] [--reconnect [--or-port PORT]]`, `load stop`:
    /// simple queries in the background, through every unit or one. With `--reconnect` each query
    /// has its own connection, to the other port if nothing listens on the first.
    pub(crate) fn load(&mut self, mut args: Arguments) -> Result<String> {
        match args.next("start or stop")?.as_str() {
            "start" => {
                let clients = args.count("-c", 4)?;
                let reconnect = args.flag("--reconnect");
                let through =
                    args.option("--through")?.map(|unit| unit.parse::<UnitName>()).transpose()?;
                let not_a_port = |_| Error::refused("--or-port needs a port");
                let other_port = args.option("--or-port")?.map(|port| port.parse());
                let other_port = other_port.transpose().map_err(not_a_port)?;
                let client = args.next("a client")?;
                args.end()?;
                let login = self.model.login(&client)?;
                self.model.supervisor.wait();
                self.model.await_observers();
                let units =
                    through.map_or_else(|| self.model.units_of(&login.provider), |unit| vec![unit]);
                let target = |unit: &UnitName| {
                    Ok(Target {
                        address: self.model.unit(unit)?.address,
                        port: login.port,
                        other_port,
                        user: login.user.clone(),
                        password: login.password.clone(),
                        database: login.database.clone(),
                    })
                };
                let targets: Vec<Target> = units.iter().map(target).collect::<Result<_>>()?;
                self.load = Some(if reconnect {
                    Load::start_reconnecting(targets, clients)
                } else {
                    Load::start(&self.model.dir, &targets, clients)?
                });
                Ok(String::new())
            }
            "stop" => {
                args.end()?;
                let load = self
                    .load
                    .take()
                    .ok_or_else(|| Error::refused("no load runs: use load start"))?;
                Ok(load.stop())
            }
            other => Err(Error::refused(format!("expected start or stop, got {other:?}"))),
        }
    }
}

impl Model {
    /// The PgBouncer processes of a unit.
    pub fn instances(&self, unit: &str) -> Result<Vec<Instance>> {
        self.instances_of(&unit.parse()?)
    }

    fn instances_of(&self, unit: &UnitName) -> Result<Vec<Instance>> {
        if let Some(pod) = &self.unit(unit)?.pod {
            return Ok(pod.settled_instances());
        }
        self.supervisor.wait();
        Ok(self.supervisor.instances(&self.unit(unit)?.root))
    }

    /// How many client queries a unit's processes have answered, as they report it.
    fn queries(&self, unit: &UnitName) -> u64 {
        let instances = self.instances_of(unit).unwrap_or_default();
        instances.iter().map(console::client_queries).sum()
    }

    /// The login of a client application: from the databag, or from the secret as the client's
    /// first unit reads it.
    fn login(&mut self, client: &str) -> Result<Login> {
        self.app(client)?;
        let none = || Error::refused(format!("{client} has no login yet"));
        let relation =
            *self.relations_at(&format!("{client}:database")).first().ok_or_else(none)?;
        let provider =
            self.relations.get(&relation).and_then(|r| r.remote(client)).map(|end| end.app.clone());
        let provider = provider.ok_or_else(none)?;
        let mut answer = self.bag(relation, &provider);
        if let Some(uri) = answer.get("secret-user").cloned() {
            let unit = self.units_of(client).into_iter().next().ok_or_else(none)?;
            let text = self.tool_as(&unit, "secret-get", &[&uri, "--refresh", "--format=json"])?;
            let content: Bag =
                serde_json::from_str(&text).map_err(|error| Error::refused(error.to_string()))?;
            answer.extend(content);
        }
        let field = |name: &str| answer.get(name).cloned().ok_or_else(none);
        let endpoints = field("endpoints")?;
        let first = endpoints.split(',').next().unwrap_or_default();
        let (host, port) = first.rsplit_once(':').ok_or_else(none)?;
        Ok(Login {
            user: field("username")?,
            password: field("password")?,
            database: field("database").or_else(|_| {
                self.bag(relation, client).get("database").cloned().ok_or_else(none)
            })?,
            host: host.to_owned(),
            port: port.parse().map_err(|_| none())?,
            provider,
        })
    }

    /// Resolves an address, or a name as Kubernetes' DNS does: `<app>-<n>.…` is a unit, `<app>…` a
    /// unit of the application's service.
    fn resolve(&self, host: &str) -> Result<Ipv4Addr> {
        if let Ok(address) = host.parse() {
            return Ok(address);
        }
        let label = host.split('.').next().unwrap_or(host);
        let unit = self.units.iter().find(|(name, _)| name.dashed() == label);
        let service = |name: &UnitName| {
            label == name.app
                || label.strip_prefix(&name.app).is_some_and(|rest| rest.starts_with('-'))
        };
        // Kubernetes sends clients only to pods that are ready.
        let is_ready = |unit: &Unit| unit.pod.as_ref().is_none_or(Pod::is_ready);
        let found =
            unit.or_else(|| self.units.iter().find(|(name, unit)| service(name) && is_ready(unit)));
        found
            .map(|(_, unit)| unit.address)
            .ok_or_else(|| Error::refused(format!("cannot resolve {host}")))
    }
}

fn name_of(instance: &Instance) -> String {
    instance
        .ini
        .parent()
        .and_then(|dir| dir.file_name())
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// The answer to a client's query.
fn query(login: &Login, address: Ipv4Addr, statement: &str) -> Result<String> {
    let mut config = postgres::Config::new();
    config.host(&address.to_string()).port(login.port).user(&login.user).password(&login.password);
    config.dbname(&login.database).connect_timeout(ANSWER);
    let (sender, receiver) = channel();
    let statement = statement.to_owned();
    // Only connecting can have a timeout: a thread that waits for a frozen server is abandoned.
    thread::spawn(move || {
        let answer =
            config.connect(tls::prefer()).and_then(|mut client| client.simple_query(&statement));
        let _ = sender.send(answer);
    });
    let silent = |_| Error::refused(format!("no answer within {} s", ANSWER.as_secs()));
    let messages = receiver.recv_timeout(ANSWER).map_err(silent)?.map_err(|error| {
        let text = error
            .as_db_error()
            .map_or_else(|| error.to_string(), |error| error.message().to_owned());
        Error::refused(text)
    })?;
    Ok(lines(messages.iter().filter_map(cells)))
}

/// Formats rows.
fn lines(rows: impl IntoIterator<Item = Vec<String>>) -> String {
    rows.into_iter().map(|cells| cells.join(" | ") + "\n").collect()
}
