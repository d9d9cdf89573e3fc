//! The recent samples of all series, in memory.
//!
//! Samples live in *columns*; a series is a label set that shows a column, plain or scaled. One
//! column may be shown under many label sets, which is how the proxy's counters appear under the
//! metric names of several tools without being stored several times. Such series are *derived*.
//! What a pod says of itself goes before what is derived: a first-hand series of a metric and pod
//! displaces the derived ones of both, so that no query counts a request twice. Start at
//! [`Store::batch`] for writing and [`Store::snapshot`] for reading.
//!
//! Samples older than a quarter of an hour are thinned out to one each 15 seconds. Only those go
//! that lie on the way from the sample before to the sample after, so increases, resets, highest
//! and lowest values stay what they were.
//!
//! One lock guards everything: a batch holds it while it appends (no allocation for a known
//! column), a query only while it copies out what it needs, so no query sees half a batch. Old
//! samples go when new ones come; nothing runs in the background. Nothing is kept over a restart.
//! When the clock is set back, what then lies in the future is forgotten, so that measuring goes on.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use super::labels::{Labels, METRIC_NAME};

/// Bit pattern of the value that says "the series ended here" (the one Prometheus uses).
const STALE_BITS: u64 = 0x7ff0_0000_0000_0002;

/// Cost of a series beside its samples, in bytes: its labels and its places in the indexes.
/// An estimate; text of labels is shared and not counted.
const SERIES_BYTES: usize = 768;
/// Cost of a sample: a queue has room for up to twice what is in it.
const SAMPLE_BYTES: usize = size_of::<Sample>() * 3 / 2;

/// How often, in time of the samples, all columns are looked through for what may go.
const SWEEP_EVERY_MS: i64 = 60_000;
/// How long samples are kept as they came.
const FINE_MS: i64 = 15 * 60_000;
/// Longest gap that is made between older samples.
const COARSE_MS: i64 = 15_000;
/// From this far back on, a sample is not late: the clock was set back.
pub(super) const SET_BACK_MS: i64 = 60_000;

/// The value that marks the end of a series; see [`is_stale`].
pub const fn stale() -> f64 {
    f64::from_bits(STALE_BITS)
}

/// Whether a value is the mark for the end of a series, and not an ordinary NaN.
pub const fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_BITS
}

/// One value of a series at a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Unix time in milliseconds.
    pub at: i64,
    /// The value; NaN and infinities are values, [`stale`] is not.
    pub value: f64,
}

/// How much a [`Store`] may hold.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long a sample is kept.
    pub retention: Duration,
    /// Most series at a time; more are refused and counted.
    pub max_series: usize,
    /// Most memory for samples and series, in bytes; above it the oldest samples go early.
    pub max_bytes: usize,
}

impl Default for Settings {
    /// Two hours, 100 000 series, 256 MiB.
    fn default() -> Self {
        Self {
            retention: Duration::from_hours(2),
            max_series: 100_000,
            max_bytes: 256 << 20,
        }
    }
}

/// What a store holds at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Series, counting each label set.
    pub series: usize,
    /// Samples, counting a shared column once.
    pub samples: usize,
    /// Estimated memory in bytes.
    pub bytes: usize,
    /// Series refused because of [`Settings::max_series`], since the start.
    pub refused_series: u64,
}

/// A handle to append to a column. It may outlive the column; see [`Batch::push`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColumnId {
    slot: usize,
    generation: u64,
}

/// The samples of all series.
pub struct Store {
    settings: Settings,
    inner: RwLock<Inner>,
}

#[derive(Default)]
struct Inner {
    texts: HashSet<Arc<str>>,
    series: HashMap<Labels, Shown>,
    /// Label sets by metric name, to narrow what a selector looks at.
    by_metric: HashMap<Arc<str>, HashSet<Labels>>,
    /// How many first-hand series there are by metric, namespace and pod.
    first_hand: HashMap<Origin, usize>,
    columns: Vec<Option<Column>>,
    free: Vec<usize>,
    next_generation: u64,
    samples: usize,
    refused_series: u64,
    last_sweep: i64,
}

/// How a series shows its column.
#[derive(Clone, Copy)]
struct Shown {
    column: ColumnId,
    scale: f64,
    derived: bool,
}

/// Of which metric of which pod a series is.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Origin {
    metric: Arc<str>,
    namespace: Arc<str>,
    pod: Arc<str>,
}

impl Origin {
    /// `None` for a series that is of no pod.
    fn of(labels: &Labels) -> Option<Self> {
        let text = |name| labels.value(name).unwrap_or_else(|| "".into());
        let pod = labels.value("pod")?;
        Some(Self {
            metric: text(METRIC_NAME),
            namespace: text("namespace"),
            pod,
        })
    }
}

