//! Where the credentials of a request come from: AWS's chain.
//!
//! The chain is decided by what is configured, not by what happens to answer: the profile of the metric, keys in the environment, a web
//! identity, the profile of the environment, a container's endpoint, the machine's. The first that is configured is asked, and a refusal is
//! an error; another identity would not help.

use crossfade_api::providers::Sigv4;

use super::Credentials;
use super::profiles::{Profile, Profiles};

/// The name of sessions that nobody named.
const SESSION: &str = "crossfade";
/// Where containers of ECS ask.
const CONTAINERS: &str = "http://169.254.170.2";
/// Hosts that may be asked for a container's credentials without TLS: this machine, ECS, EKS.
const CONTAINER_HOSTS: [&str; 6] = [
    "localhost",
    "127.0.0.1",
    "[::1]",
    "169.254.170.2",
    "169.254.170.23",
    "[fd00:ec2::23]",
];

/// Looks a variable of the environment up; an empty one is as good as none.
pub(crate) type Variable<'v> = dyn Fn(&str) -> Option<String> + Sync + 'v;

/// Whom to ask, and for which region to sign.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The region that is asked.
    pub(crate) region: String,
    /// Where the credentials come from.
    pub(crate) source: Source,
    /// Where they do not come from, and why, in the order of the chain.
    pub(crate) passed_over: Vec<String>,
    /// The Security Token Service of the region.
    pub(crate) sts: String,
}

/// Where credentials come from.
#[derive(Debug, PartialEq)]
pub(crate) enum Source {
    /// Written down.
    Keys(Credentials),
    /// A role for whoever has a token of the cluster (IRSA).
    WebIdentity {
        role: String,
        session: String,
        token_file: String,
    },
    /// A role for other credentials.
    Role {
        role: String,
        session: String,
        external_id: Option<String>,
        base: Box<Source>,
    },
    /// The endpoint of a container (ECS, EKS Pod Identity).
    Container {
        url: String,
        authorization: Authorization,
    },
    /// The instance metadata service.
    Machine { endpoint: String },
    /// Nothing is configured, and the machine must not be asked.
    Nowhere,
}

/// What a container shows at its endpoint.
#[derive(PartialEq)]
pub(crate) enum Authorization {
    /// Nothing.
    None,
    /// This.
    Value(String),
    /// What is in this file.
    File(String),
}

