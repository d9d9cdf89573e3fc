//! The functions that walk a list with a predicate: `all`, `filter`, `map`, `reduce` and the like.
//!
//! Some of them end early, because the reference does: `filter(l, p)[0]` looks no further than the first match,
//! and `count(l, p) > 2` no further than the third. What lies behind may hold elements that the predicate fails on.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::datum::{Datum, Entries, Key, List};
use super::error::Fault;
use super::eval::Evaluator;
use super::functions::lists;
use super::operate;
use super::syntax::{NodeId, Operator};

macro_rules! loops {
    ($($name:ident $text:literal),* $(,)?) => {
        /// A function that walks a list.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Loop { $(#[doc = concat!("`", $text, "`")] $name),* }

        impl Loop {
            pub(super) fn named(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$name),)* _ => None }
            }

            pub(super) fn name(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }
        }
    };
}

loops! {
    All "all", None "none", Any "any", One "one", Filter "filter", Map "map", Count "count", Sum "sum",
    Find "find", FindIndex "findIndex", FindLast "findLast", FindLastIndex "findLastIndex",
    GroupBy "groupBy", SortBy "sortBy", Reduce "reduce",
}

impl Loop {
    /// `count(list)` counts truths and `sum(list)` adds up elements.
    pub(super) fn body_may_be_absent(self) -> bool {
        matches!(self, Self::Count | Self::Sum)
    }

    /// `sortBy` takes an order, `reduce` a first value.
    pub(super) fn takes_extra(self) -> bool {
        matches!(self, Self::SortBy | Self::Reduce)
    }

    /// Whether the predicate must answer with a truth value.
    pub(super) fn wants_truth(self) -> bool {
        matches!(
            self,
            Self::All
                | Self::None
                | Self::Any
                | Self::One
                | Self::Filter
                | Self::Count
                | Self::Find
                | Self::FindIndex
                | Self::FindLast
                | Self::FindLastIndex
        )
    }
}

/// Where a loop stands: what `#`, `#index` and `#acc` mean.
pub(super) struct Frame {
    list: Arc<List>,
    index: usize,
    accumulator: Datum,
}

impl Frame {
    pub(super) fn element(&self) -> Datum {
        self.list
            .items()
            .get(self.index)
            .cloned()
            .unwrap_or(Datum::Nil)
    }

    pub(super) fn index(&self) -> Datum {
        Datum::Int(i64::try_from(self.index).unwrap_or(i64::MAX))
    }

    pub(super) fn accumulator(&self) -> Datum {
        self.accumulator.clone()
    }
}

/// From which end a list is searched.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum From {
    Start,
    End,
}

fn counted(count: usize) -> Datum {
    Datum::Int(i64::try_from(count).unwrap_or(i64::MAX))
}

