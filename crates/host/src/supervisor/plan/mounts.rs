//! Volumes without mounts: a mount path becomes the path of the volume's folder wherever it is written.
//!
//! A process on this machine sees this machine's files, so nothing can appear at `/etc/web`. What can be done
//! honestly is to tell the process the other path: every mention of a mount path in the container's command,
//! args, environment, working folder, probes and hooks is replaced. Whether anything mentioned it is noted,
//! because a volume that the process cannot find is an error ([`Mounts::unmentioned`]).

use std::cell::Cell;
use std::path::{Path, PathBuf};

use super::environment::mount_variable;

/// Where one volume was to be mounted, and where it lies.
pub(super) struct Mount {
    pub(super) volume: String,
    pub(super) path: String,
    pub(super) target: PathBuf,
    /// Whether the process can do without being told: the path is there on this machine anyway.
    pub(super) optional: bool,
    /// The variable that tells the path.
    variable: String,
    mentioned: Cell<bool>,
}

/// The mounts of one container, the longest path first, so that `/data/cache` wins over `/data`.
#[derive(Default)]
pub(super) struct Mounts(Vec<Mount>);

impl Mounts {
    pub(super) fn add(&mut self, volume: &str, path: &str, target: PathBuf, optional: bool) {
        let trimmed = path.trim_end_matches('/');
        self.0.push(Mount {
            volume: volume.to_owned(),
            path: trimmed.to_owned(),
            target,
            optional,
            variable: mount_variable(volume),
            mentioned: Cell::new(false),
        });
        self.0
            .sort_by_key(|mount| std::cmp::Reverse(mount.path.len()));
    }

    /// The text with every mention of a mount path replaced.
    pub(super) fn replace(&self, text: &str) -> String {
        for mount in self.0.iter().filter(|mount| text.contains(&mount.variable)) {
            mount.mentioned.set(true);
        }
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('/') {
            let (before, from) = rest.split_at(at);
            out.push_str(before);
            if let Some(mount) = self
                .0
                .iter()
                .find(|mount| begins_here(&out, from, &mount.path))
            {
                mount.mentioned.set(true);
                out.push_str(&mount.target.to_string_lossy());
                rest = from.get(mount.path.len()..).unwrap_or_default();
            } else {
                out.push('/');
                rest = from.get(1..).unwrap_or_default();
            }
        }
        out.push_str(rest);
        out
    }

    /// The mounts that nothing replaced so far has mentioned and that the process cannot do without.
    pub(super) fn unmentioned(&self) -> impl Iterator<Item = &Mount> {
        self.0
            .iter()
            .filter(|mount| !mount.mentioned.get() && !mount.optional)
    }

    /// Every mount, with the path it lies at.
    pub(super) fn targets(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.0
            .iter()
            .map(|mount| (mount.volume.as_str(), mount.target.as_path()))
    }
}

/// Whether the path stands at the beginning of `from` as a whole path, `before` being what comes ahead of it.
fn begins_here(before: &str, from: &str, path: &str) -> bool {
    let Some(after) = from.strip_prefix(path) else {
        return false;
    };
    let part_of_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    // `file:///etc/web`: the two slashes of a URL do not belong to the path.
    let starts = before.ends_with("://")
        || !before.ends_with(|c: char| part_of_name(c) || matches!(c, '/' | '~'));
    starts && !after.starts_with(part_of_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_replaced_where_it_stands_as_a_whole_path() {
        let mut mounts = Mounts::default();
        mounts.add("config", "/etc/web/", PathBuf::from("/pod/config"), false);
        mounts.add("certs", "/etc/web/tls", PathBuf::from("/pod/certs"), false);
        for (text, wanted) in [
            ("/etc/web", "/pod/config"),
            (
                "--config=/etc/web/app.yaml",
                "--config=/pod/config/app.yaml",
            ),
            (
                "cat /etc/web/a /etc/web/b;",
                "cat /pod/config/a /pod/config/b;",
            ),
            ("'/etc/web'", "'/pod/config'"),
            ("/etc/web/tls/key.pem", "/pod/certs/key.pem"),
            ("a:/etc/web:/etc/web/tls", "a:/pod/config:/pod/certs"),
            ("file:///etc/web/x", "file:///pod/config/x"),
            // Other paths that only look alike.
            ("/etc/website", "/etc/website"),
            ("/etc/web.d/x", "/etc/web.d/x"),
            ("/opt/etc/web", "/opt/etc/web"),
            ("./etc/web", "./etc/web"),
            ("http://host/etc/web", "http://host/etc/web"),
        ] {
            assert_eq!(mounts.replace(text), wanted, "{text}");
        }
    }

    #[test]
    fn a_mount_that_nothing_mentions_is_known() {
        let mut mounts = Mounts::default();
        mounts.add("config", "/etc/web", PathBuf::from("/pod/config"), false);
        mounts.add("tmp", "/tmp", PathBuf::from("/pod/tmp"), true);
        mounts.replace("/etc/other");
        assert_eq!(
            mounts
                .unmentioned()
                .map(|m| m.volume.as_str())
                .collect::<Vec<_>>(),
            ["config"]
        );
        mounts.replace("--file /etc/web/x");
        assert_eq!(mounts.unmentioned().count(), 0);
    }
}
