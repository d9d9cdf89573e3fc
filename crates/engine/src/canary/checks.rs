//! The analysis of a look: hooks, then metrics, then templates; the first failure ends it.

use std::collections::BTreeMap;

use crossfade_api::flagger::{CanaryMetric, CrossNamespaceRef, TargetKind};
use crossfade_api::{MetricTemplate, Resource as _};
use jiff::SignedDuration;

use super::action::{
    CanaryAction, CanaryDone, Check, CheckFault, CheckFaultKind, MetricSource, Query,
};
use super::tick::{Step, Tick};
use crate::action::{Action, Done, Failure};
use crate::decision::Found;
use crate::mutant::{Mutant, wrong};

/// What a provider's error leads to.
const ERROR_POLICY: &str = "crossfade.dev/metric-error-policy";
/// What an answer without values leads to.
const NO_DATA_POLICY: &str = "crossfade.dev/no-data-policy";

/// How an analysis ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All is well.
    Good,
    /// It counts as a failed look.
    Bad,
    /// Nobody knows: the release stays where it is, and nothing is counted.
    Unknown,
}

/// What a fault that says nothing about the new version leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    Count,
    Hold,
    Ignore,
}

impl Policy {
    fn of(word: &str) -> Self {
        match word {
            "hold" => Self::Hold,
            "ignore" => Self::Ignore,
            _ => Self::Count,
        }
    }
}

/// Which form a metric is checked in.
enum Form<'m> {
    SuccessRate,
    Duration,
    Inline,
    Template(&'m CrossNamespaceRef),
}

