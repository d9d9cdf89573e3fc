//! The arithmetic of pods and weights: recorded vectors, and what holds for any input.

#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(clippy::panic, reason = "tests")]

use crossfade_engine::rollout::replicas::{
    Basic, CanaryScale, Demand, FencePosts, Leftover, Leftovers, Pods, Retreat, Routed,
    ScaleDownDelay, Scaled, Sizes, Step, Threshold, scale_at, split, weight_at,
};
use proptest::prelude::*;
use serde_json::Value;

// ---- vectors ----

fn section(name: &str) -> Vec<Value> {
    let all: Value = serde_json::from_str(include_str!("data/replicas.json")).unwrap();
    match &all[name] {
        Value::Array(vectors) => vectors.clone(),
        single @ Value::Object(_) => vec![single.clone()],
        other => panic!("section {name}: {other}"),
    }
}

fn number(of: &Value, key: &str) -> i32 {
    let value = of[key]
        .as_i64()
        .unwrap_or_else(|| panic!("no number `{key}` in {of}"));
    i32::try_from(value).unwrap()
}

fn pods(of: &Value) -> Pods {
    let spec = number(of, "spec");
    Pods {
        spec,
        current: spec,
        available: number(of, "available"),
    }
}

fn optional_pods(of: &Value) -> Option<Pods> {
    (!of.is_null()).then(|| pods(of))
}

fn all_pods(of: &Value) -> Vec<Pods> {
    of.as_array()
        .map(|sets| sets.iter().map(pods).collect())
        .unwrap_or_default()
}

fn ready(spec: i32) -> Pods {
    Pods {
        spec,
        current: spec,
        available: spec,
    }
}

fn scaled(of: &Value) -> Scaled<'_> {
    match of {
        Value::String(text) => Scaled::Share(text),
        count => Scaled::Count(i32::try_from(count.as_i64().unwrap()).unwrap()),
    }
}

#[test]
fn fence_posts_follow_the_vectors() {
    for v in section("fencePosts") {
        let posts = FencePosts::of(
            number(&v, "replicas"),
            scaled(&v["maxSurge"]),
            scaled(&v["maxUnavailable"]),
        );
        let expected = FencePosts {
            surge: number(&v, "surge"),
            unavailable: number(&v, "unavailable"),
        };
        assert_eq!(posts, expected, "{v}");
    }
}

#[test]
fn targets_follow_the_vectors() {
    for v in section("targets") {
        let sizes = split(
            number(&v, "replicas"),
            number(&v, "weight"),
            number(&v, "surge"),
        );
        let expected = Sizes {
            canary: number(&v, "canary"),
            stable: number(&v, "stable"),
        };
        assert_eq!(sizes, expected, "{v}");
    }
}

#[test]
fn next_sizes_follow_the_vectors() {
    for v in section("nextSizes") {
        let others = all_pods(&v["others"]);
        let basic = Basic {
            replicas: number(&v, "replicas"),
            weight: number(&v, "weight"),
            fence: FencePosts {
                surge: number(&v, "surge"),
                unavailable: number(&v, "unavailable"),
            },
            new: optional_pods(&v["new"]),
            stable: optional_pods(&v["stable"]),
            others: &others,
        };
        let next = basic.next();
        assert_eq!(next.canary, number(&v["next"], "new"), "{v}");
        let stable = v["next"]["stable"].as_i64().unwrap_or(0);
        assert_eq!(i64::from(next.stable), stable, "{v}");
    }
}

#[test]
fn next_sizes_of_others_follow_the_vectors() {
    for v in section("othersNext") {
        let others = all_pods(&v["others"]);
        let basic = Basic {
            replicas: number(&v, "replicas"),
            weight: 50,
            fence: FencePosts {
                surge: 0,
                unavailable: number(&v, "unavailable"),
            },
            new: Some(ready(number(&v, "availableOfNewAndStable"))),
            stable: None,
            others: &others,
        };
        assert_eq!(
            serde_json::to_value(basic.next_others()).unwrap(),
            v["next"],
            "{v}"
        );
    }
}

