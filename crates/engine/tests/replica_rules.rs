//! The arithmetic of pods and weights, rule by rule.

use crossfade_engine::rollout::replicas::{
    Basic, CanaryScale, Deadline, Demand, Fate, FencePosts, Leftover, Leftovers, Pods, Remains,
    Retreat, Routed, ScaleDownDelay, Scaled, Sizes, Step, Threshold, scale_at, split, weight_at,
    weight_while_scaling,
};

/// So many pods, all of them available.
fn ready(spec: i32) -> Pods {
    partly(spec, spec)
}

/// So many pods asked for and created, some of them available.
fn partly(spec: i32, available: i32) -> Pods {
    Pods {
        spec,
        current: spec,
        available,
    }
}

fn sizes(canary: i32, stable: i32) -> Sizes {
    Sizes { canary, stable }
}

fn posts(surge: i32, unavailable: i32) -> FencePosts {
    FencePosts { surge, unavailable }
}

/// Ten replicas behind a router, nothing else set.
const TEN: Routed = Routed {
    replicas: 10,
    max_weight: 100,
    min_pods: 1,
};

fn weights(of: &[i32]) -> Vec<Step> {
    of.iter()
        .map(|w| Step {
            set_weight: Some(*w),
            canary_scale: None,
        })
        .collect()
}

#[test]
fn a_text_is_a_percentage_with_or_without_its_sign() {
    let surge = |text| FencePosts::of(10, Scaled::Share(text), Scaled::Count(0)).surge;
    let surges = ["5", "5%", "%5", "+50", "200%"].map(surge);
    assert_eq!(surges, [1, 1, 1, 5, 20]);
    let defaults = FencePosts::of(10, Scaled::DEFAULT, Scaled::DEFAULT);
    assert_eq!(defaults, posts(3, 2));
}

#[test]
fn a_text_that_is_no_percentage_makes_both_fence_posts_zero() {
    for text in ["", "%", "many", "1.5%", " 5%", "99999999999999999999%"] {
        let (bad, good) = (Scaled::Share(text), Scaled::Count(3));
        assert_eq!(FencePosts::of(10, bad, good), posts(0, 0), "{text}");
        assert_eq!(FencePosts::of(10, good, bad), posts(0, 0), "{text}");
    }
}

#[test]
fn negative_fence_posts_count_as_zero() {
    let negative = FencePosts::of(10, Scaled::Count(-3), Scaled::Share("-20%"));
    assert_eq!(negative, posts(0, 1));
}

#[test]
fn without_surge_a_canary_of_95_percent_has_nine_of_ten_pods() {
    assert_eq!(split(10, 95, 0), sizes(9, 1));
    assert_eq!(split(5, 90, 0), sizes(4, 1));
    assert_eq!(split(2, 75, 0), sizes(1, 1));
}

#[test]
fn the_target_is_reached_by_pods_and_not_by_standing_still() {
    // A broken intermediate version fills the surge: nothing can move, yet nothing is reached.
    let others = [partly(3, 0)];
    let full = Basic {
        replicas: 10,
        weight: 20,
        fence: posts(3, 0),
        new: Some(ready(0)),
        stable: Some(ready(10)),
        others: &others,
    };
    assert_eq!(full.next(), sizes(0, 10));
    assert!(!full.at_target(Threshold::All));
    let reached = Basic {
        new: Some(ready(2)),
        stable: Some(ready(8)),
        ..full
    };
    assert!(reached.at_target(Threshold::All));
    let met = |basic: Basic<'_>| basic.at_target(Threshold::All);
    // New stable pods need only exist; old ones must be gone, all of them.
    assert!(met(Basic {
        stable: Some(partly(8, 6)),
        ..reached
    }));
    let uncreated = Pods {
        current: 7,
        ..ready(8)
    };
    assert!(!met(Basic {
        stable: Some(uncreated),
        ..reached
    }));
    assert!(!met(Basic {
        others: &[ready(1)],
        ..reached
    }));
    assert!(!met(Basic {
        stable: None,
        ..reached
    }));
    assert!(!met(Basic {
        new: None,
        weight: 0,
        ..reached
    }));
}

#[test]
fn above_the_limit_the_kept_side_gives_way_but_for_the_pods_that_availability_needs() {
    let halved = Basic {
        replicas: 5,
        weight: 50,
        fence: posts(1, 0),
        new: Some(ready(8)),
        stable: Some(ready(8)),
        others: &[],
    };
    assert_eq!(halved.next(), sizes(3, 3));
    // Of a broken canary more goes than its target says, so that five stable pods can stay.
    let broken = Basic {
        new: Some(partly(8, 0)),
        ..halved
    };
    assert_eq!(broken.next(), sizes(1, 5));
}

