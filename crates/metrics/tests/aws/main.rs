//! Measurements whose requests are signed for AWS, against servers on loopback that speak as AWS does.

mod server;
mod signature;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossfade_api::analysis::Metric;
use crossfade_api::words::ProviderErrorKind;
use crossfade_metrics::transport::{Taken, Transport};
use crossfade_metrics::{Defaults, Moment, provider};
use jiff::Timestamp;
use serde_json::{Value, json};

use server::{Asked, Reply, Server};
use signature::check;

const SECRET: &str = "sesame/key+of-the-environment";
const ROLE_SECRET: &str = "sesame/key+of-the-role";
const SESSION: &str = "sesame/session==";

fn ok(body: impl Into<String>) -> Reply {
    Reply::Answer(200, body.into())
}

/// A query API that only answers who signed with one of these secrets.
fn workspace(secrets: &'static [&'static str]) -> Server {
    Server::start(move |asked| {
        let known = secrets.iter().any(|secret| check(asked, secret).is_ok());
        if known {
            ok(
                r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"0.99"]}]}}"#,
            )
        } else {
            Reply::Answer(403, String::new())
        }
    })
}

fn in_seconds(seconds: i64) -> String {
    let time = Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Temporary credentials as the token service gives them.
fn lent(secret: &str, seconds: i64) -> String {
    format!(
        "<R><Credentials><AccessKeyId>ASIAROLE</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>\
        <SessionToken>{SESSION}</SessionToken><Expiration>{}</Expiration></Credentials></R>",
        in_seconds(seconds)
    )
}

/// The same as containers and machines give them.
fn given(secret: &str, seconds: i64) -> String {
    json!({"Code": "Success", "AccessKeyId": "ASIAROLE", "SecretAccessKey": secret, "Token": SESSION, "Expiration": in_seconds(seconds)})
        .to_string()
}

/// A transport in an environment of its own.
struct World {
    transport: Transport,
    /// What the environment's folder holds; it is gone with the world.
    folder: tempfile::TempDir,
}

impl World {
    fn new(variables: &[(&str, &str)]) -> Self {
        Self::with_names(variables, None)
    }

    /// One in which every request to this host arrives at that address.
    fn with_names(variables: &[(&str, &str)], name: Option<(&'static str, SocketAddr)>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name).display().to_string();
        let mut all: BTreeMap<String, String> = [
            ("HOME".to_owned(), path("")),
            ("AWS_CONFIG_FILE".to_owned(), path("config")),
            (
                "AWS_SHARED_CREDENTIALS_FILE".to_owned(),
                path("credentials"),
            ),
            // Nothing may be asked outside of this machine.
            (
                "AWS_ENDPOINT_URL".to_owned(),
                "http://127.0.0.1:1".to_owned(),
            ),
            (
                "AWS_EC2_METADATA_SERVICE_ENDPOINT".to_owned(),
                "http://127.0.0.1:1".to_owned(),
            ),
        ]
        .into();
        all.extend(
            variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.replace('~', &path("")))),
        );
        let names = name.map(|(host, address)| {
            let names = move |asked: &str, _: u16| (asked == host).then_some(address);
            Arc::new(names) as crossfade_metrics::transport::Names
        });
        let transport = Transport::new(names)
            .expect("a transport")
            .with_variables(Arc::new(move |name| all.get(name).cloned()));
        Self { transport, folder }
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).expect("a file");
    }

    async fn measure(&self, prometheus: Value) -> Taken {
        let metric = json!({"name": "m", "provider": {"prometheus": prometheus}});
        let metric: Metric = serde_json::from_value(metric).expect("a metric");
        let provider = provider(&metric, &Defaults::default()).expect("a provider");
        let moment = Moment {
            now: Timestamp::now(),
            time: &|_| Err(String::new()),
        };
        self.transport.measure(provider.as_ref(), moment).await
    }

    async fn ask(&self, workspace: &Server, sigv4: Value) -> Taken {
        self.measure(metric(workspace, &sigv4)).await
    }
}

fn metric(workspace: &Server, sigv4: &Value) -> Value {
    json!({"address": workspace.url("/aps-workspaces/ws-1"), "query": "sum by (a) (up{b=\"ü /+\"})",
        "authentication": {"sigv4": sigv4}})
}

