//! Watches: they fill the caches and say what changed.
//!
//! A kind is listed once, by a stream where the API server can, and then watched with bookmarks; a watch that breaks off goes on where it was, or
//! lists anew where the history is gone. A kind that cannot be watched (no right, no such kind) is tried again at growing intervals and holds up
//! nothing but what needs it.

use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use kube::runtime::watcher::{self, Event};

use crate::cache::{Cache, Change, View};
use crate::kind::Kind;
use crate::requests::Requests;

/// The first wait after a watch that failed.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The longest.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Keeps a cache current for one scope (a namespace; the empty one for all), and tells of every change.
pub(crate) async fn watch<T: View>(
    requests: Requests,
    kind: Kind,
    scope: String,
    selector: Option<String>,
    cache: &Cache<T>,
    changed: impl Fn(&Change<T>),
    settled: impl Fn(),
) {
    let config = watcher::Config {
        label_selector: selector,
        ..watcher::Config::default()
    };
    let mut wait = FIRST_WAIT;
    let mut listed = Vec::new();
    let mut events = pin!(watcher::watcher(requests.api(&kind, &scope), config));
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => {
                cache.begin(&scope);
                listed.clear();
            }
            Ok(Event::InitApply(object)) => listed.push(cache.listed(&scope, object)),
            Ok(Event::InitDone) => {
                let gone = cache.complete(&scope);
                settled();
                listed
                    .drain(..)
                    .chain(gone)
                    .for_each(|change| changed(&change));
                wait = FIRST_WAIT;
            }
            Ok(Event::Apply(object)) => {
                changed(&cache.put(object));
                wait = FIRST_WAIT;
            }
            Ok(Event::Delete(object)) => changed(&cache.remove(&object)),
            Err(error) => {
                let plural = kind.resource().plural;
                tracing::warn!(kind = plural, namespace = scope, "cannot watch: {error}");
                if is_unknown(&error) {
                    // Nobody can have such objects.
                    cache.complete(&scope).iter().for_each(&changed);
                } else {
                    cache.fail(&scope, error.to_string());
                }
                settled();
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
        }
    }
}

/// The API server knows no such kind.
fn is_unknown(error: &watcher::Error) -> bool {
    use watcher::Error::{InitialListFailed, WatchStartFailed};
    let (InitialListFailed(cause) | WatchStartFailed(cause)) = error else {
        return false;
    };
    matches!(cause, kube::Error::Api(status) if status.code == 404)
}