impl std::fmt::Debug for Authorization {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Value(_) => f.write_str("Value(..)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

/// Decides whom to ask. The error says what is configured wrongly.
pub(crate) fn plan(
    wanted: &Sigv4,
    variable: &Variable<'_>,
    profiles: &Profiles,
) -> Result<Plan, String> {
    let chain = Chain { variable, profiles };
    let selected = match wanted.profile.as_str() {
        "" => variable("AWS_PROFILE").unwrap_or_else(|| "default".to_owned()),
        profile => profile.to_owned(),
    };
    let region = [wanted.region.clone()]
        .into_iter()
        .filter(|region| !region.is_empty())
        .chain(variable("AWS_REGION"))
        .chain(variable("AWS_DEFAULT_REGION"))
        .chain(
            profiles
                .get(&selected)
                .and_then(|profile| own(profile, "region")),
        )
        .next()
        .ok_or("region not configured in sigv4 or in default credentials chain")?;
    let is_region = region
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if !is_region {
        return Err(format!("\"{region}\" is not a region of AWS"));
    }
    let mut passed_over = Vec::new();
    let base = if wanted.profile.is_empty() {
        chain.usual(&selected, &mut passed_over)?
    } else {
        chain.named(&selected, &mut passed_over)?
    };
    let source = if wanted.role_arn.is_empty() || base == Source::Nowhere {
        base
    } else {
        Source::Role {
            role: wanted.role_arn.clone(),
            session: SESSION.to_owned(),
            external_id: None,
            base: Box::new(base),
        }
    };
    let sts = variable("AWS_ENDPOINT_URL_STS")
        .or_else(|| variable("AWS_ENDPOINT_URL"))
        .unwrap_or_else(|| {
            let end = if region.starts_with("cn-") { ".cn" } else { "" };
            format!("https://sts.{region}.amazonaws.com{end}")
        });
    Ok(Plan {
        region,
        source,
        passed_over,
        sts,
    })
}

/// A key of a profile that says something.
fn own(profile: &Profile, key: &str) -> Option<String> {
    profile.get(key).filter(|value| !value.is_empty()).cloned()
}

struct Chain<'c> {
    variable: &'c Variable<'c>,
    profiles: &'c Profiles,
}

impl Chain<'_> {
    /// The chain where the metric names no profile.
    fn usual(&self, selected: &str, passed_over: &mut Vec<String>) -> Result<Source, String> {
        match self.keys() {
            Ok(keys) => return Ok(keys),
            Err(why) => passed_over.push(format!("environment ({why})")),
        }
        match (
            (self.variable)("AWS_WEB_IDENTITY_TOKEN_FILE"),
            (self.variable)("AWS_ROLE_ARN"),
        ) {
            (Some(token_file), Some(role)) => {
                return Ok(Source::WebIdentity {
                    role,
                    session: self.session(),
                    token_file,
                });
            }
            (Some(_), None) => passed_over.push("web identity (no AWS_ROLE_ARN)".to_owned()),
            (None, _) => {
                passed_over.push("web identity (no AWS_WEB_IDENTITY_TOKEN_FILE)".to_owned());
            }
        }
        if self.profiles.get(selected).is_none() && (self.variable)("AWS_PROFILE").is_some() {
            return Err(self.no_profile(selected));
        }
        self.profile_or_machine(selected, passed_over)
    }

    /// The chain where the metric names a profile.
    fn named(&self, selected: &str, passed_over: &mut Vec<String>) -> Result<Source, String> {
        if self.profiles.get(selected).is_none() {
            return Err(self.no_profile(selected));
        }
        self.profile_or_machine(selected, passed_over)
    }

    fn profile_or_machine(
        &self,
        selected: &str,
        passed_over: &mut Vec<String>,
    ) -> Result<Source, String> {
        if let Some(source) = self.profile(selected, &mut Vec::new())? {
            return Ok(source);
        }
        let looked_in = &self.profiles.looked_in;
        passed_over.push(format!("profile \"{selected}\" ({looked_in})"));
        if let Some(source) = self.container()? {
            return Ok(source);
        }
        passed_over
            .push("container (no AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or _FULL_URI)".to_owned());
        let disabled = (self.variable)("AWS_EC2_METADATA_DISABLED")
            .is_some_and(|text| text.eq_ignore_ascii_case("true"));
        if disabled {
            passed_over.push("instance metadata (AWS_EC2_METADATA_DISABLED)".to_owned());
            return Ok(Source::Nowhere);
        }
        Ok(self.machine())
    }

    fn keys(&self) -> Result<Source, String> {
        let wanted = |name: &str| (self.variable)(name).ok_or_else(|| format!("no {name}"));
        Ok(Source::Keys(Credentials {
            id: wanted("AWS_ACCESS_KEY_ID")?,
            secret: wanted("AWS_SECRET_ACCESS_KEY")?,
            token: (self.variable)("AWS_SESSION_TOKEN"),
            expires: None,
        }))
    }

    fn session(&self) -> String {
        (self.variable)("AWS_ROLE_SESSION_NAME").unwrap_or_else(|| SESSION.to_owned())
    }

    fn no_profile(&self, name: &str) -> String {
        format!(
            "there is no AWS profile \"{name}\" ({})",
            self.profiles.looked_in
        )
    }