fn region() -> Value {
    json!({"region": "eu-west-1"})
}

#[track_caller]
fn succeeded(taken: &Taken) {
    assert_eq!(
        taken.reading.as_ref().map(|reading| &*reading.display),
        Ok("[0.99]")
    );
}

/// The message of a measurement without credentials. No secret is in it.
#[track_caller]
fn no_credentials(taken: &Taken) -> String {
    let error = taken.reading.as_ref().expect_err("an error");
    assert_eq!(error.kind, ProviderErrorKind::Credentials, "{error:?}");
    let told = format!("{:?}", taken.reading);
    assert!(!told.contains("sesame"), "{told}");
    error.message.clone()
}

/// What would be hidden of what the measurement tells.
#[track_caller]
fn hides(taken: &Taken, secrets: &[&str]) {
    for secret in secrets {
        assert!(
            taken.credentials.iter().any(|known| known == secret),
            "{secret}"
        );
    }
}

const KEYS: [(&str, &str); 2] = [
    ("AWS_ACCESS_KEY_ID", "AKIAENV"),
    ("AWS_SECRET_ACCESS_KEY", SECRET),
];

#[tokio::test]
async fn a_request_is_signed_as_the_server_sees_it() {
    let workspace = workspace(&[SECRET]);
    let world = World::new(&KEYS);
    let taken = world.ask(&workspace, region()).await;
    succeeded(&taken);
    let asked = workspace.asked();
    let checked = check(&asked[0], SECRET).expect("a signature");
    assert_eq!(
        (&*checked.id, &*checked.region, &*checked.service),
        ("AKIAENV", "eu-west-1", "aps")
    );
    assert_eq!(checked.signed_headers, "content-type;host;x-amz-date");
    assert_eq!(asked[0].target, "/aps-workspaces/ws-1/api/v1/query");
    let (_, signature) = asked[0]
        .header("authorization")
        .and_then(|header| header.rsplit_once("Signature="))
        .expect("a signature");
    hides(&taken, &["AKIAENV", SECRET, signature]);
    let other = check(&asked[0], "another");
    assert_eq!(other, Err("the signature is wrong".to_owned()));
}

