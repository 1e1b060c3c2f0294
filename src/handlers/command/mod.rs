//! `command`: runs a program of the team, without a shell, and judges how it ended and what it said.

mod descendants;
mod ending;
mod environment;
mod exit;
mod leader;
mod orphans;
mod output;

use std::{
    io,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{ChildStderr, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use chrono::SecondsFormat;
use rustix::{io::Errno, process::Signal};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::{io::AsyncWriteExt, process, task::JoinHandle, time::timeout};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::{AbortOnDropHandle, TaskTracker},
};

pub use orphans::{adopt_orphans, kill_children};

use super::{
    Context, Done, Ending, Handler, Scope,
    http::{
        Judge,
        judge::{self, Verdict},
    },
};
use crate::domain::run::Failure;
use ending::Ended;
use environment::Variables;
use exit::Exit;
use leader::Leader;
use output::{KEPT_BYTES, MAX_LINE_BYTES, Stream};

/// Between SIGTERM and SIGKILL (spec 5, `command`).
const STOP_WAIT: Duration = Duration::from_secs(5);
/// After SIGKILL, for all of it together: what carries the run is searched for, processes go, and their pipes close.
const KILL_WAIT: Duration = Duration::from_millis(1_500);
/// For the search for what has left the group; the search bounds itself, but for a system that does not answer. What is
/// left of `KILL_WAIT` is the leader's.
const SEARCH_WAIT: Duration = Duration::from_secs(1);
/// From SIGTERM to the end of the attempt, with a moment to judge it: it is not aborted in the middle. The lease still
/// holds then: attempts are stopped 7 s before its end.
const STOP_GRACE: Duration = STOP_WAIT.saturating_add(KILL_WAIT).saturating_add(Duration::from_millis(200));
/// After the end of a program, for what it left in its pipes, and for helpers such as `tee` to end by themselves.
const PIPE_GRACE: Duration = Duration::from_millis(500);

/// Settings of `run.command`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The program, looked for in PATH unless it has a `/`, and its arguments. No shell reads them.
    #[schemars(required, length(min = 1))]
    pub argv: Vec<String>,
    /// The folder in which it runs, relative to that of jobs.toml; the daemon's own unless given.
    pub cwd: Option<String>,
    /// Names of variables of the daemon that it gets beside PATH, HOME, LANG and TZ.
    pub env: Vec<String>,
    /// Where the number of items stands in the JSON object on its last line: a dotted path, such as `ciclo.processados`.
    pub items: Option<String>,
    /// `content` reads the last line of its output; `status` trusts the exit status.
    pub judge: Judge,
    /// The folder itself; set by `check`.
    #[serde(skip)]
    #[schemars(skip)]
    folder: Option<PathBuf>,
    /// Set by `check`. Not a part of `canonical`, so not of the work hash: values belong to the host and not to the job.
    /// A rotated password is no edit, replicas with different PATHs run the same table, and a short secret could be
    /// guessed from a hash in the ledger.
    #[serde(skip)]
    #[schemars(skip)]
    variables: Variables,
    /// Names in `env` that are not set; set by `check`.
    #[serde(skip)]
    #[schemars(skip)]
    unset: Vec<String>,
}

impl Handler for Settings {
    fn check(&mut self, scope: &Scope<'_>) -> Vec<String> {
        let mut errors = wrong_argv(&self.argv);
        errors.extend(environment::secret_arguments(&self.argv, scope.variables));
        errors.extend(environment::wrong_names(&self.env));
        errors.extend(judge::wrong_path(self.items.as_deref()));
        match self.cwd.as_ref().map(|cwd| existing_folder(scope.folder.join(cwd))).transpose() {
            Ok(folder) => self.folder = folder,
            Err(error) => errors.push(error),
        }
        self.variables = Variables::pick(&self.env, scope.variables);
        self.unset = self.env.iter().filter(|name| !scope.variables.contains_key(*name)).cloned().collect();
        errors
    }

    fn warnings(&self) -> Vec<String> {
        let unset = |name: &String| format!("env lists {name}, which is not set: the program gets no such variable");
        self.unset.iter().map(unset).collect()
    }

    fn stop_grace(&self) -> Duration {
        STOP_GRACE
    }

