//! The arithmetic of a rolling update: how many replicas each ReplicaSet has next.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// The sizes of one ReplicaSet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// What its spec asks for.
    pub wanted: i32,
    /// How many of its pods are available now.
    pub available: i32,
}

/// What the Deployment allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub replicas: i32,
    pub max_surge: i32,
    pub max_unavailable: i32,
}

impl Bounds {
    /// Percentages round up for surge and down for unavailability; both zero would stand still, so one may then be unavailable.
    pub fn of(deployment: &Deployment) -> Self {
        let spec = deployment.spec.as_ref();
        let replicas = spec.and_then(|spec| spec.replicas).unwrap_or(1).max(0);
        let strategy = spec.and_then(|spec| spec.strategy.as_ref());
        if strategy.is_some_and(|strategy| strategy.type_.as_deref() == Some("Recreate")) {
            return Self { replicas, max_surge: 0, max_unavailable: 0 };
        }
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let quarter = IntOrString::String("25%".into());
        let surge = rolling.and_then(|rolling| rolling.max_surge.as_ref()).unwrap_or(&quarter);
        let unavailable = rolling.and_then(|rolling| rolling.max_unavailable.as_ref()).unwrap_or(&quarter);
        let max_surge = resolve(surge, replicas, true);
        let mut max_unavailable = resolve(unavailable, replicas, false).min(replicas);
        if max_surge == 0 && max_unavailable == 0 {
            max_unavailable = 1;
        }
        Self { replicas, max_surge, max_unavailable }
    }

    fn most(self) -> i32 {
        self.replicas.saturating_add(self.max_surge)
    }

    fn fewest_available(self) -> i32 {
        self.replicas - self.max_unavailable
    }
}

fn resolve(value: &IntOrString, of: i32, up: bool) -> i32 {
    match value {
        IntOrString::Int(number) => (*number).max(0),
        IntOrString::String(text) => {
            let percent: i64 = text.strip_suffix('%').and_then(|n| n.parse().ok()).unwrap_or(0).clamp(0, 100_000);
            let scaled = percent * i64::from(of);
            let rounded = if up { (scaled + 99) / 100 } else { scaled / 100 };
            i32::try_from(rounded).unwrap_or(i32::MAX)
        }
    }
}

/// The next size of the new ReplicaSet during a rolling update. `others` are the sizes that all other sets ask for.
pub fn grow(bounds: Bounds, new: i32, others: i32) -> i32 {
    if new >= bounds.replicas {
        return bounds.replicas;
    }
    let room = bounds.most() - (new + others);
    if room <= 0 { new } else { new + room.min(bounds.replicas - new) }
}

/// The next sizes of the old ReplicaSets (oldest first), given what the new one asks for and has available.
pub fn shrink(bounds: Bounds, new: Size, old: &[Size]) -> Vec<i32> {
    let mut next: Vec<i32> = old.iter().map(|size| size.wanted).collect();
    let all = new.wanted + next.iter().sum::<i32>();
    let new_unavailable = (new.wanted - new.available).max(0);
    let mut spare = all - bounds.fewest_available() - new_unavailable;
    if spare <= 0 {
        return next;
    }
    // Pods that serve nobody go first: they may be why the rollout is needed.
    for (size, wanted) in old.iter().zip(&mut next) {
        let unhealthy = (*wanted - size.available).clamp(0, spare);
        *wanted -= unhealthy;
        spare -= unhealthy;
    }
    let available = new.available + old.iter().map(|size| size.available).sum::<i32>();
    let mut spare = available - bounds.fewest_available();
    for (size, wanted) in old.iter().zip(&mut next) {
        if spare <= 0 {
            break;
        }
        // What is left after the cleaning above is available.
        let healthy = (*wanted).min(size.available).clamp(0, spare);
        *wanted -= healthy;
        spare -= healthy;
    }
    next
}

