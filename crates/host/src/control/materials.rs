//! ConfigMaps and Secrets for pods, straight from the store.

use serde_json::Value;

use super::objects::Objects;
use crate::store::{Kind, decode_secret};
use crate::supervisor::{Material, MaterialError, Materials};

impl Materials for Objects {
    fn config_map(&self, namespace: &str, name: &str) -> Result<Option<Material>, MaterialError> {
        Ok(self.get(Kind::ConfigMap, namespace, name).map(|object| {
            let texts = entries(&object, "data").filter_map(|(key, value)| {
                Some((key.clone(), value.as_str()?.as_bytes().to_vec()))
            });
            let binary = entries(&object, "binaryData")
                .filter_map(|(key, value)| Some((key.clone(), decode_secret(value)?)));
            texts.chain(binary).collect()
        }))
    }

    fn secret(&self, namespace: &str, name: &str) -> Result<Option<Material>, MaterialError> {
        Ok(self.get(Kind::Secret, namespace, name).map(|object| {
            entries(&object, "data")
                .filter_map(|(key, value)| Some((key.clone(), decode_secret(value)?)))
                .collect()
        }))
    }
}

fn entries<'o>(object: &'o Value, member: &str) -> impl Iterator<Item = (&'o String, &'o Value)> {
    object
        .get(member)
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
}
