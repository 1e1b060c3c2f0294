//! Whether a database file outlives its container (spec 4, Where SQLite lives).

use std::path::{Path, PathBuf};

/// File systems of a container's own layer: it goes when the container does.
const LAYERS: [&str; 4] = ["overlay", "overlayfs", "aufs", "fuse-overlayfs"];

/// Where a database file lies, and what its owner has to say about it.
#[derive(Debug, Clone)]
pub struct Place<'a> {
    /// Absolute, without symbolic links.
    pub file: &'a Path,
    /// The text of `/proc/self/mountinfo`; empty = not known.
    pub mounts: &'a str,
    pub in_container: bool,
    pub is_production: bool,
    /// `WORKERS_ALLOW_EPHEMERAL`.
    pub is_allowed: bool,
}

/// What becomes of the ledger with the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasting {
    Yes,
    /// It goes with the container: degraded, and said at the start.
    No,
    /// It would go with the container, and this is production.
    Refused,
}

/// Judges a place. What is not known is not held against it.
pub fn lasting(place: &Place) -> Lasting {
    let on_layer =
        place.in_container && file_system(place.mounts, place.file).is_some_and(|kind| LAYERS.contains(&kind));
    match (on_layer, place.is_production && !place.is_allowed) {
        (false, _) => Lasting::Yes,
        (true, false) => Lasting::No,
        (true, true) => Lasting::Refused,
    }
}

/// The type of the file system that holds the path: of the longest mount point above it, the one mounted last.
fn file_system<'a>(mounts: &'a str, path: &Path) -> Option<&'a str> {
    let above = mounts.lines().filter_map(mount).filter(|(point, _)| path.starts_with(point));
    above.max_by_key(|(point, _)| point.components().count()).map(|(_, kind)| kind)
}

/// Mount point and type of a line: the fifth field, and the first after the lone dash.
fn mount(line: &str) -> Option<(PathBuf, &str)> {
    let (mount, source) = line.split_once(" - ")?;
    Some((PathBuf::from(unescaped(mount.split(' ').nth(4)?)), source.split(' ').next()?))
}

/// The kernel writes space, tab, line feed and backslash as three octal digits.
fn unescaped(field: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(field.to_owned(), |field, (code, character)| field.replace(code, character))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
21 1 0:50 / / rw,relatime master:1 - overlay overlay rw,lowerdir=/l
22 21 0:51 / /proc rw - proc proc rw
23 21 8:1 /var/lib/volumes/v /data rw,relatime shared:7 - ext4 /dev/sda1 rw
24 21 8:1 /v /two\\040words rw - ext4 /dev/sda1 rw
25 23 0:52 / /data/scratch rw - aufs none rw
26 21 8:1 /x /twice rw - ext4 /dev/sda1 rw
27 26 0:53 / /twice rw - overlay overlay rw
";

    fn judged(file: &str, change: impl FnOnce(&mut Place)) -> Lasting {
        let mut place =
            Place { file: Path::new(file), mounts: MOUNTS, in_container: true, is_production: true, is_allowed: false };
        change(&mut place);
        lasting(&place)
    }

    #[test]
    fn a_file_on_the_layer_of_its_container_does_not_last() {
        let cases = [
            ("/app/workers.db", Lasting::Refused),
            ("/database/workers.db", Lasting::Refused),
            ("/data/workers.db", Lasting::Yes),
            ("/data/deep/workers.db", Lasting::Yes),
            ("/data/scratch/workers.db", Lasting::Refused),
            ("/two words/workers.db", Lasting::Yes),
            ("/twice/workers.db", Lasting::Refused),
        ];
        for (file, expected) in cases {
            assert_eq!(judged(file, |_| {}), expected, "{file}");
        }
    }

    #[test]
    fn only_production_refuses_and_only_a_container_asks() {
        let file = "/app/workers.db";

        assert_eq!(judged(file, |place| place.is_production = false), Lasting::No);
        assert_eq!(judged(file, |place| place.is_allowed = true), Lasting::No);
        assert_eq!(judged(file, |place| place.in_container = false), Lasting::Yes);
        assert_eq!(judged(file, |place| place.mounts = ""), Lasting::Yes);
        assert_eq!(judged(file, |place| place.mounts = "no mount at all\n - \n"), Lasting::Yes);
    }
}
