//! Trees of objects: one line each, with what it owns below it.

use crossfade_api::ObjectMeta;
use jiff::Timestamp;
use serde::Serialize;

use super::age;
use super::analysis::Counts;
use super::icon::{Colour, Icon, Look, State, Tag};
use super::table::Table;

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Kind {
    /// A Rollout.
    Rollout,
    /// All that belongs to one version.
    Revision,
    /// A ReplicaSet.
    ReplicaSet,
    /// A pod; on one machine a group of processes.
    Pod,
    /// An Experiment.
    Experiment,
    /// An AnalysisRun.
    AnalysisRun,
    /// A Job that takes a measurement.
    Job,
}

impl Kind {
    fn icon(self) -> &'static str {
        match self {
            Self::Rollout => "⟳",
            Self::Revision => "#",
            Self::ReplicaSet => "⧉",
            Self::Pod => "□",
            Self::Experiment => "Σ",
            Self::AnalysisRun => "α",
            Self::Job => "⊞",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Rollout => "Rollout",
            Self::Revision => "",
            Self::ReplicaSet => "ReplicaSet",
            Self::Pod => "Pod",
            Self::Experiment => "Experiment",
            Self::AnalysisRun => "AnalysisRun",
            Self::Job => "Job",
        }
    }
}

/// The last column of a line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Info {
    /// What a ReplicaSet is at present.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tags: Vec<Tag>,
    /// How the measurements of a run ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) measurements: Option<Counts>,
    /// Anything else.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) notes: Vec<String>,
}

/// A line and those below it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Node {
    /// What the line is about.
    pub(crate) kind: Kind,
    /// The name of the object.
    pub(crate) name: String,
    /// How it stands; none for a revision.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(crate) state: Option<State>,
    /// When it was created; none for a revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) created: Option<Timestamp>,
    /// The last column.
    pub(crate) info: Info,
    /// What it owns.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) children: Vec<Node>,
}

impl Node {
    /// A line without anything below it.
    pub(crate) fn new(kind: Kind, name: impl Into<String>) -> Self {
        Self {
            kind,
            name: name.into(),
            state: None,
            created: None,
            info: Info::default(),
            children: Vec::new(),
        }
    }

    /// With a state.
    pub(crate) fn state(mut self, state: State) -> Self {
        self.state = Some(state);
        self
    }

    /// With the age of an object.
    pub(crate) fn created(mut self, metadata: &ObjectMeta) -> Self {
        self.created = metadata.creation_timestamp.as_ref().map(|time| time.0);
        self
    }

    /// The tree as a table.
    pub(crate) fn table(&self, look: Look, now: Timestamp) -> Table {
        let mut table = Table::new(&["NAME", "KIND", "STATUS", "AGE", "INFO"]);
        self.add_to(&mut table, "", "", look, now);
        table
    }

    fn add_to(&self, table: &mut Table, prefix: &str, below: &str, look: Look, now: Timestamp) {
        let name = match self.name_colour() {
            Some(colour) => look.paint(&self.name, colour),
            None => self.name.clone(),
        };
        // In plain letters the column KIND says what the icons say; only a revision has no kind.
        let name = if look.ascii && self.kind != Kind::Revision {
            format!("{prefix}{name}")
        } else {
            format!("{prefix}{} {name}", self.kind.icon())
        };
        table.row(vec![
            name,
            self.kind.word().to_owned(),
            self.state
                .as_ref()
                .map_or_else(String::new, |state| state.painted(look)),
            self.created
                .map_or_else(String::new, |created| age::since(Some(created), now)),
            self.info.painted(look),
        ]);
        let (branch, last_branch, line) = if look.ascii {
            ("|-- ", "`-- ", "|   ")
        } else {
            ("├──", "└──", "│  ")
        };
        for (index, child) in self.children.iter().enumerate() {
            let is_last = index + 1 == self.children.len();
            let (branch, line) = if is_last {
                (last_branch, if look.ascii { "    " } else { "   " })
            } else {
                (branch, line)
            };
            child.add_to(
                table,
                &format!("{below}{branch}"),
                &format!("{below}{line}"),
                look,
                now,
            );
        }
    }

    /// Versions have the colour of their role; what is under way stands out among runs and experiments.
    fn name_colour(&self) -> Option<Colour> {
        match self.kind {
            Kind::ReplicaSet => self.info.tags.last().map(Tag::colour),
            Kind::Experiment | Kind::AnalysisRun => {
                let under_way = self
                    .state
                    .as_ref()
                    .is_some_and(|state| matches!(state.icon, Icon::Waiting | Icon::Progressing));
                Some(if under_way {
                    Colour::Blue
                } else {
                    Colour::Default
                })
            }
            Kind::Rollout | Kind::Revision | Kind::Pod | Kind::Job => None,
        }
    }
}

impl Info {
    fn painted(&self, look: Look) -> String {
        let tags = self.tags.iter().map(|tag| tag.painted(look));
        let measurements = self.measurements.iter().map(|counts| counts.painted(look));
        let notes = self.notes.iter().cloned();
        let parts: Vec<_> = tags.chain(measurements).chain(notes).collect();
        parts.join(",")
    }
}
