//! A process that writes to a store for as long as it lives, to be killed at any moment.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use crossfade_host::store::{Act, Admission, Fault, Key, Kind, Options, Store, StoreError};
use crossfade_host::wire::Part;
use serde_json::{Value, json};

/// No schema at all.
struct Anything;

impl Admission for Anything {
    fn admit(&self, _: Kind, _: &mut Value, _: Option<&Value>) -> Result<Vec<String>, Vec<Fault>> {
        Ok(Vec::new())
    }
}

/// `count FOLDER`: raises eight counters in a store for ever and prints each write once it is acknowledged:
/// `counter-3 17 ok`. Each counter has both of its values changed in one write.
pub(crate) fn run(folder: &Path) -> ExitCode {
    let Ok(runtime) = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
    else {
        return ExitCode::FAILURE;
    };
    let store = match Store::open(folder, Options::new(Arc::new(Anything))) {
        Ok(store) => store,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            return ExitCode::FAILURE;
        }
    };
    let counters =
        (0..8).map(|number| runtime.spawn(raise(store.clone(), format!("counter-{number}"))));
    let counters: Vec<_> = counters.collect();
    for counter in counters {
        if let Ok(Err(error)) = runtime.block_on(counter) {
            let _ = writeln!(std::io::stderr(), "{error}");
        }
    }
    ExitCode::FAILURE
}

async fn raise(store: Store, name: String) -> Result<(), StoreError> {
    let key = Key::new(Kind::ConfigMap, "default", &name);
    loop {
        let value = store.transact(Act::by_host("counter"), {
            let key = key.clone();
            move |t| {
                let old = t
                    .find(&key)
                    .and_then(|o| o.at("/data/one")?.as_str()?.parse::<i64>().ok())
                    .unwrap_or(0);
                let value = (old + 1).to_string();
                let object =
                    json!({"metadata": {"name": key.name}, "data": {"one": value, "two": value}});
                match t.find(&key) {
                    Some(_) => t.update(&key, object, Part::Object)?,
                    None => t.create(key.kind, &key.namespace, object)?,
                };
                Ok(value)
            }
        });
        let value = value.await?;
        let _ = writeln!(std::io::stdout(), "{name} {value} ok");
    }
}
