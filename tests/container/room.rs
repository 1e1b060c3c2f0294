//! The image without an engine: the files of its layers in a read-only root, an unprivileged user, a process that is
//! number 1 of its own namespace. Linux with util-linux; as root, or as anybody who may make user namespaces.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, getuid, kill_process};
use tempfile::TempDir;

use super::dockerfile::{Stage, exec_form};
use crate::support::{daemon::PATIENCE, free_port};

/// Where the base image keeps the certificates of the authorities.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Mounts the root, then becomes the user and the process. `$1` the folder, `$2` the uid and gid, `$3` `root` or `user`,
/// `$4` `volume` or nothing, then the command.
const ENTER: &str = r#"
folder=$1 id=$2 who=$3 volume=$4
shift 4
root=$folder/root
mount -t overlay overlay -o "lowerdir=$folder/image:$folder/base" "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero urandom; do
  : >"$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
[ "$volume" != volume ] || mount --bind "$folder/volume" "$root/data"
case $who in
  root) exec unshare --setgid="$id" --setuid="$id" --root="$root" --wd=/app -- "$@" ;;
  user) exec unshare --user --map-user="$id" --map-group="$id" --root="$root" --wd=/app -- "$@" ;;
esac
"#;

/// The layers of the image and, when wanted, its volume, on disk.
pub struct Room {
    folder: TempDir,
    id: u32,
    entrypoint: Vec<String>,
    environment: BTreeMap<String, String>,
    has_volume: bool,
    pub port: u16,
}

impl Room {
    /// What the stage copies, with this job table as a team's own, on what the base image brings.
    pub fn new(image: &Stage, jobs_toml: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let id = image.last("USER").split(':').next().and_then(|id| id.parse().ok()).expect("USER is a number");
        let port = free_port();
        let mut environment = image.pairs("ENV");
        environment.insert("PATH".into(), std::env::var("PATH").unwrap_or_default());
        environment.insert("PORT".into(), port.to_string());
        let entrypoint = exec_form(image.last("ENTRYPOINT")).expect("ENTRYPOINT is an exec form");
        let room = Self { folder, id, entrypoint, environment, has_volume: true, port };
        room.lay_base();
        room.lay_image(image, jobs_toml);
        room.make("volume", id);
        room.make("root", 0);
        room
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.into(), value.into());
        self
    }

    /// As somebody starts it who forgot to mount one.
    pub fn without_volume(mut self) -> Self {
        self.has_volume = false;
        self
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The entrypoint with these arguments, to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        let words: Vec<&str> = self.entrypoint.iter().map(String::as_str).chain(arguments.iter().copied()).collect();
        self.run_words(&words)
    }

    /// Another command in a container beside, as HEALTHCHECK would run it: same files, same user, same environment.
    pub fn run_words(&self, words: &[&str]) -> Output {
        self.command(words).output().expect("unshare is there (util-linux)")
    }

    pub fn start(&self) -> Container<'_> {
        let words: Vec<&str> = self.entrypoint.iter().map(String::as_str).collect();
        let log = self.path("log");
        let file = File::create(&log).expect("the folder can be written");
        let mut command = self.command(&words);
        command.stdout(file.try_clone().expect("a handle of the log")).stderr(file);
        let child = command.spawn().expect("unshare is there (util-linux)");
        Container { room: self, child, log }
    }

    fn command(&self, words: &[&str]) -> Command {
        let is_root = getuid().is_root();
        let mut command = Command::new("setpriv");
        command.args(["--no-new-privs", "unshare", "--mount", "--pid", "--fork", "--propagation=private"]);
        if !is_root {
            command.args(["--user", "--map-root-user"]);
        }
        let who = if is_root { "root" } else { "user" };
        let volume = if self.has_volume { "volume" } else { "" };
        command.args(["--", "sh", "-euc", ENTER, "sh"]).arg(self.folder.path());
        command.args([&self.id.to_string(), who, volume]).args(words);
        command.env_clear().envs(&self.environment).stdin(Stdio::null());
        command
    }

    /// What the base image brings: the C library and its like, certificates, empty folders to mount on.
    fn lay_base(&self) {
        for folder in ["base", "base/proc", "base/dev", "base/tmp"] {
            self.make(folder, 0);
        }
        let linked = Command::new("ldd").arg(binary()).output().expect("ldd is there (libc-bin)");
        let listing = String::from_utf8_lossy(&linked.stdout).into_owned();
        let libraries = listing.split_whitespace().filter(|word| word.starts_with('/'));
        for library in libraries.chain([AUTHORITIES]) {
            self.lay("base", Path::new(library), library);
        }
    }

    fn lay_image(&self, image: &Stage, jobs_toml: &str) {
        self.make("image", 0);
        self.make(&format!("image{}", image.last("WORKDIR")), 0);
        for copy in image.copies() {
            match (copy.from.as_deref(), copy.sources.as_slice()) {
                (Some("builder"), [source]) if source == "/out/workers" => self.lay("image", &binary(), &copy.target),
                (Some("builder"), [source]) if source == "/out/data" => {
                    let owner = copy.owner.as_deref().and_then(|owner| owner.split(':').next()?.parse().ok());
                    self.make(&format!("image{}", copy.target), owner.unwrap_or(0));
                }
                (None, [source]) if source == "jobs.toml" => {
                    fs::write(self.path(&format!("image{}", copy.target)), jobs_toml)
                        .expect("the layer can be written");
                }
                other => panic!("the final stage copies what this test does not know: {other:?}"),
            }
        }
    }

    fn make(&self, name: &str, owner: u32) {
        let folder = self.path(name);
        fs::create_dir_all(&folder).expect("the folder can be written");
        if getuid().is_root() {
            chown(&folder, Some(owner), Some(owner)).expect("root gives folders away");
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("the folder is ours");
            fs::set_permissions(self.folder.path(), fs::Permissions::from_mode(0o755)).expect("the folder is ours");
        }
    }

    fn lay(&self, layer: &str, file: &Path, target: &str) {
        let target = self.path(&format!("{layer}{target}"));
        fs::create_dir_all(target.parent().expect("a file has a folder")).expect("the layer can be written");
        let file = file.canonicalize().unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        // A link costs nothing; across file systems it must be a copy.
        let laid = fs::hard_link(&file, &target).or_else(|_| fs::copy(&file, &target).map(drop));
        laid.unwrap_or_else(|error: io::Error| panic!("{}: {error}", file.display()));
    }
}