/// A basic canary whose sizes change one at a time and whose removed pods vanish at once.
#[derive(Clone, Debug)]
struct Moving {
    replicas: i32,
    weight: i32,
    fence: FencePosts,
    new: Pods,
    stable: Pods,
    others: Vec<Pods>,
}

impl Moving {
    fn basic(&self) -> Basic<'_> {
        Basic {
            replicas: self.replicas,
            weight: self.weight,
            fence: self.fence,
            new: Some(self.new),
            stable: Some(self.stable),
            others: &self.others,
        }
    }

    /// One pass; what it changed.
    fn pass(&mut self) -> Vec<String> {
        let next = self.basic().next();
        if resize(&mut self.stable, next.stable) {
            return vec![format!("stable {}", next.stable)];
        }
        if resize(&mut self.new, next.canary) {
            return vec![format!("canary {}", next.canary)];
        }
        let sizes = self.basic().next_others();
        let changed = self.others.iter_mut().zip(sizes);
        changed
            .filter_map(|(set, n)| resize(set, n).then(|| format!("other {n}")))
            .collect()
    }

    fn sets(&mut self) -> impl Iterator<Item = &mut Pods> {
        [&mut self.new, &mut self.stable]
            .into_iter()
            .chain(&mut self.others)
    }

    /// Every pod becomes available; true if one was not.
    fn become_ready(&mut self) -> bool {
        let mut any = false;
        for set in self.sets() {
            any |= set.available != set.spec;
            set.available = set.spec;
        }
        any
    }

    fn serving(&self) -> i32 {
        let sets = [self.new, self.stable]
            .into_iter()
            .chain(self.others.iter().copied());
        sets.map(|set| set.available.min(set.spec)).sum()
    }

    fn wanted(&self) -> i32 {
        self.new.spec + self.stable.spec + self.others.iter().map(|set| set.spec).sum::<i32>()
    }
}

fn resize(set: &mut Pods, size: i32) -> bool {
    let changed = set.spec != size;
    *set = Pods {
        spec: size,
        current: size,
        available: set.available.min(size),
    };
    changed
}

#[test]
fn sequences_follow_the_vectors() {
    for v in section("sequences") {
        let start = &v["start"];
        let mut canary = Moving {
            replicas: number(&v, "replicas"),
            weight: number(&v, "weight"),
            fence: FencePosts {
                surge: number(&v, "surge"),
                unavailable: number(&v, "unavailable"),
            },
            new: ready(number(start, "canary")),
            stable: ready(number(start, "stable")),
            others: start["other"]
                .as_i64()
                .map(|n| ready(n as i32))
                .into_iter()
                .collect(),
        };
        let mut events: Vec<String> = Vec::new();
        loop {
            assert!(events.len() < 100, "no end: {v}");
            let changes = canary.pass();
            if !changes.is_empty() {
                events.extend(changes);
            } else if canary.become_ready() {
                events.push("ready".to_owned());
            } else {
                break;
            }
        }
        if events.last().is_some_and(|last| last == "ready") {
            events.pop();
        }
        assert_eq!(serde_json::to_value(&events).unwrap(), v["events"], "{v}");
        assert_eq!(canary.new.spec, number(&v["end"], "canary"), "{v}");
        assert_eq!(canary.stable.spec, number(&v["end"], "stable"), "{v}");
        for other in &canary.others {
            assert_eq!(other.spec, number(&v["end"], "other"), "{v}");
        }
        assert!(canary.basic().at_target(Threshold::All), "{v}");
    }
}

#[test]
fn sizes_of_a_routed_canary_follow_the_vectors() {
    for v in section("routedCanary") {
        let routed = Routed {
            replicas: number(&v, "replicas"),
            max_weight: number(&v, "maxWeight"),
            min_pods: number(&v, "minPods"),
        };
        let canary = routed.canary(Demand::Weight(number(&v, "weight")));
        assert_eq!(canary, number(&v, "canary"), "{v}");
    }
}

