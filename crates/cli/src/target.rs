//! Which objects a command means: `NAME`, `TYPE/NAME`, or `TYPE NAME …`.

use crossfade_host::client::Client;
use crossfade_host::client::Wanted;
use crossfade_host::store::Kind;

use crate::context::Context;
use crate::error::{CliError, Result, nearest};
use crate::exit;
use crate::output::object_name;

/// An object that is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Its kind.
    pub(crate) kind: Kind,
    /// Its name.
    pub(crate) name: String,
}

/// What the words of a command line name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    /// The kind that stood before the names, if one did.
    pub(crate) kind: Option<Kind>,
    /// The objects, in order.
    pub(crate) targets: Vec<Target>,
}

/// Reads `[TYPE] NAME…` and `TYPE/NAME…`; a name without a type is one of `default`.
///
/// # Errors
/// For a type that does not exist.
pub(crate) fn parse(words: &[String], default: Kind) -> Result<Named> {
    let mut names = words;
    let mut kind = None;
    if let [first, rest @ ..] = words
        && let Some(named) = Kind::of_word(first)
    {
        (kind, names) = (Some(named), rest);
    }
    let targets = names.iter().map(|word| match word.split_once('/') {
        Some((word, name)) => Ok(Target {
            kind: Kind::of_word(word).ok_or_else(|| unknown_kind(word))?,
            name: name.to_owned(),
        }),
        None => Ok(Target {
            kind: kind.unwrap_or(default),
            name: word.clone(),
        }),
    });
    Ok(Named {
        kind,
        targets: targets.collect::<Result<_>>()?,
    })
}

/// An error about a type that does not exist.
pub(crate) fn unknown_kind(word: &str) -> CliError {
    let error = CliError::usage(format!("unknown type of object: {word}"));
    let known = Kind::ALL
        .iter()
        .flat_map(|kind| [kind.plural(), kind.singular()]);
    match nearest(&word.to_lowercase(), known) {
        Some(near) => error.hint(format!("did you mean \"{near}\"?")),
        None => {
            error.hint("types are for example rollouts, pods, services, analysisruns, experiments")
        }
    }
}

/// The objects that an action is meant for, each of one of the kinds that it can act on.
///
/// As the plugin the type is never said where only one is possible, and always where there are several.
pub(crate) fn for_action(
    words: &[String],
    kinds: &[Kind],
    context: &Context,
) -> Result<Vec<Target>> {
    let default = kinds.first().copied().unwrap_or(Kind::Rollout);
    let plain = |words: &[String]| Named {
        kind: None,
        targets: words
            .iter()
            .map(|word| Target {
                kind: default,
                name: word.clone(),
            })
            .collect(),
    };
    let named = match (context.is_full(), words) {
        // A single word is a name even if it sounds like a type.
        (true, [word]) if !word.contains('/') => plain(words),
        (true, words) => parse(words, default)?,
        (false, words) if kinds.len() == 1 => plain(words),
        (false, words) => {
            let named = parse(words, default)?;
            if named.kind.is_none_or(|kind| !kinds.contains(&kind)) || named.targets.is_empty() {
                return Err(CliError::arguments());
            }
            named
        }
    };
    for target in &named.targets {
        if !kinds.contains(&target.kind) {
            let can: Vec<_> = kinds.iter().map(|kind| kind.plural()).collect();
            return Err(CliError::usage(format!(
                "this works on {}, not on {}: {}",
                can.join(" and "),
                target.kind.plural(),
                object_name(target.kind, &target.name)
            )));
        }
    }
    Ok(named.targets)
}