struct Column {
    generation: u64,
    samples: VecDeque<Sample>,
    shown_as: Vec<Labels>,
}

impl Store {
    /// An empty store.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            inner: RwLock::default(),
        }
    }

    /// Starts to write. Readers wait until the batch is dropped, so keep it short and complete:
    /// what belongs to the same moment belongs into the same batch.
    pub fn batch(&self) -> Batch<'_> {
        Batch {
            settings: self.settings,
            inner: self.write(),
            newest: i64::MIN,
        }
    }

    /// Stands still for reading. Writers wait until the snapshot is dropped: copy and let go.
    pub fn snapshot(&self) -> Snapshot<'_> {
        Snapshot { inner: self.read() }
    }

    /// What the store holds now.
    pub fn usage(&self) -> Usage {
        let inner = self.read();
        Usage {
            series: inner.series.len(),
            samples: inner.samples,
            bytes: inner.bytes(),
            refused_series: inner.refused_series,
        }
    }

    /// A panic while the lock was held can leave a sample out, never a broken structure, so a
    /// poisoned lock is taken as it is.
    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Store {
    fn default() -> Self {
        Self::new(Settings::default())
    }
}

/// Samples being written; all become visible together when it is dropped.
pub struct Batch<'store> {
    settings: Settings,
    inner: RwLockWriteGuard<'store, Inner>,
    newest: i64,
}

impl Batch<'_> {
    /// The column of the first-hand series with these labels, made when there is none.
    /// `None` when the store has as many series as it may have.
    pub fn series(&mut self, labels: &Labels) -> Option<ColumnId> {
        if let Some(shown) = self.inner.series.get(labels) {
            return Some(shown.column);
        }
        if !self.has_room_for(1) {
            return None;
        }
        let id = self.inner.add_column();
        self.inner.show(
            labels,
            Shown {
                column: id,
                scale: 1.0,
                derived: false,
            },
        );
        if let Some(origin) = Origin::of(labels) {
            self.inner.displace_derived(&origin);
        }
        Some(id)
    }

    /// New columns, each shown as derived series: under each of its label sets, its values times
    /// the factor. Left out are label sets that exist already or of which the pod has first-hand
    /// series. `None`, and nothing is made, when the store has no room for as many series.
    pub fn columns(&mut self, shown_as: Vec<Vec<(Labels, f64)>>) -> Option<Vec<ColumnId>> {
        let mut wanted = shown_as;
        for names in &mut wanted {
            names.retain(|(labels, _)| {
                let of = Origin::of(labels);
                let displaced =
                    of.is_some_and(|origin| self.inner.first_hand.contains_key(&origin));
                !displaced && !self.inner.series.contains_key(labels)
            });
        }
        if !self.has_room_for(wanted.iter().map(Vec::len).sum()) {
            return None;
        }
        let made = wanted.into_iter().map(|names| {
            let column = self.inner.add_column();
            for (labels, scale) in names {
                self.inner.show(
                    &labels,
                    Shown {
                        column,
                        scale,
                        derived: true,
                    },
                );
            }
            column
        });
        Some(made.collect())
    }

    fn has_room_for(&mut self, series: usize) -> bool {
        let fits = self.inner.series.len() + series <= self.settings.max_series;
        if !fits {
            self.inner.refused_series += series as u64;
        }
        fits
    }

    /// Appends a sample. `false` when the column is gone (nothing was written to it for the
    /// retention time: ask for it again) or the sample is not newer than its last one, unless it
    /// is older by so much that the clock must have been set back.
    pub fn push(&mut self, column: ColumnId, sample: Sample) -> bool {
        let oldest = sample.at.saturating_sub(millis(self.settings.retention));
        let Some(found) = self.inner.column_mut(column) else {
            return false;
        };
        let before = found.samples.len();
        if let Some(last) = found.samples.back()
            && last.at >= sample.at
        {
            if last.at - sample.at < SET_BACK_MS {
                return false;
            }
            let past = found.samples.partition_point(|kept| kept.at < sample.at);
            found.samples.truncate(past);
        }
        let expired = found.samples.partition_point(|kept| kept.at < oldest);
        found.samples.drain(..expired);
        found.samples.push_back(sample);
        let after = found.samples.len();
        self.inner.samples = self.inner.samples + after - before;
        self.newest = self.newest.max(sample.at);
        true
    }

    /// The newest sample of a column.
    pub fn last(&self, column: ColumnId) -> Option<Sample> {
        self.inner.column(column)?.samples.back().copied()
    }

    /// Appends a sample to the series with these labels; `false` as in [`Batch::push`], or when
    /// the series is new and there is no room for it.
    pub fn append(&mut self, labels: &Labels, sample: Sample) -> bool {
        self.series(labels)
            .is_some_and(|column| self.push(column, sample))
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        let Self { newest, .. } = *self;
        let set_back =
            newest != i64::MIN && self.inner.last_sweep.saturating_sub(newest) >= SET_BACK_MS;
        if set_back {
            self.inner.forget_after(newest);
        }
        if set_back || newest > self.inner.last_sweep.saturating_add(SWEEP_EVERY_MS) {
            self.inner.last_sweep = newest;
            self.inner.thin_before(newest.saturating_sub(FINE_MS));
            self.inner
                .forget_before(newest.saturating_sub(millis(self.settings.retention)));
        }
        while self.inner.bytes() > self.settings.max_bytes {
            let Some(cutoff) = self.inner.oldest_quarter() else {
                break;
            };
            self.inner.forget_before(cutoff);
        }
    }
}

