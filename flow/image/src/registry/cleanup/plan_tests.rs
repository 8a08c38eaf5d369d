use proptest::prelude::*;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn digest(n: u8) -> Digest {
    Digest::sha256(&[n; 32])
}

const DAY: i64 = 86_400;
const NOW: i64 = 1000 * DAY;
const GRACE: Duration = Duration::from_secs(DAY as u64);

fn manifest(age: i64, names: &[u8], subject: Option<u8>) -> Held {
    let names = Some(names.iter().map(|n| digest(*n)).collect());
    Held { pushed: at(NOW - age * DAY), subject: subject.map(digest), names }
}

fn tag(n: u8, age: i64) -> Tagged {
    Tagged { digest: digest(n), updated: at(NOW - age * DAY) }
}

fn decide(view: &View, retention: &Retention, in_use: &[u8]) -> (Vec<String>, Vec<Digest>, Vec<Digest>) {
    let in_use = in_use.iter().map(|n| digest(*n)).collect();
    let plan = plan(view, Some(retention), &in_use, GRACE, at(NOW));
    let digests = |gone: &[Gone]| gone.iter().map(|gone| gone.name.parse().unwrap()).collect();
    (plan.tags.iter().map(|gone| gone.name.clone()).collect(), digests(&plan.manifests), digests(&plan.links))
}

fn retention(text: &str) -> Retention {
    serde_json::from_str(text).unwrap()
}

/// v1 to v4, one manifest each (1 to 4), a day between them, the newest a day old; layer 100 is everybody's, 101 to 104 are each one's.
fn versions() -> View {
    let mut view = View::default();
    for n in 1..=4 {
        let age = 5 - i64::from(n);
        view.tags.insert(format!("v{n}"), tag(n, age));
        view.manifests.insert(digest(n), manifest(age, &[100, 100 + n], None));
    }
    for n in 100..=104 {
        view.links.insert(digest(n), Linked { since: at(NOW - 9 * DAY) });
    }
    view
}

#[test]
fn without_rules_only_what_nobody_names_goes() {
    let mut view = versions();
    view.links.insert(digest(200), Linked { since: at(NOW - 2 * DAY) });
    view.links.insert(digest(201), Linked { since: at(NOW - DAY / 2) });
    assert_eq!(decide(&view, &Retention::default(), &[]), (vec![], vec![], vec![digest(200)]), "201 may be on its way");
}

