//! `crossfade list`: releases, one a row.

use std::collections::BTreeMap;

use clap::Args;
use crossfade_api::{Resource, Rollout};
use crossfade_host::client::{Client, Wanted};
use crossfade_host::store::Kind;
use serde_json::{Value, json};

use crate::context::Context;
use crate::error::{CliError, Result};
use crate::feed::{Change, Feed, Scope};
use crate::output::{Format, SCHEMA_VERSION, object_name};
use crate::read;
use crate::target;
use crate::terminal;
use crate::view::generic;
use crate::view::list::{self, Columns, Row};
use crate::view::table::ended;
use jiff::Timestamp;

/// List releases with their state, step and weight
///
/// With `--watch` a line follows for every change of a shown value.
#[derive(Args, Clone, Debug)]
pub(crate) struct List {
    /// What to list: rollouts (ro), experiments (exp) or canaries; rollouts when nothing is said
    #[arg(value_name = "TYPE")]
    kind: Option<String>,
    /// In all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Print a line for every change
    #[arg(short, long)]
    watch: bool,
    /// Only the Rollout of this name
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// When each line was printed, in front of it
    #[arg(long)]
    timestamps: bool,
    /// Only objects with these labels, for example app=web
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
    /// Only objects with these fields, for example metadata.name=web
    #[arg(long, value_name = "FIELDS")]
    field_selector: Option<String>,
}

impl List {
    /// The list that `crossfade get rollouts` shows.
    pub(crate) fn of_rollouts(all_namespaces: bool, watch: bool, wanted: Wanted) -> Self {
        let Wanted { labels, fields } = wanted;
        Self {
            kind: Some(Kind::Rollout.plural().to_owned()),
            all_namespaces,
            watch,
            name: None,
            timestamps: false,
            selector: Some(labels),
            field_selector: Some(fields).filter(|fields| !fields.is_empty()),
        }
    }

    /// Does it.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let kind = match &self.kind {
            None if context.is_full() => Kind::Rollout,
            None => return Err(CliError::arguments()),
            Some(word) => Kind::of_word(word).ok_or_else(|| target::unknown_kind(word))?,
        };
        match kind {
            Kind::Rollout => self.rollouts(context).await,
            Kind::Experiment => self.experiments(context).await,
            Kind::Canary => self.canaries(context).await,
            other => Err(CliError::usage(format!(
                "rollouts, experiments and canaries can be listed, not {}",
                other.plural()
            ))
            .hint(format!("crossfade get {}", other.plural()))),
        }
    }

    fn namespace<'c>(&self, context: &'c Context) -> Option<&'c str> {
        (!self.all_namespaces).then(|| context.namespace())
    }

    fn columns(&self) -> Columns {
        Columns {
            timestamp: self.timestamps,
            namespace: self.all_namespaces,
        }
    }

    fn wanted(&self) -> Wanted {
        let by_name = self
            .name
            .as_ref()
            .map(|name| format!("metadata.name={name}"));
        let fields: Vec<_> = self
            .field_selector
            .iter()
            .chain(&by_name)
            .cloned()
            .collect();
        Wanted {
            labels: self.selector.clone().unwrap_or_default(),
            fields: fields.join(","),
        }
    }

    async fn rollouts(&self, context: &Context) -> Result<()> {
        let client = context.client()?;
        if self.watch && context.global.output.is_for_people() {
            return self.watch(context, &client).await;
        }
        let objects = client
            .list(Kind::Rollout, self.namespace(context), &self.wanted())
            .await?
            .items;
        let rows: Vec<_> = objects.iter().map(row).collect();
        if !context.global.output.is_for_people() {
            return print_objects(context, Kind::Rollout, objects, &rows);
        }
        if rows.is_empty() {
            terminal::remark("No resources found.");
            return Ok(());
        }
        let mut table = list::rollouts(&rows, self.columns(), Timestamp::now()).lines();
        if context.global.output == Format::Wide {
            add_message(&mut table, &rows);
        }
        terminal::print(&ended(&table))
    }

    /// The table, then a line for each change that shows.
    async fn watch(&self, context: &Context, client: &Client) -> Result<()> {
        let scope = Scope {
            namespace: self.namespace(context).map(str::to_owned),
            kinds: vec![(Kind::Rollout, self.wanted())],
        };
        let mut feed = Feed::open(client, scope).await?;
        let key = |row: &Row| (row.namespace.clone(), row.name.clone());
        let first: Vec<_> = feed.objects(Kind::Rollout).map(row).collect();
        let table = list::rollouts(&first, self.columns(), Timestamp::now());
        terminal::print(&table.text())?;
        let mut shown: BTreeMap<_, _> = first.into_iter().map(|row| (key(&row), row)).collect();
        loop {
            let change = feed.next().await?;
            let mut news = Vec::new();
            match change {
                Change::Set(_, object) => news.push(row(&object)),
                Change::Gone(_, object) => news.push(row(&object).deleted()),
                Change::All(_, objects) => {
                    news = objects.iter().map(row).collect();
                    let known: Vec<_> = news.iter().map(key).collect();
                    let gone = shown.iter().filter(|(key, _)| !known.contains(key));
                    let gone: Vec<_> = gone.map(|(_, row)| row.clone().deleted()).collect();
                    news.extend(gone);
                }
            }
            for row in news {
                let is_gone = row.status == "Deleted";
                let same = shown
                    .get(&key(&row))
                    .is_some_and(|before| before.shows_the_same(&row));
                if !same {
                    terminal::line(&table.further(&row.cells(self.columns(), Timestamp::now())))?;
                }
                if is_gone {
                    shown.remove(&key(&row));
                } else {
                    shown.insert(key(&row), row);
                }
            }
        }
    }

    async fn experiments(&self, context: &Context) -> Result<()> {
        let client = context.client()?;
        let objects = client
            .list(Kind::Experiment, self.namespace(context), &self.wanted())
            .await?
            .items;
        if !context.global.output.is_for_people() {
            let none: [Row; 0] = [];
            return print_objects(context, Kind::Experiment, objects, &none);
        }
        if objects.is_empty() {
            terminal::remark("No resources found.");
            return Ok(());
        }
        let experiments = read::objects(&objects)?;
        let table = list::experiments(&experiments, self.columns(), Timestamp::now());
        terminal::print(&table.text())
    }
}