/// The store, standing still.
pub struct Snapshot<'store> {
    inner: RwLockReadGuard<'store, Inner>,
}

impl Snapshot<'_> {
    /// All label sets of a metric, or of all metrics, in no particular order.
    pub fn labels_of<'a>(
        &'a self,
        metric: Option<&str>,
    ) -> Box<dyn Iterator<Item = &'a Labels> + 'a> {
        match metric {
            Some(metric) => Box::new(self.inner.by_metric.get(metric).into_iter().flatten()),
            None => Box::new(self.inner.series.keys()),
        }
    }

    /// How many samples a series has from `from` to `until`, both included (Unix milliseconds).
    pub fn count(&self, labels: &Labels, from: i64, until: i64) -> usize {
        self.span(labels, from, until)
            .map_or(0, |(_, _, span)| span.len())
    }

    /// The samples of a series from `from` to `until`, both included, marks of its end too.
    pub fn samples(&self, labels: &Labels, from: i64, until: i64) -> Vec<Sample> {
        let Some((column, scale, span)) = self.span(labels, from, until) else {
            return Vec::new();
        };
        column
            .samples
            .range(span)
            .map(|sample| {
                let plain = scale.to_bits() == 1f64.to_bits() || is_stale(sample.value);
                Sample {
                    at: sample.at,
                    value: if plain {
                        sample.value
                    } else {
                        sample.value * scale
                    },
                }
            })
            .collect()
    }

    fn span(
        &self,
        labels: &Labels,
        from: i64,
        until: i64,
    ) -> Option<(&Column, f64, std::ops::Range<usize>)> {
        let shown = self.inner.series.get(labels)?;
        let column = self.inner.column(shown.column)?;
        let start = column.samples.partition_point(|sample| sample.at < from);
        let end = column.samples.partition_point(|sample| sample.at <= until);
        Some((column, shown.scale, start..end.max(start)))
    }
}

impl Inner {
    fn bytes(&self) -> usize {
        self.samples * SAMPLE_BYTES + self.series.len() * SERIES_BYTES
    }

    fn column(&self, id: ColumnId) -> Option<&Column> {
        self.columns
            .get(id.slot)?
            .as_ref()
            .filter(|column| column.generation == id.generation)
    }

    fn column_mut(&mut self, id: ColumnId) -> Option<&mut Column> {
        self.columns
            .get_mut(id.slot)?
            .as_mut()
            .filter(|column| column.generation == id.generation)
    }

