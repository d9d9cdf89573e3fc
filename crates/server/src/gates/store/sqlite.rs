//! Gates in a SQLite file: a row for each Canary, its gates as JSON.
//!
//! A commit returns after the log has reached the disk, so what was answered survives kill -9 and the loss of power. A change holds the
//! file's only write lock from before it reads until it is written, so the command line may work on the file of a running server.

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, TransactionBehavior, params};

use super::{CanaryId, Change, Gates, PATIENCE, StoreError, Write};

/// Version of the table below.
const FORM: i64 = 1;
/// Marks the file as one of gates: "xfgt".
const MARK: i64 = 0x7866_6774;

const TABLE: &str = "
    CREATE TABLE gates (
        namespace TEXT NOT NULL,
        name TEXT NOT NULL,
        gates TEXT NOT NULL,
        PRIMARY KEY (namespace, name)
    ) STRICT, WITHOUT ROWID;
";

/// Gates in a SQLite file.
#[derive(Clone, Debug)]
pub(super) struct Sqlite {
    connection: Arc<Mutex<Connection>>,
    file: PathBuf,
}

impl Sqlite {
    pub(super) fn open(file: &Path) -> Result<Self, StoreError> {
        let said = |why: &dyn std::fmt::Display| {
            StoreError::Unavailable(format!("{}: {why}", file.display()))
        };
        // Made with these rights before SQLite does it with others.
        std::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(file)
            .map_err(|why| said(&why))?;
        let connection = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE)
            .map_err(|why| said(&why))?;
        let store = Self {
            connection: Arc::new(Mutex::new(connection)),
            file: file.to_owned(),
        };
        store.with(prepare)??;
        Ok(store)
    }

    /// Does something with the connection. An error of SQLite names the file.
    fn with<T>(
        &self,
        mut what: impl FnMut(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let mut connection = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        what(&mut connection)
            .map_err(|why| StoreError::Unavailable(format!("{}: {why}", self.file.display())))
    }

    /// The same on a thread that may wait for the disk.
    async fn aside<T: Send + 'static>(
        &self,
        what: impl FnMut(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.clone();
        tokio::task::spawn_blocking(move || store.with(what))
            .await
            .map_err(|why| StoreError::Unavailable(why.to_string()))?
    }

    pub(super) async fn read(&self, canary: &CanaryId) -> Result<Gates, StoreError> {
        let canary = canary.clone();
        self.aside(move |connection| stored(connection, &canary))
            .await
    }

    pub(super) async fn update<T: Send + 'static>(
        &self,
        canary: &CanaryId,
        mut change: impl FnMut(&mut Gates) -> Change<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let canary = canary.clone();
        self.aside(move |connection| {
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let mut gates = stored(&transaction, &canary)?;
            let done = change(&mut gates);
            if done.write == Write::No {
                return Ok(done.answer);
            }
            let put = || {
                let text = serde_json::to_string(&gates)
                    .map_err(|why| rusqlite::Error::ToSqlConversionFailure(why.into()))?;
                transaction.execute(
                    "INSERT INTO gates VALUES (?1, ?2, ?3)
                     ON CONFLICT DO UPDATE SET gates = excluded.gates",
                    params![canary.namespace, canary.name, text],
                )
            };
            let kept = put().and_then(|_| transaction.commit());
            match (kept, done.write) {
                (Err(why), Write::Must) => Err(why),
                (Err(error), _) => {
                    tracing::warn!(canary = %canary, %error, "a check could not be remembered");
                    Ok(done.answer)
                }
                (Ok(()), _) => Ok(done.answer),
            }
        })
        .await
    }

    pub(super) async fn list(
        &self,
        namespace: Option<&str>,
    ) -> Result<Vec<(CanaryId, Gates)>, StoreError> {
        let namespace = namespace.map(str::to_owned);
        self.aside(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT namespace, name, gates FROM gates
                 WHERE ?1 IS NULL OR namespace = ?1 ORDER BY namespace, name",
            )?;
            let rows = statement.query_map(params![namespace], |row| {
                let canary = CanaryId {
                    namespace: row.get(0)?,
                    name: row.get(1)?,
                };
                let gates = decoded(&canary, &row.get::<_, String>(2)?);
                Ok((canary, gates))
            })?;
            rows.collect()
        })
        .await
    }
}

/// Makes the table where there is none.
fn prepare(connection: &mut Connection) -> rusqlite::Result<Result<(), StoreError>> {
    connection.busy_timeout(PATIENCE)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let number =
        |name: &str| transaction.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let (mark, form) = (number("application_id")?, number("user_version")?);
    let tables: i64 =
        transaction.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))?;
    if tables == 0 {
        transaction.execute_batch(TABLE)?;
        transaction.pragma_update(None, "application_id", MARK)?;
        transaction.pragma_update(None, "user_version", FORM)?;
        transaction.commit()?;
        return Ok(Ok(()));
    }
    let path = transaction.path().unwrap_or_default();
    let wrong = if mark != MARK {
        Some(format!("{path} is another program's database"))
    } else if form > FORM {
        Some(format!(
            "{path} was written by a newer version of crossfade"
        ))
    } else {
        None
    };
    Ok(wrong.map_or(Ok(()), |why| Err(StoreError::Refused(why))))
}

fn stored(connection: &Connection, canary: &CanaryId) -> rusqlite::Result<Gates> {
    let mut statement =
        connection.prepare_cached("SELECT gates FROM gates WHERE namespace = ?1 AND name = ?2")?;
    let text: Option<String> = statement
        .query_row(params![canary.namespace, canary.name], |row| row.get(0))
        .optional()?;
    Ok(text.map(|text| decoded(canary, &text)).unwrap_or_default())
}

/// A gate that cannot be read is closed.
fn decoded(canary: &CanaryId, text: &str) -> Gates {
    serde_json::from_str(text).unwrap_or_else(|error| {
        tracing::warn!(canary = %canary, %error, "its gates cannot be read and count as closed");
        Gates::default()
    })
}
