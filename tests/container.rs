//! The image: what its Dockerfile promises, read as code, and kept by the binary in a room made of the same files.

mod support;

mod container {
    pub mod compose;
    pub mod dockerfile;
    pub mod room;
}

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use container::{
    compose::Compose,
    dockerfile::{Dockerfile, Stage, exec_form, is_ignored},
    room::Room,
};
use rustix::process::getuid;
use support::daemon::{Setup, http};

const DOCKERFILE: &str = include_str!("../Dockerfile");
const DOCKERIGNORE: &str = include_str!("../.dockerignore");
const REPLICAS: &str = include_str!("../examples/docker-compose.yml");
const SINGLE: &str = include_str!("../examples/docker-compose.sqlite.yml");
const HOUSE: &str = env!("CARGO_MANIFEST_DIR");

/// A run is always under way, so that a stop finds one.
const BUSY: &str = r#"
version = 1
[defaults]
timezone = "UTC"
[jobs.busy]
every = "1s"
overlap = "allow"
run.noop = { sleep = "700ms" }
"#;

/// Stopping, settling, saying goodbye and closing, after the grace (src/serve and src/engine/attempt.rs).
const AFTER_THE_GRACE_SECONDS: u64 = 10;
/// How long `workers health` waits for an answer.
const HEALTH_SECONDS: u64 = 5;

fn dockerfile() -> Dockerfile {
    Dockerfile::parse(DOCKERFILE)
}

/// The words of the HEALTHCHECK, and its flags.
fn health(image: &Stage) -> (Vec<String>, String) {
    let (flags, command) = image.last("HEALTHCHECK").split_once("CMD ").expect("HEALTHCHECK has a command");
    (exec_form(command).expect("HEALTHCHECK is an exec form"), flags.to_owned())
}

/// What a command line says of itself when it is one of a shell.
fn is_shell(word: &str) -> bool {
    ["sh", "bash", "ash", "dash", "busybox"].contains(&word.rsplit('/').next().unwrap_or(word))
}

#[test]
fn the_image_has_no_shell_and_runs_nothing_while_it_is_built() {
    let dockerfile = dockerfile();
    let image = dockerfile.image();

    assert!(image.base.starts_with("gcr.io/distroless/cc-"), "{} may have a shell", image.base);
    for keyword in ["RUN", "ADD", "SHELL", "CMD", "VOLUME", "ONBUILD"] {
        assert_eq!(image.all(keyword), [""; 0], "{keyword}");
    }
    let (health, _) = health(image);
    let entrypoint =
        exec_form(image.last("ENTRYPOINT")).expect("an exec form, or PID 1 is a shell that SIGTERM never leaves");
    for words in [&health, &entrypoint] {
        assert!(words[0].starts_with('/') && !is_shell(&words[0]), "{words:?}");
    }
    assert_eq!(health, [entrypoint[0].as_str(), "health", "--live"]);
}

#[test]
fn the_image_runs_as_a_number_that_is_not_root() {
    let dockerfile = dockerfile();
    let image = dockerfile.image();

    let users: Vec<Vec<u32>> = image
        .all("USER")
        .into_iter()
        .map(|user| user.split(':').map(|id| id.parse().expect("kubelet compares numbers only")).collect())
        .collect();

    assert_eq!(users, [[65_532, 65_532]]);
    let data = image.copies().into_iter().find(|copy| copy.target == "/data").expect("a folder for the volume");
    assert_eq!(data.owner.as_deref(), Some("65532:65532"));
    assert_eq!(image.pairs("ENV").get("WORKERS_DATA_DIR").map(String::as_str), Some("/data"));
}

#[test]
fn every_copy_names_files_that_are_there_and_reach_the_builder() {
    let dockerfile = dockerfile();
    let builder = dockerfile.stage("builder");

    let copies = dockerfile.stages.iter().flat_map(Stage::copies).collect::<Vec<_>>();

    for copy in &copies {
        for source in &copy.sources {
            match copy.from.as_deref() {
                None => {
                    assert!(Path::new(HOUSE).join(source).exists(), "{source} is not there");
                    assert!(!is_ignored(DOCKERIGNORE, source), "{source} is kept from the builder");
                    assert!(![".", "/", "*"].contains(&source.as_str()), "{source} is everything");
                }
                Some(from) => {
                    assert_eq!(from, "builder");
                    assert!(builder.all("RUN").iter().any(|run| run.contains(source)), "nobody makes {source}");
                }
            }
        }
    }
    let of_image = dockerfile.image().copies().iter().map(|copy| copy.target.clone()).collect::<Vec<_>>();
    assert_eq!(of_image, ["/usr/local/bin/workers", "/data", "/app/jobs.toml"]);
    for secret_or_heavy in ["target", ".git", "tests", "workers.db", ".env", "jobs.toml.local"] {
        assert!(is_ignored(DOCKERIGNORE, secret_or_heavy), "{secret_or_heavy} is sent to the builder");
    }
}

