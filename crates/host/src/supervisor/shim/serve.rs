//! The shim's socket: every connection hears the state now and after each change, and may wish for the end.
//!
//! A message from the shim is one line of JSON, the whole `PodState`; a message to it is one line too, the
//! `StopWish`. The wish is also a file, so that it outlives both sides; the message makes it work at once, and
//! when the disk takes no file.

use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use super::super::keeper::StopWish;
use super::pod::Pod;

/// Serves until the pod is over, and until those who listen have heard the last words.
pub(super) async fn serve(pod: Rc<Pod>, listener: UnixListener) {
    let mut talks = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    talks.spawn_local(talk(Rc::clone(&pod), stream));
                }
                // Out of file descriptors, most likely: others may be given back soon.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            },
            Some(_) = talks.join_next() => {}
            () = pod.closing.cancelled() => break,
        }
    }
    let heard = async { while talks.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(Duration::from_millis(500), heard).await;
}

async fn talk(pod: Rc<Pod>, stream: UnixStream) {
    let (from, mut to) = stream.into_split();
    let tell = async {
        let mut state = pod.board.subscribe();
        state.mark_changed();
        while state.changed().await.is_ok() {
            let line = Rc::clone(&state.borrow_and_update());
            let last = pod.board.read(|state| state.over);
            if to.write_all(&line).await.is_err() || to.write_all(b"\n").await.is_err() || last {
                return;
            }
        }
    };
    let hear = async {
        let mut lines = BufReader::new(from).split(b'\n');
        while let Ok(Some(line)) = lines.next_segment().await {
            if let Ok(wish) = serde_json::from_slice::<StopWish>(&line) {
                pod.wish(wish);
            }
        }
    };
    tokio::select! {
        () = tell => {}
        () = hear => {}
    }
}
