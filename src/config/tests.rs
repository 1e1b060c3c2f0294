//! Settings, by where they come from.

use super::*;

fn surroundings(pairs: &[(&str, &str)]) -> Surroundings {
    let variables = pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    Surroundings { variables, working_directory: "/srv/app".into(), ..Surroundings::default() }
}

fn resolved(pairs: &[(&str, &str)]) -> Config {
    Config::resolve(&Flags::new(), &surroundings(pairs), &FileSettings::new()).expect("good settings")
}

fn refused(pairs: &[(&str, &str)]) -> Vec<String> {
    Config::resolve(&Flags::new(), &surroundings(pairs), &FileSettings::new()).expect_err("bad settings")
}

fn file(pairs: &[(&str, &str)]) -> FileSettings {
    pairs.iter().enumerate().map(|(line, (name, value))| (name.to_string(), (value.to_string(), line + 1))).collect()
}

fn origin(config: &Config, name: &str) -> String {
    config.shown.iter().find(|shown| shown.name == name).expect(name).origin.to_string()
}

#[test]
fn without_anything_set_the_built_in_values_hold() {
    let config = resolved(&[]);

    assert_eq!(config.listen.to_string(), "127.0.0.1:8000");
    assert_eq!((config.database_url.as_str(), config.data_dir), ("sqlite://workers.db", "/srv/app".into()));
    assert_eq!((config.pool_min, config.pool_max, config.schema.as_str()), (1, 5, "workers"));
    assert_eq!((config.concurrency, config.scheduled), (4, 64));
    assert_eq!(config.shutdown_grace, Duration::from_secs(8));
    assert_eq!((config.mode, config.log_level.as_str()), (Mode::All, "info"));
    assert_eq!(config.jobs_file, PathBuf::from("jobs.toml"));
    assert!(config.tokens.is_empty() && config.create_team_tables && !config.metrics_public);
    assert_eq!(config.team, TeamSettings::default());
}

#[test]
fn flag_then_our_variable_then_the_teams_then_the_file_decides() {
    let in_file = file(&[("executor.concurrency", "5")]);
    let team = ("WORKER_CONCURRENCY", "6");
    let ours = ("WORKERS_CONCURRENCY", "7");
    let flags = Flags::from([("executor.concurrency", "8".to_string())]);
    let none = Flags::new();

    for (flags, pairs, expected, from) in [
        (&none, vec![], 5, "jobs.toml, line 1"),
        (&none, vec![team], 6, "WORKER_CONCURRENCY"),
        (&none, vec![team, ours], 7, "WORKERS_CONCURRENCY"),
        (&flags, vec![team, ours], 8, "flag"),
    ] {
        let config = Config::resolve(flags, &surroundings(&pairs), &in_file).expect("good settings");

        assert_eq!(config.concurrency, expected);
        assert_eq!(origin(&config, "executor.concurrency"), from);
    }
}

#[test]
fn the_listener_follows_port_and_container_unless_an_address_is_given() {
    let inside = Surroundings { in_container: true, ..surroundings(&[]) };
    let in_file = file(&[("server.listen", "127.0.0.1:9000")]);
    let listen = |surroundings: &Surroundings, file: &FileSettings| {
        Config::resolve(&Flags::new(), surroundings, file).expect("good settings").listen.to_string()
    };

    assert_eq!(listen(&surroundings(&[("PORT", "3000")]), &file(&[])), "[::]:3000");
    assert_eq!(listen(&inside, &file(&[])), "[::]:8000");
    assert_eq!(listen(&surroundings(&[("PORT", "3000")]), &in_file), "127.0.0.1:9000");
    assert_eq!(listen(&surroundings(&[("WORKERS_LISTEN", ":7000")]), &in_file), "[::]:7000");
    assert_eq!(listen(&surroundings(&[("WORKERS_LISTEN", "localhost:7000")]), &in_file), "127.0.0.1:7000");
}

#[test]
fn every_combination_of_port_container_and_address_has_its_listener() {
    let file_address = file(&[("server.listen", "127.0.0.1:9000")]);
    for (port, container, variable, in_file, wanted) in [
        (None, false, None, false, "127.0.0.1:8000"),
        (None, true, None, false, "[::]:8000"),
        (Some("3000"), false, None, false, "[::]:3000"),
        (Some("8000"), false, None, false, "[::]:8000"),
        (Some("3000"), true, None, false, "[::]:3000"),
        (None, false, None, true, "127.0.0.1:9000"),
        (None, true, None, true, "127.0.0.1:9000"),
        (Some("3000"), true, None, true, "127.0.0.1:9000"),
        (None, false, Some("0.0.0.0:7000"), false, "0.0.0.0:7000"),
        (None, true, Some("127.0.0.1:7000"), false, "127.0.0.1:7000"),
        (Some("3000"), false, Some("localhost:7000"), false, "127.0.0.1:7000"),
        (Some("3000"), true, Some("[::1]:7000"), true, "[::1]:7000"),
    ] {
        let pairs: Vec<_> = [("PORT", port), ("WORKERS_LISTEN", variable)]
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect();
        let surroundings = Surroundings { in_container: container, ..surroundings(&pairs) };
        let in_file = if in_file { file_address.clone() } else { file(&[]) };

        let config = Config::resolve(&Flags::new(), &surroundings, &in_file).expect("good settings");

        assert_eq!(config.listen.to_string(), wanted, "{pairs:?}, container {container}");
    }
}

