//! The command line against a real API server, found as kubectl finds it. No controller runs: what commands write is what counts.

mod faults;
mod install;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use crossfade_test_cluster::{Actor, Namespace, Trouble};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Much longer than any command takes; a test that waits for ever says nothing.
const LONGEST: Duration = Duration::from_mins(2);

const SHOP: &str = r"
apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {name: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: shop}}
  template:
    metadata: {labels: {app: shop}}
    spec: {containers: [{name: shop, image: 'shop:1'}]}
  strategy: {canary: {steps: [{setWeight: 50}, {pause: {}}]}}
";

/// A namespace with Crossfade's kinds, and somebody's kubeconfig that names it.
struct Stage {
    namespace: Namespace,
    folder: TempDir,
}

struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Stage {
    async fn new() -> Result<Self, Trouble> {
        Self::on(Namespace::new().await?).await
    }

    async fn on(namespace: Namespace) -> Result<Self, Trouble> {
        let folder = tempfile::tempdir().expect("a folder");
        let stage = Self { namespace, folder };
        let definitions = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/crds");
        let applied = stage
            .run(&["apply", "--force", "-f", &definitions.display().to_string()])
            .await;
        assert_eq!(applied.code, Some(0), "{}", applied.err);
        // The API server needs a moment to serve what it was taught.
        stage
            .until("rollouts are known", async || {
                stage.run(&["list", "rollouts"]).await.code == Some(0)
            })
            .await;
        Ok(stage)
    }

    /// The kubeconfig with a context for an actor in this namespace.
    fn kubeconfig(&self, actor: Actor) -> PathBuf {
        let text = fs::read_to_string(self.namespace.cluster().kubeconfig()).expect("readable");
        let mut config: Value = serde_saphyr::from_str(&text).expect("a kubeconfig");
        config["current-context"] = json!(actor.name());
        for context in config["contexts"].as_array_mut().expect("contexts") {
            context["context"]["namespace"] = json!(self.namespace.name());
        }
        let path = self.folder.path().join(actor.name());
        fs::write(&path, config.to_string()).expect("writable");
        path
    }

    async fn run(&self, words: &[&str]) -> Said {
        self.run_as(Actor::Admin, words).await
    }

    async fn run_as(&self, actor: Actor, words: &[&str]) -> Said {
        let command = tokio::process::Command::new(env!("CARGO_BIN_EXE_crossfade"))
            .args(words)
            .env("KUBECONFIG", self.kubeconfig(actor))
            .env("HOME", self.folder.path())
            .env_remove("XDG_STATE_HOME")
            .env_remove("CROSSFADE_HOST")
            .current_dir(self.folder.path())
            .kill_on_drop(true)
            .output();
        let ended = tokio::time::timeout(LONGEST, command).await;
        assert!(ended.is_ok(), "{words:?} does not end");
        let output: Output = ended.expect("it ended").expect("it runs");
        Said {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// What a command that goes well says.
    async fn say(&self, words: &[&str]) -> String {
        let said = self.run(words).await;
        assert_eq!(said.code, Some(0), "{words:?}: {}{}", said.out, said.err);
        said.out
    }

    async fn until(&self, what: &str, mut is: impl AsyncFnMut() -> bool) {
        let begun = std::time::Instant::now();
        while !is().await {
            assert!(begun.elapsed() < LONGEST, "{what} does not come true");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        fs::write(&path, text).expect("writable");
        path.display().to_string()
    }

    async fn shop(&self) -> Value {
        let text = self.say(&["get", "rollout", "shop", "-o", "json"]).await;
        let document: Value = serde_json::from_str(&text).expect("JSON");
        document
    }

    /// Plays the controller.
    async fn status(&self, status: Value) {
        let api = self.rollouts().await;
        let patch = kube::api::Patch::Merge(json!({"status": status}));
        api.patch_status("shop", &kube::api::PatchParams::default(), &patch)
            .await
            .expect("a status");
    }

    async fn stored(&self) -> Value {
        let object = self
            .rollouts()
            .await
            .get("shop")
            .await
            .expect("the rollout");
        serde_json::to_value(object).expect("JSON")
    }

    async fn client(&self) -> kube::Client {
        let client = self.namespace.cluster().client(Actor::Admin).await;
        client.expect("a client")
    }

    async fn rollouts(&self) -> kube::Api<kube::api::DynamicObject> {
        let kind = kube::core::GroupVersionKind::gvk("argoproj.io", "v1alpha1", "Rollout");
        let resource = kube::api::ApiResource::from_gvk(&kind);
        kube::Api::namespaced_with(self.client().await, self.namespace.name(), &resource)
    }
}

#[tokio::test]
async fn manifests_are_applied_tried_first_and_told_one_by_one() -> Result<(), Trouble> {
    let stage = Stage::new().await?;
    let file = stage.file("shop.yaml", SHOP);

    let tried = stage.say(&["apply", "--dry-run=server", "-f", &file]).await;
    assert_eq!(tried, "rollout.argoproj.io/shop created (dry run)\n");
    assert_eq!(stage.run(&["get", "rollout", "shop"]).await.code, Some(5));

    let made = stage.say(&["apply", "-f", &file]).await;
    assert_eq!(made, "rollout.argoproj.io/shop created\n");
    let again = stage.say(&["apply", "-f", &file]).await;
    assert_eq!(again, "rollout.argoproj.io/shop unchanged\n");

    let overlay = "apiVersion: argoproj.io/v1alpha1\nkind: Rollout\nmetadata: {name: shop}\nspec: {replicas: 3}\n";
    let overlay = stage.file("overlay.yaml", overlay);
    let changed = stage
        .say(&["apply", "-f", &file, "--overlay", &overlay])
        .await;
    assert_eq!(changed, "rollout.argoproj.io/shop configured\n");
    assert_eq!(stage.stored().await["spec"]["replicas"], 3);

    // A document that the cluster does not take keeps those before it out as well.
    let bad = format!(
        "{}---\nkind: Nothing\napiVersion: v1\nmetadata: {{name: x}}\n",
        SHOP.replace("shop", "late")
    );
    let bad = stage.file("bad.yaml", &bad);
    let said = stage.run(&["apply", "-f", &bad]).await;
    assert_eq!(said.code, Some(6), "{}", said.err);
    assert!(
        said.err.contains("knows no kind Nothing of v1"),
        "{}",
        said.err
    );
    assert_eq!(stage.run(&["get", "rollout", "late"]).await.code, Some(5));
    Ok(())
}

#[tokio::test]
async fn a_release_is_shown_and_moved_by_the_same_commands_as_on_a_host() -> Result<(), Trouble> {
    let stage = Stage::new().await?;
    let file = stage.file("shop.yaml", SHOP);
    stage.say(&["apply", "-f", &file]).await;
    let paused = json!([{"reason": "CanaryPauseStep", "startTime": "2026-01-01T00:00:00Z"}]);
    stage
        .status(
            json!({"phase": "Paused", "message": "CanaryPauseStep", "currentStepIndex": 1,
            "observedGeneration": "1", "currentPodHash": "b", "stableRS": "a",
            "pauseConditions": paused, "controllerPause": true}),
        )
        .await;

    // No controller runs, so what is due waits for one.
    let explained = stage.say(&["explain", "shop"]).await;
    assert!(
        explained.contains("the controller to do what is due"),
        "{explained}"
    );

    let list = stage.say(&["list", "rollouts"]).await;
    assert!(
        list.contains("shop") && list.contains("Paused") && list.contains("1/2"),
        "{list}"
    );
    let picture = stage.say(&["get", "rollout", "shop", "--ascii"]).await;
    assert!(picture.contains("CanaryPauseStep"), "{picture}");
    assert_eq!(stage.shop().await["status"]["phase"], "Paused");
    let status = stage.run(&["status", "shop", "--watch=false"]).await;
    assert_eq!(status.out, "Paused - CanaryPauseStep\n");

    assert_eq!(
        stage.say(&["promote", "shop"]).await,
        "rollout 'shop' promoted\n"
    );
    assert_eq!(stage.stored().await["status"].get("pauseConditions"), None);
    stage.say(&["abort", "shop"]).await;
    assert_eq!(stage.stored().await["status"]["abort"], true);
    stage.say(&["retry", "rollout", "shop"]).await;
    assert_eq!(stage.stored().await["status"]["abort"], false);
    stage.say(&["pause", "shop"]).await;
    assert_eq!(stage.stored().await["spec"]["paused"], true);
    stage.say(&["set", "image", "shop", "shop=shop:2"]).await;
    let stored = stage.stored().await;
    let image = &stored["spec"]["template"]["spec"]["containers"][0]["image"];
    assert_eq!(image, "shop:2");

    stage.say(&["delete", "rollout", "shop", "--yes"]).await;
    let gone = stage.run(&["get", "rollout", "shop"]).await;
    assert_eq!(gone.code, Some(5), "{}", gone.err);
    Ok(())
}

/// Plays a controller that has made the first version, whose image cannot be pulled.
#[tokio::test]
async fn explain_names_the_pods_that_ail_and_what_ails_them() -> Result<(), Trouble> {
    let stage = Stage::new().await?;
    let file = stage.file("shop.yaml", SHOP);
    stage.say(&["apply", "-f", &file]).await;
    let uid = stage.stored().await["metadata"]["uid"].clone();
    let labels = json!({"app": "shop", "rollouts-pod-template-hash": "a"});
    let set = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {
            "name": "shop-a", "labels": labels,
            "ownerReferences": [{"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "name": "shop", "uid": uid, "controller": true}],
        },
        "spec": {
            "replicas": 1, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "shop", "image": "does-not-exist:1"}]}},
        },
    });
    stage.namespace.apply(&set.to_string()).await?;
    stage
        .until("the pod is named", async || {
            let told = stage.say(&["explain", "shop"]).await;
            told.contains("pod shop-a-") && told.contains("ImagePull")
        })
        .await;
    Ok(())
}

