//! The head above a tree: a label and a value a line.

use super::experiment::ExperimentView;
use super::icon::Look;
use super::images::Image;
use super::rollout::RolloutView;

/// Lines whose values begin in one column.
#[derive(Debug, Default)]
pub(crate) struct Head(String);

impl Head {
    /// Adds a line.
    pub(crate) fn line(&mut self, label: &str, value: &str) {
        self.0.push_str(format!("{label:<17}{value}").trim_end());
        self.0.push('\n');
    }

    /// Adds the images, one a line.
    fn images(&mut self, images: &[Image], look: Look) {
        for (index, image) in images.iter().enumerate() {
            let label = if index == 0 { "Images:" } else { "" };
            self.line(label, &image.painted(look));
        }
    }

    /// All lines.
    pub(crate) fn text(self) -> String {
        self.0
    }
}

/// The head of a Rollout.
pub(crate) fn rollout(view: &RolloutView, look: Look) -> String {
    let mut head = Head::default();
    head.line("Name:", &view.name);
    head.line("Namespace:", &view.namespace);
    head.line("Status:", &view.state.painted(look));
    if !view.message.is_empty() {
        head.line("Message:", &view.message);
    }
    head.line("Strategy:", view.strategy);
    if let Some(weights) = view.weights {
        head.line("  Step:", view.step.as_deref().unwrap_or_default());
        head.line("  SetWeight:", &weights.set.to_string());
        head.line("  ActualWeight:", &weights.actual.to_string());
    }
    head.images(&view.images, look);
    head.line("Replicas:", "");
    let replicas = &view.replicas;
    for (label, count) in [
        ("  Desired:", replicas.desired),
        ("  Current:", replicas.current),
        ("  Updated:", replicas.updated),
        ("  Ready:", replicas.ready),
        ("  Available:", replicas.available),
    ] {
        head.line(label, &count.to_string());
    }
    head.text()
}

/// The head of an Experiment.
pub(crate) fn experiment(view: &ExperimentView, look: Look) -> String {
    let mut head = Head::default();
    head.line("Name:", &view.name);
    head.line("Namespace:", &view.namespace);
    head.line("Status:", &view.state.painted(look));
    if !view.message.is_empty() {
        head.line("Message:", &view.message);
    }
    head.images(&view.images, look);
    head.text()
}
