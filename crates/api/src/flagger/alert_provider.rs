//! Where people are told about releases.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::metric_template::SecretRef;
use crate::is_zero;
use crate::wire_enum::wire_enum;

wire_enum! {
    /// The channel that an alert goes through.
    pub enum AlertProviderKind {
        /// Not told, or a word that this version does not know.
        Unknown = "",
        /// Slack.
        Slack = "slack",
        /// Microsoft Teams.
        MsTeams = "msteams",
        /// Discord.
        Discord = "discord",
        /// Rocket.Chat.
        Rocket = "rocket",
        /// Google Chat.
        GChat = "gchat",
    }
}

/// What a user asks for in an AlertProvider.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AlertProviderSpec {
    /// The channel.
    #[serde(rename = "type")]
    pub kind: AlertProviderKind,
    /// Room of the channel; `general` when absent.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub channel: String,
    /// Name of the sender; `flagger` when absent.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub username: String,
    /// Address of the receiver, where no Secret holds it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub address: String,
    /// Address of a proxy on the way to the receiver.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub proxy: String,
    /// A Secret in the same namespace with the key `address` and, for Slack, `token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
}