    /// What a profile says; `None` if it says nothing about credentials. `seen` holds the profiles that led here.
    fn profile(&self, name: &str, seen: &mut Vec<String>) -> Result<Option<Source>, String> {
        let Some(profile) = self.profiles.get(name) else {
            return if seen.is_empty() {
                Ok(None)
            } else {
                Err(self.no_profile(name))
            };
        };
        let get = |key: &str| own(profile, key);
        let keys = || {
            Some(Source::Keys(Credentials {
                id: get("aws_access_key_id")?,
                secret: get("aws_secret_access_key")?,
                token: get("aws_session_token"),
                expires: None,
            }))
        };
        // A profile may name itself as its own source: then its keys are meant.
        if seen.last().is_some_and(|before| before == name) {
            return Ok(keys());
        }
        if seen.iter().any(|before| before == name) {
            return Err(format!(
                "AWS profiles lead to each other in a circle ({} -> {name})",
                seen.join(" -> ")
            ));
        }
        seen.push(name.to_owned());
        if get("role_arn").is_some() && get("mfa_serial").is_some() {
            return Err(format!(
                "AWS profile \"{name}\" wants a code of a second factor (mfa_serial), which a controller cannot give"
            ));
        }
        let Some(role) = get("role_arn") else {
            let Some(keys) = keys() else {
                let other = ["sso_session", "sso_start_url", "credential_process"]
                    .into_iter()
                    .find(|key| profile.contains_key(*key));
                return match other {
                    Some(key) => Err(format!(
                        "AWS profile \"{name}\" uses {key}, which is not supported"
                    )),
                    None => Ok(None),
                };
            };
            return Ok(Some(keys));
        };
        let session = get("role_session_name").unwrap_or_else(|| SESSION.to_owned());
        if let Some(token_file) = get("web_identity_token_file") {
            return Ok(Some(Source::WebIdentity {
                role,
                session,
                token_file,
            }));
        }
        let base = if let Some(source) = get("source_profile") {
            self.profile(&source, seen)?.ok_or_else(|| {
                format!("AWS profile \"{source}\", the source of \"{name}\", holds no credentials")
            })?
        } else {
            self.credential_source(name, get("credential_source").as_deref())?
        };
        Ok(Some(Source::Role {
            role,
            session,
            external_id: get("external_id"),
            base: Box::new(base),
        }))
    }

    fn credential_source(&self, profile: &str, source: Option<&str>) -> Result<Source, String> {
        match source {
            Some("Environment") => self.keys().map_err(|why| {
                format!("AWS profile \"{profile}\" takes its credentials from the environment, and there is {why}")
            }),
            Some("Ec2InstanceMetadata") => Ok(self.machine()),
            Some("EcsContainer") => self.container()?.ok_or_else(|| {
                format!("AWS profile \"{profile}\" takes its credentials from a container, and no endpoint is set")
            }),
            Some(other) => Err(format!(
                "AWS profile \"{profile}\" has the unknown credential_source \"{other}\""
            )),
            None => Err(format!(
                "AWS profile \"{profile}\" has a role_arn, but neither source_profile, credential_source nor web_identity_token_file"
            )),
        }
    }