fn step(of: &Value) -> Step {
    let set_weight = of["setWeight"].as_i64().map(|weight| weight as i32);
    let canary_scale = of["setCanaryScale"].as_object().map(|scale| {
        if scale.contains_key("matchTrafficWeight") {
            CanaryScale::MatchTraffic
        } else if scale.contains_key("replicas") {
            CanaryScale::Replicas(number(&of["setCanaryScale"], "replicas"))
        } else {
            CanaryScale::Weight(number(&of["setCanaryScale"], "weight"))
        }
    });
    Step {
        set_weight,
        canary_scale,
    }
}

#[test]
fn set_canary_scale_follows_the_vectors() {
    for v in section("canaryScale") {
        let steps: Vec<Step> = v["steps"].as_array().unwrap().iter().map(step).collect();
        let routed = Routed {
            replicas: number(&v, "replicas"),
            max_weight: 100,
            min_pods: 1,
        };
        for at in v["at"].as_array().unwrap() {
            let index = number(at, "index") as usize;
            let weight = weight_at(&steps, index, 100);
            let demand = scale_at(&steps, index).unwrap_or(Demand::Weight(weight));
            assert_eq!(weight, number(at, "weight"), "weight at {at}");
            assert_eq!(
                routed.canary(demand),
                number(at, "canary"),
                "canary at {at}"
            );
            assert_eq!(routed.replicas, number(at, "stable"), "stable at {at}");
        }
    }
}

/// An aborted canary with dynamicStableScale.
#[derive(Clone, Debug)]
struct Aborted {
    steps: Vec<Step>,
    retreat: Retreat,
}

impl Aborted {
    /// One pass: the weight first, then both sizes. Canary pods that remain stay available.
    fn pass(&mut self) {
        let retreat = &mut self.retreat;
        let (canary, stable) = (retreat.canary.unwrap(), retreat.stable.unwrap());
        let target = retreat.target(&self.steps);
        let weight = retreat.weight(target);
        let demand = Demand::Weight(target);
        let before = retreat
            .recorded
            .map(|recorded| retreat.routed.max_weight - recorded);
        let size = retreat.routed.dynamic_stable(demand, before);
        let keeps = retreat.keeps_pods;
        let left = if keeps {
            canary.spec
        } else {
            retreat.canary_size(demand, Some(weight))
        };
        retreat.canary = Some(Pods {
            spec: left,
            current: left,
            ..canary
        });
        resize(retreat.canary.as_mut().unwrap(), left);
        retreat.stable = Some(Pods {
            spec: size,
            current: size,
            ..stable
        });
        retreat.recorded = Some(weight);
    }

    fn canary(&self) -> i32 {
        self.retreat.canary.unwrap().spec
    }

    fn state(&self) -> (i32, i32, i32) {
        (
            self.retreat.recorded.unwrap_or(0),
            self.canary(),
            self.retreat.stable.unwrap().spec,
        )
    }
}

fn weights(of: &[i32]) -> Vec<Step> {
    of.iter()
        .map(|w| Step {
            set_weight: Some(*w),
            canary_scale: None,
        })
        .collect()
}

#[test]
fn aborts_with_dynamic_stable_scale_follow_the_vectors() {
    for v in section("dynamicAbort") {
        let start = &v["start"];
        let mut aborted = Aborted {
            steps: v["setWeights"]
                .as_array()
                .unwrap()
                .iter()
                .map(|w| Step {
                    set_weight: w.as_i64().map(|w| w as i32),
                    canary_scale: None,
                })
                .collect(),
            retreat: Retreat {
                routed: Routed {
                    replicas: number(&v, "replicas"),
                    max_weight: 100,
                    min_pods: 1,
                },
                canary: Some(ready(number(start, "canary"))),
                stable: Some(ready(number(start, "stable"))),
                recorded: Some(number(start, "weight")),
                keeps_pods: !v["abortScaleDownDelaySeconds"].is_null(),
            },
        };
        for at in v["at"].as_array().unwrap() {
            aborted.retreat.stable.as_mut().unwrap().available = number(at, "stableAvailable");
            for _ in 0..10 {
                aborted.pass();
            }
            let expected = (
                number(at, "weight"),
                number(at, "canary"),
                number(at, "stable"),
            );
            assert_eq!(aborted.state(), expected, "at {at} of {v}");
        }
    }
}

