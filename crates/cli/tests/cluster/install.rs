//! The ways to install the controller: by kustomize, by Helm and by the binary itself.

use std::fs;
use std::path::{Path, PathBuf};

use crossfade_test_cluster::kubelet::Pace;
use crossfade_test_cluster::{Cluster, Namespace, Trouble};
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;

use crate::Stage;

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy")
}

fn kinds(manifests: &str) -> Vec<(String, String)> {
    let documents: Vec<serde_json::Value> =
        serde_saphyr::from_multiple(manifests).expect("manifests are YAML");
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let mut kinds: Vec<_> = documents
        .iter()
        .map(|one| (text(&one["kind"]), text(&one["metadata"]["name"])))
        .collect();
    kinds.sort();
    kinds
}

/// Files whose names end so in a folder of what is deployed.
fn files(folder: &str) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(deploy().join(folder))
        .expect("a folder")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    names
}

#[test]
fn every_way_to_install_brings_every_definition_of_what_runs() {
    let definitions = files("crds");
    assert_eq!(files("helm/crossfade/crds"), definitions);
    let kustomized = crossfade_test_render::kustomize(&deploy()).expect("it renders");
    let ours = std::process::Command::new(env!("CARGO_BIN_EXE_crossfade"))
        .args(["install", "--print"])
        .output()
        .expect("it runs");
    let ours = String::from_utf8_lossy(&ours.stdout).into_owned();
    assert_eq!(kinds(&kustomized), kinds(&ours));
    let crds = std::process::Command::new(env!("CARGO_BIN_EXE_crossfade"))
        .arg("crds")
        .output()
        .expect("it runs");
    assert_eq!(
        kinds(&String::from_utf8_lossy(&crds.stdout)).len(),
        definitions.len()
    );
    for (kind, name) in kinds(&ours) {
        if kind == "CustomResourceDefinition" {
            let plural = name.split('.').next().unwrap_or_default();
            assert!(definitions.contains(&format!("{plural}.yaml")), "{name}");
        }
    }
}

/// Client-side apply writes the whole object into an annotation, which may hold 256 KiB.
#[test]
fn every_definition_is_slim_enough_for_client_side_apply() {
    for name in files("crds") {
        let text = fs::read_to_string(deploy().join("crds").join(&name)).expect("readable");
        let object: serde_json::Value = serde_saphyr::from_str(&text).expect("YAML");
        let size = object.to_string().len();
        assert!(size < 256 * 1024, "{name}: {size} bytes");
    }
}

#[tokio::test]
async fn what_kustomize_makes_runs_under_the_strictest_rules_for_pods() -> Result<(), Trouble> {
    let stage = Stage::new().await?;
    let manifests = crossfade_test_render::kustomize(&deploy()).expect("it renders");
    let file = stage.file("kustomized.yaml", &manifests);
    stage.say(&["apply", "--force", "-f", &file]).await;
    pods_are_admitted(&stage, "crossfade", "crossfade").await;
    let gates = crossfade_test_render::kustomize(&deploy().join("gates")).expect("it renders");
    let file = stage.file("gates.yaml", &gates);
    stage.say(&["apply", "--force", "-f", &file]).await;
    pods_are_admitted(&stage, "crossfade", "flagger-loadtester").await;
    Ok(())
}

#[tokio::test]
async fn what_helm_makes_is_admitted_for_a_cluster_and_for_some_namespaces() -> Result<(), Trouble>
{
    let stage = Stage::new().await?;
    let chart = deploy().join("helm/crossfade");
    let here = format!("namespaces={{{}}}", stage.namespace.name());
    for values in [
        vec![],
        vec!["gates.enabled=true"],
        vec![
            here.as_str(),
            "replicas=1",
            "instanceId=mine",
            "gates.enabled=true",
            "gates.auth=off",
            "gates.tasks=none",
        ],
    ] {
        let manifests = crossfade_test_render::helm(&chart, &values).expect("it renders");
        let space = "apiVersion: v1\nkind: Namespace\nmetadata: {name: crossfade}\n---\n";
        let file = stage.file("chart.yaml", &format!("{space}{manifests}"));
        stage
            .say(&["apply", "--force", "--dry-run=server", "-f", &file])
            .await;
    }
    Ok(())
}

