//! ConfigMaps and Secrets that the target's pods name: which count, whether they changed, how the primary gets copies.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::action::CanaryAction;
use super::tick::{Step, Tick};
use super::workload::is_toolkit;
use super::world::{Config, ConfigKey};
use crate::decision::Found;
use crate::views::text;

/// Keeps a ConfigMap or Secret from being tracked.
const TRACKING: &str = "flagger.app/config-tracking";
/// Types of Secrets that users keep their own data in.
const USERS_SECRETS: [&str; 4] = [
    "Opaque",
    "kubernetes.io/basic-auth",
    "kubernetes.io/ssh-auth",
    "kubernetes.io/tls",
];

/// A ConfigMap or Secret that pods name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Which one.
    pub key: ConfigKey,
    /// Pods start without it.
    pub optional: bool,
}

/// The ConfigMaps and Secrets that a workload's pods name, each once; the last mention says whether it is optional.
pub fn named_configs(workload: &Value) -> Vec<Named> {
    let mut spec = workload["spec"]["template"]["spec"].clone();
    let mut found: BTreeMap<ConfigKey, bool> = BTreeMap::new();
    for_each_reference(&mut spec, &mut |key, optional, _| {
        found.insert(key, optional);
    });
    found
        .into_iter()
        .map(|(key, optional)| Named { key, optional })
        .collect()
}

/// The tracked ones.
#[derive(Clone, Debug, Default)]
pub(super) struct Configs {
    tracked: BTreeMap<ConfigKey, Config>,
}

impl Configs {
    /// In a pod's spec, names the primary's copies.
    pub(super) fn rewrite(&self, spec: &mut Value) {
        let copied: BTreeSet<&ConfigKey> = self.tracked.keys().collect();
        for_each_reference(spec, &mut |key, _, name| {
            if copied.contains(&key) {
                *name = Value::String(format!("{}-primary", key.name()));
            }
        });
    }

    /// In a primary pod's spec, names the originals again.
    pub(super) fn rewrite_back(&self, spec: &mut Value) {
        let copies: BTreeMap<String, &str> = self
            .tracked
            .keys()
            .map(|key| (format!("{}-primary", key.in_status()), key.name()))
            .collect();
        for_each_reference(spec, &mut |key, _, name| {
            if let Some(original) = copies.get(&key.in_status()) {
                *name = Value::String((*original).to_owned());
            }
        });
    }

    fn checksums(&self) -> BTreeMap<String, String> {
        self.tracked
            .iter()
            .map(|(key, config)| (key.in_status(), config.checksum.clone()))
            .collect()
    }
}

impl Tick<'_, '_, '_> {
    /// What is tracked now. One that is missing and not optional ends the look.
    pub(super) fn configs(&mut self, prefix: &str) -> Step<Configs> {
        self.look_up()
            .map_err(|why| self.ends(&format!("{prefix}{why}")))
    }

    fn look_up(&self) -> Result<Configs, String> {
        let mut configs = Configs::default();
        let Some(target) = self.target.as_ref().filter(|_| self.is_workload()) else {
            return Ok(configs);
        };
        if !self.world.settings.tracks_configs {
            return Ok(configs);
        }
        for Named { key, optional } in named_configs(target) {
            let word = match key {
                ConfigKey::ConfigMap(_) => "configmap",
                ConfigKey::Secret(_) => "secret",
            };
            let namespace = self.namespace();
            let name = key.name().to_owned();
            match self.world.configs.get(&key) {
                Some(Found::Found(config)) => {
                    if is_tracked(&key, config) {
                        configs.tracked.insert(key, config.clone());
                    }
                }
                Some(Found::Unreadable(why)) => {
                    return Err(format!("{word} {name}.{namespace} get query error: {why}"));
                }
                _ if optional => {}
                _ => {
                    return Err(format!(
                        "{word} {name}.{namespace} get query error: {word}s \"{name}\" not found"
                    ));
                }
            }
        }
        Ok(configs)
    }

    /// Checksums of what is tracked now, as the status has them; absent where nothing is tracked at all.
    pub(super) fn tracked_now(&self) -> Option<BTreeMap<String, String>> {
        if !self.world.settings.tracks_configs {
            return None;
        }
        // What cannot be read now leaves what was recorded.
        match self.look_up() {
            Ok(configs) => Some(configs.checksums()),
            Err(_) => self.status.tracked_configs.clone(),
        }
    }

    /// Whether a tracked configuration has changed.
    pub(super) fn configs_changed(&self) -> Result<bool, String> {
        let now = self.look_up()?.checksums();
        Ok(match &self.status.tracked_configs {
            None => !now.is_empty(),
            Some(before) => *before != now,
        })
    }

    /// Makes the primary's copies hold what the originals hold.
    pub(super) fn copy_configs(&mut self, configs: &Configs, prefix: &str) -> Step {
        for (key, config) in &configs.tracked {
            let mut labels = config.labels.clone();
            labels.retain(|key, _| !is_toolkit(key) && self.is_included(key));
            let action = CanaryAction::CopyConfig {
                from: key.clone(),
                target: config.target.clone(),
                labels,
                owner: Box::new(self.owner()),
            };
            self.must(action, prefix)?;
        }
        Ok(())
    }
}

