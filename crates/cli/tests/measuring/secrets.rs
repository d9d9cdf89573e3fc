//! Secrets are used for measurements and told to nobody.

use serde_json::{Value, json};

use super::host::{Host, error};
use super::prometheus::vector;
use super::server::{Asked, Reply, Server};

/// Has everything in it that is written differently somewhere: spaces, quotes, signs of addresses and of pages.
const SECRET: &str = "pässword \"of\" <Mallory> & 100% sure";

/// Everything that a server was told, as a careless server tells it back.
fn echo(asked: &Asked) -> String {
    let headers: Vec<String> = asked
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    format!(
        "{} {}\n{}\n{}",
        asked.method,
        asked.target,
        headers.join("\n"),
        asked.body
    )
}

async fn with_secret(host: &Host) {
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"},
        "stringData": {"password": SECRET, "plain": "hush-0123", "short": "7"}, "data": {"binary": "/w=="}});
    host.apply(vec![secret]).await;
}

fn from_secret(name: &str, key: &str) -> Value {
    json!({"name": name, "valueFrom": {"secretKeyRef": {"name": "keys", "key": key}}})
}

/// No form of a secret is in what the host tells.
#[track_caller]
fn assert_hidden(told: &str) {
    // As the header of basic authentication has it, to the metric server and to the token server.
    let (basic, client) = ("dTpww6Rzc3dvcmQ", "YzpwJUMzJUE0c3N3b3Jk");
    for form in [
        "pässword",
        "Mallory",
        "Mallory%3E",
        "p%C3%A4ssword",
        basic,
        client,
        "hush-0123",
        "aHVzaC0wMTIz",
        "made-up-token",
    ] {
        if let Some(at) = told.find(form) {
            let from = (0..=at.saturating_sub(200))
                .rev()
                .find(|from| told.is_char_boundary(*from));
            let until = (at + 100..told.len()).find(|until| told.is_char_boundary(*until));
            assert!(
                told.is_empty(),
                "{form} shows: {}",
                &told[from.unwrap_or(0)..until.unwrap_or(told.len())]
            );
        }
    }
}

