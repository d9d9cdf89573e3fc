//! `crossfade events`: what happened to a release.

use clap::Args;
use crossfade_api::Resource;
use crossfade_host::client::Wanted;
use crossfade_host::store::Kind;
use serde_json::{Value, json};

use crate::commands::rollout_of;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::feed::{Change, Feed, Scope};
use crate::output::document;
use crate::read;
use crate::target;
use crate::terminal;
use crate::view::generic;
use jiff::Timestamp;

/// Show what happened to a release
///
/// The Events of the Rollout, and with `--all` those of its ReplicaSets, pods and analysis runs too, the oldest first. Without a name the
/// Events of the whole namespace.
#[derive(Args, Clone, Debug)]
pub(crate) struct Events {
    /// Rollout, or TYPE/NAME of another object
    #[arg(value_name = "[TYPE/]NAME", num_args = 0..=2)]
    names: Vec<String>,
    /// Also of everything that belongs to the Rollout
    #[arg(long)]
    all: bool,
    /// In all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Go on with what happens from now on
    #[arg(short, long)]
    watch: bool,
}

impl Events {
    /// Does it.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let client = context.client()?;
        let targets = target::parse(&self.names, Kind::Rollout)?.targets;
        let subject = match targets.as_slice() {
            [] => Subject::Anything,
            [target] => {
                let object = read::object(context, &client, target.kind, &target.name).await?;
                let family = if self.all && target.kind == Kind::Rollout {
                    Some(rollout_of(object).name().to_owned())
                } else {
                    None
                };
                Subject::One {
                    kind: target.kind,
                    name: target.name.clone(),
                    family,
                }
            }
            _ => return Err(CliError::arguments()),
        };
        let namespace = (!self.all_namespaces).then(|| context.namespace().to_owned());
        if self.watch && context.global.output.is_for_people() {
            let scope = Scope {
                namespace,
                kinds: vec![(Kind::Event, Wanted::default())],
            };
            let mut feed = Feed::open(&client, scope).await?;
            let first = chosen(feed.objects(Kind::Event).cloned().collect(), &subject);
            let table = generic::events(&first, self.all_namespaces, Timestamp::now());
            terminal::print(&table.text())?;
            loop {
                if let Change::Set(_, event) = feed.next().await? {
                    let one = chosen(vec![event], &subject);
                    for line in generic::events(&one, self.all_namespaces, Timestamp::now())
                        .lines()
                        .iter()
                        .skip(1)
                    {
                        terminal::line(line)?;
                    }
                }
            }
        }
        let events = client
            .list(Kind::Event, namespace.as_deref(), &Wanted::default())
            .await?
            .items;
        let events = chosen(events, &subject);
        if !context.global.output.is_for_people() {
            let list = document("EventList", &json!({"items": events}))?;
            let names: Vec<_> = events
                .iter()
                .filter_map(|event| Some(format!("event/{}", event["metadata"]["name"].as_str()?)))
                .collect();
            return context.global.output.print(&list, &names);
        }
        if events.is_empty() {
            terminal::remark("No events found.");
            return Ok(());
        }
        terminal::print(&generic::events(&events, self.all_namespaces, Timestamp::now()).text())
    }
}

/// The Events of a subject, the oldest first.
fn chosen(events: Vec<Value>, subject: &Subject) -> Vec<Value> {
    let mut chosen: Vec<_> = events
        .into_iter()
        .filter(|event| subject.is_of(&event["involvedObject"]))
        .collect();
    // Times are whole seconds; versions tell what came first within one.
    let version = |event: &Value| -> Option<u64> {
        event["metadata"]["resourceVersion"].as_str()?.parse().ok()
    };
    chosen.sort_by_key(|event| (generic::last_seen(event), version(event)));
    chosen
}

enum Subject {
    Anything,
    One {
        kind: Kind,
        name: String,
        /// Name that the objects of a Rollout begin with.
        family: Option<String>,
    },
}

impl Subject {
    fn is_of(&self, involved: &Value) -> bool {
        let text = |member: &str| involved[member].as_str().unwrap_or_default();
        match self {
            Self::Anything => true,
            Self::One { kind, name, family } => {
                let is_it = text("kind") == kind.name() && text("name") == name;
                // Objects of a Rollout bear its name and a dash; they may be gone, so that owners cannot be asked.
                let belongs = family.as_ref().is_some_and(|family| {
                    let rest = text("name").strip_prefix(family.as_str());
                    rest.is_some_and(|rest| rest.starts_with('-'))
                        && text("kind") != Kind::Rollout.name()
                });
                is_it || belongs
            }
        }
    }
}
