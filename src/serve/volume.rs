//! Whether the SQLite file outlives the container: looked up once, at the start.

use std::path::{Path, PathBuf};

use crate::{
    config::Config,
    domain::lasting::{Lasting, Place, lasting},
    store::{DatabaseConfig, StoreError},
};

/// What becomes of the ledger with the container; PostgreSQL lives elsewhere.
pub fn look(config: &Config, database: &DatabaseConfig) -> Lasting {
    let Some(file) = database.file() else { return Lasting::Yes };
    lasting(&Place {
        file: &real(&file),
        mounts: &config.mounts,
        in_container: config.in_container,
        is_production: config.is_production(),
        is_allowed: config.allow_ephemeral,
    })
}

/// The error of a place that is refused.
pub fn refusal(database: &DatabaseConfig) -> StoreError {
    StoreError::Config(format!(
        "{} lies on the container's own layer and would go with it: mount a volume there and point WORKERS_DATA_DIR at it, or \
        set DATABASE_URL to a PostgreSQL; WORKERS_ALLOW_EPHEMERAL=1 permits it all the same",
        database.file().unwrap_or_default().display()
    ))
}

/// Without symbolic links, as far as it exists yet.
fn real(file: &Path) -> PathBuf {
    let existing = file.ancestors().find_map(|part| Some((part, part.canonicalize().ok()?)));
    let Some((part, real)) = existing else { return file.to_owned() };
    match file.strip_prefix(part) {
        Ok(rest) if rest.as_os_str().is_empty() => real,
        Ok(rest) => real.join(rest),
        Err(_) => file.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        config::{FileSettings, Flags, Surroundings},
        serve,
    };

    use super::*;

    /// What is found in a container with a volume at /data, with these variables.
    fn found(pairs: &[(&str, &str)]) -> (Lasting, String) {
        let mounts = "21 1 0:50 / / rw - overlay overlay rw\n23 21 8:1 / /data rw - ext4 /dev/sda1 rw\n";
        let variables = pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let surroundings = Surroundings {
            variables,
            in_container: true,
            mounts: mounts.into(),
            working_directory: "/".into(),
            ..Surroundings::default()
        };
        let config = Config::resolve(&Flags::new(), &surroundings, &FileSettings::new()).unwrap();
        let database = serve::database(&config);
        (look(&config, &database), refusal(&database).to_string())
    }

    #[test]
    fn production_wants_its_ledger_on_a_volume() {
        let production = ("APP_ENV", "production");

        let (lasting, message) = found(&[production]);
        assert_eq!(lasting, Lasting::Refused);
        assert!(message.starts_with("/workers.db lies") && message.contains("WORKERS_DATA_DIR"), "{message}");
        assert_eq!(found(&[production, ("WORKERS_ALLOW_EPHEMERAL", "1")]).0, Lasting::No);
        assert_eq!(found(&[production, ("WORKERS_DATA_DIR", "/data")]).0, Lasting::Yes);
        assert_eq!(found(&[production, ("DATABASE_URL", "postgres://db/team")]).0, Lasting::Yes);
        assert_eq!(found(&[]).0, Lasting::No);
    }
}