    fn container(&self) -> Result<Option<Source>, String> {
        let relative = (self.variable)("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
        let full = (self.variable)("AWS_CONTAINER_CREDENTIALS_FULL_URI");
        let url = match (relative, full) {
            (Some(path), _) if path.starts_with('/') => format!("{CONTAINERS}{path}"),
            (Some(_), _) => {
                return Err(
                    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI does not begin with /".to_owned(),
                );
            }
            (None, Some(url)) if may_be_asked(&url) => url,
            (None, Some(_)) => {
                return Err(
                    "AWS_CONTAINER_CREDENTIALS_FULL_URI is neither https nor an address of this machine, of ECS or of EKS"
                        .to_owned(),
                );
            }
            (None, None) => return Ok(None),
        };
        let file = (self.variable)("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
        let value = (self.variable)("AWS_CONTAINER_AUTHORIZATION_TOKEN");
        let authorization = match (file, value) {
            (Some(path), _) => Authorization::File(path),
            (None, Some(value)) => Authorization::Value(value),
            (None, None) => Authorization::None,
        };
        Ok(Some(Source::Container { url, authorization }))
    }

    fn machine(&self) -> Source {
        let by_ipv6 = (self.variable)("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE")
            .is_some_and(|mode| mode.eq_ignore_ascii_case("ipv6"));
        let usual = if by_ipv6 {
            "http://[fd00:ec2::254]"
        } else {
            "http://169.254.169.254"
        };
        let endpoint = (self.variable)("AWS_EC2_METADATA_SERVICE_ENDPOINT");
        let endpoint = endpoint.unwrap_or_else(|| usual.to_owned());
        Source::Machine {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
        }
    }
}

/// Credentials are asked for by TLS, or where nobody can listen.
fn may_be_asked(url: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(url) else {
        return false;
    };
    let host = url.host_str().unwrap_or_default();
    url.scheme() == "https" || url.scheme() == "http" && CONTAINER_HOSTS.contains(&host)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: &str = "[default]\naws_access_key_id = FILE\naws_secret_access_key = s\nregion = eu-west-2\n\
        [profile shop]\nrole_arn = arn:shop\nsource_profile = default\nexternal_id = x\nrole_session_name = me\nregion = cn-north-1\n\
        [profile own]\nrole_arn = arn:own\nsource_profile = own\naws_access_key_id = OWN\naws_secret_access_key = s\n\
        [profile there]\nrole_arn = arn:t\nsource_profile = back\n[profile back]\nrole_arn = arn:b\nsource_profile = there\n\
        [profile lost]\nrole_arn = arn:l\nsource_profile = gone\n[profile empty-source]\nrole_arn = arn:l\nsource_profile = empty\n\
        [profile empty]\nregion = us-west-2\n[profile bare]\nrole_arn = arn:b\n[profile odd]\nrole_arn = arn:o\ncredential_source = Moon\n\
        [profile environment]\nrole_arn = arn:e\ncredential_source = Environment\n\
        [profile machine]\nrole_arn = arn:m\ncredential_source = Ec2InstanceMetadata\n\
        [profile container]\nrole_arn = arn:c\ncredential_source = EcsContainer\n\
        [profile web]\nrole_arn = arn:w\nweb_identity_token_file = /t\n[profile sso]\nsso_session = x\n\
        [profile mfa]\nrole_arn = arn:m\nmfa_serial = 1\nsource_profile = default\n";

    fn planned(wanted: [&str; 3], variables: &[(&str, &str)]) -> Result<Plan, String> {
        let [region, profile, role_arn] = wanted.map(str::to_owned);
        let variable = |name: &str| {
            let known = variables.iter().find(|(known, _)| *known == name);
            known.map(|(_, value)| (*value).to_owned())
        };
        let files = if variables.contains(&("FILES", "")) {
            ""
        } else {
            FILES
        };
        let profiles = Profiles::new(files, "", "none in /c".to_owned());
        let wanted = Sigv4 {
            region,
            profile,
            role_arn,
        };
        plan(&wanted, &variable, &profiles)
    }

    fn source(profile: &str, variables: &[(&str, &str)]) -> Result<Source, String> {
        planned(["eu-west-1", profile, ""], variables).map(|plan| plan.source)
    }

    /// Who is asked in the end, and the roles on the way to it.
    fn told(source: &Source) -> String {
        match source {
            Source::Keys(keys) => keys.id.clone(),
            Source::WebIdentity {
                role,
                session,
                token_file,
            } => format!("{role} as {session} by {token_file}"),
            Source::Role {
                role,
                session,
                external_id,
                base,
            } => {
                let id = external_id.as_deref().unwrap_or("-");
                format!("{role} as {session} ({id}) by {}", told(base))
            }
            Source::Container { url, authorization } => format!("{url} {authorization:?}"),
            Source::Machine { endpoint } => endpoint.clone(),
            Source::Nowhere => "nowhere".to_owned(),
        }
    }

    const KEYS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "ENV"), ("AWS_SECRET_ACCESS_KEY", "s")];
    const WEB: [(&str, &str); 2] = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/w"),
        ("AWS_ROLE_ARN", "arn:irsa"),
    ];
    const NO_FILES: (&str, &str) = ("FILES", "");

    #[test]
    fn the_first_that_is_configured_is_asked() {
        let container = ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/c");
        for (variables, expected) in [
            (vec![KEYS[0], KEYS[1], WEB[0], WEB[1], container], "ENV"),
            (
                vec![KEYS[0], WEB[0], WEB[1], container],
                "arn:irsa as crossfade by /w",
            ),
            (
                vec![WEB[0], WEB[1], ("AWS_ROLE_SESSION_NAME", "me")],
                "arn:irsa as me by /w",
            ),
            (vec![KEYS[0], WEB[0], container], "FILE"),
            (
                vec![("AWS_PROFILE", "own"), container],
                "arn:own as crossfade (-) by OWN",
            ),
            (vec![NO_FILES, container], "http://169.254.170.2/v2/c None"),
            (vec![NO_FILES], "http://169.254.169.254"),
            (
                vec![NO_FILES, ("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "IPv6")],
                "http://[fd00:ec2::254]",
            ),
            (
                vec![NO_FILES, ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://m/")],
                "http://m",
            ),
            (
                vec![NO_FILES, ("AWS_EC2_METADATA_DISABLED", "True")],
                "nowhere",
            ),
        ] {
            let source = source("", &variables).expect("a source");
            assert_eq!(told(&source), expected, "{variables:?}");
        }
    }

    #[test]
    fn a_profile_of_the_metric_comes_before_the_environment() {
        for (profile, expected) in [
            ("default", "FILE"),
            ("shop", "arn:shop as me (x) by FILE"),
            ("own", "arn:own as crossfade (-) by OWN"),
            ("environment", "arn:e as crossfade (-) by ENV"),
            (
                "machine",
                "arn:m as crossfade (-) by http://169.254.169.254",
            ),
            ("web", "arn:w as crossfade by /t"),
            ("empty", "http://169.254.169.254"),
        ] {
            let source = source(profile, &KEYS).expect("a source");
            assert_eq!(told(&source), expected, "{profile}");
        }
    }

    #[test]
    fn what_is_configured_wrongly_is_named() {
        for (profile, expected) in [
            ("gone", "there is no AWS profile \"gone\" (none in /c)"),
            ("lost", "there is no AWS profile \"gone\" (none in /c)"),
            (
                "empty-source",
                "AWS profile \"empty\", the source of \"empty-source\", holds no credentials",
            ),
            (
                "there",
                "AWS profiles lead to each other in a circle (there -> back -> there)",
            ),
            (
                "bare",
                "AWS profile \"bare\" has a role_arn, but neither source_profile, credential_source nor web_identity_token_file",
            ),
            (
                "odd",
                "AWS profile \"odd\" has the unknown credential_source \"Moon\"",
            ),
            (
                "environment",
                "AWS profile \"environment\" takes its credentials from the environment, and there is no AWS_ACCESS_KEY_ID",
            ),
            (
                "container",
                "AWS profile \"container\" takes its credentials from a container, and no endpoint is set",
            ),
            (
                "sso",
                "AWS profile \"sso\" uses sso_session, which is not supported",
            ),
            (
                "mfa",
                "AWS profile \"mfa\" wants a code of a second factor (mfa_serial), which a controller cannot give",
            ),
        ] {
            assert_eq!(source(profile, &[]), Err(expected.to_owned()), "{profile}");
        }
        let gone = source("", &[("AWS_PROFILE", "gone")]);
        assert!(gone.is_err_and(|why| why.contains("no AWS profile \"gone\"")));
    }

    #[test]
    fn a_container_is_asked_by_tls_or_where_nobody_listens() {
        let asked = |url: &str| {
            let full = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", url);
            let file = ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "/token");
            source("", &[NO_FILES, full, file])
        };
        for url in [
            "https://anywhere.example.com/c",
            "http://169.254.170.23/v1/credentials",
            "http://[fd00:ec2::23]/v1/credentials",
            "http://localhost:8080/c",
            "http://[::1]:1/c",
        ] {
            let source = asked(url).expect("a source");
            assert_eq!(told(&source), format!("{url} File(\"/token\")"));
        }
        for url in [
            "http://example.com/c",
            "http://169.254.169.254/c",
            "http://localhost.example.com/c",
            "file:///c",
            "c",
        ] {
            assert!(
                asked(url).is_err_and(
                    |why| why.starts_with("AWS_CONTAINER_CREDENTIALS_FULL_URI is neither")
                ),
                "{url}"
            );
        }
        let token = ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "sesame");
        let path = ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/c");
        let source = source("", &[NO_FILES, path, token]).expect("a source");
        assert_eq!(told(&source), "http://169.254.170.2/c Value(..)");
    }

    #[test]
    fn the_region_of_the_metric_comes_before_the_environment_and_the_profile() {
        let at = ("AWS_REGION", "us-east-1");
        let default = ("AWS_DEFAULT_REGION", "us-east-2");
        for (region, profile, variables, expected) in [
            ("eu-west-1", "", vec![at, default], "eu-west-1"),
            ("", "shop", vec![at, default], "us-east-1"),
            ("", "shop", vec![default], "us-east-2"),
            ("", "shop", vec![], "cn-north-1"),
            ("", "", vec![("AWS_PROFILE", "shop")], "cn-north-1"),
            ("", "", vec![], "eu-west-2"),
        ] {
            let plan = planned([region, profile, ""], &variables).expect("a plan");
            assert_eq!(plan.region, expected);
        }
        for (role, variables) in [
            ("arn:r", vec![NO_FILES]),
            ("", vec![("AWS_PROFILE", "own")]),
        ] {
            assert_eq!(
                planned(["", "", role], &variables).err().as_deref(),
                Some("region not configured in sigv4 or in default credentials chain")
            );
        }
        let evil = planned(["evil.example.com/", "", ""], &[]);
        assert_eq!(
            evil.err().as_deref(),
            Some("\"evil.example.com/\" is not a region of AWS")
        );
    }

    #[test]
    fn the_role_of_the_metric_is_assumed_with_what_the_chain_gives() {
        let plan = planned(["eu-west-1", "shop", "arn:r"], &[]).expect("a plan");
        assert_eq!(
            told(&plan.source),
            "arn:r as crossfade (-) by arn:shop as me (x) by FILE"
        );
        assert_eq!(plan.sts, "https://sts.eu-west-1.amazonaws.com");
        let china = planned(["cn-north-1", "", "arn:r"], &[]).expect("a plan");
        assert_eq!(china.sts, "https://sts.cn-north-1.amazonaws.com.cn");
        let own = [
            ("AWS_ENDPOINT_URL", "http://a"),
            ("AWS_ENDPOINT_URL_STS", "http://b"),
        ];
        let sts = |variables| planned(["x", "", ""], variables).map(|plan| plan.sts);
        assert_eq!(sts(&own[..1]).as_deref(), Ok("http://a"));
        assert_eq!(sts(&own).as_deref(), Ok("http://b"));
    }

    #[test]
    fn everything_that_was_passed_over_is_told() {
        let disabled = ("AWS_EC2_METADATA_DISABLED", "true");
        let plan = planned(["x", "", "arn:r"], &[NO_FILES, disabled]).expect("a plan");
        assert_eq!(plan.source, Source::Nowhere);
        assert_eq!(
            plan.passed_over,
            [
                "environment (no AWS_ACCESS_KEY_ID)",
                "web identity (no AWS_WEB_IDENTITY_TOKEN_FILE)",
                "profile \"default\" (none in /c)",
                "container (no AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or _FULL_URI)",
                "instance metadata (AWS_EC2_METADATA_DISABLED)",
            ]
        );
    }
}
