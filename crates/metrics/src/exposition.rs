//! What Prometheus is told, in its text format.

use std::fmt::{Display, Write as _};
use std::time::Duration;

/// Durations, counted by upper bounds.
#[derive(Clone, Copy, Debug)]
pub struct Histogram<const N: usize> {
    bounds: &'static [f64; N],
    counts: [u64; N],
    count: u64,
    sum: f64,
}

impl<const N: usize> Histogram<N> {
    /// Nothing counted yet, by these bounds in seconds.
    pub fn new(bounds: &'static [f64; N]) -> Self {
        Self {
            bounds,
            counts: [0; N],
            count: 0,
            sum: 0.0,
        }
    }

    /// Counts one.
    pub fn add(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        for (count, bound) in self.counts.iter_mut().zip(self.bounds) {
            *count += u64::from(seconds <= *bound);
        }
        self.count += 1;
        self.sum += seconds;
    }
}

/// A page in the text format.
#[derive(Debug, Default)]
pub struct Page(String);

impl Page {
    /// All of it.
    pub fn into_text(self) -> String {
        self.0
    }

    /// Begins a family.
    pub fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// One sample with its labels.
    pub fn line(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let text = text
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            let opens = if index == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{opens}{label}=\"{text}\"");
        }
        let closes = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{closes} {value}");
    }

    /// All samples of a histogram.
    pub fn histogram<const N: usize>(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        histogram: &Histogram<N>,
    ) {
        let mut bucket = |bound: &str, count: u64| {
            let mut labels = labels.to_vec();
            labels.push(("le", bound));
            self.line(&format!("{name}_bucket"), &labels, count);
        };
        for (bound, count) in histogram.bounds.iter().zip(histogram.counts) {
            bucket(&bound.to_string(), count);
        }
        bucket("+Inf", histogram.count);
        self.line(&format!("{name}_sum"), labels, histogram.sum);
        self.line(&format!("{name}_count"), labels, histogram.count);
    }
}
