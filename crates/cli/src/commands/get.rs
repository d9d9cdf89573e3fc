//! `crossfade get`: one release as a tree, or objects of any kind.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use crossfade_api::{AnalysisRun, Resource, Rollout};
use crossfade_host::client::{Client, Wanted};
use crossfade_host::store::{Kind, Scope as KindScope};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::commands::list::List;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::feed::{Feed, Scope};
use crate::output::{Format, SCHEMA_VERSION, object_name};
use crate::read;
use crate::target::{self, Target};
use crate::terminal;
use crate::view::experiment::{ExperimentView, Owned};
use crate::view::icon::Look;
use crate::view::rollout::RolloutView;
use crate::view::{analysis, generic, head};
use jiff::Timestamp;

/// The least time between two pictures.
const BETWEEN_PICTURES: Duration = Duration::from_millis(200);
/// How often a picture on a terminal is drawn again, because ages grow.
const PICTURE_AGAIN: Duration = Duration::from_secs(1);

/// Show a release as a tree, or objects of any type
///
/// `crossfade get rollout web` shows where the release stands and everything that belongs to it: revisions, ReplicaSets, pods and analysis
/// runs. `--watch` keeps the picture up to date. Other types (pods, services, analysisruns, events, …) are listed as tables; with
/// `-o yaml` or `-o json` objects are printed whole.
#[derive(Args, Clone, Debug)]
pub(crate) struct Get {
    /// What to show: TYPE, TYPE NAME, TYPE/NAME, or the NAME of a Rollout
    #[arg(value_name = "[TYPE] NAME", required = true)]
    names: Vec<String>,
    /// Keep the picture up to date
    #[arg(short, long)]
    watch: bool,
    /// End watching after so many seconds; 0 never
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    timeout_seconds: u64,
    /// No colours
    #[arg(long, hide = true)]
    no_color: bool,
    /// In all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Only objects with these labels, for example app=web
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
    /// Only objects with these fields, for example metadata.name=web
    #[arg(long, value_name = "FIELDS")]
    field_selector: Option<String>,
}