#[test]
fn a_token_that_can_be_guessed_is_warned_of_and_never_shown() {
    let long = "0123456789abcdef";
    let good = resolved(&[("WORKERS_TOKEN", long), ("WORKERS_READ_TOKEN", long)]);
    let short = resolved(&[("WORKERS_TOKEN", long), ("WORKERS_READ_TOKEN", "0123456789abcdef,sh0rt")]);

    assert_eq!(good.warnings, Vec::<String>::new());
    assert_eq!(short.warnings.len(), 1, "{:?}", short.warnings);
    assert!(short.warnings[0].starts_with("WORKERS_READ_TOKEN ") && !short.warnings[0].contains("sh0rt"));
}

#[test]
fn all_bad_variables_are_listed_at_once() {
    let problems = refused(&[
        ("PORT", "eighty"),
        ("WORKER_CONCURRENCY", "51"),
        ("JOB_TIMEOUT", "0"),
        ("WORKER_PROCESSING_INTERVAL", "999"),
        ("WORKER_BATCH_SIZE", "1001"),
        ("LOG_LEVEL", "loud"),
        ("WORKER_MODE", "maybe"),
        ("RUN_MODE", "everything"),
        ("DATABASE_URL", "mysql://localhost/app"),
        ("DATABASE_POOL_MAX_SIZE", "1"),
        ("WORKERS_LISTEN", "8000"),
    ]);

    assert_eq!(problems.len(), 11, "{problems:#?}");
    for name in ["PORT", "WORKER_CONCURRENCY", "JOB_TIMEOUT", "WORKER_PROCESSING_INTERVAL", "RUN_MODE"] {
        assert!(problems.iter().any(|problem| problem.starts_with(&format!("{name}: "))), "{name}: {problems:#?}");
    }
    assert!(problems.iter().any(|problem| problem.contains("from 1000 to 60000")), "{problems:#?}");
}

#[test]
fn two_variables_of_the_team_must_agree() {
    let agreed = resolved(&[("JOB_TIMEOUT", "300"), ("WORKER_TIMEOUT", "300000")]);
    let differing = refused(&[("JOB_TIMEOUT", "300"), ("WORKER_TIMEOUT", "60000")]);
    let slots = refused(&[("WORKER_CONCURRENCY", "4"), ("ARQ_MAX_JOBS", "10")]);
    let modes = refused(&[("RUN_MODE", "worker"), ("WORKER_MODE", "false")]);

    assert_eq!(agreed.team.job_timeout, Some(Duration::from_secs(300)));
    assert_eq!(
        differing,
        ["JOB_TIMEOUT and WORKER_TIMEOUT set team.job_timeout to different values: 300000ms and 60000ms"]
    );
    assert!(slots[0].contains("WORKER_CONCURRENCY and ARQ_MAX_JOBS"), "{slots:?}");
    assert!(modes[0].contains("RUN_MODE and WORKER_MODE"), "{modes:?}");
}

#[test]
fn modes_are_read_from_both_of_the_teams_names() {
    for (pairs, mode) in [
        (vec![("WORKER_MODE", "false")], Mode::Api),
        (vec![("WORKER_MODE", "true")], Mode::All),
        (vec![("RUN_MODE", "api")], Mode::Api),
        (vec![("RUN_MODE", "worker"), ("WORKER_MODE", "true")], Mode::Worker),
        (vec![("RUN_MODE", "scheduler")], Mode::Scheduler),
    ] {
        assert_eq!(resolved(&pairs).mode, mode, "{pairs:?}");
    }
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let config = resolved(&[("PORT", ""), ("DATABASE_URL", " "), ("LOG_LEVEL", "")]);

    assert_eq!(config.listen.to_string(), "127.0.0.1:8000");
    assert_eq!(config.log_level, "info");
}

#[test]
fn the_platforms_draining_time_becomes_the_grace() {
    let config = resolved(&[("RAILWAY_DEPLOYMENT_DRAINING_SECONDS", "30")]);

    assert_eq!(config.shutdown_grace, Duration::from_secs(28));
}