impl Evaluator<'_> {
    /// Runs a loop over a list that has been evaluated. `extra` is the order of `sortBy`, the start of `reduce`.
    pub(super) fn run_loop(
        &mut self,
        kind: Loop,
        collection: &Datum,
        body: Option<NodeId>,
        extra: Option<&Datum>,
    ) -> Result<Datum, Fault> {
        let list = collection.walked()?;
        match kind {
            Loop::All => self
                .search(&list, body, From::Start, false)
                .map(|found| found.is_none()),
            Loop::None => self
                .search(&list, body, From::Start, true)
                .map(|found| found.is_none()),
            Loop::Any => self
                .search(&list, body, From::Start, true)
                .map(|found| found.is_some()),
            Loop::One => self.count(&list, body, usize::MAX).map(|count| count == 1),
            Loop::Count => return self.count(&list, body, usize::MAX).map(counted),
            Loop::Find => return self.find(&list, body, From::Start),
            Loop::FindLast => return self.find(&list, body, From::End),
            Loop::FindIndex => return self.find_index(&list, body, From::Start),
            Loop::FindLastIndex => return self.find_index(&list, body, From::End),
            Loop::Filter => return self.filter(&list, body),
            Loop::Map => return self.map(&list, body),
            Loop::Sum => return self.sum(&list, body),
            Loop::GroupBy => return self.group_by(&list, body),
            Loop::SortBy => return self.sort_by(&list, body, extra),
            Loop::Reduce => return self.reduce(&list, body, extra),
        }
        .map(Datum::Bool)
    }

    fn enter(&mut self, list: &Arc<List>) {
        self.frames.push(Frame {
            list: list.clone(),
            index: 0,
            accumulator: Datum::Nil,
        });
    }

    fn leave(&mut self) {
        self.frames.pop();
    }

    /// What the predicate says of an element; without a predicate the element itself. The frame has been entered.
    fn at(&mut self, index: usize, body: Option<NodeId>) -> Result<Datum, Fault> {
        self.budget.step()?;
        let Some(frame) = self.frames.last_mut() else {
            return Err(Fault::new("no loop"));
        };
        frame.index = index;
        match body {
            Some(body) => self.eval(body),
            None => Ok(frame.element()),
        }
    }

    /// The index of the first element that the predicate calls `wanted`.
    fn search(
        &mut self,
        list: &Arc<List>,
        body: Option<NodeId>,
        from: From,
        wanted: bool,
    ) -> Result<Option<usize>, Fault> {
        let length = list.items().len();
        self.enter(list);
        let mut found = None;
        for step in 0..length {
            let index = match from {
                From::Start => step,
                From::End => length - 1 - step,
            };
            if self.at(index, body)?.as_bool()? == wanted {
                found = Some(index);
                break;
            }
        }
        self.leave();
        Ok(found)
    }

    /// The first element that satisfies the predicate, or nil.
    fn find(&mut self, list: &Arc<List>, body: Option<NodeId>, from: From) -> Result<Datum, Fault> {
        Ok(self.first_match(list, body, from)?.unwrap_or(Datum::Nil))
    }

    pub(super) fn first_match(
        &mut self,
        list: &Arc<List>,
        body: Option<NodeId>,
        from: From,
    ) -> Result<Option<Datum>, Fault> {
        let found = self.search(list, body, from, true)?;
        Ok(found.and_then(|index| list.items().get(index).cloned()))
    }

    fn find_index(
        &mut self,
        list: &Arc<List>,
        body: Option<NodeId>,
        from: From,
    ) -> Result<Datum, Fault> {
        let found = self.search(list, body, from, true)?;
        Ok(found.map_or(Datum::Nil, counted))
    }

    /// How many elements satisfy the predicate, counted no further than `enough`.
    pub(super) fn count(
        &mut self,
        list: &Arc<List>,
        body: Option<NodeId>,
        enough: usize,
    ) -> Result<usize, Fault> {
        self.enter(list);
        let mut count = 0;
        for index in 0..list.items().len() {
            if self.at(index, body)?.as_bool()? {
                count += 1;
                if count >= enough {
                    break;
                }
            }
        }
        self.leave();
        Ok(count)
    }

    fn filter(&mut self, list: &Arc<List>, body: Option<NodeId>) -> Result<Datum, Fault> {
        self.enter(list);
        let mut kept = Vec::new();
        for (index, item) in list.items().iter().enumerate() {
            if self.at(index, body)?.as_bool()? {
                kept.push(item.clone());
            }
        }
        self.leave();
        self.budget.elements(kept.len())?;
        Datum::list(kept)
    }

    fn map(&mut self, list: &Arc<List>, body: Option<NodeId>) -> Result<Datum, Fault> {
        self.budget.elements(list.items().len())?;
        self.enter(list);
        let mapped = (0..list.items().len())
            .map(|index| self.at(index, body))
            .collect::<Result<_, _>>()?;
        self.leave();
        Datum::list(mapped)
    }

    fn sum(&mut self, list: &Arc<List>, body: Option<NodeId>) -> Result<Datum, Fault> {
        self.enter(list);
        let mut sum = Datum::Int(0);
        for index in 0..list.items().len() {
            let item = self.at(index, body)?;
            sum = operate::arithmetic(Operator::Add, &item, &sum, &mut self.budget)?;
        }
        self.leave();
        Ok(sum)
    }

    fn group_by(&mut self, list: &Arc<List>, body: Option<NodeId>) -> Result<Datum, Fault> {
        self.budget.elements(list.items().len())?;
        self.enter(list);
        let mut groups: BTreeMap<Key, Vec<Datum>> = BTreeMap::new();
        for (index, item) in list.items().iter().enumerate() {
            let key = Key::of(&self.at(index, body)?, index)?;
            groups.entry(key).or_default().push(item.clone());
        }
        self.leave();
        let groups = groups
            .into_iter()
            .map(|(key, items)| Ok((key, Datum::list(items)?)))
            .collect::<Result<_, Fault>>()?;
        Datum::mapped(Entries::Groups(groups))
    }

    fn sort_by(
        &mut self,
        list: &Arc<List>,
        body: Option<NodeId>,
        order: Option<&Datum>,
    ) -> Result<Datum, Fault> {
        let descending = lists::is_descending(order)?;
        self.budget.elements(list.items().len())?;
        self.enter(list);
        let keyed = list
            .items()
            .iter()
            .enumerate()
            .map(|(index, item)| Ok((self.at(index, body)?, item.clone())))
            .collect::<Result<_, Fault>>()?;
        self.leave();
        Datum::list(lists::sorted(keyed, descending, &mut self.budget)?)
    }

    fn reduce(
        &mut self,
        list: &Arc<List>,
        body: Option<NodeId>,
        start: Option<&Datum>,
    ) -> Result<Datum, Fault> {
        let (mut accumulator, from) = match (start, list.items().first()) {
            (Some(start), _) => (start.clone(), 0),
            (None, Some(first)) => (first.clone(), 1),
            (None, None) => {
                return Err(Fault::new("reduce of empty array with no initial value"));
            }
        };
        self.enter(list);
        for index in from..list.items().len() {
            if let Some(frame) = self.frames.last_mut() {
                frame.accumulator = accumulator;
            }
            accumulator = self.at(index, body)?;
        }
        self.leave();
        Ok(accumulator)
    }
}
