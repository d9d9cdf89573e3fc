//! What all actions share: which objects they mean, asking first, trying without writing, writing, and waiting for the effect.

use std::io::{self, BufRead, IsTerminal};
use std::time::Duration;

use clap::Args;
use crossfade_api::{Resource, Rollout};
use crossfade_host::client::{self, Client, Part, Patch, Wanted};
use crossfade_host::store::{Kind, StatusWrites};
use serde::Serialize;
use serde_json::{Value, json};

use crate::canary;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::exit;
use crate::follow::Journey;
use crate::global::go_duration;
use crate::goal::Goal;
use crate::output::{document, object_name};
use crate::patches::{Change, Place};
use crate::read;
use crate::target::{self, Target};
use crate::terminal;

/// How often a write is repeated when somebody else was faster.
const MOST_CONFLICTS: u32 = 5;

/// Options that every action understands.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Acting {
    /// Act on all objects with these labels, for example app=web
    #[arg(
        short = 'l',
        long,
        value_name = "LABELS",
        help_heading = "Which objects"
    )]
    selector: Option<String>,
    /// Act on all objects with these fields, for example metadata.name=web
    #[arg(long, value_name = "FIELDS", help_heading = "Which objects")]
    field_selector: Option<String>,
    /// Act on all objects of the namespace
    #[arg(long, help_heading = "Which objects")]
    all: bool,
    /// Do not ask before acting on many objects
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Show what would be written and write nothing
    #[arg(long, value_enum, value_name = "WHERE", num_args = 0..=1, require_equals = true, default_missing_value = "client")]
    dry_run: Option<DryRun>,
    /// Why; kept in the audit trail
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Wait until the release is healthy, or for another state: paused, step=N, weight=N
    #[arg(long, value_name = "STATE", num_args = 0..=1, require_equals = true, default_missing_value = "healthy")]
    wait: Option<Goal>,
    /// Longest time to wait, for example 5m
    #[arg(long, value_name = "DURATION", value_parser = go_duration)]
    timeout: Option<Duration>,
}

/// Who finds out what would be written. On one machine both are the same: the object is read, nothing is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum DryRun {
    /// This command.
    Client,
    /// The server.
    Server,
}

/// What is to be written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Write {
    /// Members of an object and of its status, whatever they are at present.
    Merge(Change),
    /// The same, only if the release still stands where it stood.
    MergeInPlace(Change),
    /// Another object, or this one, changed by a JSON patch.
    Json {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: String,
        /// The operations.
        patch: Value,
    },
    /// The object itself, replaced as a whole; its resourceVersion says that nobody was faster.
    Replace {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: String,
        /// The object as it shall be.
        object: Value,
    },
    /// The whole status removed.
    ForgetStatus,
}

/// What an action does to one object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    /// What is written.
    pub(crate) write: Write,
    /// What is said when it is done.
    pub(crate) done: String,
    /// Why it would change nothing, when that is so. Only the full mode says it and leaves the write out.
    pub(crate) nothing: Option<String>,
}

/// What became of one object.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Acted {
    object: String,
    namespace: String,
    action: &'static str,
    changed: bool,
    dry_run: bool,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<Value>,
}

/// An action: its verb and the kinds that it works on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Action {
    /// The verb, as the audit trail shows it.
    pub(crate) verb: &'static str,
    /// The kinds; a name without a type is one of the first.
    pub(crate) kinds: &'static [Kind],
}