#[test]
fn a_progress_threshold_is_a_percentage_or_a_count_capped_by_what_is_wanted() {
    let eight = partly(10, 8);
    //           threshold                 wanted  met
    let table = [
        (Threshold::All, 10, false),
        (Threshold::All, 8, false), // eight are there, but ten are asked for
        (Threshold::Percent(80), 10, true),
        (Threshold::Percent(81), 10, false),
        (Threshold::Percent(0), 10, true),
        (Threshold::Percent(100), 0, true),
        (Threshold::Percent(-1), 10, false),
        (Threshold::Pods(8), 10, true),
        (Threshold::Pods(9), 10, false),
        (Threshold::Pods(9), 8, true),
        (Threshold::Pods(-1), 10, false),
    ];
    for (threshold, wanted, met) in table {
        assert_eq!(
            threshold.met(eight, wanted),
            met,
            "{threshold:?} of {wanted}"
        );
    }
    assert!(Threshold::All.met(ready(3), 3));
    assert!(!Threshold::All.met(partly(3, 4), 3));
}

#[test]
fn while_pods_are_missing_the_weight_does_not_rise_but_falls_at_once() {
    let steps = [weights(&[20, 80]), vec![Step::default()], weights(&[40])].concat();
    //           index recorded  weight
    let table = [
        (0, None, 0),
        (1, Some(20), 20),
        (2, Some(20), 20), // jumped here: not the 80 of the step list
        (3, Some(80), 40),
        (4, Some(40), 40),
    ];
    for (index, recorded, weight) in table {
        assert_eq!(
            weight_while_scaling(&steps, index, 100, recorded),
            weight,
            "at {index}"
        );
    }
    assert_eq!(weight_at(&steps, 2, 100), 80);
    assert_eq!(weight_at(&steps, 4, 1000), 1000);
    assert_eq!(weight_at(&[], 0, 100), 100);
    assert_eq!(weight_at(&[Step::default()], 0, 100), 0);
}

#[test]
fn a_fixed_canary_size_lasts_until_a_later_step_lets_it_follow_the_traffic() {
    let scale = |scale| Step {
        canary_scale: Some(scale),
        ..Step::default()
    };
    let weight = Step {
        set_weight: Some(10),
        ..Step::default()
    };
    let both = Step {
        set_weight: Some(50),
        canary_scale: Some(CanaryScale::Weight(120)),
    };
    let steps = [
        weight,
        scale(CanaryScale::Replicas(3)),
        weight,
        scale(CanaryScale::MatchTraffic),
        both,
    ];
    let fixed = [0, 1, 2, 3, 4, 5].map(|index| scale_at(&steps, index));
    let three = Some(Demand::Replicas(3));
    assert_eq!(
        fixed,
        [None, three, three, None, Some(Demand::Weight(120)), None]
    );
}

#[test]
fn explicit_canary_pods_ignore_replicas_and_the_minimum_unless_stable_is_dynamic() {
    let routed = Routed {
        replicas: 4,
        max_weight: 100,
        min_pods: 3,
    };
    assert_eq!(routed.canary(Demand::Replicas(9)), 9);
    assert_eq!(routed.canary(Demand::Replicas(1)), 1);
    assert_eq!(routed.canary(Demand::Replicas(0)), 0);
    assert_eq!(routed.dynamic_canary(Demand::Replicas(1)), 3);
    assert_eq!(routed.dynamic_canary(Demand::Replicas(0)), 0);
    assert_eq!(routed.dynamic_canary(Demand::Replicas(9)), 9);
}

#[test]
fn a_minimum_of_two_pods_is_capped_by_the_replicas() {
    let ten = Routed { min_pods: 2, ..TEN };
    assert_eq!(ten.canary(Demand::Weight(5)), 2);
    assert_eq!(Routed { replicas: 1, ..ten }.canary(Demand::Weight(5)), 1);
}

