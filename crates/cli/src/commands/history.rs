//! `crossfade history`: the revisions of a release.

use clap::Args;
use crossfade_api::Rollout;
use crossfade_host::client::Client;
use crossfade_host::store::Kind;
use crossfade_host::wire::AuditRow;
use crossfade_server::gates::{DEFAULT_GATE, GateId, Keeper, Store};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::ReplicaSet;
use serde::Serialize;
use serde_json::json;

use crate::commands::rollout_of;
use crate::commands::undo::History as Versions;
use crate::context::Context;
use crate::error::Result;
use crate::output::{document, object_name};
use crate::read;
use crate::target;
use crate::terminal;
use crate::view::age;
use crate::view::icon::{Look, Tag};
use crate::view::phase::Standing;
use crate::view::replica_set;
use crate::view::table::Table;

/// Where people write why they changed something.
const CHANGE_CAUSE: &str = "kubernetes.io/change-cause";
/// Actions that move a release, as the audit trail names them.
const MOVES: [&str; 2] = ["promote", "abort"];

/// Show the revisions of a release
///
/// When each was made, which images it changed, how it ended, how long it took, who moved it, and why. Only revisions whose ReplicaSets are
/// still kept (`revisionHistoryLimit`) can be shown and gone back to.
#[derive(Args, Clone, Debug)]
pub(crate) struct History {
    /// Rollout whose revisions are shown, or Canary with all that happened to it: NAME or TYPE/NAME
    #[arg(value_name = "NAME", required = true, num_args = 1..=2)]
    names: Vec<String>,
}

/// One revision.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    revision: u64,
    replica_set: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<Timestamp>,
    images: Vec<String>,
    outcome: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<i64>,
    moved_by: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    cause: String,
}

impl History {
    /// Does it.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let client = context.client()?;
        let target = target::release(&self.names, context, &client).await?;
        let name = target.name;
        if target.kind == Kind::Canary {
            return of_canary(context, &client, &name).await;
        }
        let object = read::object(context, &client, Kind::Rollout, &name).await?;
        let versions = Versions::read(context, &client, &object).await?;
        let sets: Vec<ReplicaSet> = read::objects(versions.sets.iter().map(|(_, set)| set))?;
        let subject = format!("{}/{name}", Kind::Rollout.name());
        let audit = client
            .audit(Some(context.namespace()), Some(&subject))
            .await?;
        let rows = rows(&rollout_of(object), &sets, &audit);
        if !context.global.output.is_for_people() {
            let document = document(
                "RolloutHistory",
                &json!({"rollout": name, "revisions": rows}),
            )?;
            return context
                .global
                .output
                .print(&document, &[object_name(Kind::Rollout, &name)]);
        }
        if rows.is_empty() {
            terminal::remark("No revisions found.");
            return Ok(());
        }
        terminal::print(&table(&rows, Timestamp::now()).text())
    }
}

/// What happened to a Canary and to the gates beside it, and who did it, the oldest first. Its target keeps no revisions that one could
/// go back to.
async fn of_canary(context: &Context, client: &Client, name: &str) -> Result<()> {
    read::object(context, client, Kind::Canary, name).await?;
    let mut rows = Vec::new();
    // A cluster keeps no audit trail that could be asked for.
    if client.is_of_a_host() {
        let subject = format!("{}/{name}", Kind::Canary.name());
        let audit = client.audit(Some(context.namespace()), Some(&subject));
        rows.extend(audit.await?.into_iter().map(|row| Happened {
            time: row.time,
            by: row.actor,
            action: row.action,
            why: row.reason,
        }));
    }
    let canary = GateId::new(context.namespace(), name, DEFAULT_GATE).canary;
    let keeper = Keeper::new(Store::objects(client.clone()));
    match keeper.of(&canary).await {
        Ok(gates) => rows.extend(gates.into_iter().flat_map(|(gate, record)| {
            let entries = record.history.into_iter();
            entries.map(move |entry| Happened {
                time: entry.time,
                action: format!("{} gate {gate}", entry.action.word()),
                why: if entry.is_refusal() {
                    format!("refused: {}", entry.result)
                } else {
                    entry.reason
                },
                by: entry.by,
            })
        })),
        Err(why) => terminal::remark(&format!("its gates cannot be read: {why}")),
    }
    rows.sort_by_key(|row| row.time);
    if !context.global.output.is_for_people() {
        let document = document("CanaryHistory", &json!({"canary": name, "rows": rows}))?;
        let names = [object_name(Kind::Canary, name)];
        return context.global.output.print(&document, &names);
    }
    let mut table = Table::new(&["TIME", "BY", "ACTION", "WHY"]);
    for row in rows {
        let time = crossfade_api::time::text(row.time);
        table.row(vec![time, row.by, row.action, row.why]);
    }
    terminal::print(&table.text())
}

/// Something that happened to a Canary.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Happened {
    time: Timestamp,
    by: String,
    action: String,
    why: String,
}