impl Action {
    /// Does it to all objects that are meant, in order, until the first failure.
    pub(crate) async fn run(
        self,
        context: &Context,
        words: &[String],
        acting: &Acting,
        plan: impl AsyncFn(&Client, &Target, Value) -> Result<Plan>,
    ) -> Result<()> {
        let client = context
            .client()?
            .acting(self.verb, acting.reason.as_deref());
        let targets = self.targets(context, &client, words, acting).await?;
        let mut done = Vec::new();
        let mut failed = None;
        for target in &targets {
            match self.one(context, &client, target, acting, &plan).await {
                Ok(acted) => {
                    if context.global.output.is_for_people() {
                        terminal::line(&acted.message)?;
                        if let Some(patch) = &acted.patch {
                            terminal::line(&format!("  {patch}"))?;
                        }
                    }
                    done.push(acted);
                }
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        if !context.global.output.is_for_people() {
            let names: Vec<_> = done.iter().map(|acted| acted.object.clone()).collect();
            let results = document("ActionResults", &json!({"items": done}))?;
            context.global.output.print(&results, &names)?;
        }
        if let Some(mut error) = failed {
            if !done.is_empty() && targets.len() > 1 {
                error.code = exit::PARTLY;
            }
            return Err(error);
        }
        self.wait(context, &client, &targets, acting).await
    }

    async fn targets(
        self,
        context: &Context,
        client: &Client,
        words: &[String],
        acting: &Acting,
    ) -> Result<Vec<Target>> {
        let by_selector =
            acting.all || acting.selector.is_some() || acting.field_selector.is_some();
        let kind = match words {
            [word] if by_selector => Kind::of_word(word).ok_or_else(|| {
                CliError::usage(format!("name objects or select them, not both: {word}"))
            })?,
            [] if by_selector => self.kinds.first().copied().unwrap_or(Kind::Rollout),
            [] => {
                return Err(CliError::usage(
                    "which one? Name it, or select with --selector or --all",
                ));
            }
            words if self.kinds.contains(&Kind::Canary) => {
                return target::releases(words, context, client).await;
            }
            words => return target::for_action(words, self.kinds, context),
        };
        let wanted = Wanted {
            labels: acting.selector.clone().unwrap_or_default(),
            fields: acting.field_selector.clone().unwrap_or_default(),
        };
        let list = client
            .list(kind, Some(context.namespace()), &wanted)
            .await?;
        let targets: Vec<_> = list
            .items
            .iter()
            .filter_map(|object| object["metadata"]["name"].as_str())
            .map(|name| Target {
                kind,
                name: name.to_owned(),
            })
            .collect();
        if targets.is_empty() {
            let plural = kind.plural();
            return Err(CliError::new(
                exit::NOT_FOUND,
                format!("no {plural} in namespace {} match", context.namespace()),
            ));
        }
        if acting.dry_run.is_none() {
            let names: Vec<_> = targets.iter().map(|target| target.name.as_str()).collect();
            let what = format!("{} {} {}", self.verb, names.len(), kind.plural());
            confirm(acting.yes, &what, &names)?;
        }
        Ok(targets)
    }

    async fn one(
        self,
        context: &Context,
        client: &Client,
        target: &Target,
        acting: &Acting,
        plan: &impl AsyncFn(&Client, &Target, Value) -> Result<Plan>,
    ) -> Result<Acted> {
        let mut first_place = None;
        let mut attempt = 0;
        loop {
            let object = read::object(context, client, target.kind, &target.name).await?;
            let version = object["metadata"]["resourceVersion"]
                .as_str()
                .map(str::to_owned);
            let place = Place::of(&Rollout::from_json(object.clone()).0);
            let Plan {
                write,
                done,
                nothing,
            } = plan(client, target, object).await?;
            let acted = |changed: bool, message: String| Acted {
                object: object_name(target.kind, &target.name),
                namespace: context.namespace().to_owned(),
                action: self.verb,
                changed,
                dry_run: acting.dry_run.is_some(),
                message,
                patch: None,
            };
            if let Some(nothing) = nothing.filter(|_| context.is_full()) {
                return Ok(acted(false, nothing));
            }
            if acting.dry_run.is_some() {
                let patch = Some(write.patch());
                return Ok(Acted {
                    patch,
                    ..acted(false, format!("{done} (dry run)"))
                });
            }
            // What was asked for was decided on the first look. If the release has been moved since, moving it again would
            // skip a step that nobody has seen.
            if first_place.get_or_insert_with(|| place.clone()) != &place
                && matches!(write, Write::MergeInPlace(_))
            {
                let message = if context.is_full() {
                    format!(
                        "rollout '{}' was moved by somebody else meanwhile: nothing done",
                        target.name
                    )
                } else {
                    done
                };
                return Ok(acted(false, message));
            }
            match write
                .send(client, context.namespace(), target, version.as_deref())
                .await
            {
                Ok(()) => return Ok(acted(true, done)),
                Err(error) if error.is_conflict() && attempt < MOST_CONFLICTS => attempt += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn wait(
        self,
        context: &Context,
        client: &Client,
        targets: &[Target],
        acting: &Acting,
    ) -> Result<()> {
        let Some(goal) = acting.wait.clone().filter(|_| acting.dry_run.is_none()) else {
            return Ok(());
        };
        for target in targets.iter().filter(|target| target.kind == Kind::Canary) {
            let journey = canary::Journey {
                name: &target.name,
                goal: goal.clone(),
                timeout: acting.timeout,
                through_pauses: false,
            };
            journey.follow(context, client).await?;
        }
        for target in targets.iter().filter(|target| target.kind == Kind::Rollout) {
            let journey = Journey {
                timeout: acting.timeout,
                ..Journey::to(&target.name, goal.clone())
            };
            journey
                .follow(context, client, &mut |line| {
                    terminal::remark(line);
                    Ok(())
                })
                .await?;
        }
        Ok(())
    }
}

impl Write {
    /// What would be sent, for people.
    fn patch(&self) -> Value {
        match self {
            Self::Merge(change) | Self::MergeInPlace(change) => change.whole(),
            Self::Json { patch, .. } => patch.clone(),
            Self::Replace { object, .. } => object.clone(),
            Self::ForgetStatus => json!({"status": null}),
        }
    }

    async fn send(
        &self,
        client: &Client,
        namespace: &str,
        target: &Target,
        version: Option<&str>,
    ) -> client::Result<()> {
        let Target { kind, name } = target;
        match self {
            Self::Merge(change) => merge(client, namespace, target, change, None).await,
            Self::MergeInPlace(change) => merge(client, namespace, target, change, version).await,
            Self::Json { kind, name, patch } => {
                let sent = client.patch(*kind, namespace, name, Part::Object, Patch::Json, patch);
                sent.await.map(drop)
            }
            Self::Replace { kind, name, object } => {
                let sent = client.replace(*kind, namespace, name, Part::Object, object);
                sent.await.map(drop)
            }
            Self::ForgetStatus => {
                let patch = json!({"status": null});
                let sent = client.patch(*kind, namespace, name, Part::Object, Patch::Merge, &patch);
                sent.await.map(drop)
            }
        }
    }
}

/// Status first, then spec, so that a release is not let go before its steps say where to go on.
async fn merge(
    client: &Client,
    namespace: &str,
    target: &Target,
    change: &Change,
    version: Option<&str>,
) -> client::Result<()> {
    let Target { kind, name } = target;
    let guarded = |mut patch: Value| {
        if let Some(version) = version {
            patch["metadata"] = json!({"resourceVersion": version});
        }
        patch
    };
    if !change.status.is_empty() {
        let is_apart = kind.status_writes() == StatusWrites::SubResource;
        let patch = guarded(json!({"status": change.status}));
        let sent = if is_apart {
            client
                .patch(*kind, namespace, name, Part::Status, Patch::Merge, &patch)
                .await
        } else {
            let whole = guarded(change.whole());
            return client
                .patch(*kind, namespace, name, Part::Object, Patch::Merge, &whole)
                .await
                .map(drop);
        };
        match sent {
            // A server without the sub-resource takes both parts at once.
            Err(error) if error.is_not_found() => {
                let whole = guarded(change.whole());
                return client
                    .patch(*kind, namespace, name, Part::Object, Patch::Merge, &whole)
                    .await
                    .map(drop);
            }
            sent => drop(sent?),
        }
    }
    if !change.spec.is_empty() {
        // After the status was written the version is another one; the spec alone is guarded by it.
        let patch = json!({"spec": change.spec});
        let patch = if change.status.is_empty() {
            guarded(patch)
        } else {
            patch
        };
        client
            .patch(*kind, namespace, name, Part::Object, Patch::Merge, &patch)
            .await?;
    }
    Ok(())
}

/// Asks before something happens to many objects.
///
/// # Errors
/// When the answer is not yes, or nobody can be asked.
pub(crate) fn confirm(yes: bool, what: &str, names: &[&str]) -> Result<()> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(CliError::new(
            exit::REFUSED,
            format!("this would {what}, and nobody can be asked"),
        )
        .hint("add --yes"));
    }
    terminal::remark(&format!("This would {what}:"));
    for name in names {
        terminal::remark(&format!("  {name}"));
    }
    terminal::remark("Go on? [y/N]");
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    read.map_err(|error| CliError::failure(format!("cannot read the answer: {error}")))?;
    if matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
        Ok(())
    } else {
        Err(CliError::new(
            exit::REFUSED,
            "not done: the answer was not yes",
        ))
    }
}
