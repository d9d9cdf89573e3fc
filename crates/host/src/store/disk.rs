//! The SQLite file: its form, how it is opened and read, and how one batch of changes is written.
//!
//! WAL with `synchronous=FULL`: a commit returns after the log has reached the disk, so what was acknowledged survives
//! kill -9 and the loss of power alike. The price, one sync a commit, is shared by all writes that wait at that moment
//! (`writer` puts them into one transaction). A commit that fails, on a full disk for one, leaves the file as it was.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, params};

use super::audit::{AuditEntry, AuditFilter, AuditLimits};
use super::error::{OpenError, Result, StoreError};
use super::kind::Kind;
use super::object::{Key, Object};
use crate::wire::{AuditRow, AuditSubject};

/// Version of the form below; it rises with every entry of `MIGRATIONS`.
const FORM: i64 = MIGRATIONS.len() as i64;

/// Each entry leads from the version before to its own. Entries are never edited, only added.
const MIGRATIONS: [&str; 1] = ["
    CREATE TABLE objects (
        api_group TEXT NOT NULL,
        kind TEXT NOT NULL,
        namespace TEXT NOT NULL,
        name TEXT NOT NULL,
        revision INTEGER NOT NULL,
        object TEXT NOT NULL,
        PRIMARY KEY (api_group, kind, namespace, name)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE counters (
        name TEXT PRIMARY KEY,
        value INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    INSERT INTO counters VALUES ('revision', 0);
    CREATE TABLE audit (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        time TEXT NOT NULL,
        actor TEXT NOT NULL,
        action TEXT NOT NULL,
        kind TEXT NOT NULL,
        namespace TEXT NOT NULL,
        name TEXT NOT NULL,
        reason TEXT NOT NULL,
        detail TEXT NOT NULL
    ) STRICT;
    CREATE INDEX audit_subject ON audit (namespace, name);
    CREATE INDEX audit_time ON audit (time);
"];

/// What a batch writes: the last state of each object that it changed.
#[derive(Debug, Default)]
pub(super) struct Batch<'a> {
    pub(super) revision: u64,
    /// The object and its JSON text, or none when it is gone.
    pub(super) objects: Vec<(&'a Key, Option<(u64, &'a str)>)>,
    pub(super) audit: Vec<&'a AuditEntry>,
}

/// The open file, for writing.
#[derive(Debug)]
pub(super) struct Disk {
    connection: Connection,
    file: PathBuf,
}

/// What was in the file when it was opened.
pub(super) struct Content {
    pub(super) objects: Vec<Object>,
    pub(super) revision: u64,
}

impl Disk {
    /// Opens the file, or makes it, and reads everything.
    pub(super) fn open(
        folder: &Path,
        largest_bytes: Option<u64>,
    ) -> std::result::Result<(Self, Content), OpenError> {
        let file = folder.join("objects.db");
        let failed = |source| OpenError::Database {
            file: file.clone(),
            source,
        };
        make_private(&file).map_err(|source| OpenError::Folder {
            folder: folder.to_owned(),
            source,
        })?;
        let mut connection = connect(&file, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(failed)?;
        prepare(&mut connection, &file)?;
        if let Some(bytes) = largest_bytes {
            let page: i64 = connection
                .pragma_query_value(None, "page_size", |row| row.get(0))
                .map_err(failed)?;
            connection
                .pragma_update(None, "max_page_count", number(bytes) / page.max(1))
                .map_err(failed)?;
        }
        let content = read_all(&connection, &file)?;
        Ok((Self { connection, file }, content))
    }

    /// Writes a batch: all of it or, on an error, nothing.
    pub(super) fn write(&mut self, batch: &Batch<'_>) -> Result<()> {
        self.try_write(batch).map_err(|error| self.failure(&error))
    }

    fn try_write(&mut self, batch: &Batch<'_>) -> rusqlite::Result<()> {
        // Dropped without a commit, the transaction is rolled back.
        let transaction = self
            .connection
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        {
            let mut put = transaction.prepare_cached(
                "INSERT INTO objects VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT DO UPDATE SET revision = excluded.revision, object = excluded.object",
            )?;
            let mut drop = transaction.prepare_cached(
                "DELETE FROM objects WHERE api_group = ?1 AND kind = ?2 AND namespace = ?3 AND name = ?4",
            )?;
            for (key, object) in &batch.objects {
                let (group, kind) = (key.kind.group(), key.kind.name());
                match object {
                    Some((revision, text)) => put.execute(params![
                        group,
                        kind,
                        key.namespace,
                        key.name,
                        number(*revision),
                        text
                    ])?,
                    None => drop.execute(params![group, kind, key.namespace, key.name])?,
                };
            }
            let mut note = transaction.prepare_cached(
                "INSERT INTO audit (time, actor, action, kind, namespace, name, reason, detail)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?;
            for entry in &batch.audit {
                let AuditEntry {
                    time,
                    actor,
                    action,
                    subject,
                    reason,
                    detail,
                } = entry;
                note.execute(params![
                    sortable(*time),
                    actor,
                    action,
                    subject.kind,
                    subject.namespace,
                    subject.name,
                    reason,
                    detail
                ])?;
            }
            transaction
                .prepare_cached("UPDATE counters SET value = ?1 WHERE name = 'revision'")?
                .execute([number(batch.revision)])?;
        }
        transaction.commit()
    }

    /// Drops the oldest rows of the audit trail that are beyond its limits.
    pub(super) fn trim_audit(&mut self, limits: AuditLimits, now: Timestamp) -> Result<()> {
        let oldest = now
            .checked_sub(limits.age)
            .map_or_else(|_| String::new(), sortable);
        self.connection
            .execute(
                "DELETE FROM audit WHERE time < ?1 OR id <= (SELECT max(id) FROM audit) - ?2",
                params![oldest, limits.rows],
            )
            .map(drop)
            .map_err(|error| self.failure(&error))
    }

    /// What to tell whoever wanted to write.
    fn failure(&self, error: &rusqlite::Error) -> StoreError {
        let folder = self.file.parent().unwrap_or(&self.file).to_owned();
        let full = match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => true,
            // On some file systems a full disk shows as an I/O error, or as a log that cannot be made.
            Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => {
                rustix::fs::statvfs(&folder)
                    .is_ok_and(|facts| facts.f_bavail * facts.f_frsize < 64 << 10)
            }
            _ => false,
        };
        if full {
            StoreError::Full(folder)
        } else {
            StoreError::Storage {
                folder,
                why: error.to_string(),
            }
        }
    }
}

/// The file as its readers open it.
#[derive(Debug)]
pub(super) struct Reader {
    connection: Connection,
    file: PathBuf,
}

impl Reader {
    pub(super) fn open(folder: &Path) -> std::result::Result<Self, OpenError> {
        let file = folder.join("objects.db");
        match connect(&file, OpenFlags::SQLITE_OPEN_READ_ONLY) {
            Ok(connection) => Ok(Self { connection, file }),
            Err(source) => Err(OpenError::Database { file, source }),
        }
    }

    /// The newest rows of the audit trail that match, oldest first.
    pub(super) fn audit(&self, filter: &AuditFilter) -> Result<Vec<AuditRow>> {
        self.try_audit(filter).map_err(|error| StoreError::Storage {
            folder: self.file.parent().unwrap_or(&self.file).to_owned(),
            why: error.to_string(),
        })
    }

    fn try_audit(&self, filter: &AuditFilter) -> rusqlite::Result<Vec<AuditRow>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT id, time, actor, action, kind, namespace, name, reason, detail FROM audit
             WHERE (?1 IS NULL OR namespace = ?1) AND (?2 IS NULL OR lower(kind) = lower(?2)) AND (?3 IS NULL OR name = ?3)
             ORDER BY id DESC LIMIT ?4",
        )?;
        let limit = i64::try_from(filter.newest.unwrap_or(10_000)).unwrap_or(i64::MAX);
        let rows = statement.query_map(
            params![filter.namespace, filter.kind, filter.name, limit],
            |row| {
                let time: String = row.get(1)?;
                Ok(AuditRow {
                    id: row.get(0)?,
                    time: time.parse().unwrap_or(Timestamp::UNIX_EPOCH),
                    actor: row.get(2)?,
                    action: row.get(3)?,
                    subject: AuditSubject {
                        kind: row.get(4)?,
                        namespace: row.get(5)?,
                        name: row.get(6)?,
                    },
                    reason: row.get(7)?,
                    detail: row.get(8)?,
                })
            },
        )?;
        let mut rows: Vec<AuditRow> = rows.collect::<rusqlite::Result<_>>()?;
        rows.reverse();
        Ok(rows)
    }
}