#[tokio::test]
async fn providers_26_a_secret_in_a_query_is_in_no_message_value_or_metadata() {
    let server = Server::start(|asked| {
        let told = echo(asked);
        let clear = format!("{told}\n{SECRET}\nhush-0123");
        match asked.target.split('/').nth(1) {
            Some("good") => Reply::ok(
                &json!({"status": "success", "warnings": [clear],
                "data": {"resultType": "vector", "result": [{"metric": {}, "value": [1, "1"]}]}})
                .to_string(),
            ),
            Some("bad") => Reply::status(
                400,
                &json!({"status": "error", "errorType": "bad_data", "error": clear}).to_string(),
            ),
            Some("json") => Reply::ok(&json!({"echo": clear, "list": [SECRET]}).to_string()),
            Some("long") => Reply::ok(&format!("{}{SECRET}", "x".repeat(16 * 1024 - 10))),
            Some("token") => Reply::ok(r#"{"access_token":"made-up-token","expires_in":60}"#),
            Some("no-token") => Reply::status(401, &clear),
            _ => Reply::ok(&clear),
        }
    });
    let host = Host::start().await;
    with_secret(&host).await;
    let prometheus = |name: &str| {
        json!({"name": name, "successCondition": "result[0] == 1", "provider": {"prometheus": {
            "address": server.url(&format!("/{name}")), "query": "up{key=\"{{args.plain}}\"} == {{args.password}}",
            "headers": [{"key": "X-Key", "value": "{{args.plain}}"}],
            "authentication": {"basicAuth": {"username": "u", "password": "{{args.password}}"}}}}})
    };
    let web = |name: &str, more: Value| {
        let mut provider = json!({"url": server.url(&format!("/{name}/{{{{args.password}}}}?key={{{{args.password}}}}"))});
        crossfade_api::merge_patch::apply(&mut provider, &more);
        json!({"name": format!("web-{name}"), "provider": {"web": provider}})
    };
    let token = |path: &str| json!({"authentication": {"oauth2": {"tokenUrl": server.url(path), "clientId": "c", "clientSecret": "{{args.password}}"}}});
    let measured = host
        .measure_with(
            json!([
                prometheus("good"),
                prometheus("bad"),
                web("json", json!({"headers": [{"key": "X-Key", "value": "{{args.plain}}"}]})),
                web("text", json!({"method": "POST", "jsonBody": {"key": "{{args.password}}"}})),
                web("long", json!({})),
                web("with-token", token("/token")),
                web("without-token", token("/no-token")),
                {"name": "gone", "provider": {"web": {"url": "http://127.0.0.1:1/{{args.password}}"}}},
                {"name": "condition", "successCondition": "result.{{args.plain}} == '{{args.plain}}'",
                    "provider": {"web": {"url": server.url("/json/"), "jsonPath": "{$.{{args.plain}}}"}}},
            ]),
            json!([
                from_secret("password", "password"),
                from_secret("plain", "plain")
            ]),
        )
        .await;
    // The secrets were really used.
    let asked = server.asked();
    let good = asked
        .iter()
        .find(|asked| asked.target.starts_with("/good"))
        .expect("it was asked");
    assert_eq!(good.header("x-key").as_deref(), Some("hush-0123"));
    assert!(good.body.contains("hush-0123") && good.body.contains("p%C3%A4ssword"));
    assert!(
        asked
            .iter()
            .any(|asked| asked.header("authorization").as_deref() == Some("Bearer made-up-token"))
    );
    assert_eq!(measured["good"]["phase"], "Successful");
    assert!(
        measured["good"]["resultMetadata"]["ResolvedPrometheusQuery"]
            == "up{key=\"*****\"} == *****",
        "{}",
        measured["good"]["resultMetadata"]
    );
    for name in ["bad", "web-without-token", "gone", "condition"] {
        assert!(error(&measured[name]).contains("*****"), "{name}");
    }
    for name in ["web-json", "web-text", "web-with-token", "web-long"] {
        assert_eq!(measured[name]["phase"], "Successful", "{name}");
        let value = measured[name]["value"].as_str().expect("a value");
        assert!(value.contains("*****"), "{name}: {value}");
    }
    assert_hidden(&json!(measured).to_string());
    assert_hidden(&host.everything_told().await);
}

#[tokio::test]
async fn analysis_21_a_secret_in_the_text_of_an_error_is_masked_everywhere() {
    let server = Server::start(|_| {
        Reply::status(
            400,
            &json!({"status": "error", "errorType": "bad_data", "error": format!("no access with {SECRET}, hush-0123 or 7")}).to_string(),
        )
    });
    let host = Host::start().await;
    with_secret(&host).await;
    let spec = json!({
        "metrics": [{"name": "m", "consecutiveErrorLimit": 0,
            "provider": {"prometheus": {"address": server.url(""), "query": "up", "headers": [
                {"key": "X-Key", "value": "{{args.password}}{{args.plain}}{{args.short}}"}]}}}],
        "args": [from_secret("password", "password"), from_secret("plain", "plain"), from_secret("short", "short")],
    });
    host.run("run", spec).await;
    let status = host.ended("run").await;
    let text = "bad_data: no access with *****, ***** or *****";
    let result = &status["metricResults"][0];
    assert_eq!(result["measurements"][0]["message"], text);
    assert_eq!(result["message"], text);
    assert_eq!(
        status["message"],
        format!(
            "Metric \"m\" assessed Error due to consecutiveErrors (1) > consecutiveErrorLimit (0): \"Error Message: {text}\""
        )
    );
    assert_hidden(&host.everything_told().await);
}

#[tokio::test]
async fn analysis_22_what_is_missing_of_a_secret_is_named() {
    let host = Host::start().await;
    with_secret(&host).await;
    let server = Server::start(|_| Reply::ok(&vector(&["1"])));
    let run = |argument: Value| {
        json!({"metrics": [{"name": "m", "provider": {"prometheus": {"address": server.url(""), "query": "up"}}}],
            "args": [argument]})
    };
    let other =
        json!({"name": "x", "valueFrom": {"secretKeyRef": {"name": "nothing", "key": "k"}}});
    for (name, argument, text) in [
        (
            "key",
            from_secret("x", "nope"),
            "key 'nope' does not exist in secret 'keys'",
        ),
        ("secret", other, "secrets \"nothing\" not found"),
        (
            "binary",
            from_secret("x", "binary"),
            "argument \"x\" is not valid UTF-8",
        ),
    ] {
        host.run(name, run(argument)).await;
        let status = host.ended(name).await;
        assert_eq!(status["phase"], "Error");
        assert_eq!(
            status["message"],
            format!("Unable to resolve metric arguments: {text}")
        );
        assert!(status["completedAt"].is_string());
        host.tells("AnalysisRunError", name).await;
    }
    assert_eq!(server.asked().len(), 0, "nobody is asked");
}
