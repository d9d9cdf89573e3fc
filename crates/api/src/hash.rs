//! Names for versions: hashes of pod templates and of lists of steps, and the digest of a template.
//!
//! Hashes are part of object names and labels that other tools and earlier installations wrote, so their
//! bytes are fixed: see [`crate::canonical_json`] for the form and `tests/data/hashes.json` for vectors.

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::canonical_json::{self, Form};
use crate::ordered_json::OrderedJson;
use crate::pod_template::PodTemplate;
use crate::steps::CanaryStep;
use crate::template_defaults::with_defaults;
use crate::words::PodHash;

/// The hash of a pod template: [`Form::Current`] for new ReplicaSets, [`Form::WithCreationTimestamp`] to find
/// those that older controllers made.
///
/// `collision_count` is `status.collisionCount`; absent and 0 differ.
pub fn pod_template_hash(
    template: &PodTemplate,
    collision_count: Option<i32>,
    form: Form,
) -> PodHash {
    let mut hash = Fnv1a::new();
    hash.write(&canonical_json::encode(
        "PodTemplateSpec",
        template.as_json(),
        form,
    ));
    if let Some(count) = collision_count {
        hash.write(&count.cast_unsigned().to_le_bytes());
        hash.write(&[0; 4]);
    }
    PodHash(hash.safe_text())
}

/// The bytes that [`pod_template_hash`] is taken of, without the collision count.
pub fn canonical_template(template: &PodTemplate, form: Form) -> Vec<u8> {
    canonical_json::encode("PodTemplateSpec", template.as_json(), form)
}

/// The hash of a canary's steps: [`Form::Current`], or [`Form::OlderSteps`] to recognise a status that an
/// older controller wrote.
pub fn step_hash(steps: &[CanaryStep], form: Form) -> String {
    let mut hash = Fnv1a::new();
    hash.write(&canonical_steps(steps, form));
    hash.safe_text()
}

/// The bytes that [`step_hash`] is taken of.
pub fn canonical_steps(steps: &[CanaryStep], form: Form) -> Vec<u8> {
    let steps: Vec<Value> = steps.iter().map(step_json).collect();
    canonical_json::encode_list("Step", &steps, form)
}

/// A step as JSON, its plugin's settings already encoded: their keys keep the order in which they are stored.
fn step_json(step: &CanaryStep) -> Value {
    let mut json = serde_json::to_value(step).expect("steps have text keys only");
    if let Some(config) = step
        .plugin
        .as_ref()
        .and_then(|plugin| plugin.config.as_ref())
    {
        let mut encoded = Vec::new();
        encode_ordered(&mut encoded, config);
        json["plugin"]["config"] = String::from_utf8(encoded)
            .expect("the encoder writes texts and ASCII")
            .into();
    }
    json
}

fn encode_ordered(out: &mut Vec<u8>, value: &OrderedJson) {
    match value {
        OrderedJson::String(text) => canonical_json::push_string(out, text),
        OrderedJson::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                encode_ordered(out, item);
            }
            out.push(b']');
        }
        OrderedJson::Object(members) => {
            out.push(b'{');
            for (index, (key, value)) in members.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                canonical_json::push_string(out, key);
                out.push(b':');
                encode_ordered(out, value);
            }
            out.push(b'}');
        }
        OrderedJson::Null => out.extend_from_slice(b"null"),
        OrderedJson::Bool(value) => out.extend_from_slice(value.to_string().as_bytes()),
        OrderedJson::Number(number) => out.extend_from_slice(number.to_string().as_bytes()),
    }
}

/// The digest of what a template means: lower-case hexadecimal SHA-256 of its canonical form after defaults.
/// Two templates with one digest make the same pods.
pub fn template_digest(template: &PodTemplate) -> String {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let digest = Sha256::digest(canonical_template(&with_defaults(template), Form::Current));
    let digits = digest.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits
        .map(|digit| char::from(HEX[usize::from(digit)]))
        .collect()
}

/// Whether two templates make the same pods: equal after defaults, amounts compared by value, empty lists and
/// maps like absent ones, `serviceAccount` (the old name of `serviceAccountName`) ignored.
pub fn templates_equal(one: &PodTemplate, other: &PodTemplate) -> bool {
    canonical_template(&with_defaults(one), Form::Current)
        == canonical_template(&with_defaults(other), Form::Current)
}

/// FNV-1a, 32 bits.
struct Fnv1a(u32);

impl Fnv1a {
    fn new() -> Self {
        Self(2_166_136_261)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u32::from(*byte)).wrapping_mul(16_777_619);
        }
    }

    /// The sum in decimal, each digit as a letter or digit that forms no words.
    fn safe_text(&self) -> String {
        const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        let letter = |digit: u8| char::from(ALPHABET[usize::from(digit) % ALPHABET.len()]);
        self.0.to_string().bytes().map(letter).collect()
    }
}