    fn add_column(&mut self) -> ColumnId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.columns.push(None);
            self.columns.len() - 1
        });
        self.next_generation += 1;
        let column = Column {
            generation: self.next_generation,
            samples: VecDeque::new(),
            shown_as: Vec::new(),
        };
        let id = ColumnId {
            slot,
            generation: column.generation,
        };
        if let Some(place) = self.columns.get_mut(slot) {
            *place = Some(column);
        }
        id
    }

    fn show(&mut self, labels: &Labels, shown: Shown) {
        let labels = self.interned(labels);
        let metric = labels.value(METRIC_NAME).unwrap_or_else(|| "".into());
        self.by_metric
            .entry(metric)
            .or_default()
            .insert(labels.clone());
        self.series.insert(labels.clone(), shown);
        if let Some(column) = self.column_mut(shown.column) {
            column.shown_as.push(labels);
        }
    }

    fn hide(&mut self, labels: &Labels) {
        let Some(shown) = self.series.remove(labels) else {
            return;
        };
        if let Some(of_metric) = self.by_metric.get_mut(labels.metric()) {
            of_metric.remove(labels);
            if of_metric.is_empty() {
                self.by_metric.remove(labels.metric());
            }
        }
        if let Some(origin) = Origin::of(labels).filter(|_| !shown.derived)
            && let Entry::Occupied(mut count) = self.first_hand.entry(origin)
        {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    /// Notes a first-hand series; the first one of its origin hides the derived ones.
    fn displace_derived(&mut self, origin: &Origin) {
        let count = self.first_hand.entry(origin.clone()).or_default();
        *count += 1;
        if *count > 1 {
            return;
        }
        let displaced: Vec<Labels> = self
            .by_metric
            .get(&origin.metric)
            .into_iter()
            .flatten()
            .filter(|labels| self.series.get(*labels).is_some_and(|shown| shown.derived))
            .filter(|labels| Origin::of(labels).as_ref() == Some(origin))
            .cloned()
            .collect();
        for labels in displaced {
            self.hide(&labels);
        }
    }

    /// The same set, with texts that all sets share.
    fn interned(&mut self, labels: &Labels) -> Labels {
        let mut text = |text: &Arc<str>| -> Arc<str> {
            if let Some(known) = self.texts.get(text) {
                return known.clone();
            }
            self.texts.insert(text.clone());
            text.clone()
        };
        Labels::new(
            labels
                .iter()
                .map(|(name, value)| (text(name), text(value)))
                .collect::<Vec<_>>(),
        )
    }

    fn forget_after(&mut self, newest: i64) {
        for column in self.columns.iter_mut().flatten() {
            let past = column.samples.partition_point(|sample| sample.at <= newest);
            self.samples -= column.samples.len() - past;
            column.samples.truncate(past);
        }
    }

    fn forget_before(&mut self, cutoff: i64) {
        for slot in 0..self.columns.len() {
            let Some(Some(column)) = self.columns.get_mut(slot) else {
                continue;
            };
            let expired = column.samples.partition_point(|sample| sample.at < cutoff);
            column.samples.drain(..expired);
            column.samples.shrink_to(column.samples.len() * 2);
            self.samples -= expired;
            if column.samples.is_empty() {
                self.remove_column(slot);
            }
        }
        // A text that only the table itself holds belongs to no series any more.
        self.texts.retain(|text| Arc::strong_count(text) > 1);
    }

    fn thin_before(&mut self, cutoff: i64) {
        for column in self.columns.iter_mut().flatten() {
            self.samples -= thin(&mut column.samples, cutoff);
        }
    }

    fn remove_column(&mut self, slot: usize) {
        let Some(column) = self.columns.get_mut(slot).and_then(Option::take) else {
            return;
        };
        for labels in column.shown_as {
            // A name that was hidden may be another column's by now.
            if self
                .series
                .get(&labels)
                .is_some_and(|shown| shown.column.generation == column.generation)
            {
                self.hide(&labels);
            }
        }
        self.free.push(slot);
    }

    /// The time before which the oldest quarter of the stored time lies.
    fn oldest_quarter(&self) -> Option<i64> {
        let columns = || self.columns.iter().flatten();
        let oldest = columns()
            .filter_map(|column| column.samples.front())
            .map(|sample| sample.at)
            .min()?;
        let newest = columns()
            .filter_map(|column| column.samples.back())
            .map(|sample| sample.at)
            .max()?;
        Some(oldest + ((newest - oldest) / 4).max(1))
    }
}

/// Removes samples before `cutoff` that lie between their neighbours in value, as far as no gap
/// above [`COARSE_MS`] arises. Gives how many went.
fn thin(samples: &mut VecDeque<Sample>, cutoff: i64) -> usize {
    let older = samples.partition_point(|sample| sample.at < cutoff);
    let mut kept = 0usize;
    for at in 0..older {
        let Some(sample) = samples.get(at).copied() else {
            break;
        };
        let before = kept.checked_sub(1).and_then(|at| samples.get(at));
        let goes = before
            .zip(samples.get(at + 1))
            .is_some_and(|(before, after)| {
                let (low, high) = (before.value.min(after.value), before.value.max(after.value));
                // NaN, and so the mark of an end, has no place between others and stays.
                let comparable = !before.value.is_nan() && !after.value.is_nan();
                comparable
                    && (low..=high).contains(&sample.value)
                    && after.at - before.at <= COARSE_MS
            });
        if !goes {
            if let Some(place) = samples.get_mut(kept) {
                *place = sample;
            }
            kept += 1;
        }
    }
    samples.drain(kept..older);
    older - kept
}

/// A duration in whole milliseconds.
pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
