//! The Prometheus provider against servers that speak its API, well or badly.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::host::{Host, error};
use super::server::{Reply, Server};

/// An answer with one series for each value.
pub(crate) fn vector(values: &[&str]) -> String {
    let series: Vec<Value> = values
        .iter()
        .map(|value| json!({"metric": {}, "value": [1_772_445_600, value]}))
        .collect();
    json!({"status": "success", "data": {"resultType": "vector", "result": series}}).to_string()
}

fn metric(name: &str, prometheus: Value) -> Value {
    json!({"name": name, "successCondition": "result[0] >= 0.95", "provider": {"prometheus": prometheus}})
}

#[tokio::test]
async fn providers_01_a_query_is_posted_and_its_only_series_is_judged() {
    let server = Server::start(|_| {
        Reply::ok(
            r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1772445600,"0.987"]}]},"warnings":["query took long"]}"#,
        )
    });
    let host = Host::start().await;
    let query = "sum(rate(ok[5m]))/sum(rate(all[5m]))";
    let before = jiff::Timestamp::now().as_second();
    let measured = host
        .measure(json!([metric(
            "m",
            json!({"address": server.url("/prom"), "query": query,
            "headers": [{"key": "X-Scope-OrgID", "value": "tenant_a"}]})
        )]))
        .await;
    assert_eq!(measured["m"]["phase"], "Successful");
    assert_eq!(measured["m"]["value"], "[0.987]");
    assert_eq!(
        measured["m"]["metadata"],
        json!({"warnings": "\"query took long\""})
    );
    assert_eq!(
        measured["m"]["resultMetadata"],
        json!({"ResolvedPrometheusQuery": query})
    );
    let asked = server.asked_once();
    assert_eq!(
        (asked.method.as_str(), asked.target.as_str()),
        ("POST", "/prom/api/v1/query")
    );
    assert_eq!(
        asked.header("host"),
        Some(server.address().to_string()),
        "the server is named once"
    );
    assert_eq!(
        asked.header("content-type").as_deref(),
        Some("application/x-www-form-urlencoded")
    );
    assert_eq!(asked.header("x-scope-orgid").as_deref(), Some("tenant_a"));
    assert_eq!(
        asked.form("query").as_deref(),
        Some("sum%28rate%28ok%5B5m%5D%29%29%2Fsum%28rate%28all%5B5m%5D%29%29")
    );
    let time: f64 = asked
        .form("time")
        .and_then(|time| time.parse().ok())
        .expect("a time");
    assert!(
        (before..=jiff::Timestamp::now().as_second()).contains(&(time as i64)),
        "{time} is now"
    );
    assert_eq!(asked.body.matches('=').count(), 2, "{}", asked.body);
}

#[tokio::test]
async fn providers_02_a_vector_without_series_is_no_data_unless_the_condition_says_otherwise() {
    let server = Server::start(|_| Reply::ok(&vector(&[])));
    let host = Host::start().await;
    let with = |name: &str, condition: &str| {
        json!({"name": name, "successCondition": condition,
            "provider": {"prometheus": {"address": server.url(""), "query": "up"}}})
    };
    let measured = host
        .measure(json!([
            with("bare", "result[0] > 1"),
            with("guarded", "len(result) == 0 || result[0] > 1"),
        ]))
        .await;
    assert_eq!(
        error(&measured["bare"]),
        "could not evaluate successCondition \"result[0] > 1\": metric result is nil or empty: no data returned from the metric provider"
    );
    assert_eq!(measured["guarded"]["phase"], "Successful");
    assert_eq!(measured["guarded"]["value"], "[]");
}

