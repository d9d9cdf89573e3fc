//! Slack, by its incoming webhooks or with a token by its API.

use std::time::Duration;

use crossfade_api::flagger::{AlertProviderSpec, Severity};
use crossfade_http::{Http, Unanswered, Url};
use serde_json::{Value, json};

use crate::channel::News;
use crate::post::{Post, post};

/// Time for one message. It is not tried again.
const PATIENCE: Duration = Duration::from_secs(5);
/// Who speaks where a provider does not say so.
const USER: &str = "flagger";
/// Where it is said where a provider does not say so.
const CHANNEL: &str = "general";

/// A channel of Slack.
#[derive(Clone)]
pub struct Slack {
    address: String,
    token: Option<String>,
    channel: String,
    username: String,
    proxy: String,
}

impl Slack {
    /// The channel that an AlertProvider describes, with its address and token.
    ///
    /// # Errors
    /// When the address is none, without it.
    pub fn new(
        spec: &AlertProviderSpec,
        address: &str,
        token: Option<&str>,
    ) -> Result<Self, String> {
        let is_url = Url::parse(address).is_ok_and(|url| url.has_host());
        if !is_url {
            return Err("slack: its address is no URL".to_owned());
        }
        let or = |own: &str, usual: &str| if own.is_empty() { usual } else { own }.to_owned();
        Ok(Self {
            address: address.to_owned(),
            token: token.filter(|token| !token.is_empty()).map(str::to_owned),
            channel: or(&spec.channel, CHANNEL),
            username: or(&spec.username, USER),
            proxy: spec.proxy.clone(),
        })
    }

    /// Tells people.
    ///
    /// # Errors
    /// Why not, without address and token.
    pub async fn tell(&self, http: &Http, news: &News) -> Result<(), String> {
        let by_proxy;
        let http = if self.proxy.is_empty() {
            http
        } else {
            by_proxy = http.through(&self.proxy)?;
            &by_proxy
        };
        let authorization = |token| ("Authorization".to_owned(), format!("Bearer {token}"));
        let headers: Vec<_> = self.token.iter().map(authorization).collect();
        let message = Post {
            url: &self.address,
            headers: &headers,
            body: &self.message(news).to_string(),
            timeout: PATIENCE,
            insecure: false,
        };
        match post(http, message).await {
            Ok(answer) if (200..300).contains(&answer.status) => Ok(()),
            Ok(answer) => Err(format!("slack answered {}", answer.status)),
            Err(Unanswered::Unfit(why) | Unanswered::Failed(why)) => Err(format!("slack: {why}")),
        }
    }

    fn message(&self, news: &News) -> Value {
        let fields: Vec<Value> = news
            .fields
            .iter()
            .map(|(name, value)| json!({"title": name, "value": value, "short": false}))
            .collect();
        let color = match news.severity {
            Severity::Error => "danger",
            Severity::Unset | Severity::Info | Severity::Warn => "good",
        };
        json!({
            "channel": self.channel,
            "username": self.username,
            "icon_url": "",
            "icon_emoji": ":rocket:",
            "attachments": [{
                "color": color,
                "author_name": news.about,
                "text": news.text,
                "mrkdwn_in": ["text"],
                "fields": fields,
            }],
        })
    }
}
