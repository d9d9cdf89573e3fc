//! A small world: objects in memory, changed as a plan says.

use std::collections::BTreeMap;
use std::sync::Arc;

use crossfade_api::split::{Destination, HeaderRoute, MirrorRoute, Split};
use crossfade_api::steps::{HeaderMatch, RouteMatch, StringMatch};
use crossfade_api::traffic_routing::TrafficRouting;
use crossfade_api::words::{PodHash, Weight};
use crossfade_traffic::{
    Kind, Need, Note, ObjectRef, Observed, Plan, Pods, Router, Settings, Subject, Write, routers,
};
use serde_json::{Value, json};

pub(crate) struct World {
    pub(crate) routing: TrafficRouting,
    pub(crate) settings: Settings,
    pub(crate) observed: Observed,
    /// `canaryService` and `stableService` of the strategy.
    pub(crate) services: (&'static str, &'static str),
    /// Name of the Rollout.
    pub(crate) name: &'static str,
    pub(crate) former_additional: Vec<String>,
    /// How often anything was written.
    pub(crate) writes: usize,
    /// What was told of Canaries.
    pub(crate) notes: Vec<String>,
}

impl World {
    /// A world with this `trafficRouting` and these objects, both as YAML.
    pub(crate) fn new(routing: &str, objects: &[Value]) -> Self {
        let routing: Value = serde_saphyr::from_str(routing).expect("the routing is YAML");
        let mut world = Self {
            routing: serde_json::from_value(routing).expect("the routing is one"),
            settings: Settings::default(),
            observed: Observed::default(),
            services: ("shop-canary", "shop-stable"),
            name: "shop",
            former_additional: Vec::new(),
            writes: 0,
            notes: Vec::new(),
        };
        for object in objects {
            world.put(object.clone());
        }
        world
    }

    pub(crate) fn put(&mut self, object: Value) {
        let (group, version) = text(&object, "/apiVersion")
            .split_once('/')
            .unwrap_or(("", text(&object, "/apiVersion")));
        let kind = text(&object, "/kind").to_owned();
        let plural = match kind.as_str() {
            "Ingress" => "ingresses".to_owned(),
            kind => kind.to_lowercase() + "s",
        };
        let namespace = match text(&object, "/metadata/namespace") {
            "" => "web",
            namespace => namespace,
        };
        let reference = ObjectRef {
            kind: Kind {
                group: group.to_owned(),
                version: version.to_owned(),
                kind,
                plural,
            },
            namespace: namespace.to_owned(),
            name: text(&object, "/metadata/name").to_owned(),
        };
        let mut object = object;
        object["metadata"]["resourceVersion"] = json!("1");
        self.observed.objects.insert(reference, Arc::new(object));
    }

    pub(crate) fn router(&self) -> Box<dyn Router> {
        let mut routers = routers(&self.routing, &self.settings);
        assert_eq!(routers.len(), 1);
        routers.remove(0)
    }

    pub(crate) fn plan(&self, split: &Split) -> Plan {
        let router = self.router();
        let subject = Subject {
            namespace: "web",
            name: self.name,
            uid: "uid-of-shop",
            replicas: 10,
            canary_service: self.services.0,
            stable_service: self.services.1,
            former_additional: &self.former_additional,
        };
        let plan = router.plan(&subject, &self.observed, split);
        let needs = router.needs(&subject, split);
        for change in &plan.changes {
            let selected = |need: &Need| match need {
                Need::Object(object) => *object == change.object,
                Need::Selected(kind, namespace, _) => {
                    *kind == change.object.kind && *namespace == change.object.namespace
                }
            };
            assert!(
                needs.iter().any(selected),
                "{} was not asked for",
                change.object
            );
        }
        plan
    }

    /// Carries out what the router plans, and then finds it content.
    pub(crate) fn carry(&mut self, split: &Split) -> Vec<Note> {
        let plan = self.plan(split);
        assert_eq!(plan.errors, []);
        assert_eq!(plan.waits, None);
        let notes = self.perform(plan);
        self.former_additional = split
            .additional
            .iter()
            .map(|side| side.service.clone())
            .collect();
        let after = self.plan(split);
        assert!(after.is_done(), "{after:#?}");
        notes
    }

