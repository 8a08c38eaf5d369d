use std::sync::Arc;

use super::*;

const RECORD: &str = "record";
const OBJECT: &str = "k8s/core/pods";

/// An alarm whose clock stands still at 100 s, past its first tick, with ways to change what it watches.
async fn alarm() -> (Alarm, Wake) {
    let wake = Wake::new(&[RECORD, OBJECT]);
    let clock: Clock = Arc::new(|| Timestamp::from_second(100).unwrap());
    let mut alarm = Alarm::new(&wake, &Triggers { records: &[RECORD], progress: &[OBJECT] }, clock);
    alarm.rings(None).await;
    alarm.ended = Instant::now();
    (alarm, wake)
}

/// Milliseconds until it rings.
async fn rings(alarm: &mut Alarm, again: Option<Timestamp>) -> u128 {
    let before = Instant::now();
    alarm.rings(again).await;
    before.elapsed().as_millis()
}

fn later() -> Option<Timestamp> {
    Some(Timestamp::from_millisecond(100_200).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_record_rings_at_once() {
    let (mut alarm, wake) = alarm().await;
    wake.changed(RECORD, 1);
    assert_eq!(rings(&mut alarm, None).await, 0);
}

#[tokio::test(start_paused = true)]
async fn the_cluster_rings_only_while_something_is_under_way_and_at_its_pace() {
    let (mut alarm, wake) = alarm().await;
    wake.changed(OBJECT, 1);
    assert_eq!(rings(&mut alarm, later()).await, 50);
    alarm.ended = Instant::now();
    assert_eq!(rings(&mut alarm, later()).await, 200, "it was seen");
    tokio::time::sleep(PACE).await;
    wake.changed(OBJECT, 2);
    assert_eq!(rings(&mut alarm, later()).await, 0, "the last time is long ago");
    wake.changed(OBJECT, 3);
    assert!(rings(&mut alarm, None).await > 1000, "nothing is under way");
}

#[tokio::test(start_paused = true)]
async fn it_rings_again_when_it_was_asked_to_and_else_on_the_period() {
    let (mut alarm, _wake) = alarm().await;
    assert_eq!(rings(&mut alarm, later()).await, 200);
    assert_eq!(rings(&mut alarm, Some(Timestamp::from_second(99).unwrap())).await, 0, "that is past");
    let (mut alarm, _wake) = self::alarm().await;
    assert_eq!(rings(&mut alarm, None).await, PERIOD.as_millis());
}