/// The revisions, the newest first.
fn rows(rollout: &Rollout, sets: &[ReplicaSet], audit: &[AuditRow]) -> Vec<Row> {
    let created = |set: &ReplicaSet| set.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let row = |(index, set): (usize, &ReplicaSet)| {
        let newer = index.checked_sub(1).and_then(|index| sets.get(index));
        let is_current = replica_set::hash(set) == rollout.status.current_pod_hash.as_str();
        let images: Vec<_> = replica_set::images(set)
            .into_iter()
            .map(str::to_owned)
            .collect();
        let before: Vec<_> = sets
            .get(index + 1)
            .map(replica_set::images)
            .unwrap_or_default();
        let changed: Vec<_> = images
            .iter()
            .filter(|image| !before.contains(&image.as_str()))
            .cloned()
            .collect();
        let mut moved_by: Vec<String> = Vec::new();
        for entry in audit
            .iter()
            .filter(|entry| MOVES.contains(&entry.action.as_str()))
        {
            let after_it = created(set).is_some_and(|created| entry.time >= created);
            let before_next = newer.and_then(created).is_none_or(|next| entry.time < next);
            let word = format!("{} ({})", entry.actor, entry.action);
            if after_it && before_next && !moved_by.contains(&word) {
                moved_by.push(word);
            }
        }
        Row {
            revision: replica_set::revision(&set.metadata),
            replica_set: set.metadata.name.clone().unwrap_or_default(),
            created: created(set),
            images: if changed.is_empty() { images } else { changed },
            outcome: outcome(rollout, set, is_current),
            seconds: took(rollout)
                .filter(|_| is_current)
                .map(|took| took.as_secs()),
            moved_by,
            cause: replica_set::annotation_of(&set.metadata, CHANGE_CAUSE).to_owned(),
        }
    };
    sets.iter().enumerate().map(row).collect()
}

fn outcome(rollout: &Rollout, set: &ReplicaSet, is_current: bool) -> String {
    let tags = replica_set::tags(set, rollout);
    if is_current && !tags.contains(&Tag::Stable) {
        return Standing::of(rollout).line();
    }
    if tags.is_empty() {
        return "replaced".to_owned();
    }
    let words: Vec<_> = tags.iter().map(|tag| tag.text(Look::default())).collect();
    words.join(", ")
}

/// How long the present release took, or has taken so far.
fn took(rollout: &Rollout) -> Option<SignedDuration> {
    let duration = rollout.status.duration.as_ref()?;
    let started = duration.rollout_started_at?;
    Some(duration.finished_at?.duration_since(started))
}

fn table(rows: &[Row], now: Timestamp) -> Table {
    let mut table = Table::new(&[
        "REVISION", "AGE", "IMAGES", "OUTCOME", "TOOK", "MOVED BY", "CAUSE",
    ]);
    for row in rows {
        table.row(vec![
            row.revision.to_string(),
            age::since(row.created, now),
            row.images.join(","),
            row.outcome.clone(),
            row.seconds.map_or_else(
                || "-".to_owned(),
                |seconds| age::human(SignedDuration::from_secs(seconds)),
            ),
            if row.moved_by.is_empty() {
                "-".to_owned()
            } else {
                row.moved_by.join(", ")
            },
            row.cause.clone(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use crossfade_api::Resource;

    use super::*;

    #[test]
    fn each_revision_shows_what_it_changed_how_it_ended_and_who_moved_it() {
        let rollout = Rollout::from_json(json!({"spec": {"strategy": {"canary": {}}},
            "status": {"phase": "Degraded", "message": "RolloutAborted: x", "currentPodHash": "c", "stableRS": "b",
                "duration": {"rolloutStartedAt": "2026-03-01T11:00:00Z", "finishedAt": "2026-03-01T11:05:00Z"}}}))
        .0;
        let set = |hash: &str, revision: &str, created: &str, image: &str| -> ReplicaSet {
            serde_json::from_value(json!({"metadata": {"name": format!("web-{hash}"), "creationTimestamp": created,
                "labels": {"rollouts-pod-template-hash": hash},
                "annotations": {"rollout.argoproj.io/revision": revision, "kubernetes.io/change-cause": format!("change {revision}")}},
                "spec": {"selector": {}, "template": {"spec": {"containers": [{"name": "a", "image": image}, {"name": "b", "image": "side:1"}]}}}}))
            .expect("a ReplicaSet")
        };
        let sets = [
            set("c", "3", "2026-03-01T11:00:00Z", "web:3"),
            set("b", "2", "2026-03-01T09:00:00Z", "web:2"),
            set("a", "1", "2026-02-20T11:00:00Z", "web:1"),
        ];
        let did = |time: &str, actor: &str, action: &str| -> AuditRow {
            serde_json::from_value(json!({"id": 1, "time": time, "actor": actor, "action": action, "subject": {"kind": "Rollout", "name": "web"}}))
                .expect("a row")
        };
        let audit = [
            did("2026-03-01T09:10:00Z", "ada", "promote"),
            did("2026-03-01T11:04:00Z", "bob", "abort"),
            did("2026-03-01T11:04:30Z", "bob", "patch"),
        ];
        let now = "2026-03-01T12:00:00Z".parse().expect("a time");
        insta::assert_snapshot!(table(&rows(&rollout, &sets, &audit), now).text(), @r"
        REVISION  AGE  IMAGES        OUTCOME                       TOOK  MOVED BY       CAUSE
        3         60m  web:3         Degraded - RolloutAborted: x  5m    bob (abort)    change 3
        2         3h   web:2         stable                        -     ada (promote)  change 2
        1         9d   web:1,side:1  replaced                      -     -              change 1
        ");
    }
}