#[tokio::test]
async fn the_same_parameters_by_get_are_signed_too() {
    let workspace = Server::start(|asked| match asked.method.as_str() {
        "POST" => Reply::Answer(405, String::new()),
        _ => ok(r#"{"status":"success","data":{"resultType":"scalar","result":[1,"0.99"]}}"#),
    });
    let world = World::new(&KEYS);
    let mut metric = metric(&workspace, &region());
    metric["address"] = json!(workspace.url("/aps-workspaces/w%20s?z=a+b&a=%2f"));
    let taken = world.measure(metric).await;
    assert!(taken.reading.is_ok(), "{:?}", taken.reading);
    let asked = workspace.asked();
    let methods: Vec<&str> = asked.iter().map(|asked| asked.method.as_str()).collect();
    assert_eq!(methods, ["POST", "GET"]);
    for asked in &asked {
        check(asked, SECRET).expect("a signature");
    }
    let query =
        "z=a%20b&a=%2f&query=sum%20by%20%28a%29%20%28up%7Bb%3D%22%C3%BC%20%2F%2B%22%7D%29&time=";
    assert!(asked[1].target.contains(query), "{}", asked[1].target);
}

#[tokio::test]
async fn providers_07_another_address_is_not_signed_and_nobody_is_asked_for_credentials() {
    let server = workspace(&[SECRET]);
    let world = World::new(&[]);
    for (address, sigv4) in [
        (server.url("/prom"), region()),
        (server.url("/aps-workspaces"), json!({})),
    ] {
        let authentication = json!({"sigv4": sigv4});
        world
            .measure(json!({"address": address, "query": "up", "authentication": authentication}))
            .await;
    }
    let asked = server.asked();
    assert_eq!(asked.len(), 4, "each by POST and, refused, by GET");
    for asked in asked {
        assert_eq!(asked.header("authorization"), None);
        assert_eq!(asked.header("x-amz-date"), None);
    }
}

#[tokio::test]
async fn a_signature_takes_the_place_of_name_and_token_and_own_headers_override_it() {
    let workspace = workspace(&[SECRET]);
    let world = World::new(&KEYS);
    let mut basic = metric(&workspace, &region());
    basic["authentication"]["basicAuth"] = json!({"username": "u", "password": "p"});
    basic["headers"] = json!([{"key": "X-Scope-OrgID", "value": "tenant"}, {"key": "Content-Type", "value": "application/x-www-form-urlencoded;v=1"}]);
    let mut token = metric(&workspace, &region());
    token["authentication"]["oauth2"] =
        json!({"tokenUrl": "http://127.0.0.1:1/token", "clientId": "c", "clientSecret": "s"});
    let mut own = metric(&workspace, &region());
    own["headers"] = json!([{"key": "authorization", "value": "Own 1"}]);
    succeeded(&world.measure(basic).await);
    succeeded(&world.measure(token).await);
    world.measure(own).await;
    let asked = workspace.asked();
    assert_eq!(asked[0].header("x-scope-orgid"), Some("tenant"));
    let checked = check(&asked[0], SECRET).expect("a signature");
    assert_eq!(checked.signed_headers, "content-type;host;x-amz-date");
    assert_eq!(asked[2].header("authorization"), Some("Own 1"));
}

#[tokio::test]
async fn a_redirect_is_signed_anew_on_the_same_server_and_not_for_another() {
    let other = Server::start(|_| ok("{}"));
    let there = other.url("/aps-workspaces");
    let workspace = Server::start(move |asked| {
        let next = "/aps-workspaces/next";
        let location = if asked.target == next { &there } else { next };
        Reply::Answer(307, location.to_owned())
    });
    let world = World::new(&KEYS);
    world.measure(metric(&workspace, &region())).await;
    let asked = workspace.asked();
    assert_eq!(asked.len(), 2);
    for asked in &asked {
        check(asked, SECRET).expect("a signature");
    }
    let elsewhere = other.asked();
    assert_eq!(elsewhere.len(), 1);
    assert_eq!(elsewhere[0].header("authorization"), None);
    assert_eq!(elsewhere[0].header("x-amz-date"), None);
}

#[tokio::test]
async fn the_role_of_the_metric_is_assumed_once_and_kept_until_shortly_before_it_ends() {
    let workspace = workspace(&[ROLE_SECRET]);
    let sts = Server::start(|_| ok(lent(ROLE_SECRET, 3600)));
    let world = World::new(&[KEYS[0], KEYS[1], ("AWS_ENDPOINT_URL_STS", &sts.url(""))]);
    let role = json!({"region": "eu-west-1", "roleArn": "arn:aws:iam::1:role/r"});
    for _ in 0..3 {
        let taken = world.ask(&workspace, role.clone()).await;
        succeeded(&taken);
        hides(&taken, &[ROLE_SECRET, SESSION]);
    }
    let asked = sts.asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    let checked = check(&asked[0], SECRET).expect("a signature");
    assert_eq!((&*checked.region, &*checked.service), ("eu-west-1", "sts"));
    assert_eq!(asked[0].form("Action").as_deref(), Some("AssumeRole"));
    assert_eq!(asked[0].form("Version").as_deref(), Some("2011-06-15"));
    assert_eq!(
        asked[0].form("RoleArn").as_deref(),
        Some("arn:aws:iam::1:role/r")
    );
    assert_eq!(
        asked[0].form("RoleSessionName").as_deref(),
        Some("crossfade")
    );
    for asked in workspace.asked() {
        let checked = check(&asked, ROLE_SECRET).expect("a signature");
        assert_eq!(
            checked.signed_headers,
            "content-type;host;x-amz-date;x-amz-security-token"
        );
        assert_eq!(checked.token.as_deref(), Some(SESSION));
    }
    let other = json!({"region": "eu-west-1", "roleArn": "arn:aws:iam::1:role/other"});
    succeeded(&world.ask(&workspace, other).await);
    assert_eq!(sts.asked().len(), 2, "another role is asked for");
}

#[tokio::test]
async fn what_ends_soon_is_renewed_and_used_on_where_that_fails() {
    let workspace = workspace(&[ROLE_SECRET]);
    let times = AtomicUsize::new(0);
    let sts = Server::start(move |_| match times.fetch_add(1, Ordering::Relaxed) {
        0 | 1 => ok(lent(ROLE_SECRET, 60)),
        2 => Reply::Answer(503, "sesame".to_owned()),
        3 => ok(lent(ROLE_SECRET, -60)),
        _ => Reply::Answer(503, "sesame".to_owned()),
    });
    let world = World::new(&[KEYS[0], KEYS[1], ("AWS_ENDPOINT_URL_STS", &sts.url(""))]);
    let role = || json!({"region": "eu-west-1", "roleArn": "arn:aws:iam::1:role/r"});
    for asked in 1..=4 {
        succeeded(&world.ask(&workspace, role()).await);
        assert_eq!(sts.asked().len(), asked);
    }
    let taken = world.ask(&workspace, role()).await;
    assert_eq!(
        no_credentials(&taken),
        "no AWS credentials: tried role (arn:aws:iam::1:role/r: status 503)",
        "what has ended is not used"
    );
}

#[tokio::test]
async fn refused_credentials_are_replaced_at_once() {
    let workspace = workspace(&[ROLE_SECRET]);
    let times = AtomicUsize::new(0);
    let sts = Server::start(move |_| match times.fetch_add(1, Ordering::Relaxed) {
        0 => ok(lent("revoked", 3600)),
        _ => ok(lent(ROLE_SECRET, 3600)),
    });
    let world = World::new(&[KEYS[0], KEYS[1], ("AWS_ENDPOINT_URL_STS", &sts.url(""))]);
    let role = || json!({"region": "eu-west-1", "roleArn": "arn:aws:iam::1:role/r"});
    // The second request of a measurement, by GET, is signed with the new ones.
    succeeded(&world.ask(&workspace, role()).await);
    succeeded(&world.ask(&workspace, role()).await);
    assert_eq!((sts.asked().len(), workspace.asked().len()), (2, 3));
}

#[tokio::test]
async fn a_web_identity_is_shown_to_the_token_service_unsigned() {
    let workspace = workspace(&[ROLE_SECRET]);
    let sts = Server::start(|_| ok(lent(ROLE_SECRET, 3600)));
    let world = World::new(&[
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "~/token"),
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/irsa"),
        ("AWS_ROLE_SESSION_NAME", "me"),
        ("AWS_REGION", "eu-north-1"),
        ("AWS_ENDPOINT_URL_STS", &sts.url("")),
    ]);
    let profile = json!({"roleArn": ""});
    let nothing = world.ask(&workspace, profile).await;
    assert!(nothing.reading.is_err(), "nothing asks for a signature");
    world.write("token", "sesame.of.the.cluster\n");
    let taken = world.ask(&workspace, region()).await;
    succeeded(&taken);
    hides(&taken, &["sesame.of.the.cluster", ROLE_SECRET, SESSION]);
    let asked = &sts.asked()[0];
    assert_eq!(asked.header("authorization"), None);
    for (name, value) in [
        ("Action", "AssumeRoleWithWebIdentity"),
        ("RoleArn", "arn:aws:iam::1:role/irsa"),
        ("RoleSessionName", "me"),
        ("WebIdentityToken", "sesame.of.the.cluster"),
    ] {
        assert_eq!(asked.form(name).as_deref(), Some(value));
    }
}