impl Get {
    /// Does it.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let look = Look {
            colour: context.terminal.look.colour && !self.no_color,
            ..context.terminal.look
        };
        let named = if context.is_full() {
            match self.names.as_slice() {
                [word] if !word.contains('/') => match Kind::of_word(word) {
                    Some(kind) => target::Named {
                        kind: Some(kind),
                        targets: Vec::new(),
                    },
                    None => target::parse(&self.names, Kind::Rollout)?,
                },
                names => target::parse(names, Kind::Rollout)?,
            }
        } else {
            let targets =
                target::for_action(&self.names, &[Kind::Rollout, Kind::Experiment], context)?;
            if targets.len() != 1 {
                return Err(CliError::arguments());
            }
            target::Named {
                kind: None,
                targets,
            }
        };
        match (named.kind, named.targets.as_slice()) {
            (Some(kind), []) => self.all(context, kind, look).await,
            (_, [target]) if matches!(target.kind, Kind::Rollout | Kind::Experiment) => {
                self.picture(context, target, look).await
            }
            (_, targets) => self.several(context, targets, look).await,
        }
    }

    fn wanted(&self) -> Wanted {
        Wanted {
            labels: self.selector.clone().unwrap_or_default(),
            fields: self.field_selector.clone().unwrap_or_default(),
        }
    }

    /// All objects of a kind.
    async fn all(&self, context: &Context, kind: Kind, look: Look) -> Result<()> {
        if self.watch && kind != Kind::Rollout {
            return Err(CliError::usage(
                "one rollout or experiment can be watched: name it",
            ));
        }
        if kind == Kind::Rollout {
            return List::of_rollouts(self.all_namespaces, self.watch, self.wanted())
                .run(context)
                .await;
        }
        let client = context.client()?;
        let namespaced = kind.scope() == KindScope::Namespaced;
        let namespace = (namespaced && !self.all_namespaces).then(|| context.namespace());
        let mut objects = client.list(kind, namespace, &self.wanted()).await?.items;
        if !context.global.output.is_for_people() {
            return print_list(context, kind, &objects);
        }
        if objects.is_empty() {
            terminal::remark("No resources found.");
            return Ok(());
        }
        if kind == Kind::Event {
            objects.sort_by_key(generic::last_seen);
            let table = generic::events(&objects, self.all_namespaces, Timestamp::now());
            return terminal::print(&table.text());
        }
        let options = self.options(context, &client, kind).await;
        terminal::print(&generic::table(kind, &objects, &options, look, Timestamp::now()).text())
    }

    /// Objects that are named.
    async fn several(&self, context: &Context, targets: &[Target], look: Look) -> Result<()> {
        if self.watch {
            return Err(CliError::usage(
                "one rollout or experiment can be watched, nothing else",
            ));
        }
        let client = context.client()?;
        let mut objects = Vec::new();
        for target in targets {
            objects.push(read::object(context, &client, target.kind, &target.name).await?);
        }
        if !context.global.output.is_for_people() {
            if let ([target], [object]) = (targets, objects.as_slice()) {
                return print_one(context, target, object.clone(), None);
            }
            let kind = targets.first().map_or(Kind::Rollout, |target| target.kind);
            return print_list(context, kind, &objects);
        }
        for (target, object) in targets.iter().zip(&objects) {
            let text = match target.kind {
                Kind::AnalysisRun => {
                    let run = AnalysisRun::from_json(object.clone()).0;
                    analysis::in_full(&run, look, Timestamp::now())
                }
                kind => {
                    let options = self.options(context, &client, kind).await;
                    let one = std::slice::from_ref(object);
                    generic::table(kind, one, &options, look, Timestamp::now()).text()
                }
            };
            terminal::print(&text)?;
        }
        Ok(())
    }

    async fn options(&self, context: &Context, client: &Client, kind: Kind) -> generic::Options {
        let mut listeners = BTreeMap::new();
        if kind == Kind::Service
            && let Ok(info) = client.info().await
        {
            for listener in info.listeners {
                listeners.insert((listener.namespace, listener.service), listener.address);
            }
        }
        generic::Options {
            namespace: self.all_namespaces,
            wide: context.global.output == Format::Wide,
            listeners,
        }
    }

    /// A Rollout or an Experiment and everything that belongs to it.
    async fn picture(&self, context: &Context, target: &Target, look: Look) -> Result<()> {
        let client = context.client()?;
        let mut feed = open(context, &client, target).await?;
        if self.watch {
            let ends = (self.timeout_seconds > 0)
                .then(|| Instant::now() + Duration::from_secs(self.timeout_seconds));
            return watch(context, target, look, &mut feed, ends).await;
        }
        let Some(object) = feed.objects(target.kind).next().cloned() else {
            let error = read::not_found(context, target.kind, &target.name);
            return Err(target::with_nearest(
                error,
                &client,
                target.kind,
                context.namespace(),
                &target.name,
            )
            .await);
        };
        if context.global.output.is_for_people() {
            return terminal::print(&draw(target, &feed, look)?.unwrap_or_default());
        }
        let summary = if target.kind == Kind::Rollout {
            let rollout = Rollout::from_json(object.clone()).0;
            json!(RolloutView::of(
                &rollout,
                &read::surroundings(&feed)?,
                Timestamp::now()
            ))
        } else {
            json!(experiment(&object, &feed)?)
        };
        print_one(context, target, object, Some(summary))
    }
}

/// Shows an object and keeps the picture up to date until it is gone.
pub(crate) async fn watched(
    context: &Context,
    client: &Client,
    target: &Target,
    no_color: bool,
) -> Result<()> {
    let look = Look {
        colour: context.terminal.look.colour && !no_color,
        ..context.terminal.look
    };
    let mut feed = open(context, client, target).await?;
    watch(context, target, look, &mut feed, None).await
}

async fn open(context: &Context, client: &Client, target: &Target) -> Result<Feed> {
    let one = Wanted {
        fields: format!("metadata.name={}", target.name),
        ..Wanted::default()
    };
    let mut kinds = vec![
        (target.kind, one),
        (Kind::ReplicaSet, Wanted::default()),
        (Kind::Pod, Wanted::default()),
        (Kind::AnalysisRun, Wanted::default()),
    ];
    if target.kind == Kind::Rollout {
        kinds.push((Kind::Experiment, Wanted::default()));
    }
    let scope = Scope {
        namespace: Some(context.namespace().to_owned()),
        kinds,
    };
    Feed::open(client, scope).await
}

fn experiment(object: &Value, feed: &Feed) -> Result<ExperimentView> {
    let around = read::surroundings(feed)?;
    let owned = Owned {
        replica_sets: &around.replica_sets,
        pods: &around.pods,
        runs: &around.runs,
    };
    let experiments = read::objects([object])?;
    let experiment = experiments
        .first()
        .ok_or_else(|| CliError::failure("no experiment was read"))?;
    Ok(ExperimentView::of(experiment, owned))
}

