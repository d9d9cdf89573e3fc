//! The objects of a fleet, as somebody would apply them.

use std::net::SocketAddr;

use serde_json::{Value, json};

/// How a Rollout of a fleet releases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Two weights by pods, an inline analysis of three measurements between them, and a pause.
    Plain,
    /// The same with a Job instead of a server to ask.
    Job,
    /// Half of the traffic by an ingress, while an analysis goes on until it is bad.
    Judged,
    /// Half of the traffic by an ingress, then an inline analysis.
    Routed,
}

impl Kind {
    fn is_routed(self) -> bool {
        matches!(self, Self::Judged | Self::Routed)
    }
}

/// The path that the analysis of a Rollout asks for.
pub(crate) fn path(name: &str) -> String {
    format!("/{name}")
}

/// The analysis templates that all Rollouts of a namespace share.
pub(crate) fn templates(answers: SocketAddr) -> Vec<Value> {
    let template = |name: &str, metric: Value| {
        json!({
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "AnalysisTemplate",
            "metadata": {"name": name},
            "spec": {"args": [{"name": "who"}], "metrics": [metric]},
        })
    };
    let web = json!({"web": {"url": format!("http://{answers}/{{{{args.who}}}}"), "jsonPath": "{$.value}"}});
    let metric = |count: u32| {
        json!({
            "name": "quality", "interval": "1s", "count": count,
            "successCondition": "result >= 0.95", "provider": web,
        })
    };
    let job = json!({"job": {"spec": {
        "backoffLimit": 0,
        "template": {"spec": {
            "restartPolicy": "Never",
            "containers": [{"name": "main", "image": "none", "command": ["true"]}],
        }},
    }}});
    vec![
        template("three", metric(3)),
        template("always", metric(100_000)),
        template("job", json!({"name": "job", "provider": job})),
    ]
}

/// The image of a version.
pub(crate) fn image(version: u32) -> String {
    format!("shop:{version}")
}

/// A Rollout with what it names, what is named first.
pub(crate) fn rollout(name: &str, kind: Kind, replicas: u32, version: u32) -> Vec<Value> {
    let analysis = |template: &str| json!({"analysis": {"templates": [{"templateName": template}], "args": [{"name": "who", "value": name}]}});
    let weight = |weight: u32| json!({"setWeight": weight});
    let pause = json!({"pause": {"duration": "2s"}});
    let (stable, canary) = (format!("{name}-stable"), format!("{name}-canary"));
    let steps = match kind {
        Kind::Plain => vec![weight(20), analysis("three"), weight(60), pause],
        Kind::Job => vec![weight(20), analysis("job"), weight(60), pause],
        Kind::Judged => vec![weight(50), analysis("always")],
        Kind::Routed => vec![weight(50), analysis("three"), pause],
    };
    let mut strategy = json!({"steps": steps});
    let mut objects = Vec::new();
    if kind.is_routed() {
        strategy["stableService"] = json!(stable);
        strategy["canaryService"] = json!(canary);
        strategy["trafficRouting"] = json!({"nginx": {"stableIngress": name}});
        strategy["scaleDownDelaySeconds"] = json!(1);
        for service in [&stable, &canary] {
            objects.push(json!({
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": service},
                "spec": {"selector": {"app": name}, "ports": [{"port": 80}]},
            }));
        }
        let backend = json!({"service": {"name": stable, "port": {"number": 80}}});
        objects.push(json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": {"name": name},
            "spec": {
                "ingressClassName": "nginx",
                "rules": [{"http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}],
            },
        }));
    }
    objects.push(json!({
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Rollout",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "main", "image": image(version)}]},
            },
            "strategy": {"canary": strategy},
        },
    }));
    objects
}

/// A ReplicaSet without pods, as a controller has made it for a version of a Rollout.
pub(crate) fn resting_set(rollout: &str, uid: &str, version: u32) -> Value {
    let hash = format!("hash-{version}");
    let labels = json!({"app": rollout, "rollouts-pod-template-hash": hash});
    json!({
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": format!("{rollout}-{hash}"),
            "labels": labels,
            "annotations": {
                "rollout.argoproj.io/revision": version.to_string(),
                "rollout.argoproj.io/desired-replicas": "0",
            },
            "ownerReferences": [{
                "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "name": rollout, "uid": uid,
                "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "main", "image": image(version)}]},
            },
        },
    })
}