#[tokio::test]
async fn a_profile_gives_keys_a_role_and_the_region() {
    let workspace = workspace(&[SECRET, ROLE_SECRET]);
    let sts = Server::start(|_| ok(lent(ROLE_SECRET, 3600)));
    let world = World::new(&[("AWS_ENDPOINT_URL_STS", &sts.url(""))]);
    world.write(
        "config",
        "[profile base]\nregion = ap-south-1\n[profile shop]\nrole_arn = arn:aws:iam::1:role/shop\nsource_profile = base\nregion = us-west-2\n",
    );
    let keys =
        |id: &str| format!("[base]\naws_access_key_id = {id}\naws_secret_access_key = {SECRET}\n");
    world.write("credentials", &keys("AKIAONE"));
    let base = || json!({"profile": "base"});
    succeeded(&world.ask(&workspace, base()).await);
    world.write("credentials", &keys("AKIATWO"));
    succeeded(&world.ask(&workspace, base()).await);
    succeeded(&world.ask(&workspace, json!({"profile": "shop"})).await);
    let asked = workspace.asked();
    let seen = |asked: &Asked, secret| {
        let checked = check(asked, secret).expect("a signature");
        (checked.id, checked.region)
    };
    let own = |id: &str, region: &str| (id.to_owned(), region.to_owned());
    assert_eq!(seen(&asked[0], SECRET), own("AKIAONE", "ap-south-1"));
    assert_eq!(
        seen(&asked[1], SECRET),
        own("AKIATWO", "ap-south-1"),
        "changed keys count at once"
    );
    assert_eq!(seen(&asked[2], ROLE_SECRET), own("ASIAROLE", "us-west-2"));
    assert_eq!(
        seen(&sts.asked()[0], SECRET),
        own("AKIATWO", "us-west-2"),
        "the role is asked for in the region of the metric"
    );
}