    async fn run(&self, ctx: Context) -> Ending {
        let run = ctx.run.id.to_string();
        // What an earlier attempt left behind, when its daemon was killed, must not work beside this one.
        if may_have_begun(&ctx) {
            kill_carriers(&run).await;
        }
        if ctx.cancelled.is_cancelled() {
            return Err(Failure::retry("not started: told to stop").before_effect());
        }
        let payload = match ctx.payload() {
            Value::Null => None,
            payload => Some(format!("{payload}\n").into_bytes()),
        };
        let mut leader =
            start(self.command(&ctx, payload.is_some()), &run).await.map_err(|error| self.not_started(&error))?;
        let pipes = Pipes::open(leader.pipes(), payload)
            .map_err(|error| Failure::retry(format!("cannot follow {:?}: {error}", self.argv[0])))?;
        let ended = end(leader, pipes, &ctx.cancelled, &run).await?;
        ending::ending(self, &ended).map(Done::Report)
    }
}

impl Settings {
    fn command(&self, ctx: &Context, has_payload: bool) -> Command {
        let run = &ctx.run;
        let mut command = Command::new(&self.argv[0]);
        command.args(&self.argv[1..]).env_clear().envs(self.variables.iter()).process_group(0);
        command.env(descendants::RUN_ID, run.id.to_string());
        command.env("WORKERS_JOB", run.job.as_str()).env("WORKERS_ATTEMPT", ctx.attempt.to_string());
        if let Some(instant) = run.scheduled_for {
            command.env("WORKERS_SCHEDULED_FOR", instant.to_rfc3339_opts(SecondsFormat::AutoSi, true));
        }
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        command.stdin(if has_payload { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// The program as people see it: without arguments, which may be long.
    fn program(&self) -> &str {
        self.argv.first().map_or("", |path| path.rsplit('/').next().unwrap_or(path))
    }

    fn verdict(&self, answer: &Map<String, Value>) -> Verdict {
        judge::judge(answer, self.items.as_deref())
    }

    /// Nothing was begun. Mistakes of the file and of the installation stay until a person mends them; what the system
    /// lacks for a moment it may have again.
    fn not_started(&self, error: &io::Error) -> Failure {
        const PASSING: [Errno; 6] =
            [Errno::AGAIN, Errno::NOMEM, Errno::MFILE, Errno::NFILE, Errno::TXTBSY, Errno::IO];
        let is_passing = Errno::from_io_error(error).is_some_and(|error| PASSING.contains(&error));
        let passes = is_passing || error.kind() == io::ErrorKind::Interrupted;
        let missing_folder = self.folder.clone().and_then(|folder| existing_folder(folder).err());
        let message = match missing_folder {
            Some(why) => why,
            None => format!("cannot start {:?}: {error}", self.argv[0]),
        };
        if passes { Failure::retry(message) } else { Failure::permanent(message) }.before_effect()
    }
}

/// Whether an attempt of this run may have started a program already. One that went down with the daemon and is not
/// blamed for it has neither spent an attempt nor counts a crash, but stands in `errors`.
fn may_have_begun(ctx: &Context) -> bool {
    let has_errors = ctx.run.errors.as_array().is_some_and(|errors| !errors.is_empty());
    1 < ctx.attempt || 0 < ctx.run.crashes || has_errors
}

/// What is wrong with the program and its arguments, one message per mistake.
fn wrong_argv(argv: &[String]) -> Vec<String> {
    let mut errors = Vec::new();
    match argv.first().map(String::as_str) {
        None => errors.push("argv is empty\nhelp: write argv = [\"program\", \"argument\"]".into()),
        Some("") => errors.push("argv[0] is empty, and must name a program".into()),
        Some(_) => {}
    }
    let with_nul = argv.iter().enumerate().filter(|(_, argument)| argument.contains('\0'));
    errors.extend(with_nul.map(|(index, _)| format!("argv[{index}] has a NUL, which no argument can hold")));
    errors
}

fn existing_folder(folder: PathBuf) -> Result<PathBuf, String> {
    if folder.is_dir() { Ok(folder) } else { Err(format!("cwd {} is not a folder that exists", folder.display())) }
}

/// Starts a program where it holds up nobody: to make a process of a large one takes its time, and so may the disk that
/// the program is on. One that starts when nobody waits for it any more is killed at once.
async fn start(mut command: Command, run: &str) -> io::Result<Leader> {
    let run = run.to_owned();
    let started = tokio::task::spawn_blocking(move || Leader::start(&mut command, &run));
    started.await.unwrap_or_else(|stopped| Err(io::Error::new(io::ErrorKind::Interrupted, stopped)))
}

/// Waits for the end of a program, or brings it about, and leaves nothing of it.
async fn end(mut leader: Leader, pipes: Pipes, cancelled: &CancellationToken, run: &str) -> Result<Ended, Failure> {
    let was_told = tokio::select! {
        biased;
        () = leader.ended() => false,
        () = cancelled.cancelled() => true,
    };
    // A time-out of these waits is no error: what comes next does not ask.
    if was_told {
        leader.signal_group(Signal::TERM);
        // One that was stopped could not hear it.
        leader.signal_group(Signal::CONT);
        let all_gone = async {
            leader.ended().await;
            pipes.closed().await;
        };
        timeout(STOP_WAIT, all_gone).await.unwrap_or_default();
    } else {
        timeout(PIPE_GRACE, pipes.closed()).await.unwrap_or_default();
    }
    leader.signal_group(Signal::KILL);
    let mut left_behind = false;
    let all_gone = async {
        left_behind = kill_carriers(run).await;
        leader.ended().await;
        pipes.closed().await;
    };
    timeout(KILL_WAIT, all_gone).await.unwrap_or_default();
    if !leader.has_ended() {
        return Err(Failure::retry(format!("did not go within {KILL_WAIT:?} of SIGKILL: the system holds it")));
    }
    let (stdout, stderr) = pipes.give_up().await;
    let exit = leader.reap().ok().map(Exit::from);
    Ok(Ended { exit, was_told, left_behind, stdout, stderr })
}

/// Kills what carries the id of a run, without holding up a thread of the handlers; whether there was anything.
async fn kill_carriers(run: &str) -> bool {
    let run = run.to_owned();
    let search = tokio::task::spawn_blocking(move || descendants::kill_carriers(&run));
    matches!(timeout(SEARCH_WAIT, search).await, Ok(Ok(1..)))
}

/// The pipes of a child, each with a task at its end. They are closed when this is dropped.
struct Pipes {
    stdout: JoinHandle<Stream>,
    stderr: JoinHandle<Stream>,
    readers: TaskTracker,
    give_up: DropGuard,
    _writer: Option<AbortOnDropHandle<()>>,
}

type Ends = (Option<ChildStdin>, Option<ChildStdout>, Option<ChildStderr>);

impl Pipes {
    fn open((stdin, stdout, stderr): Ends, payload: Option<Vec<u8>>) -> io::Result<Self> {
        let asked = "stdout and stderr were asked for";
        let stdout = process::ChildStdout::from_std(stdout.expect(asked))?;
        let stderr = process::ChildStderr::from_std(stderr.expect(asked))?;
        let writer = match (stdin, payload) {
            (Some(stdin), Some(payload)) => {
                let stdin = process::ChildStdin::from_std(stdin)?;
                Some(AbortOnDropHandle::new(tokio::spawn(write(stdin, payload))))
            }
            _ => None,
        };
        let (readers, give_up) = (TaskTracker::new(), CancellationToken::new());
        let stdout = readers.spawn(Stream::with_line_of(MAX_LINE_BYTES).drain(stdout, give_up.clone()));
        let stderr = readers.spawn(Stream::with_line_of(KEPT_BYTES).drain(stderr, give_up.clone()));
        readers.close();
        Ok(Self { stdout, stderr, readers, give_up: give_up.drop_guard(), _writer: writer })
    }

    /// Returns when nobody holds the other end of stdout and stderr any more.
    async fn closed(&self) {
        self.readers.wait().await;
    }

    /// What was read so far of stdout and stderr; the rest is lost.
    async fn give_up(self) -> (Stream, Stream) {
        drop(self.give_up);
        (self.stdout.await.unwrap_or_default(), self.stderr.await.unwrap_or_default())
    }
}

/// A child may read its payload or not; one that closes its end, or ends, is not at fault.
async fn write(mut stdin: process::ChildStdin, payload: Vec<u8>) {
    stdin.write_all(&payload).await.unwrap_or_default();
}
