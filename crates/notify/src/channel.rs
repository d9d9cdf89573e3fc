//! Channels through which people are told, as AlertProviders describe them.

use std::collections::BTreeMap;

use crossfade_api::flagger::{AlertProviderKind, AlertProviderSpec, Severity};
use crossfade_http::Http;

use crate::slack::Slack;

/// News for people.
#[derive(Clone, Debug, PartialEq)]
pub struct News {
    /// How grave it is.
    pub severity: Severity,
    /// Whom it is about: `NAME.NAMESPACE`.
    pub about: String,
    /// The text.
    pub text: String,
    /// Names and values, in order.
    pub fields: Vec<(String, String)>,
}

/// A channel.
#[derive(Clone)]
pub enum Channel {
    /// Slack.
    Slack(Slack),
}

/// The key of a Secret that holds the address.
const ADDRESS: &str = "address";
/// The key of a Secret that holds the token.
const TOKEN: &str = "token";

impl Channel {
    /// The channel of an AlertProvider; `secret` is what the Secret holds that it names.
    ///
    /// # Errors
    /// What is missing, or that a type is not delivered to yet, without what is secret.
    pub fn of(
        spec: &AlertProviderSpec,
        secret: Option<&BTreeMap<String, String>>,
    ) -> Result<Self, String> {
        let address = match (&spec.secret_ref, secret) {
            (None, _) => &spec.address,
            (Some(named), None) => return Err(format!("secrets \"{}\" not found", named.name)),
            (Some(named), Some(secret)) => secret
                .get(ADDRESS)
                .ok_or_else(|| format!("the Secret {} has no key {ADDRESS}", named.name))?,
        };
        let token = secret.and_then(|secret| secret.get(TOKEN));
        match spec.kind {
            AlertProviderKind::Slack => {
                Slack::new(spec, address.trim(), token.map(|t| t.trim())).map(Self::Slack)
            }
            AlertProviderKind::Unknown => Err("its type is not known; use slack".to_owned()),
            AlertProviderKind::MsTeams
            | AlertProviderKind::Discord
            | AlertProviderKind::Rocket
            | AlertProviderKind::GChat => Err(format!(
                "{} is not delivered to yet; use slack",
                spec.kind.as_str()
            )),
        }
    }

    /// Tells people.
    ///
    /// # Errors
    /// Why they could not be told, without addresses and tokens.
    pub async fn tell(&self, http: &Http, news: &News) -> Result<(), String> {
        match self {
            Self::Slack(slack) => slack.tell(http, news).await,
        }
    }
}
