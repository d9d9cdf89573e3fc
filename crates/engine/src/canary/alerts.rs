//! News for people: what is told, how grave it is, through whom.

use crossfade_api::flagger::Severity;

use super::action::{Alert, CanaryAction};
use super::tick::Tick;
use crate::action::Action;

/// What people are told through channels.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum News {
    Initialized,
    NewRevision,
    AwaitsApproval,
    TrafficAwaitsApproval,
    PromotionAwaitsApproval,
    CalledBack,
    ChecksFailed(i32),
    DeadlineExceeded(String),
    PromotionFailed(String),
    Succeeded,
    Skipped,
}

impl News {
    fn severity(&self) -> Severity {
        match self {
            Self::Initialized | Self::NewRevision | Self::Succeeded | Self::Skipped => {
                Severity::Info
            }
            Self::AwaitsApproval
            | Self::TrafficAwaitsApproval
            | Self::PromotionAwaitsApproval
            | Self::CalledBack => Severity::Warn,
            Self::ChecksFailed(_) | Self::DeadlineExceeded(_) | Self::PromotionFailed(_) => {
                Severity::Error
            }
        }
    }

    /// Whether the fields that describe the release are told, too.
    fn has_fields(&self) -> bool {
        self.severity() == Severity::Info
    }

    fn text(&self, kind: &str) -> String {
        match self {
            Self::Initialized => format!("New {kind} detected, initialization completed."),
            Self::NewRevision => "New revision detected, progressing canary analysis.".to_owned(),
            Self::AwaitsApproval => "Canary is waiting for approval.".to_owned(),
            Self::TrafficAwaitsApproval => {
                "Canary traffic increase is waiting for approval.".to_owned()
            }
            Self::PromotionAwaitsApproval => "Canary promotion is waiting for approval.".to_owned(),
            Self::CalledBack => "Rolling back manual webhook invoked".to_owned(),
            Self::ChecksFailed(count) => format!("Failed checks threshold reached {count}"),
            Self::DeadlineExceeded(why) => format!("Progress deadline exceeded {why}"),
            Self::PromotionFailed(why) => format!("Promotion failed, primary not ready: {why}"),
            Self::Succeeded => {
                "Canary analysis completed successfully, promotion finished.".to_owned()
            }
            Self::Skipped => "Canary analysis was skipped, promotion finished.".to_owned(),
        }
    }
}

impl Tick<'_, '_, '_> {
    /// Tells people.
    pub(super) fn alert(&mut self, news: &News) {
        let text = news.text(&self.spec.target_ref.kind);
        let fields = self.alert_fields(news);
        let severity = news.severity();
        let entries = self.analysis.alerts.clone();
        let through: Vec<_> = if entries.is_empty() {
            vec![None]
        } else {
            let strict = self.is_strict();
            let wants = |from: Severity| match from {
                // Nothing ever reached who said nothing.
                Severity::Unset => !strict,
                from => severity >= from,
            };
            let entries = entries.into_iter().filter(|entry| wants(entry.severity));
            entries.map(Some).collect()
        };
        for through in through {
            let alert = Alert {
                severity: severity.as_str().to_owned(),
                text: text.clone(),
                fields: fields.clone(),
                through,
                place: self.next_place(),
            };
            let action = CanaryAction::Alert(Box::new(alert));
            let _told = self.plan.want(Action::Canary(Box::new(action)));
        }
    }

    fn alert_fields(&self, news: &News) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        let mut add = |name: &str, value: String| fields.push((name.to_owned(), value));
        let cluster = &self.world.settings.cluster_name;
        if !cluster.is_empty() {
            add("Cluster", cluster.clone());
        }
        if news.has_fields() {
            let analysis = self.analysis;
            add(
                "Target",
                format!("{}/{}", self.spec.target_ref.kind, self.target_name()),
            );
            add("Failed checks threshold", analysis.threshold().to_string());
            add(
                "Progress deadline",
                format!("{}s", self.spec.progress_deadline()),
            );
            let routing = if analysis.iterations > 0 && analysis.matches.is_empty() {
                "Blue/Green".to_owned()
            } else if analysis.iterations > 0 {
                "A/B Testing".to_owned()
            } else if analysis.step_weight > 0 || analysis.step_weights.is_empty() {
                format!(
                    "Weight step: {} max: {}",
                    analysis.step_weight, analysis.max_weight
                )
            } else {
                let steps: Vec<String> = analysis
                    .step_weights
                    .iter()
                    .map(ToString::to_string)
                    .collect();
                format!(
                    "Weight steps: {} max: {}",
                    steps.join(","),
                    analysis.max_weight
                )
            };
            add("Traffic routing", routing);
        }
        fields
    }
}