fn is_tracked(key: &ConfigKey, config: &Config) -> bool {
    let annotation = config.annotations.get(TRACKING);
    if annotation.is_some_and(|value| value.starts_with("disable")) {
        return false;
    }
    match key {
        ConfigKey::ConfigMap(_) => true,
        ConfigKey::Secret(_) => USERS_SECRETS.contains(&config.kind.as_str()),
    }
}

/// Calls `see` for each mention in a pod's spec: which object, whether it is optional, and where its name stands.
fn for_each_reference(spec: &mut Value, see: &mut impl FnMut(ConfigKey, bool, &mut Value)) {
    let mut mention = |source: Option<&mut Value>, member: &str, make: fn(String) -> ConfigKey| {
        let Some(source) = source else { return };
        let optional = source.get("optional") == Some(&Value::Bool(true));
        let name = text(source, &format!("/{member}")).to_owned();
        if let (false, Some(place)) = (name.is_empty(), source.get_mut(member)) {
            see(make(name), optional, place);
        }
    };
    for volume in list(spec, "volumes") {
        mention(volume.get_mut("configMap"), "name", ConfigKey::ConfigMap);
        mention(volume.get_mut("secret"), "secretName", ConfigKey::Secret);
        if let Some(projected) = volume.get_mut("projected") {
            for source in list(projected, "sources") {
                mention(source.get_mut("configMap"), "name", ConfigKey::ConfigMap);
                mention(source.get_mut("secret"), "name", ConfigKey::Secret);
            }
        }
    }
    for kind in ["containers", "initContainers"] {
        for container in list(spec, kind) {
            for variable in list(container, "env") {
                let Some(from) = variable.get_mut("valueFrom") else {
                    continue;
                };
                mention(
                    from.get_mut("configMapKeyRef"),
                    "name",
                    ConfigKey::ConfigMap,
                );
                mention(from.get_mut("secretKeyRef"), "name", ConfigKey::Secret);
            }
            for source in list(container, "envFrom") {
                mention(source.get_mut("configMapRef"), "name", ConfigKey::ConfigMap);
                mention(source.get_mut("secretRef"), "name", ConfigKey::Secret);
            }
        }
    }
}

fn list<'v>(object: &'v mut Value, member: &str) -> impl Iterator<Item = &'v mut Value> {
    let list = object.get_mut(member).and_then(Value::as_array_mut);
    list.into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn all_mentions_count_and_the_last_says_whether_it_is_optional() {
        let workload = json!({"spec": {"template": {"spec": {
            "volumes": [
                {"name": "a", "configMap": {"name": "one", "optional": true}},
                {"name": "b", "secret": {"secretName": "two"}},
                {"name": "c", "projected": {"sources": [{"configMap": {"name": "three"}}, {"secret": {"name": "four"}}]}},
                {"name": "d", "emptyDir": {}},
            ],
            "containers": [{
                "env": [
                    {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "one", "key": "k"}}},
                    {"name": "B", "valueFrom": {"secretKeyRef": {"name": "five", "key": "k", "optional": true}}},
                ],
            }],
            "initContainers": [{"envFrom": [{"configMapRef": {"name": "six"}}, {"secretRef": {"name": "seven"}}]}],
            "ephemeralContainers": [{"envFrom": [{"configMapRef": {"name": "never"}}]}],
            "imagePullSecrets": [{"name": "never"}],
        }}}});
        let found: Vec<(String, bool)> = named_configs(&workload)
            .into_iter()
            .map(|named| (named.key.in_status(), named.optional))
            .collect();
        let expected = [
            ("configmap/one", false),
            ("configmap/six", false),
            ("configmap/three", false),
            ("secret/five", true),
            ("secret/four", false),
            ("secret/seven", false),
            ("secret/two", false),
        ];
        assert_eq!(
            found,
            expected.map(|(name, optional)| (name.to_owned(), optional))
        );
    }

    #[test]
    fn the_primary_names_copies_of_what_is_tracked_and_the_rest_itself() {
        let mut spec = json!({
            "volumes": [{"configMap": {"name": "one"}}, {"secret": {"secretName": "two"}}],
            "containers": [{"envFrom": [{"configMapRef": {"name": "one"}}]}],
        });
        let tracked = [(ConfigKey::ConfigMap("one".to_owned()), Config::default())];
        Configs {
            tracked: tracked.into(),
        }
        .rewrite(&mut spec);
        assert_eq!(
            spec,
            json!({
                "volumes": [{"configMap": {"name": "one-primary"}}, {"secret": {"secretName": "two"}}],
                "containers": [{"envFrom": [{"configMapRef": {"name": "one-primary"}}]}],
            })
        );
    }

    #[test]
    fn who_says_so_is_not_tracked_and_secrets_only_of_users_types() {
        let map = ConfigKey::ConfigMap("a".to_owned());
        let secret = ConfigKey::Secret("a".to_owned());
        let annotated = |value: &str| Config {
            annotations: [(TRACKING.to_owned(), value.to_owned())].into(),
            ..Config::default()
        };
        assert!(is_tracked(&map, &Config::default()));
        assert!(is_tracked(&map, &annotated("enabled")));
        assert!(!is_tracked(&map, &annotated("disabled")));
        assert!(!is_tracked(&map, &annotated("disable")));
        let typed = |kind: &str| Config {
            kind: kind.to_owned(),
            ..Config::default()
        };
        assert!(is_tracked(&secret, &typed("Opaque")));
        assert!(!is_tracked(
            &secret,
            &typed("kubernetes.io/service-account-token")
        ));
    }
}
