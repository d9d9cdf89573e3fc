//! Manifests: how texts become objects, and what is said about texts that do not.

use std::fs;
use std::path::Path;

use crossfade_api::manifest::{Position, read, unknown_kind};
use crossfade_api::{AnalysisTemplate, Resource, Rollout, validate};
use serde_json::{Value, json};

fn error(text: &str) -> String {
    read(text).expect_err("it is no manifest").to_string()
}

fn object(yaml: &str) -> Value {
    let documents =
        read(&format!("apiVersion: v1\nkind: ConfigMap\n{yaml}")).expect("it is a manifest");
    documents[0].object.clone()
}

#[test]
fn a_file_holds_several_documents_and_lists() {
    let text = "\
# a comment
---
apiVersion: v1
kind: Service
metadata: {name: a}
---
---
{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [
\t{\"apiVersion\": \"v1\", \"kind\": \"Secret\", \"metadata\": {\"name\": \"b\"}}
]}
";
    let documents = read(text).expect("it is a manifest");
    let kinds: Vec<_> = documents
        .iter()
        .map(|document| (document.kind(), document.position("")))
        .collect();
    assert_eq!(kinds[0], ("Service", Some(Position { line: 3, column: 1 })));
    assert_eq!(kinds[1].0, "Secret");
    assert_eq!(documents[1].object["metadata"]["name"], "b");
    assert_eq!(kinds.len(), 2);
    assert_eq!(read("").map(|documents| documents.len()), Ok(0));
}

#[test]
fn faults_have_a_line_and_a_column() {
    let table = [
        ("a: 1\nb: [1, 2\n", "line "),
        (
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: a\n name: b\n",
            "line 5, column ",
        ),
        (
            "apiVersion: v1\nkind: Service\n\tname: a\n",
            "line 2, column ",
        ),
        (
            "apiVersion: v1\nkind: Service\nkind: Pod\n",
            "line 3, column 1: ",
        ),
        (
            "- 1\n",
            "line 1, column 1: not an object; every document of a manifest is a map",
        ),
        (
            "apiVersion: v1\n",
            "line 1, column 1: kind is missing; say what the object is",
        ),
        (
            "kind: Service\n",
            "line 1, column 1: apiVersion is missing, for example",
        ),
        (
            "apiVersion: v1\nkind: Service\nx: .nan\n",
            "line 3, column ",
        ),
        (
            "apiVersion: v1\nkind: Service\nx: *nobody\n",
            "line 3, column ",
        ),
    ];
    for (text, start) in table {
        let error = error(text);
        assert!(error.starts_with(start), "{text:?}: {error}");
        assert!(!error.contains(" at line "), "{error}");
    }
}

#[test]
fn values_are_read_as_kubernetes_reads_them() {
    let object = object(
        "a: yes\nb: 'yes'\nc: 0644\nd: 1e3\ne: 2024-01-31T10:00:00Z\nf: ~\ng: |\n  two\n  lines\n1: one\nh: 0x10\ni: 12345678901234\n",
    );
    assert_eq!(
        object,
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "a": true, "b": "yes", "c": 420, "d": 1000.0, "e": "2024-01-31T10:00:00Z", "f": null,
            "g": "two\nlines\n", "1": "one", "h": 16, "i": 12_345_678_901_234_i64,
        })
    );
}

#[test]
fn anchors_and_merge_keys_are_followed() {
    let object = object("base: &base {a: 1, b: 2}\nother:\n  <<: *base\n  b: 3\nlist: [*base]\n");
    assert_eq!(object["other"], json!({"a": 1, "b": 3}));
    assert_eq!(object["list"], json!([{"a": 1, "b": 2}]));
}

#[test]
fn bombs_end_in_an_error_and_not_in_a_crash() {
    let mut bomb = "apiVersion: v1\nkind: X\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let previous = format!("*a{}", level - 1);
        bomb.push_str(&format!(
            "a{level}: &a{level} [{}]\n",
            vec![previous; 10].join(", ")
        ));
    }
    assert!(read(&bomb).is_err());
    for text in [
        "[".repeat(100_000),
        "{a: ".repeat(100_000),
        "- ".repeat(100_000),
        "? ".repeat(100_000),
    ] {
        assert!(read(&text).is_err());
    }
    let mut nested = String::new();
    for depth in 0..5000 {
        nested.push_str(&format!("{}a:\n", " ".repeat(depth)));
    }
    assert!(read(&format!("apiVersion: v1\nkind: X\n{nested}")).is_err());
    assert!(error(&" ".repeat(17 * 1024 * 1024)).contains("at most 16777216 are read"));
}

