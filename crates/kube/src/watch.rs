//! Watches: they fill the caches and say what changed.
//!
//! A kind is listed once, by a stream where the API server can, and then watched with bookmarks; a watch that breaks off goes on where it was, or
//! lists anew where the history is gone. A kind that cannot be watched (no right, no such kind) is tried again at growing intervals and holds up
//! nothing but what needs it.

use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use kube::runtime::watcher::{self, Event};

use crate::cache::{Cache, Change, Trouble, View};
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
    let resource = kind.resource();
    let mut wait = FIRST_WAIT;
    let mut troubled = false;
    loop {
        let mut listed = Vec::new();
        let mut events = pin!(watcher::watcher(
            requests.api(&kind, &scope),
            config.clone()
        ));
        while let Some(event) = events.next().await {
            if troubled && matches!(event, Ok(Event::Apply(_) | Event::Delete(_))) {
                cache.recover(&scope);
                troubled = false;
            }
            match event {
                Ok(Event::Init) => {
                    cache.begin(&scope);
                    listed.clear();
                }
                Ok(Event::InitApply(object)) => {
                    listed.extend(cache.listed(&scope, object.said(&resource)));
                }
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
                    cache.put(object).iter().for_each(&changed);
                    wait = FIRST_WAIT;
                }
                Ok(Event::Delete(object)) => changed(&cache.remove(&object)),
                Err(error) => {
                    let code = refused_with(&error);
                    let trouble = Trouble {
                        why: error.to_string(),
                        denied: matches!(code, Some(401 | 403)),
                    };
                    let denied = trouble.denied;
                    troubled = true;
                    let is_news = cache.fail(&scope, trouble);
                    if is_news {
                        let plural = kind.resource().plural;
                        tracing::warn!(kind = plural, namespace = scope, "cannot watch: {error}");
                    }
                    if code == Some(404) {
                        // The API server knows no such kind, so nobody has such objects.
                        cache.lack(&scope).iter().for_each(&changed);
                    }
                    if is_news {
                        settled();
                    }
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(LONGEST_WAIT);
                    if denied {
                        // What may be read again one day is listed anew then.
                        break;
                    }
                }
            }
        }
    }
}

/// The status with which the API server refuses a list or a watch.
fn refused_with(error: &watcher::Error) -> Option<u16> {
    use watcher::Error::{InitialListFailed, WatchError, WatchStartFailed};
    match error {
        InitialListFailed(kube::Error::Api(status))
        | WatchStartFailed(kube::Error::Api(status)) => Some(status.code),
        WatchError(status) => Some(status.code),
        _ => None,
    }
}
