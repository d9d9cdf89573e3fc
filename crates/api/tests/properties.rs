//! Properties that hold for every object, however odd.

use std::sync::OnceLock;

use crossfade_api::canonical_json::Form;
use crossfade_api::hash::{pod_template_hash, step_hash, template_digest, templates_equal};
use crossfade_api::quantity::Quantity;
use crossfade_api::template_set::{Hashes, rollout_arguments};
use crossfade_api::validate::references::{Lookup, References, RouterKind, Service, references};
use crossfade_api::{
    AnalysisRun, AnalysisTemplate, Resource, Rollout, crd, duration, manifest, merge_patch,
    validate,
};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// The schema of a kind, from its definition.
fn schema(kind: &str) -> &'static Value {
    static DEFINITIONS: OnceLock<Vec<Value>> = OnceLock::new();
    let definitions = DEFINITIONS.get_or_init(|| {
        crd::crds()
            .iter()
            .map(|definition| json!(definition))
            .collect()
    });
    let found = definitions
        .iter()
        .find(|definition| definition["spec"]["names"]["kind"] == kind);
    &found.expect("the kind is defined")["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
}

/// Numbers from a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[usize::try_from(self.below(from.len() as u64)).expect("it is small")]
    }
}

/// How often a part has another type than its schema says: one in so many parts.
#[derive(Clone, Copy)]
struct Oddity(u64);

const WORDS: [&str; 12] = [
    "",
    "a",
    "5",
    "25%",
    "10s",
    "1d",
    "{{args.x}}",
    "metadata.labels['a']",
    "spec.replicas",
    "Stable",
    "é\u{0}<&>",
    "2024-01-31T10:00:00.5Z",
];
const NUMBERS: [i64; 8] = [0, 1, -1, 5, 100, 101, i32::MAX as i64, i64::MAX];

fn anything(dice: &mut Dice, depth: u32) -> Value {
    match dice.below(if depth == 0 { 5 } else { 7 }) {
        0 => Value::Null,
        1 => json!(dice.one_in(2)),
        2 => json!(NUMBERS[usize::try_from(dice.below(8)).expect("it is small")]),
        3 => json!(0.5),
        4 => json!(dice.pick(&WORDS)),
        5 => (0..dice.below(3))
            .map(|_| anything(dice, depth - 1))
            .collect(),
        _ => {
            let members = (0..dice.below(3))
                .map(|_| (dice.pick(&WORDS).to_owned(), anything(dice, depth - 1)));
            Value::Object(members.collect())
        }
    }
}

/// A value along a schema, a few parts of it odd.
fn along(schema: &Value, dice: &mut Dice, oddity: Oddity, depth: u32) -> Value {
    if dice.one_in(oddity.0) || depth == 0 {
        return anything(dice, 2);
    }
    if schema["x-kubernetes-int-or-string"] == json!(true) {
        return if dice.one_in(2) {
            json!(dice.below(20))
        } else {
            json!(dice.pick(&WORDS))
        };
    }
    match schema["type"].as_str() {
        Some("object") => {
            let mut object = Map::new();
            let properties = schema["properties"].as_object().into_iter().flatten();
            // Deep objects have few members, or the whole would be endless.
            for (name, property) in properties {
                let required = schema["required"]
                    .as_array()
                    .is_some_and(|names| names.contains(&json!(name)));
                if dice.one_in(3) || (required && !dice.one_in(oddity.0)) {
                    object.insert(name.clone(), along(property, dice, oddity, depth - 1));
                }
            }
            if let Some(additional) = schema.get("additionalProperties") {
                for _ in 0..dice.below(3) {
                    object.insert(
                        dice.pick(&WORDS).to_owned(),
                        along(additional, dice, oddity, depth - 1),
                    );
                }
            }
            if dice.one_in(oddity.0) {
                object.insert("neverHeardOf".to_owned(), anything(dice, 2));
            }
            Value::Object(object)
        }
        Some("array") => (0..dice.below(4))
            .map(|_| along(&schema["items"], dice, oddity, depth - 1))
            .collect(),
        Some("string") if schema["format"] == "date-time" => json!("2024-01-31T10:00:00Z"),
        Some("string") => json!(dice.pick(&WORDS)),
        Some("boolean") => json!(dice.one_in(2)),
        Some("integer") => json!(dice.below(200)),
        _ => anything(dice, 2),
    }
}

