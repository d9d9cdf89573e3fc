//! Help, reference page, completion and the commands that only relay what the host says.

use std::path::Path;

use serde_json::Value;

use crate::stage::{FULL, PLUGIN, Stage, canary, healthy, program};

#[tokio::test]
async fn the_reference_page_is_what_the_commands_say() {
    let home = tempfile::tempdir().expect("a folder");
    let output = program(FULL, home.path())
        .arg("docs")
        .output()
        .await
        .expect("it runs");
    let made = String::from_utf8(output.stdout).expect("text");
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/cli.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&page, &made).expect("it can be written");
    }
    let kept = std::fs::read_to_string(&page).unwrap_or_default();
    assert!(
        made == kept,
        "docs/reference/cli.md is not current: crossfade docs > docs/reference/cli.md"
    );
}

#[tokio::test]
async fn the_plugin_shows_the_commands_and_options_that_its_users_know() {
    let home = tempfile::tempdir().expect("a folder");
    let mut pages = String::new();
    for words in [
        "",
        "get",
        "list",
        "status",
        "promote",
        "abort",
        "retry",
        "pause",
        "restart",
        "undo",
        "set",
        "set image",
        "create",
        "create analysisrun",
        "lint",
        "terminate",
    ] {
        let mut command = program(PLUGIN, home.path());
        let output = command
            .args(words.split_whitespace())
            .arg("--help")
            .output()
            .await
            .expect("it runs");
        assert!(output.status.success(), "{words}");
        let text = String::from_utf8(output.stdout).expect("text");
        // What every command understands stands on the first page.
        let own = if words.is_empty() {
            text.as_str()
        } else {
            text.split("\nGlobal options:").next().unwrap_or_default()
        };
        let lines: Vec<_> = own.lines().map(str::trim_end).collect();
        pages.push_str(&format!(
            "$ kubectl argo rollouts {words} --help\n{}\n\n",
            lines.join("\n").trim_end()
        ));
    }
    insta::assert_snapshot!("plugin_help", pages);
}

#[tokio::test]
async fn with_wrong_arguments_the_plugin_shows_how_the_command_is_written() {
    let stage = Stage::new();
    for arguments in [
        vec!["get"],
        vec!["get", "rollout"],
        vec!["abort"],
        vec!["set", "image", "x"],
        vec!["retry", "x"],
        vec!["lint"],
    ] {
        let ended = stage.plugin(&arguments).await;
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (1, ""),
            "{arguments:?}"
        );
        assert!(
            ended.stderr.contains("Usage: kubectl argo rollouts"),
            "{arguments:?}: {}",
            ended.stderr
        );
        assert!(
            !ended.stderr.contains("Error:"),
            "{arguments:?}: {}",
            ended.stderr
        );
    }
    let ended = stage.full(&["abort"]).await;
    assert_eq!(ended.code, 2);
}

#[tokio::test]
async fn names_of_releases_complete_in_bash() {
    let stage = Stage::new();
    for name in ["checkout", "catalogue", "web"] {
        stage
            .rollout(name, canary(&serde_json::json!([])), healthy())
            .await;
    }
    let script = stage.full(&["completion", "bash"]).await;
    assert_eq!(script.code, 0);
    let bin = env!("CARGO_BIN_EXE_crossfade");
    let ask = format!(
        "{}\nCOMP_WORDS=('{bin}' promote c); COMP_CWORD=2; _crossfade; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        script.stdout
    );
    let home = stage.folder.path();
    let host = home.join("state");
    let output = tokio::process::Command::new("bash")
        .args(["-c", &ask])
        .env("CROSSFADE_HOST", &host)
        .env("HOME", home)
        .output()
        .await
        .expect("bash runs");
    assert_eq!(
        (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ),
        ("catalogue\ncheckout\n".into(), "".into())
    );
    // Kubectl asks its plugin's companion.
    let output = stage
        .command("kubectl_complete-argo-rollouts", &["get", "rollout", "w"])
        .output()
        .await;
    assert_eq!(
        String::from_utf8_lossy(&output.expect("it runs").stdout),
        "web\n:4\n"
    );
}

#[tokio::test]
async fn the_version_names_what_was_built() {
    let stage = Stage::new();
    let ended = stage.plugin(&["version"]).await;
    let lines: Vec<_> = ended.stdout.lines().collect();
    assert!(
        lines
            .first()
            .is_some_and(|line| line.starts_with("kubectl-argo-rollouts: v")),
        "{lines:?}"
    );
    let labels: Vec<_> = lines
        .iter()
        .skip(1)
        .filter_map(|line| line.split(':').next())
        .collect();
    let expected = [
        "  BuildDate",
        "  GitCommit",
        "  GitTreeState",
        "  GoVersion",
        "  Compiler",
        "  Platform",
    ];
    assert_eq!(labels, expected);
    let short = stage.plugin(&["version", "--short"]).await;
    assert_eq!(
        short.stdout.lines().collect::<Vec<_>>(),
        lines.get(..1).unwrap_or_default()
    );
    let ended = stage.full(&["version", "-o", "json", "--controller"]).await;
    let json: Value = serde_json::from_str(&ended.stdout).expect("one document");
    assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(json["host"], env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn explanations_metrics_and_logs_are_relayed() {
    let stage = Stage::new();
    let rollout = stage
        .rollout("web", canary(&serde_json::json!([])), healthy())
        .await;
    let explained = stage.full(&["explain", "web"]).await;
    assert!(
        explained
            .stdout
            .contains("What would move it:\n  crossfade promote web\n"),
        "{}",
        explained.stdout
    );
    let missing = stage.full(&["explain", "webb"]).await;
    missing.is(
        5,
        "",
        "Error: rollouts.argoproj.io \"webb\" not found\n  hint: did you mean \"web\"?\n",
    );
    let asked = stage.full(&["query", "good"]).await;
    asked.is(0, "SERIES           VALUE\n{service=\"web\"}  0.25\n", "");
    let asked = stage.full(&["query", "bad"]).await;
    asked.is(6, "", "Error: unknown function bad(): bad\n");
    let set = stage.version(&rollout, "new", 1, 2, "app:1").await;
    stage.pod(&set, "web-new-1", 1, 0).await;
    stage.pod(&set, "web-new-2", 1, 0).await;
    let logs = stage.full(&["logs", "web", "--tail", "3"]).await;
    logs.is(
        0,
        "[web-new-1] hello from web-new-1\n[web-new-1] tail Some(3)\n[web-new-2] hello from web-new-2\n[web-new-2] tail Some(3)\n",
        "",
    );
    let logs = stage.full(&["logs", "pod/web-new-2"]).await;
    logs.is(0, "hello from web-new-2\ntail None\n", "");
    let logs = stage.full(&["logs", "web", "--role", "canary"]).await;
    logs.is(5, "", "Error: rollout web has no canary pods\n");
    let history = stage.full(&["history", "web"]).await;
    assert!(history.stdout.contains("app:1"), "{}", history.stdout);
}
