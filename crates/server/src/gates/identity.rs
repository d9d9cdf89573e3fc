//! Who may do what: client certificates, tokens in a file, and tokens of a cluster.
//!
//! Start at [`Guard::admit`]. The first identity that is shown and known decides; a token is never logged, stored or repeated.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossfade_host::client::Client;
use http::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::record::{GateId, Who};
use super::store::PATIENCE;

/// How long what a cluster said about a token is believed.
const BELIEVED: Duration = Duration::from_secs(30);
/// So many of these answers are remembered at most.
const REMEMBERED: usize = 4096;

/// Which calls need an identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuthMode {
    /// None.
    #[default]
    Off,
    /// Those that change gates, list them, or run tasks.
    Mutations,
    /// All but probes, metrics, `/gate/approve` and `/gate/halt`.
    All,
}

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verb {
    /// Asks whether a gate is open.
    Check,
    /// Opens a gate.
    Open,
    /// Closes a gate.
    Close,
    /// Gives a use back.
    Refund,
    /// Looks at one gate or at many.
    List,
    /// Runs a task.
    Task,
}

impl Verb {
    const ALL: [Self; 6] = [
        Self::Check,
        Self::Open,
        Self::Close,
        Self::Refund,
        Self::List,
        Self::Task,
    ];

    /// As it is written in a file of tokens.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Open => "open",
            Self::Close => "close",
            Self::Refund => "refund",
            Self::List => "list",
            Self::Task => "task",
        }
    }

    /// As roles of a cluster write it.
    fn of_cluster(self) -> &'static str {
        match self {
            Self::Check => "get",
            Self::Open | Self::Close | Self::Refund => "update",
            Self::List => "list",
            Self::Task => "create",
        }
    }

    /// What a word in a file of tokens means: a verb, one of a cluster, or `*`.
    fn of_word(word: &str) -> Vec<Self> {
        let fits = |verb: &Self| word == "*" || verb.word() == word || verb.of_cluster() == word;
        Self::ALL.into_iter().filter(fits).collect()
    }

    fn needs_identity(self, mode: AuthMode) -> bool {
        match mode {
            AuthMode::Off => false,
            AuthMode::Mutations => self != Self::Check,
            AuthMode::All => true,
        }
    }
}

/// Who calls, before that is looked into.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// Where the call comes from.
    pub(super) address: IpAddr,
    /// The subject of the certificate that was shown and verified.
    pub(super) certificate: Option<String>,
    /// The token that was shown.
    pub(super) bearer: Option<String>,
}

/// Why a call is not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// No identity, or one that nobody knows.
    Unauthorized,
    /// A known identity that may not do this.
    Forbidden(Who),
    /// Nobody can say.
    Unavailable(String),
}

/// Lets calls in or not.
#[derive(Debug)]
pub struct Guard {
    mode: AuthMode,
    tokens: Option<PathBuf>,
    reviews: Option<Client>,
    believed: Mutex<BTreeMap<[u8; 32], Believed>>,
}

/// What a cluster said, and when.
type Believed = (Instant, Result<Who, Denied>);

/// One line of a file of tokens.
struct Holder {
    digest: [u8; 32],
    user: String,
    namespaces: String,
    verbs: Vec<Verb>,
}

impl Guard {
    /// A guard who knows the tokens of this file and asks this cluster about others.
    ///
    /// # Errors
    /// The file cannot be read, or a line is not of its form; the text names the line, not what is in it.
    pub fn new(
        mode: AuthMode,
        tokens: Option<PathBuf>,
        reviews: Option<Client>,
    ) -> Result<Self, String> {
        if let Some(file) = &tokens {
            holders(file)?;
        }
        Ok(Self {
            mode,
            tokens,
            reviews: reviews.map(|client| client.answered_within(PATIENCE)),
            believed: Mutex::default(),
        })
    }

    /// Whether nobody is ever asked who they are.
    pub(super) fn is_off(&self) -> bool {
        self.mode == AuthMode::Off
    }