#[test]
fn secrets_are_masked_where_settings_are_shown() {
    let config = resolved(&[
        ("DATABASE_URL", "postgres://app:p@ss/word@db.example.org:5432/app?sslmode=require"),
        ("WORKERS_TOKEN", "t0ken,0lder"),
        ("WORKERS_READ_TOKEN", "r3ad"),
        ("SLACK_WEBHOOK_URL", "https://hooks.slack.example/T0/B0/XYZ"),
        ("EVOLUTION_API_KEY", "k3y"),
        ("EVOLUTION_API_URL", "https://ana:p1n@zap.example.org:8443/c4nary?k=v4l"),
        ("OUTBOUND_ALLOWLIST", "551155550100"),
    ]);
    let shown = format!("{:?}", config.shown);

    for secret in ["p@ss", "word", "t0ken", "0lder", "r3ad", "XYZ", "k3y", "ana", "p1n", "c4nary", "v4l", "5555"] {
        assert!(!shown.contains(secret), "{secret}: {shown}");
    }
    assert!(shown.contains("postgres://app:***@db.example.org:5432/app?sslmode=require"), "{shown}");
    assert!(shown.contains("https://***@zap.example.org:8443/***"), "{shown}");
    assert_eq!(config.tokens, ["t0ken", "0lder"]);
}

/// The same words as `run.pilot` reads.
#[test]
fn the_switches_of_the_pilot_are_read_in_the_words_that_people_use() {
    let mode = |value: &str| {
        let shown = resolved(&[("PILOT_MODE", value)]).shown;
        shown.into_iter().find(|row| row.name == "team.pilot_mode").map(|row| row.value)
    };
    for (words, meant) in
        [(["true", "1", "Yes", "on", "SIM", " sim "], "true"), (["FALSE", "0", "no", "Off", "nao", "NÃO"], "false")]
    {
        words.iter().for_each(|word| assert_eq!(mode(word).as_deref(), Some(meant), "{word}"));
    }
    assert_eq!(mode(" "), None);

    let problems = Config::resolve(
        &Flags::new(),
        &surroundings(&[("PILOT_MODE", "talvez"), ("OFERTA_AUTOMATICO_ENABLED", "?")]),
        &file(&[]),
    );

    let problems = problems.expect_err("neither is true or false");
    assert_eq!(
        problems,
        [
            "PILOT_MODE: \"talvez\" is neither true nor false",
            "OFERTA_AUTOMATICO_ENABLED: \"?\" is neither true nor false"
        ]
    );
}

#[test]
fn a_variable_of_ours_that_nothing_reads_is_told() {
    let config = resolved(&[("WORKERS_LISTN", ":8000"), ("WORKERS_RUN_ID", "x")]);

    assert_eq!(config.warnings, ["nothing reads the variable WORKERS_LISTN; did you mean WORKERS_LISTEN?"]);
}

#[test]
fn a_bad_value_of_the_file_names_its_line() {
    let in_file = file(&[("server.listen", "everywhere")]);

    let problems = Config::resolve(&Flags::new(), &surroundings(&[]), &in_file).expect_err("a bad address");

    assert!(problems[0].starts_with("jobs.toml, line 1: server.listen: \"everywhere\""), "{problems:?}");
}

#[test]
fn the_list_of_variables_has_every_one_of_the_teams() {
    let rows = variables();

    for name in [
        "DATABASE_URL",
        "PORT",
        "LOG_LEVEL",
        "APP_ENV",
        "TZ",
        "WORKER_CONCURRENCY",
        "QUEUE_POLL_INTERVAL",
        "JOB_TIMEOUT",
        "WORKER_TIMEOUT",
        "WORKER_PROCESSING_INTERVAL",
        "WORKER_BATCH_SIZE",
        "CLAIM_BATCH_SIZE",
        "N_WORKERS",
        "DATABASE_POOL_MIN_SIZE",
        "DATABASE_POOL_MAX_SIZE",
        "LLM_CONCURRENCY_HARD_CAP",
        "ARQ_MAX_JOBS",
        "ARQ_JOB_TIMEOUT",
        "ARQ_KEEP_RESULT",
        "QUEUE_NAME",
        "WORKER_MODE",
        "RUN_MODE",
        "PILOT_MODE",
        "DISCOVERY_AUTOMATICO_ENABLED",
        "OFERTA_AUTOMATICO_ENABLED",
        "REATIVACAO_AUTOMATICO_ENABLED",
        "FEEDBACK_AUTOMATICO_ENABLED",
        "EVOLUTION_API_URL",
        "EVOLUTION_API_KEY",
        "EVOLUTION_INSTANCE",
        "SLACK_WEBHOOK_URL",
        "DIRECT_URL",
        "MAX_MSGS_POR_HORA",
        "MAX_MSGS_POR_DIA",
        "OUTBOUND_ALLOWLIST",
    ] {
        assert_eq!(rows.iter().filter(|row| row.name == name).count(), 1, "{name}");
    }
    let timeout = rows.iter().find(|row| row.name == "WORKER_TIMEOUT").expect("it is there");
    assert_eq!(timeout.unit, "ms");
}