/// SQLite's integers have a sign; ten thousand writes a second reach the bound in 29 million years.
fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A time whose text sorts as the time does: always with milliseconds.
fn sortable(time: Timestamp) -> String {
    format!("{time:.3}")
}

/// SQLite would make the file readable for all; its companions inherit its mode.
fn make_private(file: &Path) -> std::io::Result<()> {
    let made = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(file)?;
    made.sync_all()?;
    // The name must be on the disk, too, before anything in the file counts as safe.
    file.parent()
        .map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn connect(file: &Path, access: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(file, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    Ok(connection)
}

fn prepare(connection: &mut Connection, file: &Path) -> std::result::Result<(), OpenError> {
    let failed = |source: rusqlite::Error| match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => OpenError::Damaged {
            file: file.to_owned(),
            what: source.to_string(),
        },
        _ => OpenError::Database {
            file: file.to_owned(),
            source,
        },
    };
    connection
        .pragma_update(None, "journal_mode", "WAL")
        .map_err(failed)?;
    connection
        .pragma_update(None, "synchronous", "FULL")
        .map_err(failed)?;
    // A burst may blow up the log; give its space back at the next checkpoint.
    connection
        .pragma_update(None, "journal_size_limit", 16 << 20)
        .map_err(failed)?;
    let check: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(failed)?;
    if check != "ok" {
        return Err(OpenError::Damaged {
            file: file.to_owned(),
            what: check,
        });
    }
    let found: i64 = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(failed)?;
    if found > FORM {
        return Err(OpenError::TooNew {
            file: file.to_owned(),
            found,
            known: FORM,
        });
    }
    if found == FORM {
        // Nothing to write: a full disk keeps no host from starting.
        return Ok(());
    }
    let done = usize::try_from(found).unwrap_or(0);
    let transaction = connection.transaction().map_err(failed)?;
    for step in MIGRATIONS.iter().skip(done) {
        transaction.execute_batch(step).map_err(failed)?;
    }
    transaction
        .pragma_update(None, "user_version", FORM)
        .map_err(failed)?;
    transaction.commit().map_err(failed)
}

fn read_all(connection: &Connection, file: &Path) -> std::result::Result<Content, OpenError> {
    let failed = |source| OpenError::Database {
        file: file.to_owned(),
        source,
    };
    let damaged = |what: String| OpenError::Damaged {
        file: file.to_owned(),
        what,
    };
    let revision: Option<i64> = connection
        .query_row(
            "SELECT value FROM counters WHERE name = 'revision'",
            [],
            |row| row.get(0),
        )
        .optional()
        .map_err(failed)?;
    let revision =
        revision.ok_or_else(|| damaged("the counter of revisions is missing".to_owned()))?;
    let mut statement = connection
        .prepare("SELECT api_group, kind, namespace, name, revision, object FROM objects")
        .map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    let mut objects = Vec::new();
    while let Some(row) = rows.next().map_err(failed)? {
        let group: String = row.get(0).map_err(failed)?;
        let kind: String = row.get(1).map_err(failed)?;
        let namespace: String = row.get(2).map_err(failed)?;
        let name: String = row.get(3).map_err(failed)?;
        let at: i64 = row.get(4).map_err(failed)?;
        let text: String = row.get(5).map_err(failed)?;
        let known = Kind::ALL
            .into_iter()
            .find(|k| k.group() == group && k.name() == kind);
        let kind = known.ok_or_else(|| {
            damaged(format!(
                "{namespace}/{name} is of the unknown kind {kind} in {group:?}"
            ))
        })?;
        let key = Key {
            kind,
            namespace,
            name,
        };
        let value =
            serde_json::from_str(&text).map_err(|error| damaged(format!("{key}: {error}")))?;
        objects.push(Object::new(key, value, at.cast_unsigned(), text.len()));
    }
    Ok(Content {
        objects,
        revision: revision.cast_unsigned(),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_file_and_its_companions_are_for_their_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let (mut disk, _) = Disk::open(folder.path(), None).unwrap();
        disk.write(&Batch {
            revision: 1,
            ..Batch::default()
        })
        .unwrap();
        let mut seen = 0;
        for entry in folder.path().read_dir().unwrap() {
            let entry = entry.unwrap();
            assert_eq!(
                entry.metadata().unwrap().permissions().mode() & 0o777,
                0o600,
                "{:?}",
                entry.file_name()
            );
            seen += 1;
        }
        assert_eq!(seen, 3, "the file, its log and the log's index");
    }

    #[test]
    fn a_file_of_a_newer_version_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        drop(Disk::open(folder.path(), None).unwrap());
        let file = folder.path().join("objects.db");
        Connection::open(&file)
            .unwrap()
            .pragma_update(None, "user_version", 99)
            .unwrap();
        let error = Disk::open(folder.path(), None).err().unwrap();
        assert!(
            matches!(error, OpenError::TooNew { found: 99, .. }),
            "{error}"
        );
    }

    #[test]
    fn a_file_that_is_no_database_is_called_damaged_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("objects.db");
        let junk = "no database ".repeat(1000);
        std::fs::write(&file, &junk).unwrap();
        let error = Disk::open(folder.path(), None).err().unwrap();
        assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), junk);
    }

    #[test]
    fn the_store_waits_for_the_disk_before_it_acknowledges() {
        let folder = tempfile::tempdir().unwrap();
        let (disk, _) = Disk::open(folder.path(), None).unwrap();
        let mode: String = disk
            .connection
            .pragma_query_value(None, "journal_mode", |r| r.get(0))
            .unwrap();
        let full: i64 = disk
            .connection
            .pragma_query_value(None, "synchronous", |r| r.get(0))
            .unwrap();
        assert_eq!((mode.as_str(), full), ("wal", 2));
    }
}
