//! `apply`, `create` and `lint`: manifests on their way in.

use crossfade_host::store::Kind;
use serde_json::{Value, json};

use crate::stage::Stage;

const ROLLOUT: &str = "\
apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata:
  name: web
spec:
  selector:
    matchLabels: {app: web}
  template:
    metadata:
      labels: {app: web}
    spec:
      containers:
      - name: app
        image: app:1
  strategy:
    canary:
      stableService: stable
      canaryService: canary
      steps:
      - setWeight: 20
      - pause: {}
";

const TEMPLATE: &str = "\
apiVersion: argoproj.io/v1alpha1
kind: AnalysisTemplate
metadata:
  name: t
spec:
  args:
  - name: a
  - name: limit
    value: '5'
  metrics:
  - name: m
    successCondition: result < {{args.limit}}
    provider:
      web: {url: 'http://127.0.0.1/{{args.a}}'}
";

#[tokio::test]
async fn cli_28_a_misspelt_field_is_refused_by_name_and_nothing_is_made() {
    let stage = Stage::new();
    let file = stage.file(
        "f.yaml",
        &format!(
            "{TEMPLATE}---\n{}",
            ROLLOUT.replace("strategy:", "strategi:")
        ),
    );
    let ended = stage.plugin(&["create", "-f", &file]).await;
    let place = format!("unknown field \"spec.strategi\"; did you mean \"strategy\"?: {file}:30:3");
    assert_eq!((ended.code, ended.stdout.as_str()), (1, ""));
    assert_eq!(ended.stderr, format!("Error: {place}\n"));
    for kind in [Kind::Rollout, Kind::AnalysisTemplate] {
        assert_eq!(stage.names(kind).await, Vec::<String>::new());
    }
    let file = stage.file("g.yaml", &format!("{TEMPLATE}---\n{ROLLOUT}"));
    stage.plugin(&["create", "-f", &file]).await.is(
        0,
        "analysistemplate.argoproj.io/t created\nrollout.argoproj.io/web created\n",
        "",
    );
    let service = stage.file(
        "s.yaml",
        "apiVersion: v1\nkind: Service\nmetadata: {name: s}\n",
    );
    let ended = stage.plugin(&["create", "-f", &service]).await;
    ended.is(1, "", "Error: creates of /Service unsupported\n");
}

#[tokio::test]
async fn cli_29_the_value_of_an_argument_may_contain_the_sign_that_separates_it() {
    let stage = Stage::new();
    let template = stage.file("t.yaml", TEMPLATE);
    assert_eq!(stage.full(&["apply", "-f", &template]).await.code, 0);
    let ended = stage
        .plugin(&[
            "create",
            "analysisrun",
            "--from",
            "t",
            "--name",
            "r",
            "-a",
            "a=b=c",
        ])
        .await;
    ended.is(0, "analysisrun.argoproj.io/r created\n", "");
    let run = stage.get(Kind::AnalysisRun, "r").await;
    assert_eq!(
        run["spec"]["args"],
        json!([{"name": "a", "value": "b=c"}, {"name": "limit", "value": "5"}])
    );
    assert_eq!(run["spec"]["metrics"][0]["name"], "m");
    let ended = stage
        .plugin(&["create", "analysisrun", "--from", "t", "-a", "a"])
        .await;
    ended.is(1, "", "Error: arguments must be in the form NAME=VALUE\n");
    let ended = stage.plugin(&["create", "ar", "-a", "a=b"]).await;
    ended.is(
        1,
        "",
        "Error: one of --from or --from-file must be specified\n",
    );
    let ended = stage
        .plugin(&["create", "ar", "--from-file", &template, "-a", "a=b"])
        .await;
    assert!(
        ended.stdout.starts_with("analysisrun.argoproj.io/t-"),
        "{ended:?}"
    );
}

#[tokio::test]
async fn cli_30_every_faulty_rollout_of_a_file_is_found() {
    let stage = Stage::new();
    let heavy = ROLLOUT.replace("setWeight: 20", "setWeight: 200");
    let negative = ROLLOUT.replace("spec:\n  selector", "spec:\n  replicas: -1\n  selector");
    let file = stage.file("f.yaml", &format!("{heavy}---\n{negative}"));
    let ended = stage.plugin(&["lint", "-f", &file]).await;
    ended.is(
        1,
        "Invalid value: 200: SetWeight needs to be between 0 and 100\nInvalid value: -1: must be greater than or equal to 0\n",
        "Error: spec.strategy.steps[0].setWeight: Invalid value: 200: SetWeight needs to be between 0 and 100\n",
    );
    let full = stage.full(&["lint", &file]).await;
    assert_eq!(
        (full.code, full.stderr.as_str()),
        (1, "Error: 2 errors in the manifests\n")
    );
    let places: Vec<_> = full
        .stdout
        .lines()
        .map(|line| line.split(": error: ").next().unwrap_or_default())
        .collect();
    assert_eq!(places, [format!("{file}:20:9"), format!("{file}:28:3")]);
    let clean = stage.file("g.yaml", ROLLOUT);
    stage.plugin(&["lint", "-f", &clean]).await.is(0, "", "");
    stage.full(&["lint", "-f", &clean]).await.is(0, "", "");
}