/// Spreads a change of the wanted total over sets in the middle of a rollout, in proportion to their sizes; what rounding
/// leaves goes to the largest. `sizes` are newest first.
pub fn proportional(bounds: Bounds, sizes: &[i32]) -> Vec<i32> {
    let all: i64 = sizes.iter().map(|size| i64::from(*size)).sum();
    let allowed = if bounds.replicas > 0 { i64::from(bounds.most()) } else { 0 };
    let mut left = allowed - all;
    if left == 0 || all == 0 {
        return sizes.to_vec();
    }
    let total = left;
    let mut next = sizes.to_vec();
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|at| (std::cmp::Reverse(sizes[*at]), *at));
    for at in &order {
        let size = i64::from(sizes[*at]);
        // Rounded half away from zero, as Kubernetes does.
        let share = (2 * size * total + all * total.signum()) / (2 * all);
        let share = if total > 0 { share.clamp(0, left) } else { share.clamp(left, 0) };
        next[*at] = i32::try_from((size + share).max(0)).unwrap_or(i32::MAX);
        left -= share;
    }
    if let Some(largest) = order.first() {
        next[*largest] = i32::try_from((i64::from(next[*largest]) + left).max(0)).unwrap_or(i32::MAX);
    }
    next
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::{DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
    use proptest::prelude::*;

    use super::*;

    fn bounds(replicas: i32, surge: IntOrString, unavailable: IntOrString) -> Bounds {
        let rolling = RollingUpdateDeployment { max_surge: Some(surge), max_unavailable: Some(unavailable) };
        let strategy = DeploymentStrategy { rolling_update: Some(rolling), type_: Some("RollingUpdate".into()) };
        let spec = DeploymentSpec { replicas: Some(replicas), strategy: Some(strategy), ..Default::default() };
        Bounds::of(&Deployment { spec: Some(spec), ..Default::default() })
    }

    fn percent(number: u32) -> IntOrString {
        IntOrString::String(format!("{number}%"))
    }

    #[test]
    fn percentages_round_up_for_surge_and_down_for_unavailability() {
        let cases = [
            (3, percent(25), percent(25), (1, 0)),
            (10, percent(25), percent(25), (3, 2)),
            (4, percent(0), percent(0), (0, 1)),
            (3, IntOrString::Int(0), IntOrString::Int(5), (0, 3)),
            (0, percent(25), percent(25), (0, 1)),
        ];
        for (replicas, surge, unavailable, (max_surge, max_unavailable)) in cases {
            let expected = Bounds { replicas, max_surge, max_unavailable };
            assert_eq!(bounds(replicas, surge, unavailable), expected);
        }
    }

    #[test]
    fn old_pods_that_serve_nobody_go_first() {
        let bounds = Bounds { replicas: 3, max_surge: 1, max_unavailable: 0 };
        let old = [Size { wanted: 3, available: 3 }, Size { wanted: 1, available: 0 }];
        assert_eq!(shrink(bounds, Size { wanted: 0, available: 0 }, &old), [3, 0]);
        let new = Size { wanted: 1, available: 1 };
        assert_eq!(shrink(bounds, new, &[Size { wanted: 3, available: 3 }]), [2]);
        assert_eq!(shrink(bounds, Size { wanted: 1, available: 0 }, &[Size { wanted: 3, available: 3 }]), [3]);
    }

    #[test]
    fn scaling_in_mid_rollout_keeps_the_proportions() {
        let bounds = Bounds { replicas: 15, max_surge: 3, max_unavailable: 2 };
        let next = proportional(bounds, &[5, 8]);
        assert_eq!(next.iter().sum::<i32>(), 18);
        assert_eq!(next, [7, 11]);
        assert_eq!(proportional(Bounds { replicas: 0, max_surge: 1, max_unavailable: 0 }, &[2, 3]), [0, 0]);
    }

    /// One old pod: whether it serves.
    #[derive(Debug, Clone, Copy)]
    struct World {
        bounds: Bounds,
        new: Size,
        old: Size,
    }

    impl World {
        fn step(&mut self) {
            self.new.wanted = grow(self.bounds, self.new.wanted, self.old.wanted);
            let next = shrink(self.bounds, self.new, &[self.old]);
            self.old.wanted = next[0];
            // The ReplicaSet deletes those that do not serve first.
            self.old.available = self.old.available.min(self.old.wanted);
            self.new.available = self.new.available.min(self.new.wanted);
        }
    }

    proptest! {
        #[test]
        fn a_rollout_keeps_its_bounds_and_ends(
            replicas in 1..30_i32, surge in 0..40_u32, unavailable in 0..40_u32,
            luck in proptest::collection::vec(any::<bool>(), 400),
        ) {
            let bounds = bounds(replicas, percent(surge), percent(unavailable));
            let mut world = World {
                bounds,
                new: Size { wanted: 0, available: 0 },
                old: Size { wanted: replicas, available: replicas },
            };
            for ready in luck {
                world.step();
                let (all, serving) = (world.new.wanted + world.old.wanted, world.new.available + world.old.available);
                prop_assert!(all <= bounds.replicas + bounds.max_surge, "{world:?}");
                prop_assert!(serving >= bounds.replicas - bounds.max_unavailable, "{world:?}");
                if ready && world.new.available < world.new.wanted {
                    world.new.available += 1;
                }
            }
            for _ in 0..100 {
                world.new.available = world.new.wanted;
                world.step();
            }
            prop_assert_eq!(world.new, Size { wanted: replicas, available: replicas });
            prop_assert_eq!(world.old.wanted, 0);
        }

        #[test]
        fn a_new_version_that_never_serves_takes_nothing_away(
            replicas in 1..30_i32, surge in 0..40_u32, unavailable in 0..40_u32,
        ) {
            let bounds = bounds(replicas, percent(surge), percent(unavailable));
            let mut world = World {
                bounds,
                new: Size { wanted: 0, available: 0 },
                old: Size { wanted: replicas, available: replicas },
            };
            for _ in 0..50 {
                world.step();
            }
            prop_assert!(world.old.available >= bounds.replicas - bounds.max_unavailable);
        }

        #[test]
        fn proportional_scaling_meets_the_total(
            replicas in 0..60_i32, surge in 0..10_i32, sizes in proptest::collection::vec(0..30_i32, 1..5),
        ) {
            let bounds = Bounds { replicas, max_surge: surge, max_unavailable: 0 };
            let next = proportional(bounds, &sizes);
            prop_assert!(next.iter().all(|size| *size >= 0));
            if sizes.iter().sum::<i32>() > 0 {
                prop_assert_eq!(next.iter().sum::<i32>(), if replicas > 0 { replicas + surge } else { 0 });
            }
        }
    }
}