#[test]
fn what_the_crate_includes_when_it_is_compiled_is_copied() {
    let dockerfile = dockerfile();
    let copied: Vec<String> = dockerfile.stage("builder").copies().into_iter().flat_map(|copy| copy.sources).collect();
    let mut included = BTreeSet::new();

    for file in files_of(&Path::new(HOUSE).join("src")) {
        let text = fs::read_to_string(&file).unwrap();
        for macro_call in ["include_str!(", "include_bytes!(", "migrate!("] {
            for call in text.split(macro_call).skip(1) {
                let path = call.split('"').nth(1).expect("the call names a path");
                included.insert(path.trim_start_matches("../").split('/').next().unwrap_or(path).to_owned());
            }
        }
    }

    assert!(!included.is_empty(), "the migrations are not where this test looks for them");
    for name in included {
        assert!(copied.contains(&name), "src includes {name}, which the builder does not have: {copied:?}");
    }
}

fn files_of(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files_of(&path) } else { vec![path] }).collect()
}

#[test]
fn the_layer_of_the_dependencies_needs_no_more_of_the_crate_than_its_stub() {
    let dockerfile = dockerfile();
    let builder = dockerfile.stage("builder");
    let folder = tempfile::tempdir().unwrap();
    for source in &builder.copies()[0].sources {
        fs::copy(Path::new(HOUSE).join(source), folder.path().join(source)).unwrap();
    }
    // Fetching what is there reads the manifest as a build does, and does not take ten minutes.
    let build = "cargo build --release --locked --bin workers";
    let fetch = "cargo fetch --offline --locked --target \"$(rustc -vV | sed -n 's/^host: //p')\"";
    let stub = builder.all("RUN")[0].replace(build, fetch);
    assert!(stub.contains(fetch), "the stub is built otherwise: {stub}");

    let output = Command::new("sh").args(["-euc", &stub]).current_dir(folder.path()).output().unwrap();

    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn base_images_are_pinned_and_build_with_the_compiler_of_the_house() {
    let dockerfile = dockerfile();
    let toolchain = fs::read_to_string(Path::new(HOUSE).join("rust-toolchain.toml")).unwrap();
    let channel = toolchain.split('"').nth(1).expect("a channel");

    for stage in &dockerfile.stages {
        let (_, tag) = stage.base.rsplit_once(':').unwrap_or_else(|| panic!("{} has no tag", stage.base));
        assert!(!["latest", "slim", "debug"].contains(&tag) && !stage.base.contains('$'), "{}", stage.base);
    }
    let builder = &dockerfile.stage("builder").base;
    assert!(builder.contains(&format!("rust:{channel}-")), "{builder} is not the {channel} of rust-toolchain.toml");
}

#[test]
fn neither_layers_nor_labels_hold_a_secret_and_the_labels_are_true() {
    let dockerfile = dockerfile();
    let known: BTreeSet<&str> = emponto::config::variables().into_iter().map(|row| row.name).collect();

    for stage in &dockerfile.stages {
        let arguments = stage.all("ARG").into_iter().map(str::to_owned);
        for name in stage.pairs("ENV").into_keys().chain(arguments) {
            let is_secret = ["TOKEN", "SECRET", "PASSWORD", "_KEY", "DATABASE"].iter().any(|word| name.contains(word));
            assert!(!is_secret, "{name} stays in the image's history");
        }
    }
    let image = dockerfile.image();
    for name in image.pairs("ENV").keys().filter(|name| name.starts_with("WORKERS_")) {
        assert!(known.contains(name.as_str()), "nothing reads {name}");
    }
    let label = |name: &str| image.pairs("LABEL").remove(&format!("org.opencontainers.image.{name}"));
    assert_eq!(label("version").as_deref(), Some(env!("CARGO_PKG_VERSION")));
    assert_eq!(label("revision").as_deref(), Some("${WORKERS_REVISION}"));
    assert!(dockerfile.stages.iter().all(|stage| stage.all("ARG").contains(&"WORKERS_REVISION")));
}

#[test]
fn the_health_check_is_given_up_later_than_health_gives_up() {
    let dockerfile = dockerfile();
    let (_, flags) = health(dockerfile.image());

    let timeout =
        flags.split_whitespace().find_map(|flag| flag.strip_prefix("--timeout=")?.strip_suffix('s')?.parse().ok());

    assert!(timeout.is_some_and(|seconds: u64| HEALTH_SECONDS < seconds), "{flags}");
}

#[test]
fn the_examples_run_it_with_no_more_rights_than_it_needs() {
    for (name, text) in [("docker-compose.yml", REPLICAS), ("docker-compose.sqlite.yml", SINGLE)] {
        let compose = Compose::parse(text);
        let workers = |key: &str| format!("services.workers.{key}");

        assert_eq!(compose.at(&workers("read_only")).as_bool(), Some(true), "{name}");
        for service in compose.keys("services") {
            let list = |key: &str| compose.texts(&format!("services.{service}.{key}"));
            assert_eq!(list("cap_drop"), ["ALL"], "{name}: {service}");
            assert_eq!(list("security_opt"), ["no-new-privileges:true"], "{name}: {service}");
        }
        assert!(compose.at(&workers("cap_add")).is_badvalue() && compose.at(&workers("privileged")).is_badvalue());
        assert!(compose.at(&workers("user")).is_badvalue(), "{name}: the image says who runs it");
        for port in compose.texts(&workers("ports")) {
            assert!(port.starts_with("127.0.0.1:") && port.ends_with(":8000"), "{name}: {port}");
        }
        let (words, _) = health(dockerfile().image());
        assert_eq!(compose.texts(&workers("healthcheck.test"))[1..], words, "{name}");
        assert!(
            Path::new(HOUSE).join("examples").join(compose.text(&workers("build.context"))).join("Dockerfile").exists()
        );
    }
}

#[test]
fn the_examples_have_no_default_secret_and_only_settings_that_exist() {
    let known: BTreeSet<&str> = emponto::config::variables().into_iter().map(|row| row.name).collect();
    for (name, text) in [("docker-compose.yml", REPLICAS), ("docker-compose.sqlite.yml", SINGLE)] {
        let compose = Compose::parse(text);
        for service in compose.keys("services") {
            for (variable, value) in compose.environment(service) {
                let is_secret = ["TOKEN", "PASSWORD", "DATABASE_URL"].iter().any(|word| variable.ends_with(word));
                // `:?` = compose refuses to start without it.
                assert!(!is_secret || value.contains(":?"), "{name}: {variable} has a default");
                assert!(service != "workers" || known.contains(variable), "{name}: nothing reads {variable}");
            }
        }
        for token in ["WORKERS_TOKEN", "WORKERS_READ_TOKEN"] {
            assert!(compose.environment("workers").contains_key(token), "{name}: {token}");
        }
    }
}

#[test]
fn the_examples_wait_longer_for_a_stop_than_a_stop_takes() {
    for (name, text) in [("docker-compose.yml", REPLICAS), ("docker-compose.sqlite.yml", SINGLE)] {
        let compose = Compose::parse(text);

        let grace = compose.seconds("services.workers.environment.WORKERS_SHUTDOWN_GRACE");
        let most = compose.seconds("services.workers.stop_grace_period");

        assert!(grace + AFTER_THE_GRACE_SECONDS <= most, "{name}: {grace} s of grace, killed after {most} s");
    }
}

#[test]
fn the_examples_keep_the_ledger_where_it_lasts() {
    let (replicas, single) = (Compose::parse(REPLICAS), Compose::parse(SINGLE));

    assert_eq!(replicas.at("services.workers.deploy.replicas").as_i64(), Some(2));
    assert!(replicas.environment("workers")["DATABASE_URL"].starts_with("postgres://"));
    assert_eq!(replicas.text("services.workers.depends_on.postgres.condition"), "service_healthy");
    let (_, tag) = replicas.text("services.postgres.image").rsplit_once(':').expect("a tag");
    assert!(tag.split('.').all(|part| part.parse::<u32>().is_ok()) && tag.contains('.'), "{tag} moves");

    assert_eq!(single.at("services.workers.deploy.replicas").as_i64(), Some(1), "a second one would be refused");
    assert!(!single.environment("workers").contains_key("DATABASE_URL"));
    assert!(single.texts("services.workers.volumes").contains(&"workers-data:/data"));

    for compose in [&replicas, &single] {
        for service in compose.keys("services") {
            for volume in compose.texts(&format!("services.{service}.volumes")) {
                let (source, _) = volume.split_once(':').expect("a source and a target");
                let is_there = Path::new(HOUSE).join("examples").join(source).exists();
                assert!(compose.keys("volumes").contains(&source) || is_there, "{volume}");
            }
        }
    }
}

#[test]
fn the_settings_of_the_examples_are_accepted() {
    for text in [REPLICAS, SINGLE] {
        let compose = Compose::parse(text);
        let mut setup = Setup::new(include_str!("../jobs.toml"));
        for (name, value) in compose.environment("workers") {
            // What compose takes from its own environment is somebody's secret.
            let value = value.split("${").next().unwrap_or_default();
            setup = setup.env(name, if value.is_empty() { "given" } else { value });
        }

        let shown = setup.without_env("DATABASE_URL").run(&["config", "show"]);

        assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
    }
}

/// Fails with what is missing when this machine lets nobody make such a room.
fn room(jobs_toml: &str) -> Room {
    let dockerfile = dockerfile();
    let room = Room::new(dockerfile.image(), jobs_toml);
    let tried = room.run(&["version"]);
    assert!(
        tried.status.success(),
        "no room for a container here: this test needs mount, PID and (unless root) user namespaces, and overlay mounts in \
        them; in a container, run it privileged\n{}",
        String::from_utf8_lossy(&tried.stderr)
    );
    room
}

fn ready(room: &Room) -> bool {
    http(room.port, "GET", "/readyz", &[], "").is_some_and(|answer| answer.status == 200)
}

fn said(output: &std::process::Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn with_the_files_of_the_image_alone_it_runs_as_number_1_of_an_unprivileged_user() {
    let room = room(BUSY);
    let mut container = room.start();
    container.wait_for("ready", ready);

    // The last number is the one in its own namespace.
    assert_eq!(container.status("NSpid").split(' ').next_back(), Some("1"));
    let ids = if getuid().is_root() { container.status("Uid") } else { container.proc("uid_map") };
    assert!(ids.trim_start().starts_with("65532"), "{ids}");
    assert_eq!(container.status("CapEff"), "0000000000000000");
    assert_eq!(container.status("NoNewPrivs"), "1");
    let mounts = container.proc("mountinfo");
    let root = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/")).expect("a root is mounted");
    assert!(root.contains(" - overlay overlay ro"), "{root}");
}

#[test]
fn the_health_check_of_the_image_says_whether_it_lives() {
    let room = room(BUSY);
    let dockerfile = dockerfile();
    let (words, _) = health(dockerfile.image());
    let words: Vec<&str> = words.iter().map(String::as_str).collect();

    let before = room.run_words(&words);
    let mut container = room.start();
    container.wait_for("ready", ready);
    let alive = room.run_words(&words);
    container.terminate();
    let after = room.run_words(&words);

    let codes = [before, alive, after].map(|output| (output.status.code(), said(&output)));
    assert_eq!(codes.each_ref().map(|(code, _)| *code), [Some(4), Some(0), Some(4)], "{codes:?}");
}

#[test]
fn sigterm_to_number_1_drains_and_the_ledger_is_on_the_volume() {
    let room = room(BUSY);
    let mut container = room.start();
    container.wait_for("ready", ready);
    container.wait_for("a run under way", |room| {
        http(room.port, "GET", "/health/workers", &[], "")
            .is_some_and(|answer| answer.body.contains("\"last_outcome\":\"success\""))
    });

    let status = container.terminate();

    let log = container.log();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("stopped left_running=0"), "{log}");
    let names: BTreeSet<String> = files_of(&room.path("volume"))
        .iter()
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    assert!(names.contains("workers.db"), "{names:?}");
    assert!(names.iter().all(|name| name.starts_with("workers.db")), "{names:?}");
    let account = room.run(&["ledger"]);
    assert_eq!(account.status.code(), Some(0), "{}", said(&account));
}

#[test]
fn production_without_a_volume_is_refused_at_once() {
    let room = room(BUSY).without_volume().env("APP_ENV", "production");

    let output = room.run(&[]);

    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(said(&output).contains("/data/workers.db") && said(&output).contains("volume"), "{}", said(&output));
}

#[test]
fn a_read_only_root_without_a_volume_is_refused_by_its_folder() {
    let room = room(BUSY).without_volume();

    let output = room.run(&[]);

    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(said(&output).contains("/data"), "{}", said(&output));
}