#[tokio::test]
async fn a_watch_shows_what_changes() -> Result<(), Trouble> {
    let stage = Stage::new().await?;
    let file = stage.file("shop.yaml", SHOP);
    stage.say(&["apply", "-f", &file]).await;
    let watching = stage.run(&["wait", "shop", "--for", "paused", "--timeout", "1m"]);
    let moving = async {
        stage
            .status(json!({"phase": "Progressing", "observedGeneration": "1"}))
            .await;
        stage
            .status(json!({"phase": "Paused", "message": "CanaryPauseStep", "currentStepIndex": 1,
                "pauseConditions": [{"reason": "CanaryPauseStep", "startTime": "2026-01-01T00:00:00Z"}]}))
            .await;
    };
    let (watched, ()) = tokio::join!(watching, moving);
    assert_eq!(watched.code, Some(0), "{}{}", watched.out, watched.err);
    Ok(())
}

#[tokio::test]
async fn what_is_forbidden_missing_or_only_a_hosts_is_said_so() -> Result<(), Trouble> {
    let stage = Stage::new().await?;
    let forbidden = stage.run_as(Actor::Developer, &["list", "rollouts"]).await;
    assert_eq!(forbidden.code, Some(9), "{}", forbidden.err);
    assert!(
        forbidden.err.contains("cannot list resource"),
        "{}",
        forbidden.err
    );

    let impersonating = stage.run(&["list", "rollouts", "--as", "nobody"]).await;
    assert_eq!(impersonating.code, Some(9), "{}", impersonating.err);

    let unseen = stage.run_as(Actor::Developer, &["explain", "shop"]).await;
    assert_ne!(unseen.code, Some(0));
    assert!(unseen.err.contains("cannot get resource"), "{}", unseen.err);
    let missing = stage.run(&["explain", "shop"]).await;
    assert_eq!(missing.code, Some(5), "{}", missing.err);

    let query = stage.run(&["query", "up"]).await;
    assert_eq!(query.code, Some(6), "{}", query.err);
    assert!(query.err.contains("has no metric store"), "{}", query.err);

    let context = stage
        .run(&["list", "rollouts", "--context", "crossfad"])
        .await;
    assert_eq!(context.code, Some(10));
    assert!(
        context.err.contains("context \"crossfad\" does not exist")
            && context.err.contains("did you mean \"crossfade\"?"),
        "{}",
        context.err
    );

    let nobody = ["list", "rollouts", "--server", "https://127.0.0.1:1"];
    let nobody = stage.run(&nobody).await;
    assert_eq!(nobody.code, Some(10), "{}", nobody.err);
    assert!(
        nobody
            .err
            .starts_with("Error: the API server https://127.0.0.1:1 cannot be reached: "),
        "{}",
        nobody.err
    );
    Ok(())
}
