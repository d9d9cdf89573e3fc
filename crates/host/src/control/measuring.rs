//! Carries measurements out: reads Secrets, asks the provider, and lets nothing secret out again.

use std::collections::BTreeMap;
use std::sync::Arc;

use crossfade_api::substitute;
use crossfade_api::words::{ProviderError, Reading};
use crossfade_engine::analysis::measure::{MeasureRequest, Measured, conclude, in_error};
use crossfade_engine::written::{Secrets, values};
use crossfade_judge::condition::evaluate_time;
use crossfade_metrics::transport::Transport;
use crossfade_metrics::{Defaults, Moment, Provider, provider};
use jiff::Timestamp;

/// Carries measurements out.
pub(super) struct Measuring {
    transport: Arc<Transport>,
    defaults: Defaults,
}

impl Measuring {
    /// Measures by this transport.
    pub(super) fn new(transport: Arc<Transport>, defaults: Defaults) -> Self {
        Self {
            transport,
            defaults,
        }
    }

    /// Asks a provider for one reading, whose time is now.
    pub(super) async fn ask(&self, provider: &dyn Provider) -> Result<Reading, ProviderError> {
        let now = Timestamp::now();
        let time = |text: &str| evaluate_time(text, now).map_err(|error| error.to_string());
        let moment = Moment { now, time: &time };
        self.transport.measure(provider, moment).await.reading
    }

    /// Takes one measurement.
    pub(super) async fn measure(
        &self,
        request: &MeasureRequest,
        secrets: &Secrets<'_>,
        now: Timestamp,
    ) -> Measured {
        let (values, mut redactor) = match values(&request.args, secrets) {
            Ok(values) => values,
            Err(why) => return Measured::Unresolved(why),
        };
        let metric = match substitute::metric(&request.metric, &values) {
            Ok(metric) => metric,
            Err(why) => return Measured::Unresolved(redactor.message(&why)),
        };
        let provider = match provider(&metric, &self.defaults) {
            Ok(provider) => provider,
            Err(error) => {
                let measurement = redactor.measurement(in_error(&error, now, now));
                return Measured::Taken {
                    measurement,
                    metadata: BTreeMap::new(),
                };
            }
        };
        let time = |text: &str| evaluate_time(text, now).map_err(|error| error.to_string());
        let taken = self
            .transport
            .measure(provider.as_ref(), Moment { now, time: &time })
            .await;
        redactor.hide_too(taken.credentials);
        let reading = taken.reading.map(|reading| redactor.reading(reading));
        let measurement = conclude(&metric, reading, now, Timestamp::now());
        Measured::Taken {
            measurement: redactor.measurement(measurement),
            metadata: redactor.metadata(&provider.metadata()),
        }
    }
}
