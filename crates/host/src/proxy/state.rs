//! The last configuration, on disk: a proxy that was killed listens again with it before any control plane speaks.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, Write},
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

use super::config::ProxyConfig;

/// What is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Saved {
    pub(super) config: ProxyConfig,
    /// Ports of listeners that may take any.
    #[serde(default)]
    pub(super) ports: BTreeMap<String, SocketAddr>,
}

impl Saved {
    /// None if there is nothing, or nothing readable: the control plane will say it all again.
    pub(super) fn read(path: &Path) -> Option<Self> {
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot read the last configuration");
                return None;
            }
        };
        serde_json::from_slice(&text)
            .inspect_err(|error| tracing::warn!(path = %path.display(), %error, "the last configuration is damaged"))
            .ok()
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        let fresh = beside(path, ".new");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&fresh)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_data()?;
        std::fs::rename(&fresh, path)
    }
}

/// How long to wait before a configuration that could not be written is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Writes what it is given, the last only if several came while it wrote. Once told to leave it writes what is left.
pub(super) async fn keeper(
    path: PathBuf,
    mut latest: watch::Receiver<Option<Arc<Saved>>>,
    leaving: CancellationToken,
) {
    let mut failed = false;
    loop {
        let changed = async {
            if failed {
                // A full disk may have room in a moment.
                let _ = timeout(AGAIN, latest.changed()).await;
                Ok(())
            } else {
                latest.changed().await
            }
        };
        let changed = leaving.run_until_cancelled(changed).await;
        let over = !matches!(changed, Some(Ok(())));
        if over && !failed && !latest.has_changed().unwrap_or(false) {
            return;
        }
        let Some(saved) = latest.borrow_and_update().clone() else {
            continue;
        };
        let to = path.clone();
        let written = tokio::task::spawn_blocking(move || saved.write(&to)).await;
        let told = failed;
        failed = false;
        if let Ok(Err(error)) = written {
            failed = true;
            if !told {
                tracing::warn!(path = %path.display(), %error, "cannot keep the configuration for a restart; trying again");
            }
        }
        if over {
            return;
        }
    }
}

/// Makes this process the only one on that path, for as long as the file is open.
pub(super) fn claim(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(beside(path, ".lock"))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
    Ok(file)
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}