/// The picture at present; `None` when the object is gone.
fn draw(target: &Target, feed: &Feed, look: Look) -> Result<Option<String>> {
    let Some(object) = feed.objects(target.kind).next() else {
        return Ok(None);
    };
    let now = Timestamp::now();
    if target.kind == Kind::Rollout {
        let rollout = Rollout::from_json(object.clone()).0;
        return Ok(Some(
            RolloutView::of(&rollout, &read::surroundings(feed)?, now).text(look, now),
        ));
    }
    let view = experiment(object, feed)?;
    Ok(Some(format!(
        "{}\n{}",
        head::experiment(&view, look),
        view.tree.table(look, now).text()
    )))
}

/// Draws again on every change, at most a few times a second, and on a terminal each second, until the object is gone.
async fn watch(
    context: &Context,
    target: &Target,
    look: Look,
    feed: &mut Feed,
    ends: Option<Instant>,
) -> Result<()> {
    let terminal = context.terminal;
    let mut shown = None;
    loop {
        let Some(picture) = draw(target, feed, look)? else {
            if shown.is_none() {
                return Err(read::not_found(context, target.kind, &target.name));
            }
            return terminal::line(&format!(
                "{} \"{}\" was deleted",
                target.kind.singular(),
                target.name
            ));
        };
        if terminal.is_terminal {
            terminal::print(&format!("\u{1b}[H\u{1b}[2J\u{1b}[0;0H{picture}"))?;
        } else if shown.as_ref() != Some(&without_ages(&picture)) {
            terminal::print(&format!(
                "--- {}\n{picture}",
                crossfade_api::time::text(Timestamp::now())
            ))?;
        }
        shown = Some(without_ages(&picture));
        let drawn = Instant::now();
        let again = terminal.is_terminal.then(|| drawn + PICTURE_AGAIN);
        let until = [again, ends].into_iter().flatten().min();
        tokio::select! {
            change = feed.next() => { change?; }
            () = sleep_until(until) => {}
        }
        // Changes come in swarms; what follows within a moment belongs into the same picture.
        let together = drawn + BETWEEN_PICTURES;
        while Instant::now() < together {
            tokio::select! {
                change = feed.next() => { change?; }
                () = tokio::time::sleep_until(together) => {}
            }
        }
        if ends.is_some_and(|ends| Instant::now() >= ends) {
            return Ok(());
        }
    }
}

async fn sleep_until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// A picture as far as a change in it is one: ages grow by themselves. They are the fourth column of the tree, and the
/// only words that begin with a digit and end in a unit of time.
fn without_ages(picture: &str) -> String {
    let is_age = |word: &str| {
        word.starts_with(|first: char| first.is_ascii_digit())
            && word.ends_with(['s', 'm', 'h', 'd', 'y'])
            && word
                .chars()
                .all(|c| c.is_ascii_digit() || "smhdy".contains(c))
    };
    let lines = picture.lines().map(|line| {
        let words: Vec<_> = line
            .split_whitespace()
            .filter(|word| !is_age(word))
            .collect();
        words.join(" ")
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// One object as programs want it: as it is stored, with what people would see beside it.
fn print_one(
    context: &Context,
    target: &Target,
    mut object: Value,
    summary: Option<Value>,
) -> Result<()> {
    // YAML is for saving and applying again: nothing is added to it.
    if context.global.output != Format::Yaml
        && let Some(members) = object.as_object_mut()
    {
        members.insert("schemaVersion".to_owned(), json!(SCHEMA_VERSION));
        members.extend(summary.map(|summary| ("summary".to_owned(), summary)));
    }
    let name = object_name(target.kind, &target.name);
    context.global.output.print(&object, &[name])
}

fn print_list(context: &Context, kind: Kind, objects: &[Value]) -> Result<()> {
    let name_of = |object: &Value| Some(object_name(kind, object["metadata"]["name"].as_str()?));
    let names: Vec<_> = objects.iter().filter_map(name_of).collect();
    let list = json!({"schemaVersion": SCHEMA_VERSION, "kind": format!("{}List", kind.name()), "apiVersion": kind.api_version(), "items": objects});
    context.global.output.print(&list, &names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_that_only_grew_older_is_the_same_picture() {
        let before = "NAME  AGE  INFO\nweb   59s  ready:1/1";
        let after = "NAME  AGE    INFO\nweb   2m10s  ready:1/1";
        let changed = "NAME  AGE    INFO\nweb   2m10s  ready:0/1";
        assert_eq!(without_ages(before), without_ages(after));
        assert_ne!(without_ages(before), without_ages(changed));
    }
}
