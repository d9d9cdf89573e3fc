//! NGINX ingress: a second Ingress beside the user's, whose annotations say which requests reach the new version.
//!
//! The user's Ingress is only read: it leads to the apex Service, which is the primary's. Metadata of the second one is written when it is made
//! and when requests move, never to repair it; its spec follows the user's.

use crossfade_api::Resource as _;
use crossfade_api::flagger::{AnalysisMatch, CanaryStrategyKind};
use crossfade_api::names::annotation::LAST_APPLIED;
use crossfade_api::split::Shares;
use serde_json::{Map, Value, json};

use super::{Names, create, left_alone, must_get, set_fields, spoken, try_get, update};
use crate::contract::{
    CanaryRouter, Change, Need, ObjectRef, Observed, Plan, RouteError, RoutedCanary, Settings, Wish,
};
use crate::json::{list_mut, metadata, object_at};
use crate::nginx::kind;

pub(super) struct Nginx {
    prefix: String,
}

impl Nginx {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            prefix: settings.ingress_annotations_prefix.clone(),
        }
    }

    fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.prefix)
    }

    fn is_canary_key(&self, key: &str) -> bool {
        key.contains(&self.key("canary"))
    }

    fn kept(
        &self,
        subject: &RoutedCanary<'_>,
        observed: &Observed,
    ) -> Result<Option<Change>, RouteError> {
        let [main, own] = ingresses(subject)?;
        let original = must_get(observed, &main)?;
        let spec = spec(original, &Names::of(subject.canary), &main.name)?;
        let Some(before) = try_get(observed, &own)? else {
            let mut annotations = Map::new();
            let given = original.pointer("/metadata/annotations");
            for (key, value) in given.and_then(Value::as_object).into_iter().flatten() {
                if !self.is_canary_key(key) && key != LAST_APPLIED {
                    annotations.insert(key.clone(), value.clone());
                }
            }
            annotations.insert(self.key("canary"), json!("true"));
            annotations.insert(self.key("canary-weight"), json!("0"));
            annotations.extend(left_alone().map(|(key, value)| (key, json!(value))));
            let mut made = json!({"metadata": {"annotations": annotations}, "spec": spec});
            if let Some(labels) = original.pointer("/metadata/labels") {
                made["metadata"]["labels"] = labels.clone();
            }
            return Ok(Some(create(own, subject.canary, made, "")));
        };
        let mut after = before.clone();
        let given = spec.as_object().into_iter().flatten();
        let mut fields: Vec<_> = given
            .map(|(field, value)| (field.as_str(), Some(value.clone())))
            .collect();
        let there = before.get("spec").and_then(Value::as_object);
        let gone = there.into_iter().flatten().map(|(field, _)| field.as_str());
        fields.extend(
            gone.filter(|field| spec.get(field).is_none())
                .map(|field| (field, None)),
        );
        set_fields(&mut after, fields);
        let failure = format!("{} update error: {{}}", spoken(&own));
        Ok(update(own, before, &after, failure))
    }

    fn split(
        &self,
        subject: &RoutedCanary<'_>,
        observed: &Observed,
        shares: &Shares,
    ) -> Result<Option<Change>, RouteError> {
        let [_, own] = ingresses(subject)?;
        let before = must_get(observed, &own)?;
        let mut after = before.clone();
        let analysis = subject.canary.spec.analysis();
        let matches = analysis.map_or(&[][..], |analysis| &analysis.matches);
        let counts_looks =
            analysis.is_some_and(|analysis| analysis.strategy() != CanaryStrategyKind::Canary);
        if let Some(annotations) = object_at(&mut after, &["metadata", "annotations"]) {
            let mut put = |name: &str, value: &str| {
                annotations.insert(self.key(name), json!(value));
            };
            if shares.canary > 0 {
                put("canary", "true");
                for (name, value) in conditions(matches) {
                    put(name, &value);
                }
                // The weight of an A/B test says nothing: whoever matches gets the new version.
                if matches.is_empty() || !counts_looks {
                    put("canary-weight", &shares.canary.to_string());
                }
            } else {
                annotations.retain(|key, _| !self.is_canary_key(key));
                annotations.insert(self.key("canary"), json!("true"));
                annotations.insert(self.key("canary-weight"), json!("0"));
            }
        }
        let failure = format!("{} update error: {{}}", spoken(&own));
        Ok(update(own, before, &after, failure))
    }
}