#[test]
fn the_last_ones_the_young_ones_and_those_that_fit_stay() {
    let view = versions();
    let tags = |text: &str| decide(&view, &retention(text), &[]).0;
    assert_eq!(tags(r#"{"keep":[{"last":2}]}"#), ["v1", "v2"]);
    assert_eq!(tags(r#"{"keep":[{"last":0}]}"#), ["v1", "v2", "v3", "v4"]);
    assert_eq!(tags(r#"{"keep":[{"youngerS":172800}]}"#), ["v1", "v2"], "to the second");
    assert_eq!(tags(r#"{"keep":[{"last":1,"youngerS":259200}]}"#), ["v1"], "either is enough");
    assert_eq!(tags(r#"{"keep":[{"last":1},{"tags":"v1"}]}"#), ["v2", "v3"], "one rule that keeps is enough");
    assert_eq!(tags(r#"{"keep":[{"tags":"v?","last":3}]}"#), ["v1"]);
    assert_eq!(tags(r#"{"keep":[{"tags":"release-*","last":1}]}"#), [""; 0], "a tag without a rule stays");
    assert!(serde_json::from_str::<Retention>(r#"{"keep":[{"lats":1}]}"#).is_err());
}

#[test]
fn untagged_manifests_go_with_what_only_they_name() {
    let view = versions();
    let (tags, manifests, links) = decide(&view, &retention(r#"{"keep":[{"last":3}],"untaggedS":0}"#), &[]);
    assert_eq!((tags, manifests, links), (vec!["v1".into()], vec![digest(1)], vec![digest(101)]));
}

#[test]
fn what_runs_is_never_touched() {
    let mut view = versions();
    // An index (9) over 1; a client pulls it by `multi`.
    view.manifests.insert(digest(9), manifest(30, &[1, 2], None));
    view.tags.insert("multi".into(), tag(9, 30));
    let (tags, manifests, _) = decide(&view, &retention(r#"{"keep":[{"last":0}],"untaggedS":0}"#), &[1]);
    assert_eq!(tags, ["v2", "v3", "v4"], "`v1` and `multi` lead to what runs");
    assert_eq!(manifests, [digest(3)], "4 is too young, 2 is in the index");
}

#[test]
fn images_of_several_platforms_and_referrers_go_as_a_whole() {
    let mut view = View::default();
    // Index 1 with children 2 and 3; 4 is a signature of 2, 5 one of 4; index 11 likewise with 12; 14 refers to 12, and an old
    // signature by tag does, too; 20 refers to what is not there.
    for (n, names, subject) in [
        (1, &[2, 3][..], None),
        (2, &[100], None),
        (3, &[101], None),
        (4, &[102], Some(2)),
        (5, &[103], Some(4)),
        (11, &[12], None),
        (12, &[110], None),
        (14, &[111], Some(12)),
        (15, &[112], None),
        (20, &[113], Some(99)),
    ] {
        view.manifests.insert(digest(n), manifest(9, names, subject));
        view.links.extend(names.iter().filter(|n| **n >= 100).map(|n| (digest(*n), Linked { since: at(0) })));
    }
    view.tags.insert("kept".into(), tag(1, 9));
    let signature = format!("sha256-{}.sig", digest(12).hex());
    view.tags.insert(signature.clone(), tag(15, 9));
    let rule = retention(r#"{"keep":[{"last":1}],"untaggedS":86400}"#);
    let (tags, manifests, links) = decide(&view, &rule, &[]);
    let gone = |numbers: &[u8]| numbers.iter().map(|n| digest(*n)).collect::<Vec<_>>();
    assert_eq!(tags, [signature]);
    assert_eq!(manifests, gone(&[11, 12, 14, 15, 20]));
    assert_eq!(links, gone(&[110, 111, 112, 113]));
    view.tags.insert("other".into(), tag(11, 8));
    let (tags, manifests, _) = decide(&view, &retention(r#"{"keep":[{"last":2}],"untaggedS":0}"#), &[]);
    assert_eq!((tags, manifests), (vec![], gone(&[20])), "the old signature does not count as one of the last two");
}

#[test]
fn what_cannot_be_read_keeps_everything() {
    let mut view = versions();
    view.manifests.insert(digest(50), Held { pushed: at(0), subject: None, names: None });
    view.links.insert(digest(200), Linked { since: at(0) });
    let (_, manifests, links) = decide(&view, &retention(r#"{"untaggedS":0}"#), &[]);
    assert!(manifests.is_empty() && links.is_empty());
}

/// A repository whose entries point anywhere.
fn any_view() -> impl Strategy<Value = View> {
    let manifest = (0i64..5, prop::collection::vec(0u8..24, 0..4), prop::option::of(0u8..12));
    let manifests = prop::collection::btree_map(0u8..12, manifest, 0..10);
    let tags = prop::collection::btree_map("[a-c][0-2]?", (0u8..12, 0i64..5), 0..6);
    let links = prop::collection::btree_map(10u8..24, 0i64..5, 0..10);
    (manifests, tags, links).prop_map(|(manifests, tags, links)| View {
        tags: tags.into_iter().map(|(name, (n, age))| (name, tag(n, age))).collect(),
        manifests: manifests
            .into_iter()
            .map(|(n, (age, names, subject))| (digest(n), self::manifest(age, &names, subject)))
            .collect(),
        links: links.into_iter().map(|(n, age)| (digest(n), Linked { since: at(NOW - age * DAY) })).collect(),
    })
}

fn any_retention() -> impl Strategy<Value = Retention> {
    let keep = ("[a-c*]{1,2}", prop::option::of(0usize..3), prop::option::of(0u64..5));
    let keep = keep.prop_map(|(tags, last, days)| Keep { tags, last, younger_s: days.map(|days| days * DAY as u64) });
    (prop::collection::vec(keep, 0..3), prop::option::of(0u64..5))
        .prop_map(|(keep, days)| Retention { keep, untagged_s: days.map(|days| days * DAY as u64) })
}

fn apply(view: &View, plan: &Plan) -> View {
    let mut after = view.clone();
    plan.tags.iter().for_each(|gone| drop(after.tags.remove(&gone.name)));
    plan.manifests.iter().for_each(|gone| drop(after.manifests.remove(&gone.name.parse::<Digest>().unwrap())));
    after.links.retain(|digest, _| plan.links.iter().all(|gone| gone.name != digest.as_str()));
    after
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn nothing_that_is_left_misses_what_it_had(
        view in any_view(), retention in any_retention(), used in prop::collection::btree_set(0u8..12, 0..3)
    ) {
        let in_use: BTreeSet<Digest> = used.iter().map(|n| digest(*n)).collect();
        let plan = plan(&view, Some(&retention), &in_use, GRACE, at(NOW));
        let after = apply(&view, &plan);
        for (name, tag) in &after.tags {
            prop_assert_eq!(after.manifests.contains_key(&tag.digest), view.manifests.contains_key(&tag.digest), "{}", name);
        }
        for (digest, held) in &after.manifests {
            for name in held.names.iter().flatten() {
                prop_assert_eq!(after.manifests.contains_key(name), view.manifests.contains_key(name), "{} names {}", digest, name);
                prop_assert_eq!(after.links.contains_key(name), view.links.contains_key(name), "{} names {}", digest, name);
            }
        }
        for (digest, held) in &view.manifests {
            if held.subject.as_ref().is_some_and(|subject| after.manifests.contains_key(subject)) {
                prop_assert!(after.manifests.contains_key(digest), "a referrer stays with its subject");
            }
            if in_use.contains(digest) {
                prop_assert!(after.manifests.contains_key(digest), "in use");
            }
        }
        let unread = after.links.keys().filter(|digest| !view.links.contains_key(digest)).count();
        prop_assert_eq!(unread, 0);
    }

    #[test]
    fn a_second_time_nothing_goes_by_age_or_for_want_of_a_name(view in any_view(), retention in any_retention()) {
        // Of "the last N" fewer are left, so those rules stand still only once they have been applied.
        let none = BTreeSet::new();
        let first = plan(&view, Some(&retention), &none, GRACE, at(NOW));
        let again = plan(&apply(&view, &first), Some(&retention), &none, GRACE, at(NOW));
        prop_assert!(again.is_empty(), "{:?}", again);
    }
}
