//! Watches: changes as lines of JSON.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::Response;
use serde_json::json;
use tokio::time::Instant;

use super::answer::{self, Body};
use super::objects::write_object;
use super::route::Collection;
use super::{Backend, Call, Desk, bad_request};
use crate::store::{self, Interest, Object, Selector, Sighting, api_version};
use crate::wire::{Status, WatchChange};

/// How often an idle watch tells how far it is.
const BOOKMARK: Duration = Duration::from_secs(30);
/// The longest watch; clients go on from where they were.
const LONGEST: Duration = Duration::from_hours(24);

/// A watch under way.
struct Line {
    watch: store::Watch,
    /// What existed when the watch began, if it shall tell that first.
    first: VecDeque<Arc<Object>>,
    version: String,
    /// Whether the client wants bookmarks, and whether one is due.
    bookmarks: Option<bool>,
    kind: &'static str,
    until: Instant,
    over: bool,
}

/// Starts a watch.
pub(super) fn watch<B: Backend>(
    desk: &Arc<Desk<B>>,
    call: &Call,
    place: &Collection,
    selector: Selector,
) -> Result<Response<Body>, Status> {
    let mut first = VecDeque::new();
    let after = match call.parameter("resourceVersion") {
        // Nothing known: first everything that is there.
        "" | "0" => {
            let list = desk
                .store
                .list(place.kind, place.namespace.as_deref(), &selector);
            first.extend(list.items);
            list.revision
        }
        text => text
            .parse()
            .map_err(|_| bad_request(format!("resourceVersion={text:?} is no whole number")))?,
    };
    let interest = Interest {
        kind: Some(place.kind),
        namespace: place.namespace.clone(),
        selector,
    };
    let watch = desk.store.watch(interest, after);
    watch.check()?;
    let longest = call
        .number("timeoutSeconds")?
        .map_or(LONGEST, |s| Duration::from_secs(s).min(LONGEST));
    let bookmarks = call.flag("allowWatchBookmarks");
    let line = Line {
        watch,
        version: api_version(place.kind.group(), &place.version),
        // After the objects that exist, the client wants to know how far that brought it.
        bookmarks: bookmarks.then_some(call.parameter("resourceVersion").is_empty()),
        first,
        kind: place.kind.name(),
        until: Instant::now() + longest,
        over: false,
    };
    let lines = futures_util::stream::unfold(line, |mut line| async move {
        let next = line.next().await?;
        Some((Ok::<_, io::Error>(Bytes::from(next)), line))
    });
    let stop = desk.stop.clone().cancelled_owned();
    Ok(answer::stream("application/json", lines.take_until(stop)))
}

impl Line {
    /// The next line; none at the end.
    async fn next(&mut self) -> Option<Vec<u8>> {
        if self.over {
            return None;
        }
        if let Some(object) = self.first.pop_front() {
            return self.event(WatchChange::Added, &object);
        }
        if self.bookmarks == Some(true)
            && let Some(position) = self.watch.position()
        {
            self.bookmarks = Some(false);
            return Some(self.bookmark(position));
        }
        loop {
            let due = Instant::now() + BOOKMARK;
            match tokio::time::timeout_at(due.min(self.until), self.watch.next()).await {
                Ok(Ok(Sighting { what, change })) => return self.event(what, &change.object),
                Ok(Err(error)) => {
                    self.over = true;
                    return Some(line(
                        &json!({"type": WatchChange::Error, "object": error.to_status()}),
                    ));
                }
                Err(_) if Instant::now() >= self.until => return None,
                Err(_) => {
                    if let (Some(_), Some(position)) = (self.bookmarks, self.watch.position()) {
                        return Some(self.bookmark(position));
                    }
                }
            }
        }
    }

    fn event(&mut self, what: WatchChange, object: &Object) -> Option<Vec<u8>> {
        let mut bytes = format!("{{\"type\":{},\"object\":", json!(what)).into_bytes();
        if write_object(&mut bytes, object, &self.version).is_err() {
            self.over = true;
            return None;
        }
        bytes.extend_from_slice(b"}\n");
        Some(bytes)
    }

    fn bookmark(&self, position: u64) -> Vec<u8> {
        line(&json!({"type": WatchChange::Bookmark, "object": {
            "apiVersion": self.version,
            "kind": self.kind,
            "metadata": {"resourceVersion": position.to_string()},
        }}))
    }
}

fn line(value: &serde_json::Value) -> Vec<u8> {
    let mut bytes = value.to_string().into_bytes();
    bytes.push(b'\n');
    bytes
}