    pub(crate) fn perform(&mut self, plan: Plan) -> Vec<Note> {
        let mut notes = Vec::new();
        for change in plan.changes {
            self.writes += 1;
            match change.write {
                Write::Create(object) => {
                    assert!(!self.observed.objects.contains_key(&change.object));
                    self.put(*object);
                }
                Write::Patch(operations) => {
                    let object = self.observed.objects.get_mut(&change.object);
                    let object = Arc::make_mut(object.expect("it is there"));
                    let version = &object["metadata"]["resourceVersion"];
                    assert_eq!(operations[0]["path"], "/metadata/resourceVersion");
                    assert_eq!(operations[0]["value"], *version, "the precondition");
                    for operation in operations.as_array().expect("a list") {
                        apply(object, operation);
                    }
                    let version: u32 = text(object, "/metadata/resourceVersion")
                        .parse()
                        .expect("a number");
                    object["metadata"]["resourceVersion"] = json!((version + 1).to_string());
                }
            }
            notes.extend(change.notes);
        }
        notes
    }

    /// The object of this kind and name.
    pub(crate) fn get(&self, kind: &str, name: &str) -> Option<&Value> {
        let mut objects = self.observed.objects.iter();
        objects
            .find(|(object, _)| object.kind.kind == kind && object.name == name)
            .map(|(_, value)| value.as_ref())
    }

    pub(crate) fn pods(&mut self, hash: &str, available: i32) {
        self.observed
            .pods
            .insert(PodHash::from(hash), Pods { available });
    }
}

/// The text at a pointer, empty where there is none.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// One operation of a JSON patch, as RFC 6902 has it.
fn apply(object: &mut Value, operation: &Value) {
    let (parent, key) = text(operation, "/path").rsplit_once('/').expect("a path");
    let key = key.replace("~1", "/").replace("~0", "~");
    let parent = object.pointer_mut(parent).expect("the parent is there");
    let value = || operation["value"].clone();
    match (parent, text(operation, "/op")) {
        (Value::Object(map), "add") => {
            map.insert(key, value());
        }
        (Value::Object(map), "replace") => {
            map.insert(key, value()).expect("it was there");
        }
        (Value::Object(map), "remove") => {
            map.remove(&key).expect("it was there");
        }
        (Value::Array(list), op) => {
            let index: usize = key.parse().expect("a position");
            match op {
                "add" => list.insert(index, value()),
                "replace" => list[index] = value(),
                _ => drop(list.remove(index)),
            }
        }
        (parent, op) => unreachable!("{op} in {parent}"),
    }
}

/// A document of YAML.
pub(crate) fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).expect("YAML")
}

/// A split of 100 between the two Services.
pub(crate) fn split(weight: i32) -> Split {
    out_of(100, weight)
}

pub(crate) fn out_of(max: i32, weight: i32) -> Split {
    let side = |weight, service: &str, hash: &str| Destination {
        weight: Weight(weight),
        service: service.to_owned(),
        hash: PodHash::from(hash),
    };
    Split {
        max: Weight(max),
        canary: side(weight, "shop-canary", "new"),
        stable: side(max - weight, "shop-stable", "old"),
        ..Split::default()
    }
}

/// The same split with an experiment's share.
pub(crate) fn with_experiment(mut split: Split, service: &str, weight: i32) -> Split {
    split.additional.push(Destination {
        weight: Weight(weight),
        service: service.to_owned(),
        hash: PodHash::from(format!("hash-of-{service}").as_str()),
    });
    split.stable.weight.0 -= weight;
    split
}

pub(crate) fn exact(text: &str) -> StringMatch {
    StringMatch {
        exact: text.to_owned(),
        ..StringMatch::default()
    }
}

pub(crate) fn prefix(text: &str) -> StringMatch {
    StringMatch {
        prefix: text.to_owned(),
        ..StringMatch::default()
    }
}

pub(crate) fn header_route(name: &str, headers: &[(&str, StringMatch)]) -> HeaderRoute {
    HeaderRoute {
        name: name.to_owned(),
        matches: headers
            .iter()
            .map(|(name, value)| HeaderMatch {
                header_name: (*name).to_owned(),
                header_value: Some(value.clone()),
            })
            .collect(),
    }
}

pub(crate) fn mirror_route(name: &str, percentage: i32) -> MirrorRoute {
    MirrorRoute {
        name: name.to_owned(),
        percentage,
        matches: vec![RouteMatch {
            method: Some(exact("GET")),
            path: Some(prefix("/api")),
            headers: BTreeMap::new(),
        }],
    }
}

/// The names of managed routes.
pub(crate) fn managed(mut split: Split, names: &[&str]) -> Split {
    split.managed = names.iter().map(|name| (*name).to_owned()).collect();
    split
}