#[tokio::test]
async fn providers_03_a_scalar_that_is_no_number_is_below_and_above_nothing() {
    let server = Server::start(|_| {
        Reply::ok(r#"{"status":"success","data":{"resultType":"scalar","result":[1,"NaN"]}}"#)
    });
    let host = Host::start().await;
    let provider = json!({"prometheus": {"address": server.url(""), "query": "up"}});
    let measured = host
        .measure(json!([
            {"name": "one", "successCondition": "result >= 0.9", "provider": provider},
            {"name": "both", "successCondition": "result >= 0.9", "failureCondition": "result < 0.9", "provider": provider},
        ]))
        .await;
    assert_eq!(
        (&measured["one"]["phase"], &measured["one"]["value"]),
        (&json!("Failed"), &json!("NaN"))
    );
    assert_eq!(
        (&measured["both"]["phase"], &measured["both"]["value"]),
        (&json!("Inconclusive"), &json!("NaN"))
    );
}

#[tokio::test]
async fn providers_04_a_server_that_refuses_to_be_posted_to_is_asked_by_get() {
    for refusal in [405, 403, 501] {
        let server = Server::start(move |asked| {
            if asked.method == "POST" {
                Reply::status(refusal, "no")
            } else {
                Reply::ok(&vector(&["1"]))
            }
        });
        let host = Host::start().await;
        let measured = host
            .measure(json!([metric(
                "m",
                json!({"address": server.url("/base?tenant=a"), "query": "up == 1",
                "headers": [{"key": "X-Scope-OrgID", "value": "t"}]})
            )]))
            .await;
        assert_eq!(measured["m"]["phase"], "Successful", "{measured:?}");
        let asked = server.asked();
        assert_eq!(asked.len(), 2);
        assert_eq!(
            (asked[0].method.as_str(), asked[0].target.as_str()),
            ("POST", "/base/api/v1/query?tenant=a")
        );
        assert_eq!(asked[1].method, "GET");
        assert_eq!(
            asked[1].target,
            format!("/base/api/v1/query?tenant=a&{}", asked[0].body),
            "the same parameters"
        );
        assert_eq!(asked[1].header("x-scope-orgid").as_deref(), Some("t"));
        assert_eq!(
            (asked[1].body.as_str(), asked[1].header("content-type")),
            ("", None)
        );
    }
}

#[tokio::test]
async fn providers_05_an_address_or_a_time_that_cannot_be_used_is_told() {
    let host = Host::start().await;
    let measured = host
        .measure(json!([
            metric("store", json!({"query": "vector(1)"})),
            metric("no-url", json!({"address": "prometheus", "query": "up"})),
            metric(
                "negative",
                json!({"address": "http://x", "query": "up", "timeout": -1})
            ),
            metric(
                "password",
                json!({"address": "http://x", "query": "up",
                "authentication": {"basicAuth": {"username": "u"}}})
            ),
            metric(
                "username",
                json!({"address": "http://x", "query": "up",
                "authentication": {"basicAuth": {"password": "p"}}})
            ),
            metric(
                "oauth2",
                json!({"address": "http://x", "query": "up",
                "authentication": {"oauth2": {"tokenUrl": "http://x", "clientId": "c"}}})
            ),
        ]))
        .await;
    assert_eq!(
        measured["store"]["phase"], "Successful",
        "the host's own store is asked where no address is given: {measured:?}"
    );
    let texts = [
        ("no-url", "prometheus address is not is url format"),
        ("negative", "prometheus timeout should not be negative"),
        (
            "password",
            "missing mandatory parameter in metric for basic auth setup: password",
        ),
        (
            "username",
            "missing mandatory parameter in metric for basic auth setup: username",
        ),
        (
            "oauth2",
            "missing mandatory parameter in metric for OAuth2 setup",
        ),
    ];
    for (name, text) in texts {
        assert_eq!(error(&measured[name]), text);
    }
}

#[tokio::test]
async fn providers_05_the_address_of_the_environment_comes_before_the_hosts_own_store() {
    let server = Server::start(|_| Reply::ok(&vector(&["1"])));
    let host = Host::start_with(&[("ARGO_ROLLOUTS_PROMETHEUS_ADDRESS", &server.url("/env"))]).await;
    let measured = host
        .measure(json!([metric("m", json!({"query": "up"}))]))
        .await;
    assert_eq!(measured["m"]["phase"], "Successful", "{measured:?}");
    assert_eq!(server.asked_once().target, "/env/api/v1/query");
}

fn oauth2(tokens: &Server) -> Value {
    json!({"oauth2": {"tokenUrl": tokens.url("/token"), "clientId": "ci", "clientSecret": "s3", "scopes": ["a", "b"]}})
}

#[tokio::test]
async fn providers_06_a_token_is_fetched_once_without_what_is_meant_for_the_metric_server() {
    let tokens = Server::start(|_| {
        Reply::ok(r#"{"access_token":"tok-1","token_type":"bearer","expires_in":3600}"#)
    });
    let server = Server::start(|_| Reply::ok(&vector(&["1"])));
    let host = Host::start().await;
    let wanted = metric(
        "m",
        json!({"address": server.url(""), "query": "up", "authentication": oauth2(&tokens),
        "headers": [{"key": "X-Scope-OrgID", "value": "t"}]}),
    );
    for _ in 0..2 {
        let measured = host.measure(json!([wanted])).await;
        assert_eq!(measured["m"]["phase"], "Successful", "{measured:?}");
    }
    let asked = tokens.asked_once();
    assert_eq!(
        (asked.method.as_str(), asked.target.as_str()),
        ("POST", "/token")
    );
    assert_eq!(asked.header("x-scope-orgid"), None);
    assert_eq!(
        asked.header("authorization").as_deref(),
        Some("Basic Y2k6czM=")
    );
    assert_eq!(
        asked.header("content-type").as_deref(),
        Some("application/x-www-form-urlencoded")
    );
    assert_eq!(asked.body, "grant_type=client_credentials&scope=a+b");
    for asked in server.asked() {
        assert_eq!(
            asked.header("authorization").as_deref(),
            Some("Bearer tok-1")
        );
        assert_eq!(asked.header("x-scope-orgid").as_deref(), Some("t"));
    }
    assert_eq!(server.asked().len(), 2);
}

#[tokio::test]
async fn providers_06_a_token_server_that_never_answers_ends_after_the_time_of_the_metric() {
    let tokens = Server::start(|_| Reply::Silence);
    let server = Server::start(|_| Reply::ok(&vector(&["1"])));
    let host = Host::start().await;
    let begun = Instant::now();
    let measured = host
        .measure(json!([
            metric("m", json!({"address": server.url(""), "query": "up", "timeout": 1, "authentication": oauth2(&tokens)})),
            {"name": "web", "provider": {"web": {"url": server.url("/"), "timeoutSeconds": 1, "authentication": oauth2(&tokens)}}},
        ]))
        .await;
    assert!(begun.elapsed() >= Duration::from_secs(1));
    for name in ["m", "web"] {
        assert_eq!(
            error(&measured[name]),
            format!(
                "POST \"{}\": request timed out after 1s",
                tokens.url("/token")
            )
        );
    }
    assert_eq!(server.asked().len(), 0, "nobody is asked without the token");
}

#[tokio::test]
async fn providers_06_a_token_is_renewed_before_it_expires_and_after_it_was_revoked() {
    let (given, refused) = (AtomicUsize::new(0), Mutex::new(String::new()));
    let tokens = Server::start(move |_| {
        let number = given.fetch_add(1, Ordering::Relaxed) + 1;
        // The first expires within the margin, so it is used only once.
        let seconds = if number == 1 { 10 } else { 3600 };
        Reply::ok(&format!(
            "access_token=tok-{number}&token_type=bearer&expires_in={seconds}"
        ))
    });
    let server = Server::start(move |asked| {
        let with = asked.header("authorization").unwrap_or_default();
        let mut refused = refused.lock().expect("a lock");
        if with == "Bearer tok-2" && *refused != with {
            *refused = with;
            return Reply::status(401, "revoked");
        }
        Reply::ok(&vector(&["1"]))
    });
    let host = Host::start().await;
    let wanted = metric(
        "m",
        json!({"address": server.url(""), "query": "up", "authentication": oauth2(&tokens)}),
    );
    let mut ends = Vec::new();
    for _ in 0..4 {
        let measured = host.measure(json!([wanted])).await;
        ends.push(measured["m"]["phase"].clone());
    }
    assert_eq!(ends, ["Successful", "Error", "Successful", "Successful"]);
    let used: Vec<_> = server
        .asked()
        .iter()
        .filter_map(|asked| asked.header("authorization"))
        .collect();
    assert_eq!(
        used,
        [
            "Bearer tok-1",
            "Bearer tok-2",
            "Bearer tok-3",
            "Bearer tok-3"
        ]
    );
}

#[tokio::test]
async fn a_token_server_that_wants_the_client_in_the_form_gets_it_there() {
    let tokens = Server::start(|asked| {
        if asked.header("authorization").is_some() {
            Reply::status(400, "no")
        } else {
            Reply::ok(r#"{"access_token":"tok","expires_in":3600}"#)
        }
    });
    let server = Server::start(|_| Reply::ok(&vector(&["1"])));
    let host = Host::start().await;
    let measured = host
        .measure(json!([metric(
            "m",
            json!({"address": server.url(""), "query": "up", "authentication": oauth2(&tokens)})
        )]))
        .await;
    assert_eq!(measured["m"]["phase"], "Successful", "{measured:?}");
    let asked = tokens.asked();
    assert_eq!(asked.len(), 2);
    assert_eq!(
        asked[1].body,
        "client_id=ci&client_secret=s3&grant_type=client_credentials&scope=a+b"
    );
}

#[tokio::test]
async fn bad_answers_of_a_token_server_are_told_as_such() {
    let tokens = Server::start(|asked| match asked.target.as_str() {
        "/401" => Reply::status(401, "who are you"),
        "/404" => Reply::status(404, "nobody"),
        "/429" => Reply::with(429, "Retry-After", "30", "slowly"),
        "/500" => Reply::status(500, "oh"),
        "/malformed" => Reply::ok("<html>"),
        "/empty" => Reply::ok("{}"),
        _ => Reply::Endless(5 * 1024 * 1024),
    });
    let host = Host::start().await;
    let names = ["401", "404", "429", "500", "malformed", "empty", "huge"];
    let metrics: Vec<_> = names
        .iter()
        .map(|name| {
            let token = json!({"oauth2": {"tokenUrl": tokens.url(&format!("/{name}")), "clientId": "ci", "clientSecret": "s3"}});
            metric(&format!("m-{name}"), json!({"address": "http://127.0.0.1:1", "query": "up", "timeout": 20, "authentication": token}))
        })
        .collect();
    let measured = host.measure(json!(metrics)).await;
    let text = |name: &str| error(&measured[&format!("m-{name}")]);
    assert_eq!(
        text("401"),
        "oauth2: cannot fetch token: 401 Unauthorized\nResponse: who are you"
    );
    assert_eq!(
        text("404"),
        "oauth2: cannot fetch token: 404 Not Found\nResponse: nobody"
    );
    assert_eq!(
        text("429"),
        "oauth2: cannot fetch token: 429 Too Many Requests\nResponse: slowly (retry after 30s)"
    );
    assert_eq!(
        text("500"),
        "oauth2: cannot fetch token: 500 Internal Server Error\nResponse: oh"
    );
    assert!(
        text("malformed").starts_with("oauth2: cannot parse json: "),
        "{}",
        text("malformed")
    );
    assert_eq!(
        text("empty"),
        "oauth2: server response missing access_token"
    );
    assert_eq!(text("huge"), "response body exceeds limit of 4194304 bytes");
}

#[tokio::test]
async fn providers_07_requests_to_other_servers_than_those_of_aws_are_not_signed() {
    let server = Server::start(|_| Reply::ok(&vector(&["1"])));
    let host = Host::start().await;
    let measured = host
        .measure(json!([metric(
            "m",
            json!({"address": server.url(""), "query": "up",
            "authentication": {"sigv4": {"region": "eu-west-1"}}})
        )]))
        .await;
    assert_eq!(measured["m"]["phase"], "Successful", "{measured:?}");
    let asked = server.asked_once();
    assert_eq!(asked.header("authorization"), None);
    assert_eq!(asked.header("x-amz-date"), None);
}

#[tokio::test]
async fn requests_to_the_service_of_aws_are_signed_with_what_the_environment_of_the_host_gives() {
    // What the server tells back, careless as it is.
    let server = Server::start(|asked| {
        let told = format!("{:?} sesame-secret", asked.headers);
        let error = json!({"status": "error", "errorType": "bad_data", "error": told});
        if asked.target.contains("bad") {
            Reply::status(400, &error.to_string())
        } else {
            Reply::ok(&vector(&["1"]))
        }
    });
    let host = Host::start_with(&[
        ("AWS_ACCESS_KEY_ID", "AKIASESAME"),
        ("AWS_SECRET_ACCESS_KEY", "sesame-secret"),
        ("AWS_SESSION_TOKEN", "sesame-token"),
    ])
    .await;
    let signed = |name: &str, sigv4: Value| {
        metric(
            name,
            json!({"address": server.url(&format!("/aps-workspaces/{name}")), "query": "up", "authentication": {"sigv4": sigv4}}),
        )
    };
    let region = || json!({"region": "eu-west-1"});
    let measured = host
        .measure(json!([
            signed("good", region()),
            signed("bad", region()),
            signed("lost", json!({"profile": "lost", "region": "eu-west-1"})),
        ]))
        .await;
    assert_eq!(measured["good"]["phase"], "Successful", "{measured:?}");
    for name in ["good", "bad"] {
        let asked = server.asked();
        let asked = asked.iter().find(|asked| asked.target.contains(name));
        let asked = asked.expect("a request");
        let sent = asked.header("authorization").unwrap_or_default();
        assert!(
            sent.starts_with("AWS4-HMAC-SHA256 Credential=AKIASESAME/")
                && sent.contains("/eu-west-1/aps/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-security-token, Signature="),
            "{sent}"
        );
    }
    assert!(error(&measured["bad"]).starts_with("bad_data: "));
    let lost = error(&measured["lost"]);
    assert!(
        lost.starts_with("there is no AWS profile \"lost\" (no "),
        "{lost}"
    );
    let told = host.everything_told().await;
    for secret in ["AKIASESAME", "sesame-secret", "sesame-token", "Signature="] {
        assert!(!told.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn a_custom_header_outweighs_every_other_sign_in_and_is_sent_once() {
    let tokens = Server::start(|_| Reply::ok(r#"{"access_token":"tok-1","expires_in":3600}"#));
    let server = Server::start(|_| Reply::ok(&vector(&["1"])));
    let host = Host::start().await;
    let basic = json!({"username": "u", "password": "p"});
    let own = json!([{"key": "Authorization", "value": "Own 1"}, {"key": "authorization", "value": "Own 2"}]);
    let to = |path: &str| server.url(path);
    let measured = host
        .measure(json!([
            metric("basic", json!({"address": to("/basic"), "query": "up", "authentication": {"basicAuth": basic}})),
            metric("own", json!({"address": to("/own"), "query": "up", "authentication": {"basicAuth": basic}, "headers": own})),
            metric("token", json!({"address": to("/token"), "query": "up",
                "authentication": {"basicAuth": basic, "oauth2": oauth2(&tokens)["oauth2"]}})),
            metric("own-token", json!({"address": to("/own-token"), "query": "up", "authentication": oauth2(&tokens), "headers": own})),
        ]))
        .await;
    for (name, sent) in [
        ("basic", "Basic dTpw"),
        ("own", "Own 2"),
        ("token", "Bearer tok-1"),
        ("own-token", "Own 2"),
    ] {
        assert_eq!(measured[name]["phase"], "Successful", "{measured:?}");
        let asked = server.asked();
        let asked = asked
            .iter()
            .find(|asked| asked.target.starts_with(&format!("/{name}/")));
        assert_eq!(
            asked
                .and_then(|asked| asked.header("authorization"))
                .as_deref(),
            Some(sent),
            "{name}"
        );
    }
}

#[tokio::test]
async fn bad_answers_of_prometheus_are_told_as_the_reference_tells_them() {
    let long = "y".repeat(3000);
    let cases: Vec<(&str, u16, String, String)> = vec![
        ("c401", 401, "B".to_owned(), "client_error: client error: 401".to_owned()),
        ("c404", 404, "B".to_owned(), "client_error: client error: 404".to_owned()),
        ("c500", 500, "B".to_owned(), "server_error: server error: 500".to_owned()),
        ("c302", 302, "B".to_owned(), "bad_response: bad response code 302".to_owned()),
        ("c400", 400, r#"{"status":"error","errorType":"bad_data","error":"invalid parameter \"query\""}"#.to_owned(),
            "bad_data: invalid parameter \"query\"".to_owned()),
        ("c422", 422, r#"{"status":"error","errorType":"execution","error":"too many samples"}"#.to_owned(),
            "execution: too many samples".to_owned()),
        ("c400-good", 400, vector(&["1"]), "bad_response: inconsistent body for response code".to_owned()),
        ("c200-error", 200, r#"{"status":"error","errorType":"timeout","error":"too slow"}"#.to_owned(), "timeout: too slow".to_owned()),
        ("text", 200, r#"{"status":"success","data":{"resultType":"string","result":[1,"x"]}}"#.to_owned(),
            "unexpected value type \"string\"".to_owned()),
        ("null", 200, r#"{"status":"success","data":null}"#.to_owned(), "Prometheus metric type not supported".to_owned()),
        ("no-data", 200, r#"{"status":"success"}"#.to_owned(), "Prometheus metric type not supported".to_owned()),
        ("native", 200, r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"histogram":[1,{"count":"1","sum":"1"}]}]}}"#.to_owned(),
            "query returned native histogram samples; use histogram_quantile or histogram_avg".to_owned()),
        ("long", 400, json!({"status": "error", "errorType": "bad_data", "error": long}).to_string(),
            format!("bad_data: {}… (truncated)", &long[..1024])),
    ];
    let answers: Vec<(String, u16, String)> = cases
        .iter()
        .map(|(name, status, body, _)| (format!("/{name}/api/v1/query"), *status, body.clone()))
        .collect();
    let server = Server::start(move |asked| {
        let found = answers.iter().find(|(path, _, _)| *path == asked.target);
        found.map_or_else(
            || match asked.target.split('/').nth(1) {
                Some("garbage") => Reply::ok("<html>it works</html>"),
                Some("quoting") => Reply::ok(
                    &json!({"status": "z".repeat(100), "data": "w".repeat(5000)}).to_string(),
                ),
                Some("nothing") => Reply::ok(""),
                Some("huge") => Reply::Endless(100 * 1024 * 1024),
                Some("slow") => Reply::Trickle,
                Some("busy") => Reply::with(429, "Retry-After", "30", "B"),
                _ => Reply::HangUp,
            },
            |(_, status, body)| Reply::status(*status, body),
        )
    });
    let host = Host::start().await;
    let others = [
        "garbage", "quoting", "nothing", "huge", "slow", "busy", "gone",
    ];
    let names = cases.iter().map(|(name, ..)| *name).chain(others);
    let metrics: Vec<_> = names
        .map(|name| {
            metric(name, json!({"address": server.url(&format!("/{name}")), "query": "up", "timeout": if name == "slow" { 1 } else { 20 }}))
        })
        .collect();
    let measured = host.measure(json!(metrics)).await;
    for (name, _, _, text) in &cases {
        assert_eq!(error(&measured[*name]), *text, "{name}");
        assert_eq!(measured[*name]["value"], Value::Null, "{name}");
    }
    for name in ["garbage", "quoting", "nothing"] {
        let text = error(&measured[name]);
        assert!(text.starts_with("bad_response: "), "{text}");
        assert!(
            text.chars().count() <= "bad_response: ".len() + 200 && !text.contains('\n'),
            "{text}"
        );
    }
    assert_eq!(
        error(&measured["huge"]),
        "response body exceeds limit of 4194304 bytes"
    );
    assert_eq!(
        error(&measured["slow"]),
        format!(
            "POST \"{}\": request timed out after 1s",
            server.url("/slow/api/v1/query")
        )
    );
    assert_eq!(
        error(&measured["busy"]),
        "client_error: client error: 429 (retry after 30s)"
    );
    let gone = error(&measured["gone"]);
    assert!(
        gone.starts_with(&format!("POST \"{}\": ", server.url("/gone/api/v1/query"))),
        "{gone}"
    );
}

#[tokio::test]
async fn a_range_query_gives_all_points_and_bad_time_expressions_are_told() {
    let server = Server::start(|_| {
        Reply::ok(
            r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"pod":"a"},"values":[[1772445480,"120"],[1772445540,"340"]]},{"metric":{"pod":"b"},"values":[[1772445540,"1500"]]}]}}"#,
        )
    });
    let host = Host::start().await;
    let range = |name: &str, start: &str, end: &str, step: &str| {
        json!({"name": name, "successCondition": "all(result, # < 1000)", "provider": {"prometheus": {
            "address": server.url(""), "query": "http_latency_ms", "rangeQuery": {"start": start, "end": end, "step": step}}}})
    };
    let back = "now() - duration(\"5m\")";
    let measured = host
        .measure(json!([
            range("good", back, "now()", "1m"),
            range("start", "5", "now()", "1m"),
            range("end", back, "yesterday", "1m"),
            range("step", back, "now()", "60"),
        ]))
        .await;
    assert_eq!(
        (&measured["good"]["phase"], &measured["good"]["value"]),
        (&json!("Failed"), &json!("[120,340,1500]"))
    );
    let asked = server.asked_once();
    assert_eq!(asked.target, "/api/v1/query_range");
    let seconds = |name: &str| -> f64 {
        let text = asked.form(name).unwrap_or_default();
        text.parse().expect("seconds")
    };
    assert!((seconds("end") - seconds("start") - 300.0).abs() < 0.01);
    assert_eq!(asked.form("step").as_deref(), Some("60"));
    for (name, text) in [
        ("start", "failed to parse rangeQuery.start as time: "),
        ("end", "failed to parse rangeQuery.end as time: "),
        (
            "step",
            "failed to parse rangeQuery.step as duration: time: missing unit in duration \"60\"",
        ),
    ] {
        let told = error(&measured[name]);
        assert!(told.starts_with(text), "{told}");
    }
}