#[tokio::test]
async fn what_helm_makes_runs_under_the_strictest_rules_for_pods() -> Result<(), Trouble> {
    let stage = Stage::new().await?;
    let chart = deploy().join("helm/crossfade");
    let manifests = crossfade_test_render::helm(&chart, &["gates.enabled=true"]);
    let manifests = manifests.expect("it renders");
    let space = format!("helm-{}", stage.namespace.name());
    let mut made = vec![serde_json::json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": space, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    })];
    let documents: Vec<serde_json::Value> =
        serde_saphyr::from_multiple(&manifests).expect("manifests are YAML");
    // What belongs to no namespace is another test's too.
    for mut document in documents {
        if let "Deployment" | "Service" | "ServiceAccount" | "PodDisruptionBudget" =
            document["kind"].as_str().unwrap_or_default()
        {
            document["metadata"]["namespace"] = serde_json::json!(space);
            made.push(document);
        }
    }
    let made: Vec<String> = made.iter().map(serde_json::Value::to_string).collect();
    let file = stage.file("made.yaml", &made.join("\n---\n"));
    stage.say(&["apply", "-f", &file]).await;
    for name in ["crossfade", "flagger-loadtester"] {
        pods_are_admitted(&stage, &space, name).await;
    }
    Ok(())
}

#[test]
fn the_gates_of_chart_and_kustomization_have_the_same_rights_and_the_same_pod() {
    let read = |text: &str| -> Vec<serde_json::Value> {
        serde_saphyr::from_multiple(text).expect("manifests are YAML")
    };
    let chart = deploy().join("helm/crossfade");
    let values = ["gates.enabled=true", "gates.tasks=none"];
    let charted = read(&crossfade_test_render::helm(&chart, &values).expect("it renders"));
    let gates = deploy().join("gates");
    let kustomized = read(&crossfade_test_render::kustomize(&gates).expect("it renders"));
    let of = |documents: &[serde_json::Value], kind: &str, name: &str| {
        let mut found = documents
            .iter()
            .filter(|one| one["kind"] == kind && one["metadata"]["name"] == name);
        found
            .next()
            .cloned()
            .unwrap_or_else(|| panic!("no {kind} {name}"))
    };
    let role = |documents: &[serde_json::Value], name: &str| {
        of(documents, "ClusterRole", name)["rules"].clone()
    };
    assert_eq!(
        role(&charted, "crossfade-gates"),
        role(&kustomized, "flagger-loadtester")
    );
    let [one, other] = [&charted, &kustomized].map(|documents| {
        let mut pod = of(documents, "Deployment", "flagger-loadtester");
        let mut pod = pod["spec"]["template"]["spec"].take();
        pod["containers"][0]["image"].take();
        let arguments = pod["containers"][0]["args"]
            .as_array_mut()
            .expect("arguments");
        arguments.sort_by_key(ToString::to_string);
        // Where it may write is a matter of its rights; the chart says it for those of some namespaces, too.
        arguments.retain(|argument| argument != "--gate-store=kubernetes");
        pod["containers"][0]
            .as_object_mut()
            .expect("a container")
            .remove("imagePullPolicy");
        pod
    });
    assert_eq!(one, other);
}

#[tokio::test]
async fn install_and_uninstall_leave_a_cluster_as_it_was() -> Result<(), Trouble> {
    // Roles belong to no namespace: others must not miss them.
    let (cluster, _plane) = Cluster::own().await?;
    let stage = Stage::on(Namespace::on(cluster, Pace::default()).await?).await?;
    let image = "registry.example.com/crossfade:1";
    let install = [
        "install",
        "--force",
        "-n",
        "mine",
        "--image",
        image,
        "--replicas",
        "1",
    ];
    let said = stage.say(&install).await;
    assert!(said.contains("deployment/crossfade created"), "{said}");
    assert!(
        said.contains("customresourcedefinition/rollouts.argoproj.io unchanged"),
        "{said}"
    );
    pods_are_admitted(&stage, "mine", "crossfade").await;
    let deployments: Api<Deployment> = Api::namespaced(stage.client().await, "mine");
    let made = deployments.get("crossfade").await.expect("a Deployment");
    let text = serde_json::to_string(&made).expect("JSON");
    assert!(text.contains(image), "{text}");
    let again = stage.say(&install).await;
    assert!(
        again.contains("serviceaccount/crossfade unchanged"),
        "{again}"
    );

    let refused = stage.run(&["uninstall", "-n", "mine"]).await;
    assert_eq!(
        refused.code,
        Some(6),
        "nobody can be asked: {}",
        refused.err
    );
    let removed = stage.say(&["uninstall", "-n", "mine", "--yes"]).await;
    assert!(
        removed.contains("clusterrole/crossfade deleted"),
        "{removed}"
    );
    assert!(
        deployments
            .get_opt("crossfade")
            .await
            .expect("an answer")
            .is_none()
    );
    assert_eq!(
        stage.run(&["list", "rollouts"]).await.code,
        Some(0),
        "kinds stay"
    );
    let none = stage.say(&["uninstall", "-n", "mine", "--yes"]).await;
    assert!(
        none.contains("clusterrole/crossfade was not there"),
        "{none}"
    );

    // Somebody else's Canary stays, and what serves with it; without it nothing of ours does.
    let canary = "apiVersion: flagger.app/v1beta1\nkind: Canary\nmetadata: {name: theirs}\nspec: {targetRef: {apiVersion: apps/v1, kind: Deployment, name: theirs}, service: {port: 80}, analysis: {interval: 1m, threshold: 5, stepWeight: 10}}\n";
    let file = stage.file("canary.yaml", canary);
    stage.say(&["apply", "-f", &file]).await;
    let uninstall = ["uninstall", "--crds", "-n", "mine", "--yes"];
    let removed = stage.say(&uninstall).await;
    for line in [
        "customresourcedefinition/canaries.flagger.app stays: there are 1 canaries, and with it they would go",
        "customresourcedefinition/metrictemplates.flagger.app deleted",
        "customresourcedefinition/rollouts.argoproj.io deleted",
    ] {
        assert!(removed.contains(line), "{line}: {removed}");
    }
    stage.say(&["delete", "canary/theirs", "--yes"]).await;
    let removed = stage.say(&uninstall).await;
    let line = "customresourcedefinition/canaries.flagger.app deleted";
    assert!(removed.contains(line), "{removed}");
    Ok(())
}

#[tokio::test]
async fn definitions_that_others_have_installed_or_use_stay() -> Result<(), Trouble> {
    let (cluster, _plane) = Cluster::own().await?;
    let stage = Stage::on(Namespace::on(cluster, Pace::default()).await?).await?;
    let file = stage.file("shop.yaml", crate::SHOP);
    stage.say(&["apply", "-f", &file]).await;
    let theirs = fs::read_to_string(deploy().join("crds/experiments.yaml")).expect("readable");
    stage.namespace.apply(&theirs).await?;
    let removed = stage.say(&["uninstall", "--crds", "--yes"]).await;
    for line in [
        "customresourcedefinition/rollouts.argoproj.io stays: there are 1 rollouts, and with it they would go",
        "has installed it, not crossfade alone",
        "customresourcedefinition/analysisruns.argoproj.io deleted",
    ] {
        assert!(removed.contains(line), "{line}: {removed}");
    }
    // The group of both is served anew when others of it go.
    stage
        .until("what stays is served", async || {
            let shop = stage.run(&["get", "rollout", "shop"]).await.code;
            let experiments = stage.run(&["list", "experiments"]).await.code;
            (shop, experiments) == (Some(0), Some(0))
        })
        .await;
    Ok(())
}

/// The steps of the Dockerfile: instruction and the rest, with continued lines joined.
fn steps() -> Vec<(String, String)> {
    let text = fs::read_to_string(deploy().join("Dockerfile")).expect("readable");
    let text = text.replace("\\\n", "");
    let lines = text.lines().map(str::trim);
    let steps = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let step = |line: &str| {
        let (word, rest) = line.split_once(' ').expect("an instruction");
        (word.to_owned(), rest.trim().to_owned())
    };
    steps.map(step).collect()
}

#[test]
fn the_image_is_made_of_plain_steps_and_runs_as_nobody() {
    let steps = steps();
    let stages: Vec<_> = steps.split(|(word, _)| word == "FROM").skip(1).collect();
    let [build, image] = stages.as_slice() else {
        panic!("one stage builds, one is shipped: {steps:?}");
    };
    let bases: Vec<&str> = steps
        .iter()
        .filter(|(word, _)| word == "FROM")
        .map(|(_, base)| base.as_str())
        .collect();
    // The compiler is the one that the workspace names, and both stages have the same C library.
    let manifest = fs::read_to_string(deploy().join("../Cargo.toml")).expect("readable");
    let version = manifest
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = "))
        .expect("a version")
        .trim_matches('"');
    assert_eq!(
        bases,
        [
            &format!("rust:{version}-bookworm AS build"),
            "debian:bookworm-slim"
        ]
    );
    let value = |stage: &[(String, String)], word: &str| -> Vec<String> {
        let found = stage.iter().filter(|(known, _)| known == word);
        found.map(|(_, rest)| rest.clone()).collect()
    };
    assert_eq!(
        value(build, "RUN"),
        ["cargo build --release --locked -p crossfade"]
    );
    assert_eq!(
        value(image, "COPY"),
        ["--from=build /src/target/release/crossfade /usr/local/bin/crossfade"],
        "nothing of the sources is shipped"
    );
    let known = ["RUN", "COPY", "USER", "ENTRYPOINT", "CMD"];
    for (word, rest) in *image {
        assert!(known.contains(&word.as_str()), "{word} {rest}");
    }
    // Who runs it is the one that the pods ask for, by number, as `runAsNonRoot` wants it; and last, so that no step needs more.
    let controller = fs::read_to_string(deploy().join("controller/controller.yaml"));
    let controller: Vec<serde_json::Value> =
        serde_saphyr::from_multiple(&controller.expect("readable")).expect("YAML");
    let context = &controller[0]["spec"]["template"]["spec"]["securityContext"];
    let user = format!("{}:{}", context["runAsUser"], context["runAsGroup"]);
    assert_eq!(value(image, "USER"), [user]);
    let at = |wanted: &str| image.iter().rposition(|(word, _)| word == wanted);
    assert!(at("USER") > at("RUN"));
    // What is started is there, and knows its command.
    assert_eq!(
        value(image, "ENTRYPOINT"),
        [r#"["/usr/local/bin/crossfade"]"#]
    );
    let command: Vec<String> =
        serde_json::from_str(&value(image, "CMD").concat()).expect("a list of words");
    let help = std::process::Command::new(env!("CARGO_BIN_EXE_crossfade"))
        .args(command)
        .arg("--help")
        .output()
        .expect("it runs");
    assert!(help.status.success());
    let ignored = fs::read_to_string(deploy().join("../.dockerignore")).expect("readable");
    assert!(ignored.lines().any(|line| line == "target"), "{ignored}");
}

/// The controllers of Kubernetes have made its pods: the admission of the namespace has nothing against them.
async fn pods_are_admitted(stage: &Stage, namespace: &str, name: &str) {
    let deployments: Api<Deployment> = Api::namespaced(stage.client().await, namespace);
    stage
        .until("the pods are made", async || {
            let found = deployments.get(name).await.expect("a Deployment");
            let wanted = found.spec.and_then(|spec| spec.replicas);
            found.status.and_then(|status| status.replicas) == wanted
        })
        .await;
}
