//! `crossfade logs`: what pods write.

use clap::{Args, ValueEnum};
use crossfade_api::{Resource, Rollout};
use crossfade_host::client::{Chunks, Client, Wanted};
use crossfade_host::store::Kind;
use crossfade_host::wire::LogQuery;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::mpsc;

use crate::context::Context;
use crate::error::{CliError, Result};
use crate::exit;
use crate::global::go_duration;
use crate::read;
use crate::target::{self, Target};
use crate::terminal;
use crate::view::icon::Tag;
use crate::view::replica_set;

/// Show what pods write to their logs
///
/// Of one pod, or of all pods of a Rollout, each line then with the name of its pod in front:
///
///   crossfade logs web --role canary --follow
#[derive(Args, Clone, Debug)]
#[command(verbatim_doc_comment)]
pub(crate) struct Logs {
    /// Rollout, or pod/NAME, or replicaset/NAME, or job/NAME
    #[arg(value_name = "[TYPE/]NAME", required = true, num_args = 1..=2)]
    names: Vec<String>,
    /// Only pods of the new version (canary) or of the one to go back to (stable)
    #[arg(long, value_enum, value_name = "ROLE")]
    role: Option<Role>,
    /// Go on with what is written from now on
    #[arg(short, long)]
    follow: bool,
    /// Container; the first when none is given
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
    /// Only the last lines of each pod
    #[arg(long, value_name = "N")]
    tail: Option<u64>,
    /// Only what is younger, for example 10m
    #[arg(long, value_name = "DURATION", value_parser = go_duration)]
    since: Option<std::time::Duration>,
    /// The log of the run before the present one
    #[arg(short, long)]
    previous: bool,
}

/// Which version of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Role {
    /// The new version, also of a blue-green release.
    Canary,
    /// The version to go back to.
    Stable,
}

impl Logs {
    /// Does it.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let targets = target::parse(&self.names, Kind::Rollout)?.targets;
        let [target] = targets.as_slice() else {
            return Err(CliError::arguments());
        };
        let client = context.client()?;
        let pods = self.pods(context, &client, target).await?;
        if pods.is_empty() {
            let role = match self.role {
                None => "",
                Some(Role::Canary) => "canary ",
                Some(Role::Stable) => "stable ",
            };
            return Err(CliError::new(
                exit::NOT_FOUND,
                format!(
                    "{} {} has no {role}pods",
                    target.kind.singular(),
                    target.name
                ),
            ));
        }
        let query = LogQuery {
            container: self.container.clone(),
            follow: self.follow,
            tail_lines: self.tail,
            since_seconds: self.since.map(|since| since.as_secs().max(1)),
            previous: self.previous,
        };
        let mut streams = Vec::new();
        for pod in &pods {
            streams.push(client.logs(context.namespace(), pod, &query).await?);
        }
        let alone = pods.len() == 1;
        if !self.follow {
            for (pod, mut stream) in pods.iter().zip(streams) {
                let mut lines = Lines::of(if alone { "" } else { pod });
                while let Some(piece) = stream.next().await {
                    terminal::bytes(&lines.take(&piece?))?;
                }
                terminal::bytes(&lines.rest())?;
            }
            return Ok(());
        }
        let (sender, mut texts) = mpsc::channel(64);
        let mut readers = tokio::task::JoinSet::new();
        for (pod, stream) in pods.iter().zip(streams) {
            let lines = Lines::of(if alone { "" } else { pod });
            readers.spawn(pump(stream, lines, sender.clone()));
        }
        drop(sender);
        while let Some(text) = texts.recv().await {
            terminal::bytes(&text?)?;
        }
        Ok(())
    }

    /// The pods that are meant, by name.
    async fn pods(
        &self,
        context: &Context,
        client: &Client,
        target: &Target,
    ) -> Result<Vec<String>> {
        if target.kind == Kind::Pod {
            return Ok(vec![target.name.clone()]);
        }
        let owner = read::object(context, client, target.kind, &target.name).await?;
        let namespace = Some(context.namespace());
        let mut owners: Vec<String> = owner["metadata"]["uid"]
            .as_str()
            .map(str::to_owned)
            .into_iter()
            .collect();
        if target.kind == Kind::Rollout {
            let rollout = Rollout::from_json(owner).0;
            let list = client
                .list(Kind::ReplicaSet, namespace, &Wanted::default())
                .await?;
            let sets: Vec<ReplicaSet> = read::objects(&list.items)?;
            let mine = sets.into_iter().filter(|set| {
                let tags = replica_set::tags(set, &rollout);
                let is_stable = tags.contains(&Tag::Stable);
                let is_new = replica_set::hash(set) == rollout.status.current_pod_hash.as_str()
                    && !is_stable;
                let has_role = match self.role {
                    None => true,
                    Some(Role::Canary) => is_new,
                    Some(Role::Stable) => is_stable,
                };
                has_role && replica_set::is_owned_by(&set.metadata, replica_set::uid(&rollout))
            });
            owners = mine.filter_map(|set| set.metadata.uid).collect();
        }
        let list = client
            .list(Kind::Pod, namespace, &Wanted::default())
            .await?;
        let pods: Vec<Pod> = read::objects(&list.items)?;
        let mut names: Vec<_> = pods
            .into_iter()
            .filter(|pod| {
                owners
                    .iter()
                    .any(|uid| replica_set::is_owned_by(&pod.metadata, uid))
            })
            .filter_map(|pod| pod.metadata.name)
            .collect();
        names.sort();
        Ok(names)
    }
}

async fn pump(mut stream: Chunks, mut lines: Lines, sender: mpsc::Sender<Result<Vec<u8>>>) {
    while let Some(piece) = stream.next().await {
        let text = piece
            .map(|piece| lines.take(&piece))
            .map_err(CliError::from);
        let failed = text.is_err();
        // Nobody listens any more when the command ends.
        if sender.send(text).await.is_err() || failed {
            return;
        }
    }
    let _ = sender.send(Ok(lines.rest())).await;
}

/// Whole lines with the name of their pod in front; pieces of the stream break them anywhere.
struct Lines {
    prefix: String,
    open: Vec<u8>,
}

impl Lines {
    fn of(pod: &str) -> Self {
        Self {
            prefix: if pod.is_empty() {
                String::new()
            } else {
                format!("[{pod}] ")
            },
            open: Vec::new(),
        }
    }

    /// The lines that a piece completes.
    fn take(&mut self, piece: &[u8]) -> Vec<u8> {
        if self.prefix.is_empty() {
            return piece.to_vec();
        }
        let mut text = Vec::new();
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            self.open.extend_from_slice(part);
            if part.ends_with(b"\n") {
                text.extend_from_slice(self.prefix.as_bytes());
                text.append(&mut self.open);
            }
        }
        text
    }

    /// What came after the last line end.
    fn rest(&mut self) -> Vec<u8> {
        if self.open.is_empty() {
            return Vec::new();
        }
        let mut text = self.prefix.clone().into_bytes();
        text.append(&mut self.open);
        text.push(b'\n');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stay_whole_however_the_stream_is_cut() {
        let mut lines = Lines::of("web-1");
        let mut text = lines.take(b"one\ntw");
        text.extend(lines.take(b"o\nthree"));
        text.extend(lines.rest());
        assert_eq!(
            String::from_utf8_lossy(&text),
            "[web-1] one\n[web-1] two\n[web-1] three\n"
        );
        assert_eq!(Lines::of("").take(b"as it is"), b"as it is");
    }
}