impl Tick<'_, '_, '_> {
    /// Judges the new version.
    pub(super) fn analyse(&mut self) -> Step<Verdict> {
        if !self.rollout_hooks_pass()? {
            return Ok(Verdict::Bad);
        }
        let metrics = &self.analysis.metrics;
        let mut spent = SignedDuration::ZERO;
        for (place, metric) in metrics.iter().enumerate() {
            let built_in = match metric.name.as_str() {
                "request-success-rate" => Some(Form::SuccessRate),
                "request-duration" => Some(Form::Duration),
                _ => None,
            };
            let inline = (!metric.query.is_empty()).then_some(Form::Inline);
            if built_in.is_none() && inline.is_none() && metric.template_ref.is_none() {
                self.warn(
                    "Metric query failed for no usable metrics template and query were configured",
                );
                return Ok(Verdict::Bad);
            }
            for form in [built_in, inline].into_iter().flatten() {
                let verdict = self.check(metric, place, &form, &mut spent)?;
                if verdict != Verdict::Good {
                    return Ok(verdict);
                }
            }
        }
        for (place, metric) in metrics.iter().enumerate() {
            if let Some(reference) = &metric.template_ref {
                let form = Form::Template(reference);
                let verdict = self.check(metric, place, &form, &mut spent)?;
                if verdict != Verdict::Good {
                    return Ok(verdict);
                }
            }
        }
        Ok(Verdict::Good)
    }

    fn check(
        &mut self,
        metric: &CanaryMetric,
        place: usize,
        form: &Form<'_>,
        spent: &mut SignedDuration,
    ) -> Step<Verdict> {
        let source = match form {
            Form::Template(reference) => match self.template(reference) {
                Ok(source) => source,
                Err(text) => {
                    self.warn(&text);
                    return Ok(Verdict::Bad);
                }
            },
            _ => self.server(),
        };
        let set = self.query_set();
        let query = match form {
            Form::SuccessRate => Query::SuccessRate { set },
            Form::Duration => Query::Duration { set },
            Form::Inline => Query::Text(metric.query.clone()),
            Form::Template(reference) => Query::Text(self.template_query(reference)),
        };
        let interval = if metric.interval.is_empty() {
            "1m"
        } else {
            &metric.interval
        };
        let check = Check {
            metric: metric.name.clone(),
            source,
            query,
            variables: self.variables(interval),
            template_variables: metric.template_variables.clone(),
            wait_ms: 0,
            attempt: 0,
            place,
        };
        match self.measure(check, spent)? {
            Ok(value) => Ok(self.compare(metric, form, value)),
            Err(fault) => Ok(self.tell_fault(metric, form, &fault)),
        }
    }

    /// Takes a measurement; what another attempt may help with is attempted up to three times.
    fn measure(
        &mut self,
        mut check: Check,
        spent: &mut SignedDuration,
    ) -> Step<Result<f64, CheckFault>> {
        const WAITS: [i64; 2] = [1000, 2000];
        let most = (self.spec.interval() / 2).min(SignedDuration::from_secs(30));
        loop {
            let attempt = check.attempt;
            let action = CanaryAction::Check(Box::new(check.clone()));
            let (answer, took) = match self.act(action)? {
                Ok(done) => checked(done),
                Err(Failure { message, .. }) => (Err(unreachable_provider(message)), 0),
            };
            *spent += SignedDuration::from_millis(took.saturating_add(check.wait_ms));
            let fault = match answer {
                Ok(value) if value.is_nan() => return Ok(Err(no_values(&check.query))),
                Ok(value) => return Ok(Ok(value)),
                Err(fault) if fault.kind == CheckFaultKind::NoData => {
                    return Ok(Err(no_values(&check.query)));
                }
                Err(fault) => fault,
            };
            let next = usize::try_from(attempt)
                .ok()
                .and_then(|attempt| WAITS.get(attempt));
            let Some(wait) = next.filter(|_| fault.kind == CheckFaultKind::Provider) else {
                return Ok(Err(fault));
            };
            if *spent + SignedDuration::from_millis(*wait) > most {
                return Ok(Err(fault));
            }
            check.attempt += 1;
            check.wait_ms = *wait;
        }
    }

    /// Compares a value with its bounds.
    fn compare(&mut self, metric: &CanaryMetric, form: &Form<'_>, value: f64) -> Verdict {
        let name = self.name();
        let halt = |what: String| format!("Halt {name} advancement {what}");
        let range = metric.threshold_range;
        let (min, max) = match (range, form) {
            (Some(range), _) => (range.min, range.max),
            (None, Form::SuccessRate) => (Some(metric.threshold), None),
            (None, _) => (None, Some(metric.threshold)),
        };
        let told = match form {
            Form::SuccessRate => {
                let bad =
                    |sign: &str, bound: f64| format!("success rate {value:.2}% {sign} {bound}%");
                below(value, min)
                    .map(|bound| bad("<", bound))
                    .or_else(|| above(value, max).map(|bound| bad(">", bound)))
            }
            Form::Duration => {
                let (value, min, max) = (value.trunc(), min.map(f64::trunc), max.map(f64::trunc));
                let bad = |sign: &str, bound: f64| {
                    format!(
                        "request duration {} {sign} {}",
                        go_milliseconds(value),
                        go_milliseconds(bound)
                    )
                };
                below(value, min)
                    .map(|bound| bad("<", bound))
                    .or_else(|| above(value, max).map(|bound| bad(">", bound)))
            }
            Form::Inline | Form::Template(_) => {
                let bad =
                    |sign: &str, bound: f64| format!("{} {value:.2} {sign} {bound}", metric.name);
                below(value, min)
                    .map(|bound| bad("<", bound))
                    .or_else(|| above(value, max).map(|bound| bad(">", bound)))
            }
        };
        match told {
            None => Verdict::Good,
            Some(_) if wrong(Mutant::CanaryBadIsGood) => Verdict::Good,
            Some(told) => {
                self.warn(&halt(told));
                Verdict::Bad
            }
        }
    }

    /// Tells why there is no value, and what follows from it.
    fn tell_fault(
        &mut self,
        metric: &CanaryMetric,
        form: &Form<'_>,
        fault: &CheckFault,
    ) -> Verdict {
        let text = self.fault_text(metric, form, fault);
        let policy = match fault.kind {
            CheckFaultKind::NoData => self.annotation(NO_DATA_POLICY).map(Policy::of),
            CheckFaultKind::Provider | CheckFaultKind::Refused => {
                let own = self.annotation(ERROR_POLICY);
                Some(Policy::of(
                    own.unwrap_or(&self.world.settings.metric_error_policy),
                ))
            }
            _ => None,
        };
        match policy.unwrap_or(Policy::Count) {
            Policy::Count
                if fault.kind == CheckFaultKind::Provider && wrong(Mutant::CanaryErrorIsGood) =>
            {
                Verdict::Good
            }
            Policy::Count => {
                self.warn(&text);
                Verdict::Bad
            }
            Policy::Hold => {
                self.warn(&format!("{text} (not counted)"));
                if wrong(Mutant::CanaryHoldCounts) {
                    return Verdict::Bad;
                }
                Verdict::Unknown
            }
            Policy::Ignore => Verdict::Good,
        }
    }

    fn fault_text(&self, metric: &CanaryMetric, form: &Form<'_>, fault: &CheckFault) -> String {
        let name = &metric.name;
        let why = &fault.text;
        let is_empty = fault.kind == CheckFaultKind::NoData;
        if let (CheckFaultKind::Address, false) = (&fault.kind, matches!(form, Form::Template(_))) {
            let address = &self.spec.metrics_server;
            return format!("Error building Prometheus client for {address} {why}");
        }
        match form {
            Form::SuccessRate | Form::Duration if is_empty => {
                let tail = match form {
                    Form::SuccessRate => format!(": {why}"),
                    _ => String::new(),
                };
                format!(
                    "Halt advancement no values found for {} metric {name} probably {} is not receiving traffic{tail}",
                    self.query_set(),
                    self.target_name()
                )
            }
            Form::SuccessRate | Form::Duration => format!("Prometheus query failed: {why}"),
            Form::Inline if is_empty => {
                format!("Halt advancement no values found for metric: {name}")
            }
            Form::Inline => format!("Prometheus query failed for {name}: {why}"),
            Form::Template(reference) => {
                let template = self.template_name(reference);
                match &fault.kind {
                    CheckFaultKind::Secret(secret) => {
                        format!("Metric template {template} secret {secret} error: {why}")
                    }
                    CheckFaultKind::Construction | CheckFaultKind::Address => format!(
                        "Metric template {template} provider {} error: {why}",
                        self.template_provider(reference)
                    ),
                    CheckFaultKind::Render => {
                        format!("Metric template {template} query render error: {why}")
                    }
                    CheckFaultKind::NoData => {
                        format!("Halt advancement no values found for custom metric: {name}: {why}")
                    }
                    CheckFaultKind::Provider | CheckFaultKind::Refused | CheckFaultKind::Query => {
                        format!("Metric query failed for {name}: {why}")
                    }
                }
            }
        }
    }

    /// Asks whether the metric providers answer at all; the first that does not is told.
    pub(super) fn find_providers(&mut self) -> Step {
        let metrics = &self.analysis.metrics;
        for metric in metrics {
            let is_built_in = matches!(
                metric.name.as_str(),
                "request-success-rate" | "request-duration"
            );
            if is_built_in && let Some(why) = self.missing_provider(self.server())? {
                self.warn(&format!(
                    "Error checking metric providers: prometheus not avaiable: {why}"
                ));
                return Ok(());
            }
            let Some(reference) = &metric.template_ref else {
                continue;
            };
            let why = match self.template(reference) {
                Err(text) => Some(text),
                Ok(source) => {
                    let kind = self.template_provider(reference);
                    let template = self.template_name(reference);
                    self.missing_provider(source)?.map(|why| {
                        format!("{kind} in metric template {template} not avaiable: {why}")
                    })
                }
            };
            if let Some(why) = why {
                self.warn(&format!("Error checking metric providers: {why}"));
                return Ok(());
            }
        }
        self.tell("all the metrics providers are available!");
        Ok(())
    }

    fn missing_provider(&mut self, source: MetricSource) -> Step<Option<String>> {
        let action = CanaryAction::FindProvider(Box::new(source));
        let answer = self.plan.act(Action::Canary(Box::new(action)))?;
        Ok(answer.as_ref().err().map(|failure| failure.message.clone()))
    }

    fn server(&self) -> MetricSource {
        let own = &self.spec.metrics_server;
        let address = if own.is_empty() {
            &self.world.settings.metrics_server
        } else {
            own
        };
        MetricSource::Server {
            address: address.clone(),
        }
    }

    fn whole_reference(&self, reference: &CrossNamespaceRef) -> CrossNamespaceRef {
        let namespace = if reference.namespace.is_empty() {
            self.namespace()
        } else {
            &reference.namespace
        };
        CrossNamespaceRef {
            name: reference.name.clone(),
            namespace: namespace.to_owned(),
        }
    }

    fn template_name(&self, reference: &CrossNamespaceRef) -> String {
        let whole = self.whole_reference(reference);
        format!("{}.{}", whole.name, whole.namespace)
    }

    fn found_template(&self, reference: &CrossNamespaceRef) -> Result<&MetricTemplate, String> {
        match self.world.templates.get(&self.whole_reference(reference)) {
            Some(Found::Found(template)) => Ok(template),
            Some(Found::Unreadable(why)) => Err(why.clone()),
            _ => Err(format!(
                "metrictemplates.flagger.app \"{}\" not found",
                reference.name
            )),
        }
    }

    fn template(&self, reference: &CrossNamespaceRef) -> Result<MetricSource, String> {
        let template = self.found_template(reference).map_err(|why| {
            format!(
                "Metric template {} error: {why}",
                self.template_name(reference)
            )
        })?;
        let whole = self.whole_reference(reference);
        Ok(MetricSource::Template {
            namespace: whole.namespace,
            name: whole.name,
            spec: Box::new(template.spec.clone()),
        })
    }

    fn template_query(&self, reference: &CrossNamespaceRef) -> String {
        self.found_template(reference)
            .map(|template| template.spec.query.clone())
            .unwrap_or_default()
    }

    fn template_provider(&self, reference: &CrossNamespaceRef) -> String {
        self.found_template(reference)
            .map(|template| template.spec.provider.kind.clone())
            .unwrap_or_default()
    }

    /// Whose queries the built-in metrics are asked by.
    pub(super) fn query_set(&self) -> String {
        let global = &self.world.settings.provider;
        let own = &self.spec.provider;
        let mut set = if !own.is_empty() && global.contains("linkerd") {
            "linkerd".to_owned()
        } else if !own.is_empty() {
            own.clone()
        } else if global.contains("crossover") {
            "crossover".to_owned()
        } else {
            global.clone()
        };
        if self.kind() == TargetKind::Service {
            set.push_str(":service");
        }
        set
    }

    fn variables(&self, interval: &str) -> BTreeMap<String, String> {
        let target = &self.spec.target_ref.name;
        let named = |reference: &Option<crossfade_api::flagger::ObjectRef>| {
            reference
                .as_ref()
                .map_or(target, |reference| &reference.name)
                .clone()
        };
        [
            ("name", self.canary.name().to_owned()),
            ("namespace", self.namespace().to_owned()),
            ("target", target.clone()),
            ("service", self.spec.apex().to_owned()),
            ("ingress", named(&self.spec.ingress_ref)),
            ("route", named(&self.spec.route_ref)),
            ("interval", interval.to_owned()),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
    }
}