#[tokio::test]
async fn a_container_asks_its_endpoint_with_what_its_file_holds_now() {
    let workspace = workspace(&[ROLE_SECRET]);
    let endpoint = Server::start(|asked| match asked.header("authorization") {
        Some("sesame-1" | "sesame-2") => ok(given(ROLE_SECRET, 60)),
        _ => Reply::Answer(401, "sesame".to_owned()),
    });
    let world = World::new(&[
        (
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            &endpoint.url("/v1/credentials"),
        ),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "~/token"),
    ]);
    let missing = no_credentials(&world.ask(&workspace, region()).await);
    assert!(missing.contains("container (cannot read "), "{missing}");
    world.write("token", "sesame-1\n");
    let taken = world.ask(&workspace, region()).await;
    succeeded(&taken);
    hides(&taken, &["sesame-1", ROLE_SECRET, SESSION]);
    world.write("token", "sesame-2");
    succeeded(&world.ask(&workspace, region()).await);
    let asked = &endpoint.asked()[1];
    assert_eq!(asked.header("authorization"), Some("sesame-2"));
    assert_eq!(asked.target, "/v1/credentials");
}

#[tokio::test]
async fn a_task_of_ecs_asks_at_the_address_of_ecs() {
    let workspace = workspace(&[ROLE_SECRET]);
    let endpoint = Server::start(|asked| match asked.target.as_str() {
        "/v2/credentials/1" => ok(given(ROLE_SECRET, 3600)),
        _ => Reply::Answer(404, String::new()),
    });
    let world = World::with_names(
        &[(
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
            "/v2/credentials/1",
        )],
        Some(("169.254.170.2", endpoint.address)),
    );
    succeeded(&world.ask(&workspace, region()).await);
    succeeded(&world.ask(&workspace, region()).await);
    assert_eq!(endpoint.asked().len(), 1);
}

/// A metadata service that wants a session; it knows this answer for its role.
fn metadata(role: &'static str) -> Server {
    Server::start(move |asked| {
        let in_session = asked.header("x-aws-ec2-metadata-token") == Some("sesame-session");
        match (asked.method.as_str(), asked.target.as_str()) {
            ("PUT", "/latest/api/token")
                if asked
                    .header("x-aws-ec2-metadata-token-ttl-seconds")
                    .is_some() =>
            {
                ok("sesame-session")
            }
            _ if !in_session => Reply::Answer(401, String::new()),
            (_, "/latest/meta-data/iam/security-credentials/") if role.is_empty() => {
                Reply::Answer(404, String::new())
            }
            ("GET", "/latest/meta-data/iam/security-credentials/") => ok(role),
            ("GET", "/latest/meta-data/iam/security-credentials/node") => {
                ok(given(ROLE_SECRET, 3600))
            }
            _ => Reply::Answer(400, String::new()),
        }
    })
}

#[tokio::test]
async fn a_machine_asks_its_metadata_service_in_a_session() {
    let workspace = workspace(&[ROLE_SECRET]);
    let endpoint = metadata("node\n");
    let world = World::new(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &endpoint.url("/"))]);
    let taken = world.ask(&workspace, region()).await;
    succeeded(&taken);
    hides(&taken, &["sesame-session", ROLE_SECRET, SESSION]);
    succeeded(&world.ask(&workspace, region()).await);
    assert_eq!(
        endpoint.asked().len(),
        3,
        "the second time nothing is asked"
    );
}