#[tokio::test]
async fn cli_31_a_service_that_does_not_select_the_pods_is_a_finding() {
    let stage = Stage::new();
    let service = |name: &str, app: &str| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{selector: {{app: {app}}}}}\n"
        )
    };
    let file = stage.file(
        "f.yaml",
        &format!(
            "{ROLLOUT}{}{}",
            service("stable", "web"),
            service("canary", "other")
        ),
    );
    let body = "Invalid value: \"canary\": Service \"canary\" has unmatch label \"app\" in rollout";
    stage.plugin(&["lint", "-f", &file]).await.is(
        1,
        &format!("{body}\n"),
        &format!("Error: spec.strategy.canary.canaryService: {body}\n"),
    );
    let ended = stage.full(&["lint", "-f", &file, "-o", "github"]).await;
    assert!(
        ended.stdout.starts_with("::error file="),
        "{}",
        ended.stdout
    );
    assert!(
        ended
            .stdout
            .contains(",line=18,col=7,title=invalid-reference::"),
        "{}",
        ended.stdout
    );
    let ended = stage.full(&["lint", "-f", &file, "-o", "sarif"]).await;
    let sarif: Value = serde_json::from_str(&ended.stdout).expect("one document");
    let result = &sarif["runs"][0]["results"][0];
    assert_eq!(result["ruleId"], "invalid-reference");
    assert_eq!(
        result["locations"][0]["physicalLocation"]["region"]["startLine"],
        18
    );
}

#[tokio::test]
async fn what_a_rollout_refers_to_can_be_looked_up_on_the_host() {
    let stage = Stage::new();
    let file = stage.file("f.yaml", ROLLOUT);
    let ended = stage.full(&["lint", "--live", &file]).await;
    assert_eq!(ended.code, 1);
    assert!(
        ended
            .stdout
            .contains("service \"stable\" not found [invalid-reference]"),
        "{}",
        ended.stdout
    );
    for name in ["stable", "canary"] {
        let service = json!({"metadata": {"name": name}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}});
        stage.put(Kind::Service, "default", service).await;
    }
    stage.full(&["lint", "--live", &file]).await.is(0, "", "");
}

#[tokio::test]
async fn an_overlay_changes_manifests_on_their_way() {
    let stage = Stage::new();
    let file = stage.file("f.yaml", ROLLOUT);
    let overlay = stage.file(
        "o.yaml",
        "apiVersion: argoproj.io/v1alpha1\nkind: Rollout\nmetadata: {name: web}\nspec:\n  strategy:\n    canary:\n      steps:\n      - setWeight: 50\n",
    );
    let ended = stage
        .full(&["apply", "-f", &file, "--overlay", &overlay, "--dry-run"])
        .await;
    ended.is(0, "rollout.argoproj.io/web created (dry run)\n", "");
    assert_eq!(stage.names(Kind::Rollout).await, Vec::<String>::new());
    let ended = stage
        .full(&["apply", "-f", &file, "--overlay", &overlay])
        .await;
    ended.is(0, "rollout.argoproj.io/web created\n", "");
    let rollout = stage.get(Kind::Rollout, "web").await;
    assert_eq!(
        rollout["spec"]["strategy"]["canary"]["steps"],
        json!([{"setWeight": 50}])
    );
    let ended = stage
        .full(&["apply", "-f", &file, "--overlay", &overlay])
        .await;
    ended.is(0, "rollout.argoproj.io/web unchanged\n", "");
    let ended = stage.full(&["apply", "-f", &file, "-o", "json"]).await;
    let json: Value = serde_json::from_str(&ended.stdout).expect("one document");
    assert_eq!(json["items"][0]["result"], "configured");
}

#[tokio::test]
async fn manifests_come_from_standard_input_too() {
    use tokio::io::AsyncWriteExt;
    let stage = Stage::new();
    let mut command = stage.command(crate::stage::FULL, &["apply", "-f", "-"]);
    let mut child = command
        .stdin(std::process::Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut input = child.stdin.take().expect("it is piped");
    input.write_all(ROLLOUT.as_bytes()).await.expect("it reads");
    drop(input);
    let output = child.wait_with_output().await.expect("it ends");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "rollout.argoproj.io/web created\n"
    );
}

#[tokio::test]
async fn a_mistake_in_yaml_is_told_with_its_place() {
    let stage = Stage::new();
    let file = stage.file("f.yaml", "apiVersion: v1\nkind: A\na: b: c\n");
    let ended = stage.full(&["apply", "-f", &file]).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (6, ""));
    assert!(
        ended.stderr.contains(&format!(": {file}:3:")),
        "{}",
        ended.stderr
    );
    let ended = stage.full(&["apply", "-f", "/nowhere.yaml"]).await;
    assert_eq!(ended.code, 5);
}