/// No number is no value, in the words of each provider.
fn no_values(query: &Query) -> CheckFault {
    let is_plain = match query {
        Query::SuccessRate { set } | Query::Duration { set } => {
            set == "kubernetes" || set.starts_with("gatewayapi")
        }
        Query::Text(_) => true,
    };
    let prefix = if is_plain {
        ""
    } else {
        "running query failed: "
    };
    CheckFault {
        kind: CheckFaultKind::NoData,
        text: format!("{prefix}no values found"),
    }
}

/// The answer, and the milliseconds that it took.
fn checked(done: &Done) -> (Result<f64, CheckFault>, i64) {
    if let Done::Canary(done) = done
        && let CanaryDone::Checked(checked) = &**done
    {
        return (checked.answer.clone(), checked.took_ms);
    }
    (Err(unreachable_provider("it gave no answer")), 0)
}

fn unreachable_provider(why: impl Into<String>) -> CheckFault {
    CheckFault {
        kind: CheckFaultKind::Provider,
        text: why.into(),
    }
}

fn below(value: f64, bound: Option<f64>) -> Option<f64> {
    bound.filter(|bound| value < *bound)
}

fn above(value: f64, bound: Option<f64>) -> Option<f64> {
    bound.filter(|bound| value > *bound)
}

/// Whole milliseconds as Go writes a duration: `500ms`, `1.515s`, `1m0.5s`, `1h2m0s`.
fn go_milliseconds(milliseconds: f64) -> String {
    let sign = if milliseconds < 0.0 { "-" } else { "" };
    let all = milliseconds.abs();
    if all == 0.0 {
        return "0s".to_owned();
    }
    if all < 1000.0 {
        return format!("{sign}{all}ms");
    }
    let (hours, rest) = ((all / 3_600_000.0).trunc(), all % 3_600_000.0);
    let (minutes, rest) = ((rest / 60_000.0).trunc(), rest % 60_000.0);
    let seconds = rest / 1000.0;
    if hours > 0.0 {
        format!("{sign}{hours}h{minutes}m{seconds}s")
    } else if minutes > 0.0 {
        format!("{sign}{minutes}m{seconds}s")
    } else {
        format!("{sign}{seconds}s")
    }
}

#[cfg(test)]
mod tests {
    use super::go_milliseconds;

    #[test]
    fn milliseconds_are_told_as_the_family_tells_them() {
        for (milliseconds, text) in [
            (0.0, "0s"),
            (1.0, "1ms"),
            (500.0, "500ms"),
            (1000.0, "1s"),
            (1515.0, "1.515s"),
            (60_500.0, "1m0.5s"),
            (3_720_000.0, "1h2m0s"),
        ] {
            assert_eq!(go_milliseconds(milliseconds), text);
        }
    }
}
