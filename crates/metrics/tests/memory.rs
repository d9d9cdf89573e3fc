//! How much memory an answer takes that is far too large.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossfade_api::analysis::Metric;
use crossfade_metrics::transport::Transport;
use crossfade_metrics::{Defaults, Moment, provider};
use jiff::Timestamp;
use serde_json::json;

/// What is in use, and the most that was since it was last asked for.
static IN_USE: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

struct Counting;

#[expect(
    unsafe_code,
    reason = "only an allocator can tell how much memory is in use; it hands every call on"
)]
// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let in_use = IN_USE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(in_use, Ordering::Relaxed);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Answers every request with so many bytes, out of a buffer on the stack.
fn serve(listener: &TcpListener, bytes: usize) {
    for mut stream in listener.incoming().flatten() {
        let mut piece = [b'x'; 16 * 1024];
        // The request is small and comes in one piece.
        let _ = stream.read(&mut piece);
        piece.fill(b'x');
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
        let mut left = bytes;
        while left > 0 && stream.write_all(&piece).is_ok() {
            left = left.saturating_sub(piece.len());
        }
    }
}

#[test]
fn providers_17_an_answer_that_is_too_large_takes_less_than_eight_mebibytes() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let transport = Transport::new(None).expect("a transport");
    let time = |_: &str| Err(String::new());
    for megabytes in [5, 100] {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        std::thread::spawn(move || serve(&listener, megabytes * 1024 * 1024));
        for wanted in [
            json!({"web": {"url": address}}),
            json!({"prometheus": {"address": address, "query": "up"}}),
        ] {
            let metric: Metric =
                serde_json::from_value(json!({"name": "m", "provider": wanted})).expect("a metric");
            let provider = provider(&metric, &Defaults::default()).expect("a provider");
            let before = IN_USE.load(Ordering::Relaxed);
            MOST.store(before, Ordering::Relaxed);
            let moment = Moment {
                now: Timestamp::UNIX_EPOCH,
                time: &time,
            };
            let taken = runtime.block_on(transport.measure(provider.as_ref(), moment));
            let error = taken.reading.expect_err("it is too much");
            assert_eq!(
                error.message,
                "response body exceeds limit of 4194304 bytes"
            );
            let used = MOST.load(Ordering::Relaxed) - before;
            assert!(
                used < 8 * 1024 * 1024,
                "{used} bytes for {megabytes} MB by {}",
                provider.kind()
            );
        }
    }
}