    /// Lets a call in, and says whose it is.
    ///
    /// # Errors
    /// See [`Denied`].
    pub(super) async fn admit(
        &self,
        verb: Verb,
        gate: &GateId,
        caller: &Caller,
    ) -> Result<Who, Denied> {
        let who = |by: &str, auth| Who {
            by: by.to_owned(),
            auth,
            source_ip: caller.address.to_canonical().to_string(),
        };
        if !verb.needs_identity(self.mode) {
            return Ok(who("", "none"));
        }
        if let Some(subject) = &caller.certificate {
            return Ok(who(subject, "mtls"));
        }
        let Some(token) = caller.bearer.as_deref().filter(|token| !token.is_empty()) else {
            return Err(Denied::Unauthorized);
        };
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some(holder) = self.holder(&digest) {
            let known = who(&holder.user, "token");
            let may =
                holder.verbs.contains(&verb) && fits(&holder.namespaces, &gate.canary.namespace);
            return if may {
                Ok(known)
            } else {
                Err(Denied::Forbidden(known))
            };
        }
        let Some(cluster) = &self.reviews else {
            return Err(Denied::Unauthorized);
        };
        let mut key = Sha256::new();
        for part in [
            digest.as_slice(),
            verb.of_cluster().as_bytes(),
            gate.canary.namespace.as_bytes(),
            gate.canary.name.as_bytes(),
            gate.gate.as_bytes(),
        ] {
            key.update(part.len().to_le_bytes());
            key.update(part);
        }
        let key: [u8; 32] = key.finalize().into();
        let answer = if let Some(answer) = self.believed(&key) {
            answer
        } else {
            let answer = review(cluster, token, verb, gate).await;
            if !matches!(answer, Err(Denied::Unavailable(_))) {
                self.believe(key, answer.clone());
            }
            answer
        };
        match answer {
            Ok(known) => Ok(who(&known.by, "kubernetes")),
            Err(Denied::Forbidden(known)) => Err(Denied::Forbidden(who(&known.by, "kubernetes"))),
            Err(other) => Err(other),
        }
    }

    fn holder(&self, digest: &[u8; 32]) -> Option<Holder> {
        // Read anew each time: a token that was taken out of the file is worth nothing from then on.
        match holders(self.tokens.as_deref()?) {
            Ok(holders) => holders.into_iter().find(|holder| holder.digest == *digest),
            Err(error) => {
                tracing::error!(error, "no token of the file is accepted");
                None
            }
        }
    }

    fn believed(&self, key: &[u8; 32]) -> Option<Result<Who, Denied>> {
        let believed = self.believed.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, answer) = believed.get(key)?;
        (since.elapsed() < BELIEVED).then(|| answer.clone())
    }

    fn believe(&self, key: [u8; 32], answer: Result<Who, Denied>) {
        let mut believed = self.believed.lock().unwrap_or_else(PoisonError::into_inner);
        if believed.len() >= REMEMBERED {
            believed.retain(|_, (since, _)| since.elapsed() < BELIEVED);
        }
        if believed.len() < REMEMBERED {
            believed.insert(key, (Instant::now(), answer));
        }
    }
}

/// Reads `token,user,namespaces,verbs` lines.
fn holders(file: &Path) -> Result<Vec<Holder>, String> {
    let text = std::fs::read_to_string(file).map_err(|why| format!("{}: {why}", file.display()))?;
    let mut holders = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |what: &str| {
            format!(
                "{}:{}: {what}; write token,user,namespaces,verbs",
                file.display(),
                number + 1
            )
        };
        let parts: Vec<&str> = line.splitn(4, ',').map(str::trim).collect();
        let [token, user, namespaces, verbs] = parts[..] else {
            return Err(wrong("there are not four parts"));
        };
        if token.is_empty() || user.is_empty() {
            return Err(wrong("token or user is empty"));
        }
        let mut allowed = Vec::new();
        for word in verbs.split([',', '|', ' ']).filter(|word| !word.is_empty()) {
            let meant = Verb::of_word(word);
            if meant.is_empty() {
                return Err(wrong(
                    "a verb is unknown: there are check, open, close, refund, list, task, get, update and *",
                ));
            }
            allowed.extend(meant);
        }
        holders.push(Holder {
            digest: Sha256::digest(token.as_bytes()).into(),
            user: user.to_owned(),
            namespaces: namespaces.to_owned(),
            verbs: allowed,
        });
    }
    Ok(holders)
}

/// Whether a name fits a pattern in which `*` stands for anything.
fn fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, rest)) => name.strip_prefix(head).is_some_and(|name| {
            (0..=name.len()).any(|skipped| name.get(skipped..).is_some_and(|tail| fits(rest, tail)))
        }),
    }
}

