//! What a schema says about an object: the last look at it before it is stored.

use serde_json::Value;

use super::error::Fault;
use super::kind::Kind;

/// Knows the schemas of kinds.
pub trait Admission: Send + Sync {
    /// Looks at a complete object before it is stored, and fills in what the schema fills in. `old` is the stored object
    /// that it replaces. The warnings reach whoever writes; they refuse nothing.
    ///
    /// # Errors
    /// Every fault for which an API server would refuse the object. What a controller reports on the object (a step out of
    /// range, say) is none of them.
    fn admit(
        &self,
        kind: Kind,
        new: &mut Value,
        old: Option<&Value>,
    ) -> Result<Vec<String>, Vec<Fault>>;
}
