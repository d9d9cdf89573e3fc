//! Which requests an A/B test takes: each of the test's conditions within each of those that the Service serves.

use std::collections::BTreeMap;

use crossfade_api::flagger::{AnalysisMatch, HttpMatch, StringMatch};

/// What of a test's condition takes the place of the Service's own.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Beside {
    /// Labels of the calling workload, as Istio knows them.
    SourceLabels,
    /// Query parameters, as the Gateway API knows them.
    QueryParams,
}

/// Every condition of the test within every condition of the Service.
pub(super) fn merged(
    tests: &[AnalysisMatch],
    served: &[HttpMatch],
    beside: Beside,
) -> Vec<HttpMatch> {
    let within = |test: &AnalysisMatch, served: &HttpMatch| {
        let mut both = served.clone();
        if !test.headers.is_empty() {
            both.headers.clone_from(&test.headers);
        }
        match beside {
            Beside::SourceLabels if !test.source_labels.is_empty() => {
                both.source_labels.clone_from(&test.source_labels);
            }
            Beside::QueryParams if !test.query_params.is_empty() => {
                both.query_params.clone_from(&test.query_params);
            }
            Beside::SourceLabels | Beside::QueryParams => {}
        }
        both
    };
    tests
        .iter()
        .flat_map(|test| served.iter().map(move |served| within(test, served)))
        .collect()
}

/// A test's condition on its own.
pub(super) fn alone(test: &AnalysisMatch) -> HttpMatch {
    HttpMatch {
        headers: test.headers.clone(),
        query_params: test.query_params.clone(),
        source_labels: test.source_labels.clone(),
        ..HttpMatch::default()
    }
}

/// The condition of requests that bring a cookie.
pub(super) fn with_cookie(pattern: &str) -> AnalysisMatch {
    let regex = StringMatch {
        regex: Some(pattern.to_owned()),
        ..StringMatch::default()
    };
    AnalysisMatch {
        headers: BTreeMap::from([("Cookie".to_owned(), regex)]),
        ..AnalysisMatch::default()
    }
}