/// Asks a cluster whose a token is, and whether they may.
async fn review(cluster: &Client, token: &str, verb: Verb, gate: &GateId) -> Result<Who, Denied> {
    let unavailable = |error: crossfade_host::client::Error| Denied::Unavailable(error.to_string());
    let asked = json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": token},
    });
    let root = "/apis/authentication.k8s.io/v1";
    let answer = cluster
        .at(Method::POST, root, &["tokenreviews"], Some(&asked))
        .await
        .map_err(unavailable)?;
    let status = &answer["status"];
    if status["authenticated"] != true {
        return Err(Denied::Unauthorized);
    }
    let user = &status["user"];
    let who = Who {
        by: user["username"].as_str().unwrap_or_default().to_owned(),
        auth: "kubernetes",
        source_ip: String::new(),
    };
    let subresource = match verb {
        Verb::Task => "task",
        _ if gate.is_rollback() => "rollback",
        _ => "gate",
    };
    let asked = json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": who.by,
            "uid": user["uid"].as_str().unwrap_or_default(),
            "groups": list(&user["groups"]),
            "extra": if user["extra"].is_object() { user["extra"].clone() } else { json!({}) },
            "resourceAttributes": {
                "group": "flagger.app",
                "resource": "canaries",
                "subresource": subresource,
                "verb": verb.of_cluster(),
                "namespace": gate.canary.namespace,
                "name": gate.canary.name,
            },
        },
    });
    let root = "/apis/authorization.k8s.io/v1";
    let answer = cluster
        .at(Method::POST, root, &["subjectaccessreviews"], Some(&asked))
        .await
        .map_err(unavailable)?;
    if answer["status"]["allowed"] == true {
        Ok(who)
    } else {
        Err(Denied::Forbidden(who))
    }
}

fn list(value: &Value) -> Value {
    if value.is_array() {
        value.clone()
    } else {
        json!([])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(bearer: Option<&str>) -> Caller {
        Caller {
            address: IpAddr::from([10, 0, 0, 7]),
            certificate: None,
            bearer: bearer.map(str::to_owned),
        }
    }

    #[test]
    fn patterns_of_namespaces_fit_whole_names() {
        for (pattern, name, expected) in [
            ("*", "anything", true),
            ("test", "test", true),
            ("test", "test2", false),
            ("team-*", "team-a", true),
            ("team-*", "a-team-", false),
            ("*-prod", "a-prod", true),
            ("*-prod", "a-production", false),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "aXcYb", false),
            ("", "x", false),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[tokio::test]
    async fn a_token_of_the_file_may_what_its_line_says() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("tokens");
        std::fs::write(
            &file,
            "# ours\n\ns3cret,anna,team-*,open,close\nro, bert ,*,get|list\n",
        )
        .expect("written");
        let guard = Guard::new(AuthMode::Mutations, Some(file.clone()), None).expect("reads");
        let gate = |namespace| GateId::new(namespace, "web", "default");
        let ask = async |verb, namespace, token| {
            guard.admit(verb, &gate(namespace), &caller(token)).await
        };
        let anna = ask(Verb::Open, "team-a", Some("s3cret"))
            .await
            .expect("she may");
        assert_eq!(
            (anna.by.as_str(), anna.auth, anna.source_ip.as_str()),
            ("anna", "token", "10.0.0.7")
        );
        assert!(matches!(
            ask(Verb::Refund, "team-a", Some("s3cret")).await,
            Err(Denied::Forbidden(_))
        ));
        assert!(matches!(
            ask(Verb::Open, "shop", Some("s3cret")).await,
            Err(Denied::Forbidden(_))
        ));
        assert!(matches!(
            ask(Verb::Open, "shop", Some("ro")).await,
            Err(Denied::Forbidden(_))
        ));
        assert!(ask(Verb::List, "shop", Some("ro")).await.is_ok());
        assert_eq!(
            ask(Verb::Open, "shop", Some("s3cre")).await,
            Err(Denied::Unauthorized)
        );
        assert_eq!(
            ask(Verb::Open, "shop", None).await,
            Err(Denied::Unauthorized)
        );
        assert!(
            ask(Verb::Check, "shop", None).await.is_ok(),
            "checks are free"
        );
        std::fs::write(&file, "").expect("written");
        assert_eq!(
            ask(Verb::Open, "team-a", Some("s3cret")).await,
            Err(Denied::Unauthorized)
        );
    }

    #[test]
    fn a_faulty_file_is_refused_by_its_line_and_without_its_tokens() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("tokens");
        for line in [
            "s3cret",
            "s3cret,anna,*",
            ",anna,*,open",
            "s3cret,anna,*,delete",
        ] {
            std::fs::write(&file, format!("# head\n{line}\n")).expect("written");
            let why = Guard::new(AuthMode::All, Some(file.clone()), None).expect_err(line);
            assert!(why.contains(":2: ") && !why.contains("s3cret"), "{why}");
        }
    }
}
