//! Carries measurements out: reads Secrets when they are needed, asks the provider, and lets nothing secret out again.

use std::collections::BTreeMap;

use crossfade_api::substitute;
use crossfade_api::words::{ProviderError, Reading};
use crossfade_engine::analysis::measure::{
    ArgumentSource, MeasureRequest, Measured, conclude, in_error,
};
use crossfade_engine::analysis::redact::Redactor;
use crossfade_engine::{views, written};
use crossfade_judge::condition::evaluate_time;
use crossfade_metrics::transport::Transport;
use crossfade_metrics::{Defaults, Moment, Provider, provider};
use jiff::Timestamp;
use k8s_openapi::ByteString;

use crate::kind::Kind;
use crate::requests::Requests;

/// Carries measurements out.
pub(crate) struct Measuring {
    transport: Transport,
    defaults: Defaults,
}

/// Why arguments have no values.
pub(crate) enum NoValues {
    /// A Secret or a key of it does not exist.
    Unresolved(String),
    /// A Secret could not be read for now.
    TryLater(String),
}

impl Measuring {
    /// Asks `prometheus_address` where a metric names no server.
    ///
    /// # Errors
    /// There is no way to make connections, for example no certificates.
    pub(crate) fn new(prometheus_address: Option<String>) -> Result<Self, String> {
        Ok(Self {
            transport: Transport::new(None)?,
            defaults: Defaults { prometheus_address },
        })
    }

    /// Asks a provider for one reading, whose time is now.
    pub(crate) async fn ask(&self, provider: &dyn Provider) -> Result<Reading, ProviderError> {
        let now = Timestamp::now();
        let time = |text: &str| evaluate_time(text, now).map_err(|error| error.to_string());
        let moment = Moment { now, time: &time };
        self.transport.measure(provider, moment).await.reading
    }

    /// Takes one measurement.
    pub(crate) async fn measure(
        &self,
        requests: &Requests,
        request: &MeasureRequest,
        now: Timestamp,
    ) -> Measured {
        let (values, mut redactor) = match values(requests, &request.namespace, &request.args).await
        {
            Ok(values) => values,
            Err(NoValues::Unresolved(why)) => return Measured::Unresolved(why),
            Err(NoValues::TryLater(why)) => return Measured::TryLater(why),
        };
        let metric = match substitute::metric(&request.metric, &values) {
            Ok(metric) => metric,
            Err(why) => return Measured::Unresolved(redactor.message(&why)),
        };
        let provider = match provider(&metric, &self.defaults) {
            Ok(provider) => provider,
            Err(error) => {
                return Measured::Taken {
                    measurement: redactor.measurement(in_error(&error, now, now)),
                    metadata: BTreeMap::new(),
                };
            }
        };
        let time = |text: &str| evaluate_time(text, now).map_err(|error| error.to_string());
        let moment = Moment { now, time: &time };
        let taken = self.transport.measure(provider.as_ref(), moment).await;
        redactor.hide_too(taken.credentials);
        let reading = taken.reading.map(|reading| redactor.reading(reading));
        let measurement = conclude(&metric, reading, now, Timestamp::now());
        Measured::Taken {
            measurement: redactor.measurement(measurement),
            metadata: redactor.metadata(&provider.metadata()),
        }
    }
}

/// The values of arguments, and what must stay hidden among them. Each Secret is read once, and not kept.
pub(crate) async fn values(
    requests: &Requests,
    namespace: &str,
    args: &BTreeMap<String, ArgumentSource>,
) -> Result<(BTreeMap<String, String>, Redactor), NoValues> {
    let mut secrets = BTreeMap::new();
    for source in args.values() {
        if let ArgumentSource::Secret { name, .. } = source
            && !secrets.contains_key(name)
        {
            let secret = requests.get(&Kind::Secret, namespace, name).await;
            let secret = secret.map_err(|why| {
                NoValues::TryLater(format!("secret \"{name}\" could not be read: {why}"))
            })?;
            secrets.insert(name.clone(), secret);
        }
    }
    let look_up = |name: &str, key: &str| {
        let secret = secrets.get(name).and_then(Option::as_ref);
        let secret = secret.ok_or_else(|| format!("secrets \"{name}\" not found"))?;
        let missing = || format!("key '{key}' does not exist in secret '{name}'");
        let data = views::map(secret, "/data")
            .remove(key)
            .ok_or_else(missing)?;
        serde_json::from_value::<ByteString>(data.into())
            .map(|bytes| bytes.0)
            .map_err(|_| missing())
    };
    written::values(args, &look_up).map_err(NoValues::Unresolved)
}
