//! Where the arguments of a run get their values, and what stands for them while a run is planned.

use std::collections::BTreeMap;

use crossfade_api::analysis::Argument;
pub use crossfade_api::substitute::metric;

use super::measure::ArgumentSource;

/// What stands for a secret while a run is planned, so that its value is never needed for a decision.
pub const SECRET_PLACEHOLDER: &str = "temp-for-secret";

/// Where each argument of a run gets its value; a secret wins over a literal. Of arguments with the same name the last counts.
pub fn sources(args: &[Argument]) -> Result<BTreeMap<String, ArgumentSource>, String> {
    args.iter()
        .map(|argument| {
            let secret = argument
                .value_from
                .as_ref()
                .and_then(|from| from.secret_key_ref.as_ref());
            let source = match (secret, &argument.value) {
                (Some(secret), _) => ArgumentSource::Secret {
                    name: secret.name.clone(),
                    key: secret.key.clone(),
                },
                (None, Some(value)) => ArgumentSource::Value(value.clone()),
                (None, None) => {
                    return Err(format!("argument \"{}\" was not supplied", argument.name));
                }
            };
            Ok((argument.name.clone(), source))
        })
        .collect()
}

/// The values to plan with: secrets replaced by a placeholder.
pub fn planning_values(sources: &BTreeMap<String, ArgumentSource>) -> BTreeMap<String, String> {
    sources
        .iter()
        .map(|(name, source)| {
            let value = match source {
                ArgumentSource::Value(value) => value.clone(),
                ArgumentSource::Secret { .. } => SECRET_PLACEHOLDER.to_owned(),
            };
            (name.clone(), value)
        })
        .collect()
}
