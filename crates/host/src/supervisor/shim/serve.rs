//! The shim's socket: every connection hears the state now and after each change, and may nudge.
//!
//! A message from the shim is one line of JSON, the whole `PodState`. A line from the other side, whatever it
//! says, means: look again whether the pod shall end. The wish itself is a file, so that it outlives both.

use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, watch};

pub(super) async fn serve(
    listener: UnixListener,
    state: watch::Receiver<Rc<Vec<u8>>>,
    nudge: Rc<Notify>,
) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::task::spawn_local(talk(stream, state.clone(), Rc::clone(&nudge)));
            }
            // Out of file descriptors, most likely: others may be given back soon.
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
        }
    }
}

async fn talk(stream: UnixStream, mut state: watch::Receiver<Rc<Vec<u8>>>, nudge: Rc<Notify>) {
    let (mut from, mut to) = stream.into_split();
    let tell = async {
        state.mark_changed();
        while state.changed().await.is_ok() {
            let line = Rc::clone(&state.borrow_and_update());
            if to.write_all(&line).await.is_err() || to.write_all(b"\n").await.is_err() {
                return;
            }
        }
    };
    let hear = async {
        let mut buffer = [0; 64];
        while from.read(&mut buffer).await.is_ok_and(|count| count > 0) {
            nudge.notify_one();
        }
    };
    tokio::select! {
        () = tell => {}
        () = hear => {}
    }
}
