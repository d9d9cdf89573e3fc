//! What this process takes, as the kernel counts it.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::metrics::Page;

/// Clock ticks a second in `/proc`, the same on every Linux.
const TICKS: u32 = 100;

/// Memory of the process that is in RAM, in bytes; 0 where that is not told.
pub(crate) fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    let kibibytes: u64 = number.and_then(|text| text.parse().ok()).unwrap_or(0);
    kibibytes * 1024
}

/// Seconds of processor time, in user space and in the kernel.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name in parentheses may hold anything.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut fields = rest.split_whitespace().skip(11);
    let mut next = || fields.next().and_then(|text| text.parse::<u32>().ok());
    let ticks = next().unwrap_or(0).saturating_add(next().unwrap_or(0));
    f64::from(ticks) / f64::from(TICKS)
}

/// What the process was when the controller began.
#[derive(Debug)]
pub(crate) struct Began {
    at: SystemTime,
    resident: u64,
}

impl Default for Began {
    fn default() -> Self {
        Self {
            at: SystemTime::now(),
            resident: resident(),
        }
    }
}

impl Began {
    /// Memory and time of the process, and what of it a Rollout takes.
    pub(crate) fn render(&self, rollouts: usize, page: &mut Page) {
        let resident = resident();
        let seconds = self.at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut line = |name: &str, kind: &str, help: &str, value: String| {
            page.head(name, kind, help);
            page.line(name, &[], value);
        };
        let help = "Memory in RAM, in bytes.";
        line(
            "process_resident_memory_bytes",
            "gauge",
            help,
            resident.to_string(),
        );
        let help = "Processor time, in seconds.";
        let used = processor_seconds().to_string();
        line("process_cpu_seconds_total", "counter", help, used);
        let help = "When the controller began, in seconds of Unix time.";
        let began = seconds.as_secs().to_string();
        line("process_start_time_seconds", "gauge", help, began);
        let grown = resident.saturating_sub(self.resident);
        let each = grown / u64::try_from(rollouts.max(1)).unwrap_or(u64::MAX);
        let help = "Memory that came with the objects, divided by the Rollouts, in bytes.";
        line(
            "crossfade_memory_bytes_per_rollout",
            "gauge",
            help,
            each.to_string(),
        );
    }
}