#[test]
fn an_abort_ends_although_a_canary_may_not_have_fewer_than_two_pods() {
    let mut aborted = Aborted {
        steps: weights(&[10, 20]),
        retreat: Retreat {
            routed: Routed {
                replicas: 10,
                max_weight: 100,
                min_pods: 2,
            },
            canary: Some(ready(2)),
            stable: Some(ready(10)),
            recorded: Some(20),
            keeps_pods: false,
        },
    };
    aborted.pass();
    aborted.pass();
    assert_eq!(aborted.state(), (0, 0, 10));
}

// ---- properties ----

prop_compose! {
    fn some_pods(most: i32)(spec in 0..=most)(available in 0..=spec + 2, spec in Just(spec)) -> Pods {
        Pods { spec, current: spec, available }
    }
}

/// Fence posts that let an update move.
fn fence(replicas: i32) -> impl Strategy<Value = FencePosts> {
    let post = prop_oneof![
        (0..=6).prop_map(|n| (Some(n), 0)),
        (0..=120).prop_map(|percent| (None, percent))
    ];
    (post.clone(), post).prop_map(move |(surge, unavailable)| {
        let (a, b) = (format!("{}%", surge.1), unavailable.1.to_string());
        let scaled = |count: Option<i32>, text| count.map_or(Scaled::Share(text), Scaled::Count);
        FencePosts::of(replicas, scaled(surge.0, &a), scaled(unavailable.0, &b))
    })
}

fn moving(with_others: bool) -> impl Strategy<Value = Moving> {
    (0..=25i32).prop_flat_map(move |replicas| {
        let others = prop::collection::vec(some_pods(12), 0..=if with_others { 3 } else { 0 });
        (
            Just(replicas),
            0..=100i32,
            fence(replicas),
            some_pods(30),
            some_pods(30),
            others,
        )
            .prop_map(|(replicas, weight, fence, new, stable, others)| Moving {
                replicas,
                weight,
                fence,
                new,
                stable,
                others,
            })
    })
}

/// What happens to an aborted canary between two passes.
#[derive(Clone, Copy, Debug)]
enum Blow {
    Replicas(i32),
    StablePods(i32),
    CanaryPods(i32),
}

fn blow() -> impl Strategy<Value = Blow> {
    prop_oneof![
        (0..=20i32).prop_map(Blow::Replicas),
        (0..=20i32).prop_map(Blow::StablePods),
        (0..=20i32).prop_map(Blow::CanaryPods),
    ]
}