/// The binary under test.
fn binary() -> PathBuf {
    std::env::var("WORKERS_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_workers").to_owned()).into()
}

/// A process in the room.
pub struct Container<'a> {
    room: &'a Room,
    child: Child,
    log: PathBuf,
}

impl Container<'_> {
    /// Returns when `condition` holds; panics with the log when the process ends before, or takes too long.
    pub fn wait_for(&mut self, what: &str, condition: impl Fn(&Room) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition(self.room) {
            if let Some(status) = self.child.try_wait().expect("the child is ours") {
                panic!("ended with {status} while we waited for: {what}\n{}", self.log());
            }
            assert!(Instant::now() < deadline, "waited too long for: {what}\n{}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// The kernel's view of number 1, from outside.
    pub fn proc(&self, file: &str) -> String {
        let first = self.first().expect("number 1 is running");
        fs::read_to_string(format!("/proc/{first}/{file}")).expect("number 1 is running")
    }

    /// A field of `/proc/1/status`.
    pub fn status(&self, field: &str) -> String {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {field} in {status}")).split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// What an engine does to stop it: SIGTERM to number 1. The exit status, as the engine sees it.
    pub fn terminate(&mut self) -> ExitStatus {
        self.kill(Signal::TERM);
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("the child is ours") {
                return status;
            }
            assert!(Instant::now() < deadline, "did not end\n{}", self.log());
            thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn kill(&self, signal: Signal) {
        if let Some(pid) = self.first().and_then(|first| Pid::from_raw(first.cast_signed())) {
            kill_process(pid, signal).unwrap_or_default();
        }
    }

    /// The child of `unshare`, by the number it has out here.
    fn first(&self) -> Option<u32> {
        let processes = fs::read_dir("/proc").expect("/proc is mounted").flatten();
        let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        numbers.into_iter().find(|number| {
            let stat = fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
            // The name in brackets may hold anything; the parent is the second field after it.
            let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse::<u32>().ok());
            parent == Some(self.child.id())
        })
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        self.kill(Signal::KILL);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