fn object(kind: &str, seed: u64, oddity: Oddity) -> Value {
    let mut object = along(schema(kind), &mut Dice(seed), oddity, 20);
    if !object.is_object() {
        object = json!({});
    }
    object["apiVersion"] = json!("argoproj.io/v1alpha1");
    object["kind"] = json!(kind);
    object
}

/// Knows every template as the same one, every Service and every router object as the same value.
struct Everything {
    template: AnalysisTemplate,
    selector: std::collections::BTreeMap<String, String>,
    object: Value,
}

impl References for Everything {
    fn service(&self, _: &str) -> Lookup<Service<'_>> {
        Lookup::Found(Service {
            selector: &self.selector,
            managed_by: Some("other"),
        })
    }

    fn template(
        &self,
        name: &str,
        _: bool,
    ) -> Lookup<&crossfade_api::analysis::AnalysisTemplateSpec> {
        if name.is_empty() {
            Lookup::Missing
        } else {
            Lookup::Found(&self.template.spec)
        }
    }

    fn object(&self, _: RouterKind, _: &str, _: &str) -> Lookup<&Value> {
        Lookup::Found(&self.object)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_round_trip_keeps_every_object_as_it_is(seed: u64, oddity in 2_u64..200) {
        let rollout = object("Rollout", seed, Oddity(oddity));
        prop_assert_eq!(Rollout::from_json(rollout.clone()).0.to_json(), rollout);
        let run = object("AnalysisRun", seed, Oddity(oddity));
        prop_assert_eq!(AnalysisRun::from_json(run.clone()).0.to_json(), run);
        let template = object("AnalysisTemplate", seed, Oddity(oddity));
        prop_assert_eq!(AnalysisTemplate::from_json(template.clone()).0.to_json(), template);
    }

    #[test]
    fn what_the_types_hold_survives_without_the_json_it_came_from(seed: u64, oddity in 2_u64..200) {
        let (read, _) = Rollout::from_json(object("Rollout", seed, Oddity(oddity)));
        let made = Rollout { origin: crossfade_api::resource::Origin::default(), ..read.clone() };
        let (again, errors) = Rollout::from_json(made.to_json());
        prop_assert_eq!(errors, vec![]);
        prop_assert_eq!(again, read);
    }

    #[test]
    fn an_object_that_fits_its_schema_is_read_without_a_fault(seed: u64) {
        let odd_nowhere = Oddity(u64::MAX);
        let (_, errors) = Rollout::from_json(object("Rollout", seed, odd_nowhere));
        // Where the definitions keep anything, the types may still know better.
        let kept = |path: &str| path.contains(".resources.") || path.contains(".volumes");
        let errors: Vec<_> = errors.into_iter().filter(|error| !kept(&error.path)).collect();
        prop_assert_eq!(errors, vec![]);
    }

    #[test]
    fn a_change_of_the_status_changes_nothing_else(seed: u64, oddity in 5_u64..200) {
        let before = object("Rollout", seed, Oddity(oddity));
        let (mut rollout, errors) = Rollout::from_json(before.clone());
        prop_assume!(errors.is_empty());
        rollout.status.message = "changed".to_owned();
        let mut expected = before;
        merge_patch::apply(&mut expected, &json!({"status": {"message": "changed"}}));
        prop_assert_eq!(rollout.to_json(), expected);
    }

    #[test]
    fn no_object_makes_validation_or_hashing_panic(seed: u64, oddity in 2_u64..100) {
        let (rollout, _) = Rollout::from_json(object("Rollout", seed, Oddity(oddity)));
        let (template, _) = AnalysisTemplate::from_json(object("AnalysisTemplate", seed, Oddity(oddity)));
        let mut texts: Vec<String> = validate::rollout(&rollout).iter().map(ToString::to_string).collect();
        texts.extend(validate::warnings(&rollout).iter().map(ToString::to_string));
        texts.extend(validate::unsupported::rollout(&rollout).iter().map(ToString::to_string));
        texts.extend(validate::unsupported::template(&template.spec).iter().map(ToString::to_string));
        texts.extend(validate::analysis::all_metrics(&template.spec.metrics));
        let known = Everything {
            template,
            selector: [("a".to_owned(), "b".to_owned())].into(),
            object: anything(&mut Dice(seed), 6),
        };
        texts.extend(references(&rollout, &known).iter().map(ToString::to_string));
        prop_assert!(texts.iter().all(|text| !text.is_empty()));
        let steps = rollout.spec.strategy.canary.map(|canary| canary.steps).unwrap_or_default();
        prop_assert!(!step_hash(&steps, Form::Current).is_empty());
        let args: Vec<_> = steps.iter().filter_map(|step| step.analysis.as_ref()).flat_map(|analysis| analysis.args.clone()).collect();
        let resolved = rollout_arguments(&args, &Rollout::default(), Hashes { latest: "a", stable: None });
        prop_assert!(resolved.is_err() || resolved.is_ok_and(|resolved| resolved.len() == args.len()));
    }

    #[test]
    fn any_json_has_a_hash_and_a_digest_as_a_template(seed: u64) {
        let template = anything(&mut Dice(seed), 8).into();
        prop_assert!((1..=10).contains(&pod_template_hash(&template, None, Form::Current).as_str().len()));
        prop_assert_eq!(template_digest(&template).len(), 64);
        prop_assert!(templates_equal(&template, &template));
    }

    #[test]
    fn a_merge_patch_turns_the_old_document_into_the_new_one(old: u64, new: u64) {
        let (old, new) = (without_nulls(anything(&mut Dice(old), 6)), without_nulls(anything(&mut Dice(new), 6)));
        let mut patched = old.clone();
        if let Some(patch) = merge_patch::diff(&old, &new) {
            merge_patch::apply(&mut patched, &patch);
        }
        prop_assert_eq!(patched, new);
    }

    #[test]
    fn any_text_is_read_as_a_manifest_or_refused(text in "[ -~\\n\\t\\[\\]{}:,&*!|>'\"#%@`?-]{0,200}") {
        let read = manifest::read(&text);
        prop_assert!(read.is_ok() || read.is_err_and(|error| !error.to_string().is_empty()));
    }

    #[test]
    fn any_text_is_read_as_a_duration_or_refused(text in "[-+]?[0-9.]{0,12}(ns|us|µs|ms|s|m|h|d| )?[0-9.]{0,4}[smh]?") {
        let read = duration::parse(&text);
        prop_assert!(read.is_ok() || read.is_err_and(|error| error.starts_with("time: ")));
    }

    #[test]
    fn the_one_text_of_an_amount_stands_for_the_same_amount(text in "[-+]?[0-9]{0,20}(\\.[0-9]{0,20})?(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|e[0-9]|e-[0-9])?") {
        if let Some(quantity) = Quantity::parse(&text) {
            let canonical = quantity.canonical();
            let again = Quantity::parse(&canonical);
            prop_assert_eq!(again.map(|again| again.nanos), Some(quantity.nanos), "{}", canonical);
            prop_assert_eq!(again.map(Quantity::canonical), Some(canonical));
        }
    }
}

/// Merge patches cannot say null.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let kept = members.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(
                kept.map(|(key, value)| (key, without_nulls(value)))
                    .collect(),
            )
        }
        Value::Null => json!(0),
        other => other,
    }
}
