//! Which places a message needs, on the local clock.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::{domain::schedule::Zone, outbound::Outbound};

fn utc(text: &str) -> DateTime<Utc> {
    text.parse().expect("an instant")
}

fn rules(zone: &str) -> Rules {
    let outbound = Outbound { timeout: Duration::from_secs(10), ..Outbound::default() };
    Rules { outbound, zone: Zone::parse(zone).expect("a zone"), contact_cap: None, resend_unknown: false }
}

fn message(tipo: &str) -> Claimed {
    Claimed {
        id: "1".into(),
        client: Some("7".into()),
        conversation: None,
        number: None,
        text: "Bom dia".into(),
        tipo: tipo.into(),
        priority: 5,
        metadata: json!({}),
        tries: 0,
        max_tries: 3,
        since: None,
    }
}

/// A place in a line: its scope, when its window opened, and when there is one again.
fn line(place: &Place) -> String {
    let at = |at: DateTime<Utc>| at.format("%m-%d %H:%M").to_string();
    let free = match &place.free {
        Free::Below { most, reopens_at } => format!("{most} until {}", at(*reopens_at)),
        Free::Since(between) => format!("after {} s", between.num_seconds()),
        Free::Always => "always".into(),
    };
    format!("{} {} {free}", place.scope, at(place.opens_at))
}

fn lines(message: &Claimed, zone: &str, now: &str) -> Vec<String> {
    places(message, "5511955550100", &rules(zone), utc(now)).iter().map(line).collect()
}

#[test]
fn a_message_needs_a_place_in_each_of_its_windows() {
    assert_eq!(
        lines(&message("prospeccao"), "America/Sao_Paulo", "2025-01-08T15:30:00Z"),
        [
            "all:day 01-08 03:00 100 until 01-09 03:00",
            "all:hour 01-08 15:00 20 until 01-08 16:00",
            "client:7 01-08 15:00 3 until 01-08 16:00",
            "number:5511955550100 01-01 00:00 after 45 s",
            "tipo:prospeccao 01-08 15:00 10 until 01-08 16:00",
        ]
    );
    // A kind without a limit of its own, somebody who is no client, and a zone with half an hour.
    let stranger = Claimed { client: None, ..message("lembrete") };
    assert_eq!(
        lines(&stranger, "Asia/Kolkata", "2025-01-08T15:10:00Z"),
        [
            "all:day 01-07 18:30 100 until 01-08 18:30",
            "all:hour 01-08 14:30 20 until 01-08 15:30",
            "client:number:5511955550100 01-08 14:30 3 until 01-08 15:30",
            "number:5511955550100 01-01 00:00 after 45 s",
        ]
    );
}

#[test]
fn what_may_arrive_in_the_next_window_needs_a_place_there_too() {
    // A send takes a minute at most with this setting.
    let at = |now| lines(&message("lembrete"), "UTC", now);

    assert_eq!(at("2025-01-08T15:58:59Z").len(), 4);
    assert_eq!(
        at("2025-01-08T15:59:00Z"),
        [
            "all:day 01-08 00:00 100 until 01-09 00:00",
            "all:hour 01-08 15:00 20 until 01-08 16:00",
            "all:hour 01-08 16:00 20 until 01-08 17:00",
            "client:7 01-08 15:00 3 until 01-08 16:00",
            "client:7 01-08 16:00 3 until 01-08 17:00",
            "number:5511955550100 01-01 00:00 after 45 s",
        ]
    );
    assert_eq!(at("2025-01-08T23:59:30Z").len(), 7);
}

#[test]
fn the_hour_that_clocks_show_twice_is_one_window() {
    // New York, 2025-11-02: 01:00 to 02:00 came twice, from 05:00 and from 06:00 UTC.
    for now in ["2025-11-02T05:30:00Z", "2025-11-02T06:30:00Z"] {
        let lines = lines(&message("lembrete"), "America/New_York", now);

        assert_eq!(lines[1], "all:hour 11-02 05:00 20 until 11-02 07:00", "{now}");
    }
    // 2025-03-09: 02:00 to 03:00 never came.
    let lines = lines(&message("lembrete"), "America/New_York", "2025-03-09T06:30:00Z");
    assert_eq!(lines[..2], ["all:day 03-09 05:00 100 until 03-10 04:00", "all:hour 03-09 06:00 20 until 03-09 07:00"]);
}

#[test]
fn a_bypassing_message_is_counted_and_never_refused() {
    let bypassing = Claimed { metadata: json!({ "bypass": true }), ..message("lembrete") };

    let places = places(&bypassing, "5511955550100", &rules("UTC"), utc("2025-01-08T15:30:00Z"));

    assert_eq!(places.len(), 4);
    assert!(places.iter().all(|place| place.free == Free::Always), "{places:?}");
}
