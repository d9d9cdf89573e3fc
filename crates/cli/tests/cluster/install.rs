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
    Ok(())
}

#[tokio::test]
async fn what_helm_makes_is_admitted_for_a_cluster_and_for_some_namespaces() -> Result<(), Trouble>
{
    let stage = Stage::new().await?;
    let chart = deploy().join("helm/crossfade");
    let here = format!("namespaces={{{}}}", stage.namespace.name());
    for values in [vec![], vec![here.as_str(), "replicas=1", "instanceId=mine"]] {
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