impl CanaryRouter for Nginx {
    fn needs(&self, subject: &RoutedCanary<'_>) -> Vec<Need> {
        let objects = ingresses(subject).into_iter().flatten();
        objects.map(Need::Object).collect()
    }

    fn plan(&self, subject: &RoutedCanary<'_>, observed: &Observed, wish: &Wish<'_>) -> Plan {
        let planned = match wish {
            Wish::Kept => self.kept(subject, observed),
            Wish::Split(shares, _) => self.split(subject, observed, shares),
            Wish::Restored => Ok(None),
        };
        Plan::of(planned)
    }

    fn read(&self, subject: &RoutedCanary<'_>, observed: &Observed) -> Result<Shares, RouteError> {
        let [_, own] = ingresses(subject)?;
        let there = must_get(observed, &own)?;
        let annotation = |name: &str| metadata(there, "annotations", &self.key(name));
        let analysis = subject.canary.spec.analysis();
        let is_test =
            analysis.is_some_and(|analysis| analysis.strategy() == CanaryStrategyKind::AbTesting);
        let by_request = ["canary-by-cookie", "canary-by-header"];
        if is_test
            && by_request
                .into_iter()
                .any(|name| annotation(name).is_some())
        {
            return Ok(Shares {
                primary: 0,
                canary: 100,
                mirrored: false,
            });
        }
        let weight = match annotation("canary-weight") {
            None => 0,
            Some(text) => text.parse::<i32>().map_err(|why| {
                RouteError::user(format!("failed to convert {text} to int: {why}"))
            })?,
        };
        Ok(Shares {
            primary: 100 - weight,
            canary: weight,
            mirrored: false,
        })
    }
}

/// The user's Ingress and ours.
fn ingresses(subject: &RoutedCanary<'_>) -> Result<[ObjectRef; 2], RouteError> {
    let canary = subject.canary;
    let reference = canary.spec.ingress_ref.as_ref();
    let reference = reference
        .filter(|reference| !reference.name.is_empty())
        .ok_or_else(|| RouteError::user("ingress selector is empty"))?;
    let named = |name: String| ObjectRef {
        kind: kind(),
        namespace: canary.namespace().to_owned(),
        name,
    };
    Ok([
        named(reference.name.clone()),
        named(format!("{}-canary", reference.name)),
    ])
}

/// The user's spec with the new version's Service in the place of the apex.
fn spec(original: &Value, names: &Names<'_>, ingress: &str) -> Result<Value, RouteError> {
    let mut spec = original.get("spec").cloned().unwrap_or_else(|| json!({}));
    let mut leads_there = false;
    for rule in list_mut(&mut spec, "rules")?.into_iter().flatten() {
        let Some(http) = rule.get_mut("http").filter(|http| http.is_object()) else {
            continue;
        };
        for path in list_mut(http, "paths")?.into_iter().flatten() {
            let service = path.pointer_mut("/backend/service/name");
            if let Some(service) = service.filter(|name| **name == names.apex) {
                *service = json!(names.canary);
                leads_there = true;
            }
        }
    }
    if leads_there {
        return Ok(spec);
    }
    Err(RouteError::user(format!(
        "backend {} not found in ingress {ingress}",
        names.apex
    )))
}

/// The annotations by which requests are told apart. There is room for one cookie and one header: the last of each counts.
fn conditions(matches: &[AnalysisMatch]) -> Vec<(&'static str, String)> {
    let mut cookie = None;
    let mut header = None;
    for (name, value) in matches.iter().flat_map(|one| &one.headers) {
        if name.eq_ignore_ascii_case("cookie") {
            cookie = Some(value.exact.clone().unwrap_or_default());
        } else {
            header = Some((name.clone(), value.clone()));
        }
    }
    let mut all = vec![("canary-by-cookie", cookie.unwrap_or_default())];
    if let Some((name, value)) = header {
        all.push(("canary-by-header", name));
        all.push(("canary-by-header-value", value.exact.unwrap_or_default()));
        all.push(("canary-by-header-pattern", value.regex.unwrap_or_default()));
    }
    all.retain(|(_, value)| !value.is_empty());
    all
}