impl List {
    async fn canaries(&self, context: &Context) -> Result<()> {
        let client = context.client()?;
        let objects = client
            .list(Kind::Canary, self.namespace(context), &self.wanted())
            .await?
            .items;
        if !context.global.output.is_for_people() {
            let none: [Row; 0] = [];
            return print_objects(context, Kind::Canary, objects, &none);
        }
        if objects.is_empty() {
            terminal::remark("No resources found.");
            return Ok(());
        }
        let options = generic::Options {
            namespace: self.all_namespaces,
            ..generic::Options::default()
        };
        let look = context.terminal.look;
        let table = generic::table(Kind::Canary, &objects, &options, look, Timestamp::now());
        terminal::print(&table.text())
    }
}

fn row(object: &Value) -> Row {
    Row::of(&Rollout::from_json(object.clone()).0)
}

fn add_message(lines: &mut [String], rows: &[Row]) {
    let width = lines
        .iter()
        .map(|line| line.chars().count())
        .max()
        .unwrap_or(0);
    let messages = std::iter::once("MESSAGE").chain(rows.iter().map(|row| row.message.as_str()));
    for (line, message) in lines.iter_mut().zip(messages) {
        if !message.is_empty() {
            let padding = width - line.chars().count() + 2;
            line.push_str(&" ".repeat(padding));
            line.push_str(message);
        }
    }
}

/// Objects as programs want them: each as it is stored, and beside it the row that people would see.
fn print_objects(context: &Context, kind: Kind, objects: Vec<Value>, rows: &[Row]) -> Result<()> {
    let names: Vec<_> = objects
        .iter()
        .filter_map(|object| Some(object_name(kind, object["metadata"]["name"].as_str()?)))
        .collect();
    let mut items = objects;
    for (item, row) in items.iter_mut().zip(rows) {
        item["summary"] = json!(row);
    }
    let list = json!({"schemaVersion": SCHEMA_VERSION, "kind": format!("{}List", kind.name()), "apiVersion": kind.api_version(), "items": items});
    context.global.output.print(&list, &names)
}
