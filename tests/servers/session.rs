//! A client's connection that stays open, unlike psql's, and can prepare statements by protocol.

use std::path::Path;

use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage, Statement};

pub(crate) struct Session {
    runtime: Runtime,
    client: Client,
}

impl Session {
    /// Over the Unix socket in this directory.
    pub(crate) fn open(
        directory: &Path,
        port: u16,
        user: &str,
        database: &str,
    ) -> Result<Self, String> {
        Self::log_in(directory, port, user, "", database)
    }

    /// The same with a password, should it be asked for.
    pub(crate) fn log_in(
        directory: &Path,
        port: u16,
        user: &str,
        password: &str,
        database: &str,
    ) -> Result<Self, String> {
        let mut config = Config::new();
        Self::connect(
            config.host_path(directory).port(port).user(user).password(password).dbname(database),
        )
    }

    /// With whatever else a driver can be told.
    pub(crate) fn connect(config: &Config) -> Result<Self, String> {
        let runtime =
            Builder::new_current_thread().enable_io().build().map_err(|error| error.to_string())?;
        let (client, connection) =
            runtime.block_on(config.connect(NoTls)).map_err(|error| describe(&error))?;
        runtime.spawn(connection);
        Ok(Self { runtime, client })
    }

    /// The first column of the last row, by the simple protocol.
    pub(crate) fn ask(&self, sql: &str) -> Result<String, String> {
        let messages = self
            .runtime
            .block_on(self.client.simple_query(sql))
            .map_err(|error| describe(&error))?;
        let last = messages.iter().rev().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        Ok(last.unwrap_or_default().to_owned())
    }

    /// A column of all rows, by the simple protocol.
    pub(crate) fn column(&self, sql: &str, name: &str) -> Result<Vec<String>, String> {
        let messages = self
            .runtime
            .block_on(self.client.simple_query(sql))
            .map_err(|error| describe(&error))?;
        let values = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(name).map(str::to_owned),
            _ => None,
        });
        Ok(values.collect())
    }

    pub(crate) fn prepare(&self, sql: &str) -> Result<Statement, String> {
        self.runtime.block_on(self.client.prepare(sql)).map_err(|error| describe(&error))
    }

    /// The first column of the one row, a number.
    pub(crate) fn execute(&self, statement: &Statement) -> Result<i32, String> {
        let row = self
            .runtime
            .block_on(self.client.query_one(statement, &[]))
            .map_err(|error| describe(&error))?;
        Ok(row.get(0))
    }
}

/// With the server's own words, which the driver keeps to itself.
fn describe(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), ToString::to_string)
}
