//! The web provider against servers that answer with JSON, with text, or badly.

use serde_json::{Value, json};

use super::host::{Host, error};
use super::server::{Reply, Server};

fn metric(name: &str, condition: &str, web: Value) -> Value {
    json!({"name": name, "successCondition": condition, "provider": {"web": web}})
}

#[tokio::test]
async fn providers_13_an_answer_of_null_is_nothing_and_harms_nobody() {
    let server = Server::start(|_| Reply::ok("null"));
    let host = Host::start().await;
    let before = host.pid();
    let measured = host
        .measure(json!([metric(
            "m",
            "isNil(result)",
            json!({"url": server.url("/")})
        )]))
        .await;
    assert_eq!(
        (&measured["m"]["phase"], &measured["m"]["value"]),
        (&json!("Successful"), &json!("null"))
    );
    let again = host
        .measure(json!([metric(
            "m",
            "isNil(result)",
            json!({"url": server.url("/")})
        )]))
        .await;
    assert_eq!(again["m"]["phase"], "Successful", "the host keeps running");
    assert_eq!(host.pid(), before);
}

#[tokio::test]
async fn providers_14_plain_text_is_a_value_and_no_other_status_than_2xx_is_good() {
    let server = Server::start(|asked| match asked.target.as_str() {
        "/ok" => Reply::ok("OK"),
        "/created" => Reply::status(201, "[1,2.5,\"<a>\"]"),
        status => Reply::status(status[1..].parse().unwrap_or(500), "B"),
    });
    let host = Host::start().await;
    let bad = [300, 304, 401, 404, 500, 503];
    let mut metrics = vec![
        metric(
            "ok",
            "result == 'OK'",
            json!({"url": server.url("/ok"), "jsonPath": "{$.ignored}"}),
        ),
        metric(
            "created",
            "result[1] == 2.5",
            json!({"url": server.url("/created")}),
        ),
    ];
    metrics.extend(bad.iter().map(|status| {
        metric(
            &format!("s{status}"),
            "true",
            json!({"url": server.url(&format!("/{status}"))}),
        )
    }));
    let measured = host.measure(json!(metrics)).await;
    assert_eq!(
        (&measured["ok"]["phase"], &measured["ok"]["value"]),
        (&json!("Successful"), &json!("OK"))
    );
    assert_eq!(
        (&measured["created"]["phase"], &measured["created"]["value"]),
        (&json!("Successful"), &json!(r#"[1,2.5,"\u003ca\u003e"]"#))
    );
    for status in bad {
        assert_eq!(
            error(&measured[&format!("s{status}")]),
            format!("received non 2xx response code: {status}")
        );
    }
}

#[tokio::test]
async fn providers_15_the_first_value_of_a_path_counts_and_none_is_an_error() {
    let server = Server::start(|asked| {
        Reply::ok(if asked.target == "/none" {
            r#"{"items":[]}"#
        } else {
            r#"{"items":[{"x":1},{"x":2}]}"#
        })
    });
    let host = Host::start().await;
    let path = "{$.items[*].x}";
    let measured = host
        .measure(json!([
            metric(
                "none",
                "true",
                json!({"url": server.url("/none"), "jsonPath": path})
            ),
            metric(
                "two",
                "result == 1",
                json!({"url": server.url("/two"), "jsonPath": path})
            ),
            metric(
                "missing",
                "true",
                json!({"url": server.url("/two"), "jsonPath": "{$.nope}"})
            ),
            metric(
                "bare",
                "true",
                json!({"url": server.url("/two"), "jsonPath": "$.items"})
            ),
            metric(
                "broken",
                "true",
                json!({"url": server.url("/two"), "jsonPath": "{$.items["})
            ),
        ]))
        .await;
    assert_eq!(
        error(&measured["none"]),
        "result of web metric produced no value"
    );
    assert_eq!(
        (&measured["two"]["phase"], &measured["two"]["value"]),
        (&json!("Successful"), &json!("1"))
    );
    assert_eq!(
        error(&measured["missing"]),
        "Could not find JSONPath in body: nope is not found"
    );
    assert_eq!(error(&measured["bare"]), "jsonPath must be enclosed in {}");
    assert!(!error(&measured["broken"]).is_empty());
    assert_eq!(
        server.asked().len(),
        3,
        "a path that cannot be read is told before anybody is asked"
    );
}

#[tokio::test]
async fn providers_16_a_body_needs_another_method_than_get_and_is_of_one_kind() {
    let server = Server::start(|_| Reply::ok("1"));
    let host = Host::start().await;
    let url = server.url("/");
    let measured = host
        .measure(json!([
            metric(
                "get",
                "true",
                json!({"url": url, "method": "GET", "body": "x"})
            ),
            metric(
                "json-get",
                "true",
                json!({"url": url, "jsonBody": {"a": 1}})
            ),
            metric(
                "both",
                "true",
                json!({"url": url, "method": "POST", "body": "x", "jsonBody": {"a": 1}})
            ),
        ]))
        .await;
    for name in ["get", "json-get"] {
        assert_eq!(
            error(&measured[name]),
            "Body/JSONBody can only be used with POST or PUT WebMetric Method types"
        );
    }
    assert_eq!(
        error(&measured["both"]),
        "use either Body or JSONBody; both cannot exists for WebMetric payload"
    );
    assert_eq!(server.asked().len(), 0, "nobody is asked");
}

#[tokio::test]
async fn bodies_arguments_and_headers_are_sent_as_written() {
    let server = Server::start(|_| Reply::ok("true"));
    let host = Host::start().await;
    let to = |path: &str| server.url(path);
    let measured = host
        .measure_with(
            json!([
                metric("text", "result", json!({"url": to("/text"), "method": "POST", "body": "v={{args.version}}"})),
                metric("json", "result", json!({"url": to("/json"), "method": "PUT", "jsonBody": {"deep": [{"v": "{{args.version}}"}]},
                    "headers": [{"key": "Content-Type", "value": "text/plain"}, {"key": "X-Version", "value": "{{ args.version }}"}]})),
                metric("delete", "result", json!({"url": to("/delete?v={{args.version}}"), "method": "DELETE"})),
            ]),
            json!([{"name": "version", "value": "a\"b"}]),
        )
        .await;
    for name in ["text", "json", "delete"] {
        assert_eq!(measured[name]["phase"], "Successful", "{measured:?}");
    }
    let asked = server.asked();
    let of = |path: &str| {
        asked
            .iter()
            .find(|asked| asked.target.starts_with(path))
            .expect("it was asked")
    };
    assert_eq!(
        (of("/text").method.as_str(), of("/text").body.as_str()),
        ("POST", "v=a\"b")
    );
    assert_eq!(
        (of("/json").method.as_str(), of("/json").body.as_str()),
        ("PUT", r#"{"deep":[{"v":"a\"b"}]}"#)
    );
    assert_eq!(
        of("/json").header("content-type").as_deref(),
        Some("application/json"),
        "the kind of a JSON body outweighs a custom header"
    );
    assert_eq!(of("/json").header("x-version").as_deref(), Some("a\"b"));
    assert_eq!(of("/delete").method, "DELETE");
    assert_eq!(of("/delete").target, "/delete?v=a%22b");
}

#[tokio::test]
async fn whatever_a_server_answers_there_is_one_measurement_that_says_so() {
    let server = Server::start(|asked| match asked.target.as_str() {
        "/empty" => Reply::ok(""),
        "/garbage" => Reply::Answer(200, Vec::new(), vec![0xff, 0xfe, b'a']),
        "/nan" => Reply::ok("NaN"),
        "/deep" => Reply::ok(&"[".repeat(200_000)),
        "/long" => Reply::ok(&format!("\"{}\"", "é".repeat(20_000))),
        "/number" => Reply::ok("123456789012345678901234567890"),
        "/raw" => Reply::Raw(b"SSH-2.0-OpenSSH_9.6\r\n"),
        "/header" => Reply::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n1"),
        "/short" => Reply::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"),
        "/slow" => Reply::Trickle,
        "/silent" => Reply::Silence,
        _ => Reply::HangUp,
    });
    let host = Host::start().await;
    let one = |name: &str, condition: &str| {
        let seconds = if ["slow", "silent"].contains(&name) {
            1
        } else {
            20
        };
        let url = server.url(&format!("/{name}"));
        metric(
            name,
            condition,
            json!({"url": url, "timeoutSeconds": seconds}),
        )
    };
    let measured = host
        .measure(json!([
            one("empty", "result == ''"),
            one("garbage", "len(result) > 0"),
            one("nan", "result == 'NaN'"),
            one("deep", "len(result) == 200000"),
            one("long", "len(result) == 20000"),
            one("number", "result > 1.2e29"),
            one("raw", "true"),
            one("header", "true"),
            one("short", "true"),
            one("slow", "true"),
            one("silent", "true"),
            one("gone", "true"),
        ]))
        .await;
    for name in ["empty", "garbage", "nan", "deep", "long", "number"] {
        assert_eq!(
            measured[name]["phase"], "Successful",
            "{name}: {}",
            measured[name]["message"]
        );
    }
    let shown = measured["long"]["value"].as_str().expect("a value");
    assert!(
        shown.ends_with("… (truncated, 40002 bytes)") && shown.len() < 16_384 + 64,
        "{}",
        shown.len()
    );
    assert!(
        measured["deep"]["value"]
            .as_str()
            .is_some_and(|shown| shown.ends_with("… (truncated, 200000 bytes)"))
    );
    for name in ["raw", "header", "short", "gone"] {
        let text = error(&measured[name]);
        let place = format!("GET \"{}\": ", server.url(&format!("/{name}")));
        assert!(
            text.starts_with(&place) && text.len() > place.len(),
            "{text}"
        );
    }
    for name in ["slow", "silent"] {
        assert_eq!(
            error(&measured[name]),
            format!(
                "GET \"{}\": request timed out after 1s",
                server.url(&format!("/{name}"))
            )
        );
    }
}