#[test]
fn a_dynamic_stable_shrinks_only_after_its_weight_is_recorded() {
    //           weight recorded stable   pods
    let table = [
        (20, Some(100), 10),
        (20, Some(80), 8),
        (50, Some(80), 8),
        (50, Some(50), 5),
        (80, Some(50), 5),
        (80, Some(20), 2),
        (20, Some(20), 8), // the weight is to fall: stable grows first
        (20, None, 8),
        (100, Some(0), 0),
        (200, Some(0), 0),
    ];
    for (weight, recorded, pods) in table {
        let size = TEN.dynamic_stable(Demand::Weight(weight), recorded);
        assert_eq!(size, pods, "weight {weight}, recorded {recorded:?}");
    }
    assert_eq!(TEN.dynamic_stable(Demand::Replicas(3), Some(50)), 10);
}

#[test]
fn traffic_moves_back_only_to_stable_pods_that_can_carry_it() {
    assert_eq!(TEN.needed_stable(0), 10);
    assert_eq!(TEN.needed_stable(25), 7);
    assert_eq!(TEN.needed_stable(100), 0);
    let seven = partly(10, 7);
    assert!(TEN.stable_carries_rest(25, seven, Threshold::All));
    assert!(!TEN.stable_carries_rest(20, seven, Threshold::All));
    assert!(TEN.stable_carries_rest(20, seven, Threshold::Percent(80)));
    // What cannot be carried stays where it is, and never grows.
    assert_eq!(TEN.weight_not_carried(0, 50, 7), 30);
    assert_eq!(TEN.weight_not_carried(0, 20, 7), 20);
    assert_eq!(TEN.weight_not_carried(40, 50, 7), 40);
    assert_eq!(TEN.weight_not_carried(0, 50, 10), 0);
}

#[test]
fn a_full_promotion_never_asks_for_more_than_all_traffic() {
    let weights: Vec<i32> = [0, 3, 10, 14].map(|n| TEN.weight_carried(n)).to_vec();
    assert_eq!(weights, [0, 30, 100, 100]);
    assert_eq!(Routed { replicas: 0, ..TEN }.weight_carried(3), 0);
    assert_eq!(Routed { replicas: 3, ..TEN }.weight_carried(1), 33);
}

#[test]
fn going_back_to_the_stable_template_holds_the_weight() {
    let retreat = Retreat {
        routed: TEN,
        canary: Some(ready(8)),
        stable: Some(partly(10, 2)),
        recorded: Some(80),
        keeps_pods: false,
    };
    assert_eq!(retreat.weight(100), 80);
    let almost = Retreat {
        stable: Some(partly(10, 9)),
        ..retreat
    };
    assert_eq!(almost.weight(100), 80);
}

#[test]
fn an_abort_aims_at_no_more_than_the_canary_has_and_carries() {
    let steps = weights(&[20, 50, 80]);
    let nodes_lost = Retreat {
        routed: TEN,
        canary: Some(ready(8)),
        stable: Some(partly(10, 1)),
        recorded: Some(80),
        keeps_pods: true,
    };
    assert_eq!(nodes_lost.target(&steps), 50);
    assert_eq!(
        Retreat {
            canary: Some(ready(3)),
            ..nodes_lost
        }
        .target(&steps),
        20
    );
    assert_eq!(
        Retreat {
            recorded: Some(30),
            ..nodes_lost
        }
        .target(&steps),
        30
    );
    assert_eq!(
        Retreat {
            recorded: Some(0),
            ..nodes_lost
        }
        .target(&steps),
        0
    );
}

#[test]
fn an_abort_without_recorded_weight_gives_none_to_a_canary_without_pods() {
    let retreat = Retreat {
        routed: TEN,
        canary: Some(ready(0)),
        stable: Some(partly(10, 4)),
        recorded: None,
        keeps_pods: false,
    };
    assert_eq!(retreat.weight(retreat.target(&weights(&[50]))), 0);
    let running = Retreat {
        canary: Some(ready(6)),
        ..retreat
    };
    assert_eq!(running.weight(running.target(&weights(&[50]))), 60);
    for missing in [
        Retreat {
            canary: None,
            ..running
        },
        Retreat {
            stable: None,
            ..running
        },
    ] {
        assert_eq!(missing.weight(missing.target(&weights(&[50]))), 0);
    }
}

