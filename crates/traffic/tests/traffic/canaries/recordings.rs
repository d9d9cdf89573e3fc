//! Router objects as the reference wrote them: each that it was recorded writing is one that we would leave alone, and one that we would write.

use std::path::{Path, PathBuf};

use crossfade_api::split::{Cookies, Shares};
use crossfade_api::{Canary, Resource as _};
use crossfade_traffic::{RoutedCanary, Settings, Wish, canary_router};
use serde_json::{Value, json};

use crate::rig::World;

/// Objects at the moments of the recordings.
fn moments() -> Vec<(String, Vec<Value>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/canaries");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the folder is there")
        .map(|file| file.expect("readable").path())
        .collect();
    files.sort();
    files
        .into_iter()
        .map(|file| {
            let text = std::fs::read_to_string(&file).expect("readable");
            let whole: Value = serde_json::from_str(&text).expect("JSON");
            let items = whole["items"].as_array().expect("a list").clone();
            let name = file.file_stem().and_then(|name| name.to_str());
            (name.expect("a name").to_owned(), items)
        })
        .collect()
}

fn set_of(canary: &Canary) -> Cookies {
    let status = &canary.status;
    Cookies {
        canary: status.session_affinity_cookie.clone(),
        primary: status.primary_session_affinity_cookie.clone(),
        previous: status.previous_session_affinity_cookie.clone(),
    }
}

#[test]
fn objects_as_the_reference_left_them_are_kept() {
    let mut seen = 0;
    for (name, items) in moments() {
        let own = items.iter().find(|item| item["kind"] == "Canary");
        let canary = Canary::from_json(own.expect("a Canary").clone()).0;
        let router = canary_router(&canary.spec.provider, &Settings::default());
        let router = router.expect("known").expect("it has objects");
        let subject = RoutedCanary {
            canary: &canary,
            label: "app",
        };
        let mut world = World::new("{}", &items);
        let shares = router.read(&subject, &world.observed).expect("readable");
        // The status does not say the weight of a test.
        let canary_weight = if name.ends_with("-ab-iterating") {
            100
        } else {
            canary.status.canary_weight
        };
        assert_eq!(shares.canary, canary_weight, "{name}");
        assert_eq!(shares.primary + shares.canary, 100, "{name}");
        let plan = router.plan(&subject, &world.observed, &Wish::Kept);
        if name == "istio-ab-iterating" {
            // The lone destination has weight 100 with us; any weight means the same.
            assert_eq!(plan.changes.len(), 1);
            let _told = world.perform(plan);
        } else {
            assert!(plan.is_done(), "{name}: {plan:#?}");
        }
        let cookies = set_of(&canary);
        let plan = router.plan(
            &subject,
            &world.observed,
            &Wish::Split(&shares, Some(&cookies)),
        );
        assert!(plan.is_done(), "{name}: {plan:#?}");
        // Made anew and brought there, they are the same objects.
        let [kind, made] = main_object(&canary);
        let there = world.get(kind, made).expect("it is there").clone();
        let given: Vec<Value> = items
            .iter()
            .filter(|item| item["kind"] != kind || item["metadata"]["name"] != made)
            .cloned()
            .collect();
        let mut anew = World::new("{}", &given);
        for wish in [Wish::Kept, Wish::Split(&shares, Some(&cookies))] {
            let plan = router.plan(&subject, &anew.observed, &wish);
            let _told = anew.perform(plan);
        }
        let mut now = anew.get(kind, made).expect("it was made").clone();
        for server in ["uid", "generation", "resourceVersion", "namespace"] {
            now["metadata"][server] = there["metadata"][server].clone();
        }
        now["status"] = there["status"].clone();
        if there.get("status").is_none() {
            now.as_object_mut().expect("an object").remove("status");
        }
        assert_eq!(bare(&now), bare(&there), "{name}");
        seen += 1;
    }
    assert!(seen > 15, "{seen}");
}

fn bare(object: &Value) -> Value {
    let mut object = object.clone();
    let metadata = object["metadata"].as_object_mut().expect("metadata");
    metadata.retain(|_, value| !value.is_null());
    object
}

/// Kind and name of the object with the weights.
fn main_object(canary: &Canary) -> [&'static str; 2] {
    match canary.spec.provider.as_str() {
        "istio" => ["VirtualService", "app"],
        "nginx" => ["Ingress", "app-canary"],
        _ => ["HTTPRoute", "app"],
    }
}

#[test]
fn every_weight_that_the_reference_wrote_is_the_one_that_we_write() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/canary-traces");
    let mut seen = 0;
    for file in std::fs::read_dir(folder).expect("the folder is there") {
        let text = std::fs::read_to_string(file.expect("readable").path()).expect("readable");
        let whole: Value = serde_json::from_str(&text).expect("JSON");
        let canary = Canary::from_json(whole["canary"].clone()).0;
        let router = canary_router(&canary.spec.provider, &Settings::default());
        let router = router.expect("known").expect("it has objects");
        let subject = RoutedCanary {
            canary: &canary,
            label: "app",
        };
        let given = whole["given"].as_array().expect("a list");
        let mut world = World::new("{}", given);
        let plan = router.plan(&subject, &world.observed, &Wish::Kept);
        assert_eq!(plan.errors, []);
        let _told = world.perform(plan);
        let [kind, name] = main_object(&canary);
        for (index, step) in whole["steps"]
            .as_array()
            .expect("a list")
            .iter()
            .enumerate()
        {
            if index > 0 {
                let number = |field: &str| {
                    i32::try_from(step[field].as_i64().unwrap_or(0)).expect("a percentage")
                };
                let shares = Shares {
                    primary: number("primary"),
                    canary: number("canary"),
                    mirrored: step["mirrored"] == true,
                };
                let cookies: Cookies =
                    serde_json::from_value(step["cookies"].clone()).expect("cookies");
                let wish = Wish::Split(&shares, Some(&cookies));
                let plan = router.plan(&subject, &world.observed, &wish);
                assert_eq!(plan.errors, []);
                let _told = world.perform(plan);
                let read = router.read(&subject, &world.observed).expect("readable");
                assert_eq!(read, shares);
            }
            let now = world.get(kind, name).expect("it was made");
            assert_eq!(now["spec"], step["spec"], "{whole:#} {index}");
            let annotations = now["metadata"]["annotations"].clone();
            assert_eq!(json!(annotations), step["annotations"], "{index}");
            seen += 1;
        }
    }
    assert!(seen > 25, "{seen}");
}