#[tokio::test]
async fn without_credentials_the_error_names_what_was_tried() {
    let workspace = workspace(&[]);
    let world = World::new(&[
        ("AWS_ACCESS_KEY_ID", "AKIAENV"),
        ("AWS_SESSION_TOKEN", "sesame"),
    ]);
    let folder = world.folder.path().display();
    assert_eq!(
        no_credentials(&world.ask(&workspace, region()).await),
        format!(
            "no AWS credentials: tried environment (no AWS_SECRET_ACCESS_KEY), \
            web identity (no AWS_WEB_IDENTITY_TOKEN_FILE), profile \"default\" (no {folder}/config, no {folder}/credentials), \
            container (no AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or _FULL_URI), \
            instance metadata (PUT \"http://127.0.0.1:1/latest/api/token\": connection refused)"
        )
    );
    let disabled = World::new(&[("AWS_EC2_METADATA_DISABLED", "true")]);
    let told = no_credentials(&disabled.ask(&workspace, region()).await);
    assert!(
        told.ends_with("instance metadata (AWS_EC2_METADATA_DISABLED)"),
        "{told}"
    );
    assert!(workspace.asked().is_empty(), "nothing is asked unsigned");
}

#[tokio::test]
async fn without_a_region_nobody_is_asked() {
    let workspace = workspace(&[]);
    let world = World::new(&KEYS);
    let role = json!({"roleArn": "arn:aws:iam::1:role/r"});
    let taken = world.ask(&workspace, role).await;
    let error = taken.reading.expect_err("no region");
    assert_eq!(error.kind, ProviderErrorKind::Config);
    assert_eq!(
        error.message,
        "region not configured in sigv4 or in default credentials chain"
    );
    assert!(workspace.asked().is_empty());
}

#[tokio::test]
async fn endpoints_that_refuse_or_stay_silent_are_named_without_what_they_say() {
    let workspace = workspace(&[]);
    let silent = Server::start(|_| Reply::Silence);
    let garbage = Server::start(|_| ok("sesame"));
    let denied = Server::start(|_| {
        Reply::Answer(403, "<E><Error><Code>AccessDenied</Code><Message>arn:aws:iam::1:user/u may not</Message></Error></E>".to_owned())
    });
    let no_role = metadata("");
    let role = || json!({"region": "eu-west-1", "roleArn": "arn:r"});
    for (variables, sigv4, expected) in [
        (
            vec![("AWS_EC2_METADATA_SERVICE_ENDPOINT", silent.url(""))],
            region(),
            "/latest/api/token\": request timed out after 5s)",
        ),
        (
            vec![("AWS_EC2_METADATA_SERVICE_ENDPOINT", no_role.url(""))],
            region(),
            "instance metadata (the machine has no role)",
        ),
        (
            vec![("AWS_CONTAINER_CREDENTIALS_FULL_URI", garbage.url("/"))],
            region(),
            "container (the answer holds no credentials)",
        ),
        (
            vec![
                ("AWS_ENDPOINT_URL_STS", denied.url("")),
                ("AWS_ACCESS_KEY_ID", "AKIAENV".to_owned()),
                ("AWS_SECRET_ACCESS_KEY", SECRET.to_owned()),
            ],
            role(),
            "tried role (arn:r: AccessDenied: arn:aws:iam::1:user/u may not)",
        ),
        (
            vec![
                ("AWS_ENDPOINT_URL_STS", garbage.url("")),
                ("AWS_ACCESS_KEY_ID", "AKIAENV".to_owned()),
                ("AWS_SECRET_ACCESS_KEY", SECRET.to_owned()),
            ],
            role(),
            "tried role (arn:r: the answer holds no credentials: no AccessKeyId)",
        ),
    ] {
        let variables: Vec<_> = variables
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let told = no_credentials(&World::new(&variables).ask(&workspace, sigv4).await);
        assert!(told.ends_with(expected), "{told}");
    }
}

#[tokio::test]
async fn credentials_count_towards_the_time_limit_of_the_measurement() {
    let workspace = workspace(&[]);
    let silent = Server::start(|_| Reply::Silence);
    let world = World::new(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &silent.url("/c"))]);
    let mut metric = metric(&workspace, &region());
    metric["timeout"] = json!(3);
    let error = world.measure(metric).await.reading.expect_err("no answer");
    assert_eq!(error.kind, ProviderErrorKind::Timeout);
    assert_eq!(
        error.message,
        format!("GET \"{}\": request timed out after 3s", silent.url("/c"))
    );
}