#[test]
fn the_scale_down_delay_keeps_as_many_versions_as_its_limit_says() {
    use Deadline::{Ahead, None as No, Passed};
    use Fate::{Delay, Drop, Keep};
    let fates = |limit: Option<i32>, deadlines: &[Deadline]| -> Vec<Fate> {
        let mut delay = ScaleDownDelay::new(false, limit);
        deadlines
            .iter()
            .map(|deadline| delay.next(*deadline))
            .collect()
    };
    assert_eq!(
        fates(None, &[No, Ahead, Passed, No]),
        [Delay, Keep, Drop, Delay]
    );
    assert_eq!(fates(Some(1), &[No, Ahead, No]), [Delay, Drop, Drop]);
    assert_eq!(fates(Some(2), &[Passed, Ahead, No]), [Drop, Keep, Drop]);
    assert_eq!(fates(Some(0), &[No, Ahead]), [Drop, Drop]);
    let mut at_once = ScaleDownDelay::new(true, None);
    assert_eq!(
        [No, Ahead, Passed].map(|deadline| at_once.next(deadline)),
        [Drop, Drop, Drop]
    );
}

fn leftovers(sets: &[Leftover]) -> Leftovers<'_> {
    Leftovers {
        replicas: 10,
        unavailable: 0,
        new: Some(ready(10)),
        stable: None,
        fully_promoted: true,
        dynamic: false,
        targets_verified: true,
        delay: ScaleDownDelay::new(false, None),
        sets,
    }
}

fn remains(of: &Leftovers<'_>) -> Vec<(i32, bool)> {
    of.next()
        .into_iter()
        .map(|Remains { size, delay }| (size, delay))
        .collect()
}

#[test]
fn the_old_stable_of_a_routed_canary_is_kept_for_the_delay() {
    let old = Leftover {
        pods: ready(10),
        ..Leftover::default()
    };
    let sets = [old];
    let promoted = leftovers(&sets);
    assert_eq!(remains(&promoted), [(10, true)]);
    assert_eq!(
        remains(&Leftovers {
            dynamic: true,
            ..promoted
        }),
        [(0, false)]
    );
    assert_eq!(
        remains(&Leftovers {
            delay: ScaleDownDelay::new(true, None),
            ..promoted
        }),
        [(0, false)]
    );
    assert_eq!(
        remains(&Leftovers {
            targets_verified: false,
            ..promoted
        }),
        [(10, false)]
    );
    let waiting = [Leftover {
        deadline: Deadline::Ahead,
        ..old
    }];
    let unverified = Leftovers {
        targets_verified: false,
        ..leftovers(&waiting)
    };
    assert_eq!(remains(&unverified), [(10, false)]);
    let due = [Leftover {
        deadline: Deadline::Passed,
        ..old
    }];
    assert_eq!(remains(&leftovers(&due)), [(0, false)]);
    // Below the floor nothing goes but what is not available anyway.
    let short = [Leftover {
        pods: partly(10, 4),
        ..due[0]
    }];
    assert_eq!(
        remains(&Leftovers {
            new: Some(ready(6)),
            ..leftovers(&short)
        }),
        [(4, false)]
    );
    assert_eq!(
        remains(&Leftovers {
            new: Some(ready(6)),
            unavailable: 1,
            ..leftovers(&short)
        }),
        [(0, false)]
    );
}

#[test]
fn of_two_delayed_versions_the_older_goes_when_one_may_stay() {
    let old = Leftover {
        pods: ready(10),
        deadline: Deadline::Ahead,
        ..Leftover::default()
    };
    let sets = [old, old];
    let one = Leftovers {
        delay: ScaleDownDelay::new(false, Some(1)),
        ..leftovers(&sets)
    };
    assert_eq!(remains(&one), [(0, false), (10, false)]);
}

#[test]
fn an_interrupted_version_stays_while_something_refers_to_it_and_then_goes_at_once() {
    let between = Leftover {
        pods: ready(3),
        ..Leftover::default()
    };
    let next = |set: Leftover| {
        remains(&Leftovers {
            fully_promoted: false,
            ..leftovers(&[set])
        })
    };
    assert_eq!(next(between), [(0, false)]);
    assert_eq!(
        next(Leftover {
            referenced: true,
            ..between
        }),
        [(3, false)]
    );
    assert_eq!(
        next(Leftover {
            carried_lately: true,
            ..between
        }),
        [(3, true)]
    );
    let broken = partly(3, 1);
    assert_eq!(
        next(Leftover {
            referenced: true,
            pods: broken,
            ..between
        }),
        [(1, false)]
    );
    // What has no pods does not use up the limit.
    let gone = Leftover {
        pods: ready(0),
        ..between
    };
    let sets = [between, gone];
    let one = Leftovers {
        delay: ScaleDownDelay::new(false, Some(1)),
        ..leftovers(&sets)
    };
    assert_eq!(remains(&one), [(3, true), (0, false)]);
}
