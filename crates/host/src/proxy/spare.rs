//! The head of a request, written down for the case that it must be sent again.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, request::Parts};

/// Bytes for the fields of nearly every request.
const USUAL: usize = 512;

/// All that a pod is told of a head. Each request that may be repeated is written down and nearly none is needed, so this is
/// quick to make and to throw away: one piece of memory instead of a map with a share in each value.
pub(super) struct Spare {
    method: Method,
    uri: Uri,
    version: Version,
    /// For each field the lengths of its name and its value, then both.
    fields: Vec<u8>,
}

/// Bytes of a length.
const LENGTH: usize = size_of::<u32>();

impl Spare {
    /// Writes a head down, its extensions apart.
    pub(super) fn of(head: &Parts) -> Self {
        let mut fields = Vec::with_capacity(USUAL);
        for (name, value) in &head.headers {
            let (name, value) = (name.as_str().as_bytes(), value.as_bytes());
            for length in [name.len(), value.len()] {
                fields.extend_from_slice(&(length as u32).to_ne_bytes());
            }
            fields.extend_from_slice(name);
            fields.extend_from_slice(value);
        }
        Self {
            method: head.method.clone(),
            uri: head.uri.clone(),
            version: head.version,
            fields,
        }
    }

    /// The head once more.
    pub(super) fn restore(self) -> Option<Parts> {
        let mut headers = HeaderMap::new();
        let mut rest = Bytes::from(self.fields);
        while !rest.is_empty() {
            let name = length(&mut rest)?;
            let value = length(&mut rest)?;
            let name = HeaderName::from_bytes(&take(&mut rest, name)?).ok()?;
            let value = HeaderValue::from_maybe_shared(take(&mut rest, value)?).ok()?;
            headers.append(name, value);
        }
        let mut head = Request::new(()).into_parts().0;
        head.method = self.method;
        head.uri = self.uri;
        head.version = self.version;
        head.headers = headers;
        Some(head)
    }
}

fn take(rest: &mut Bytes, length: usize) -> Option<Bytes> {
    (length <= rest.len()).then(|| rest.split_to(length))
}

fn length(rest: &mut Bytes) -> Option<usize> {
    let bytes = take(rest, LENGTH)?;
    let bytes = <[u8; LENGTH]>::try_from(&*bytes).ok()?;
    usize::try_from(u32::from_ne_bytes(bytes)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_down_comes_back_whole() {
        let before = Request::put("http://shop.example/a?b=c")
            .version(Version::HTTP_2)
            .header("host", "shop.example")
            .header("cookie", "a=1")
            .header("x-empty", "")
            .header("cookie", &b"b=\xff"[..])
            .body(())
            .expect("a request");
        let (before, ()) = before.into_parts();
        let after = Spare::of(&before).restore().expect("it comes back");
        assert_eq!(after.method, before.method);
        assert_eq!(after.uri, before.uri);
        assert_eq!(after.version, before.version);
        assert_eq!(after.headers, before.headers);
    }
}