fn aborted() -> impl Strategy<Value = Aborted> {
    let whole = prop_oneof![Just(100), Just(1000), 1..=50i32];
    let steps = |whole| prop::collection::vec(0..=whole, 0..6);
    (0..=20i32, whole).prop_flat_map(move |(replicas, whole)| {
        let recorded = prop::option::weighted(0.9, 0..=whole);
        let sides = (some_pods(20), some_pods(20));
        (
            Just((replicas, whole)),
            1..=12i32,
            steps(whole),
            recorded,
            sides,
            any::<bool>(),
        )
            .prop_map(
                |(
                    (replicas, max_weight),
                    min_pods,
                    steps,
                    recorded,
                    (canary, stable),
                    keeps_pods,
                )| {
                    let routed = Routed {
                        replicas,
                        max_weight,
                        min_pods,
                    };
                    let (canary, stable) = (Some(canary), Some(stable));
                    let retreat = Retreat {
                        routed,
                        canary,
                        stable,
                        recorded,
                        keeps_pods,
                    };
                    Aborted {
                        steps: weights(&steps),
                        retreat,
                    }
                },
            )
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1500) })]

    #[test]
    fn both_sides_keep_a_pod_and_no_more_are_wanted_than_surge_allows(
        replicas in prop_oneof![0..=400i32, any::<i32>()],
        weight in 0..=100i32,
        surge in prop_oneof![Just(0), 1..=5i32],
    ) {
        let sizes = split(replicas, weight, surge);
        let (canary, stable) = (i64::from(sizes.canary), i64::from(sizes.stable));
        let wanted = i64::from(replicas.max(0));
        prop_assert!(canary >= 0 && stable >= 0);
        prop_assert!(canary + stable == wanted || (surge > 0 && wanted > 0 && canary + stable == wanted + 1));
        if (1..100).contains(&weight) && wanted > 0 && wanted + i64::from(surge) >= 2 {
            prop_assert!(canary >= 1 && stable >= 1, "{sizes:?}");
        }
        if weight == 0 { prop_assert_eq!(canary, 0); }
        if weight == 100 { prop_assert_eq!(stable, 0); }
    }

    #[test]
    fn a_split_is_within_a_pod_of_the_weight(replicas in 2..=100_000i32, weight in 0..=100i32, surge in 0..=1i32) {
        let sizes = split(replicas, weight, surge);
        let total = i64::from(sizes.canary) + i64::from(sizes.stable);
        let miss = (100 * i64::from(sizes.canary) - i64::from(weight) * total).abs();
        prop_assert!(miss <= 100, "{sizes:?}");
    }

    #[test]
    fn a_higher_weight_never_wants_a_smaller_share_of_pods(
        replicas in 0..=300i32, surge in 0..=1i32, low in 0..=100i32, high in 0..=100i32,
    ) {
        let (low, high) = (split(replicas, low.min(high), surge), split(replicas, low.max(high), surge));
        let total = |sizes: Sizes| i64::from(sizes.canary) + i64::from(sizes.stable);
        prop_assert!(i64::from(low.canary) * total(high) <= i64::from(high.canary) * total(low), "{low:?} {high:?}");
    }

    #[test]
    fn a_pass_respects_surge_and_availability(state in moving(true)) {
        let limit = state.replicas + state.fence.surge;
        let floor = state.replicas - state.fence.unavailable;
        let (serving, wanted) = (state.serving(), state.wanted());
        let next = state.basic().next();
        if state.others.iter().any(|other| other.spec > 0) {
            // Others go first; only broken pods that nobody wants make room before.
            let serving = |pods: Pods| pods.spec.min(pods.available);
            prop_assert!(next.canary >= serving(state.new) && next.stable >= serving(state.stable), "{next:?}");
        }
        // Both at once: an upper bound of what a pass does.
        let mut after = state.clone();
        resize(&mut after.stable, next.stable);
        resize(&mut after.new, next.canary);
        prop_assert!(after.wanted() <= limit.max(wanted), "{next:?}");
        prop_assert!(after.serving() >= floor.min(serving), "{next:?}");
        // One at a time, as passes do it.
        let mut pass = state.clone();
        pass.pass();
        prop_assert!(pass.wanted() <= limit.max(wanted), "{pass:?}");
        prop_assert!(pass.serving() >= floor.min(serving), "{pass:?}");
    }

    #[test]
    fn with_pods_becoming_available_the_target_is_reached(start in moving(true)) {
        let mut state = start;
        let pods = state.wanted() + state.replicas + state.fence.surge;
        let mut passes = 0;
        loop {
            passes += 1;
            prop_assert!(passes <= 4 * pods + 8, "no end at {state:?}");
            let moved = !state.pass().is_empty();
            if !moved && !state.become_ready() {
                break;
            }
        }
        prop_assert!(state.basic().at_target(Threshold::All), "rests at {state:?}");
        let target = state.basic().target();
        prop_assert_eq!((state.new.spec, state.stable.spec), (target.canary, target.stable));
    }

    #[test]
    fn once_reached_a_target_is_left_alone(start in moving(false)) {
        let target = start.basic().target();
        let state = Moving { new: ready(target.canary), stable: ready(target.stable), ..start };
        prop_assert_eq!(state.basic().next(), target);
    }

    #[test]
    fn an_abort_is_monotone_and_ends(start in aborted(), blows in prop::collection::vec(blow(), 0..12)) {
        let mut state = start;
        for blow in blows {
            let (canary, stable) = (state.canary(), state.retreat.stable.as_mut().unwrap());
            match blow {
                Blow::Replicas(replicas) => state.retreat.routed.replicas = replicas,
                Blow::StablePods(available) => stable.available = available.min(stable.spec),
                Blow::CanaryPods(available) => {
                    state.retreat.canary.as_mut().unwrap().available = available.min(canary);
                }
            }
            let recorded = state.retreat.recorded;
            state.pass();
            if let Some(recorded) = recorded {
                prop_assert!(state.retreat.recorded.unwrap() <= recorded, "{state:?} after {recorded}");
            }
            prop_assert!(state.canary() <= canary, "{state:?} after {canary}");
        }
        // From now on every wanted stable pod becomes available.
        for _ in 0..2 * (state.steps.len() + 2) {
            let stable = state.retreat.stable.as_mut().unwrap();
            stable.available = stable.spec;
            state.pass();
        }
        prop_assert_eq!(state.retreat.recorded, Some(0), "{:?}", state);
        prop_assert!(state.retreat.keeps_pods || state.canary() == 0, "{state:?}");
        prop_assert_eq!(state.retreat.stable.unwrap().spec, state.retreat.routed.replicas);
    }

    #[test]
    fn an_abort_takes_no_weight_that_stable_cannot_carry(start in aborted()) {
        let mut state = start;
        let Some(recorded) = state.retreat.recorded else { return Ok(()) };
        let routed = state.retreat.routed;
        let carried = routed.weight_carried(state.retreat.stable.unwrap().available);
        state.pass();
        let now = state.retreat.recorded.unwrap();
        prop_assert!(
            routed.replicas == 0 || now == recorded || routed.max_weight - now <= carried,
            "{state:?} carries {carried}"
        );
    }

    #[test]
    fn no_input_overflows(
        a in any::<i32>(), b in any::<i32>(), c in any::<i32>(), d in any::<i32>(), e in any::<i32>(),
        f in any::<i32>(), percent in any::<i64>(),
    ) {
        let text = format!("{percent}%");
        let fence = FencePosts::of(a, Scaled::Share(&text), Scaled::Share(&text));
        prop_assert!(fence.surge >= 0 && (0..=a.max(0)).contains(&fence.unavailable));
        FencePosts::of(a, Scaled::Count(b), Scaled::Count(c));
        let (x, y) = (Pods { spec: b, current: c, available: d }, Pods { spec: e, current: a, available: f });
        let others = [x, y];
        let fence = FencePosts { surge: e, unavailable: f };
        for (new, stable) in [(Some(x), Some(y)), (None, Some(x)), (Some(x), None), (None, None)] {
            let basic = Basic { replicas: a, weight: b, fence, new, stable, others: &[] };
            let next = basic.next();
            prop_assert!(next.canary >= 0 && next.stable >= 0);
            let crowded = Basic { others: &others, ..basic };
            crowded.next();
            crowded.next_others();
            crowded.at_target(Threshold::Percent(f));
        }
        let routed = Routed { replicas: a, max_weight: b, min_pods: c };
        routed.stable_carries_rest(d, x, Threshold::Pods(e));
        prop_assert!(routed.weight_not_carried(d, e, f) >= 0);
        for demand in [Demand::Weight(d), Demand::Replicas(d)] {
            prop_assert!(routed.dynamic_canary(demand) >= 0);
            prop_assert!(routed.dynamic_stable(demand, Some(e)) >= 0);
        }
        let retreat = Retreat { routed, canary: Some(x), stable: Some(y), recorded: Some(f), keeps_pods: d > 0 };
        let target = retreat.target(&weights(&[d, e, f]));
        prop_assert!(target >= 0 && retreat.weight(target) >= 0 && retreat.weight(d) <= f.max(0));
        prop_assert!(retreat.weight(target) <= b.max(1));
        retreat.canary_size(Demand::Weight(d), Some(e));
        let sets = [Leftover { pods: x, ..Leftover::default() }, Leftover { pods: y, ..Leftover::default() }];
        Leftovers {
            replicas: a,
            unavailable: b,
            new: Some(y),
            stable: Some(x),
            fully_promoted: c > 0,
            dynamic: d > 0,
            targets_verified: true,
            delay: ScaleDownDelay::new(false, Some(e)),
            sets: &sets,
        }
        .next();
    }
}
