//! A connection that speaks PostgreSQL's protocol and answers in bounded time.

#![expect(clippy::disallowed_methods, reason = "the one place that speaks PostgreSQL's protocol")]

use std::{io, time::Duration};

use tokio::{runtime::Runtime, time::timeout};
use tokio_postgres::{Client, Config, NoTls, Row, SimpleQueryMessage, SimpleQueryRow, types::ToSql};

/// One open connection, with the small runtime that drives it.
pub(crate) struct Connection {
    client: Client,
    runtime: Runtime,
}

/// Why there was no answer, or not the one hoped for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The other side is silent.
    #[error("no answer within {0:?}")]
    Silent(Duration),
    /// No connection, or an error the server reports.
    #[error("{}", described(.0))]
    Sql(#[from] tokio_postgres::Error),
    /// The runtime could not be made: no file descriptors left, or no memory.
    #[error("cannot wait for an answer: {0}")]
    Runtime(#[from] io::Error),
}

impl Connection {
    /// Connects and logs in.
    pub(crate) fn open(config: &Config, limit: Duration) -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let connecting = async { timeout(limit, config.connect(NoTls)).await };
        let (client, connection) = runtime.block_on(connecting).map_err(|_| Error::Silent(limit))??;
        runtime.spawn(connection);
        Ok(Self { client, runtime })
    }

    /// Sends statements by the simple query protocol, several as one transaction; gives the rows of all.
    pub(crate) fn simple(&mut self, sql: &str, limit: Duration) -> Result<Vec<SimpleQueryRow>, Error> {
        let answering = async { timeout(limit, self.client.simple_query(sql)).await };
        let messages = self.runtime.block_on(answering).map_err(|_| Error::Silent(limit))??;
        let row = |message| if let SimpleQueryMessage::Row(row) = message { Some(row) } else { None };
        Ok(messages.into_iter().filter_map(row).collect())
    }

    /// Runs one statement with its values bound.
    pub(crate) fn query(
        &mut self,
        sql: &str,
        values: &[&(dyn ToSql + Sync)],
        limit: Duration,
    ) -> Result<Vec<Row>, Error> {
        let answering = async { timeout(limit, self.client.query(sql, values)).await };
        Ok(self.runtime.block_on(answering).map_err(|_| Error::Silent(limit))??)
    }
}

/// The server's own words where there are some; never the statement, which may hold a verifier.
fn described(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), |error| error.message().to_owned())
}