/// The releases that are meant: a name without a type is a Rollout, or a Canary where there is no Rollout of that name.
///
/// # Errors
/// For a name that both have, and for types that are no releases.
pub(crate) async fn releases(
    words: &[String],
    context: &Context,
    client: &Client,
) -> Result<Vec<Target>> {
    if !context.is_full() {
        return for_action(words, &[Kind::Rollout], context);
    }
    let mut targets = for_action(words, &[Kind::Rollout, Kind::Canary], context)?;
    let is_typed = words.len() > targets.len();
    let bare = words.iter().map(|word| !is_typed && !word.contains('/'));
    for (target, is_bare) in targets.iter_mut().zip(bare) {
        if is_bare {
            target.kind = kind_of_release(context, client, &target.name).await?;
        }
    }
    Ok(targets)
}

async fn kind_of_release(context: &Context, client: &Client, name: &str) -> Result<Kind> {
    let exists = async |kind| client.get(kind, context.namespace(), name).await.is_ok();
    if !exists(Kind::Canary).await {
        return Ok(Kind::Rollout);
    }
    if exists(Kind::Rollout).await {
        let text = format!("there are a rollout and a canary of the name {name}");
        return Err(CliError::usage(text).hint(format!("say rollout/{name} or canary/{name}")));
    }
    Ok(Kind::Canary)
}

/// The one release that is meant.
///
/// # Errors
/// As for [`releases`], and when several are named.
pub(crate) async fn release(
    words: &[String],
    context: &Context,
    client: &Client,
) -> Result<Target> {
    let mut targets = releases(words, context, client).await?;
    match (targets.pop(), targets.as_slice()) {
        (Some(target), []) => Ok(target),
        _ => Err(CliError::arguments()),
    }
}

/// Adds to a "not found" what was probably meant.
pub(crate) async fn with_nearest(
    error: CliError,
    client: &Client,
    kind: Kind,
    namespace: &str,
    name: &str,
) -> CliError {
    if error.code != exit::NOT_FOUND || error.hint.is_some() {
        return error;
    }
    let Ok(list) = client.list(kind, None, &Wanted::default()).await else {
        return error;
    };
    let text = |object: &serde_json::Value, member: &str| {
        object["metadata"][member]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let elsewhere = list
        .items
        .iter()
        .find(|object| text(object, "name") == name && text(object, "namespace") != namespace);
    if let Some(object) = elsewhere {
        let namespace = text(object, "namespace");
        return error.hint(format!(
            "there is one in another namespace: add -n {namespace}"
        ));
    }
    let here: Vec<_> = list
        .items
        .iter()
        .filter(|object| {
            kind.scope() == crossfade_host::store::Scope::Cluster
                || text(object, "namespace") == namespace
        })
        .map(|object| text(object, "name"))
        .collect();
    match nearest(name, here.iter().map(String::as_str)) {
        Some(near) => error.hint(format!("did you mean \"{near}\"?")),
        None => error.hint(format!("crossfade get {} -n {namespace}", kind.plural())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(words: &[&str], kind: Option<Kind>, targets: &[(Kind, &str)]) {
        let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        let targets = targets
            .iter()
            .map(|(kind, name)| Target {
                kind: *kind,
                name: (*name).to_owned(),
            })
            .collect();
        assert_eq!(
            parse(&words, Kind::Rollout),
            Ok(Named { kind, targets }),
            "{words:?}"
        );
    }

    #[test]
    fn a_type_may_stand_before_the_names_or_before_each_name_or_be_left_out() {
        check(&["web"], None, &[(Kind::Rollout, "web")]);
        check(
            &["ro", "web", "api"],
            Some(Kind::Rollout),
            &[(Kind::Rollout, "web"), (Kind::Rollout, "api")],
        );
        check(&["pods", "a"], Some(Kind::Pod), &[(Kind::Pod, "a")]);
        check(
            &["svc/a", "b"],
            None,
            &[(Kind::Service, "a"), (Kind::Rollout, "b")],
        );
        check(&["pods"], Some(Kind::Pod), &[]);
    }

    #[test]
    fn an_unknown_type_is_told_with_the_nearest_one() {
        let error = parse(&["rolout/web".to_owned()], Kind::Rollout).expect_err("unknown");
        assert_eq!(error.hint.as_deref(), Some("did you mean \"rollout\"?"));
    }
}