#[test]
fn unknown_fields_are_told_with_the_nearest_name_and_their_place() {
    let text = "\
apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata:
  name: web
  lables: {app: web}
spec:
  replica: 3
  strategy:
    canary:
      steps:
        - setWeigth: 20
        - pause: {durration: 5m}
      maxSurge: 1
      trafficRouting:
        plugins: {org/any: {whatever: 1}}
  template:
    metadata:
      creationTimestamp: null
    spec:
      containers:
        - name: web
          imagePullPolcy: Always
          resources: {limits: {example.com/gpu: 1, cpu: 0.5}}
      volumes:
        - {name: v, somethingNew: {}}
  nothingLikeIt: 1
";
    let document = read(text).expect("it is a manifest").remove(0);
    let findings = document.findings();
    assert_eq!((findings.wrong, findings.missing), (vec![], vec![]));
    let told: Vec<_> = findings
        .unknown
        .iter()
        .map(|field| {
            format!(
                "{}: {field}",
                document
                    .position(&field.path)
                    .map_or(0, |position| position.line)
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            "5: unknown field \"metadata.lables\"; did you mean \"labels\"?",
            "26: unknown field \"spec.nothingLikeIt\"",
            "7: unknown field \"spec.replica\"; did you mean \"replicas\"?",
            "11: unknown field \"spec.strategy.canary.steps[0].setWeigth\"; did you mean \"setWeight\"?",
            "12: unknown field \"spec.strategy.canary.steps[1].pause.durration\"; did you mean \"duration\"?",
            "22: unknown field \"spec.template.spec.containers[0].imagePullPolcy\"; did you mean \"imagePullPolicy\"?",
            "25: unknown field \"spec.template.spec.volumes[0].somethingNew\"",
        ]
    );
}

#[test]
fn fields_of_the_wrong_type_and_missing_ones_are_told_with_their_place() {
    let text = "\
apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {name: web}
spec:
  replicas: three
  restartAt: yesterday
  paused: 1
  selector: {matchLabels: {version: 1}}
  minReadySeconds: 3000000000
  strategy:
    blueGreen:
      maxUnavailable: 0.5
    canary:
      steps: oops
";
    let document = read(text).expect("it is a manifest").remove(0);
    let findings = document.findings();
    let told: Vec<_> = findings
        .wrong
        .iter()
        .chain(&findings.missing)
        .map(|error| {
            format!(
                "{}: {error}",
                document
                    .position(&error.path)
                    .map_or(0, |position| position.line)
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            "9: spec.minReadySeconds: Invalid value: 3000000000: must be a 32-bit integer",
            "7: spec.paused: Invalid value: 1: must be true or false",
            "5: spec.replicas: Invalid value: \"three\": must be a 32-bit integer",
            "6: spec.restartAt: Invalid value: \"yesterday\": must be a time such as 2024-01-31T10:00:00Z",
            "8: spec.selector.matchLabels.version: Invalid value: 1: must be a string",
            "12: spec.strategy.blueGreen.maxUnavailable: Invalid value: 0.5: must be an integer or a string",
            "14: spec.strategy.canary.steps: Invalid value: \"oops\": must be a list",
            "11: spec.strategy.blueGreen.activeService: Required value",
        ]
    );
}

#[test]
fn objects_of_kubernetes_are_checked_as_well() {
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: eighty, targetport: 1}]}\n";
    let findings = read(text).expect("it is a manifest")[0].findings();
    assert_eq!(
        findings.wrong[0].to_string(),
        "spec.ports[0].port: Invalid value: \"eighty\": must be a 32-bit integer"
    );
    assert_eq!(
        findings.unknown[0].to_string(),
        "unknown field \"spec.ports[0].targetport\"; did you mean \"targetPort\"?"
    );
    let amount = "apiVersion: v1\nkind: Pod\nspec: {containers: [{name: a, resources: {limits: {cpu: 0.5}}}]}\n";
    assert_eq!(
        read(amount).expect("it is a manifest")[0].findings().wrong,
        []
    );
    let other = read("apiVersion: example.com/v1\nkind: Thing\nspec: {any: 1}\n")
        .expect("it is a manifest");
    assert_eq!(
        other[0].findings(),
        crossfade_api::schema::Findings::default()
    );
}

#[test]
fn an_unknown_kind_is_told_with_the_nearest_one() {
    let known = ["Rollout", "Service", "AnalysisTemplate"];
    let text = |api_version: &str, kind: &str| unknown_kind(api_version, kind, known.into_iter());
    assert_eq!(
        text("argoproj.io/v1alpha1", "Rolout"),
        "unknown kind \"Rolout\" (argoproj.io/v1alpha1); did you mean Rollout?"
    );
    assert_eq!(
        text("argoproj.io/v2", "Rollout"),
        "unknown kind \"Rollout\" (argoproj.io/v2); Rollout exists in another API version"
    );
    assert_eq!(text("x/v1", "Zebra"), "unknown kind \"Zebra\" (x/v1)");
}

fn is_clean(path: &Path) {
    let text = fs::read_to_string(path).expect("the manifest is readable");
    let Ok(documents) = read(&text) else {
        // Some of the files are no objects of their own, but parts to be merged into others.
        assert!(
            !text.contains("\nkind:"),
            "{}: {:?}",
            path.display(),
            read(&text)
        );
        return;
    };
    for document in documents {
        assert_eq!(
            document.findings(),
            crossfade_api::schema::Findings::default(),
            "{}",
            path.display()
        );
        match document.kind() {
            "Rollout" => {
                let (rollout, errors) = Rollout::from_json(document.object.clone());
                assert_eq!(errors, [], "{}", path.display());
                assert_eq!(validate::rollout(&rollout), [], "{}", path.display());
                assert_eq!(validate::warnings(&rollout), [], "{}", path.display());
                assert_eq!(rollout.to_json(), document.object, "{}", path.display());
            }
            "AnalysisTemplate" => {
                let (template, errors) = AnalysisTemplate::from_json(document.object.clone());
                assert_eq!(errors, [], "{}", path.display());
                assert_eq!(
                    validate::unsupported::template(&template.spec),
                    [],
                    "{}",
                    path.display()
                );
                assert_eq!(template.to_json(), document.object, "{}", path.display());
            }
            _ => {}
        }
    }
}

#[test]
fn manifests_that_teams_have_are_read_without_a_warning() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    for folder in [
        here.join("tests/data/manifests"),
        here.join("../../../shared/manifests"),
    ] {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.expect("the folder is readable").path();
            if path
                .extension()
                .is_some_and(|extension| extension == "yaml")
            {
                is_clean(&path);
                count += 1;
            }
        }
    }
    assert!(count >= 5);
}
