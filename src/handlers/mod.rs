//! What jobs can do: one file each, one line in the list below.

mod context;
pub mod demo;
mod events;
mod gate;
pub mod people;
mod scope;
pub mod team;
mod tools;
mod transaction;

use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, de, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::domain::{health::QueueFigures, run::Failure};
pub use crate::outbound::{Outbound, OutboundTable};
pub use command::{adopt_orphans, kill_children};
pub use context::{AppDatabase, AppTx, Context, Dialect, Done, Ending, History, QueueLook};
pub use gate::ask_gate;
pub use scope::{Scope, Targets};
pub use sql::Statement;
use team::{Adopted, TeamTable};
pub use tools::Tools;

/// Handlers of later releases, none at present: a job that names one is refused as "not supported yet", never ignored.
pub const LATER: &[&str] = &[];

/// The time that most handlers have to end by themselves.
const STOP_GRACE: Duration = Duration::from_millis(200);

/// What the settings of every handler can do; the list below calls nothing else.
trait Handler: Sized + Clone + PartialEq + Serialize + DeserializeOwned + JsonSchema {
    /// Reads what the settings point to (files, targets) and finds the mistakes that a parser cannot see.
    /// Runs once, after `jobs.toml` was parsed and before anything runs; an empty answer is a promise that it can run.
    fn check(&mut self, scope: &Scope<'_>) -> Vec<String> {
        let _ = scope;
        Vec::new()
    }

    /// What is doubtful in the settings, one message each; asked after `check` found no mistake.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    /// One attempt.
    async fn run(&self, ctx: Context) -> Ending;

    /// What stands in the table that it drains; `None` = it drains none. Asked twice a minute by every replica, whether or not
    /// the job runs, with a few seconds for an answer.
    async fn look(&self, look: QueueLook) -> Option<Result<QueueFigures, Failure>> {
        let _ = look;
        None
    }

    /// How long an attempt that listens to `ctx.cancelled` may take to end by itself; then its task is aborted. At the
    /// end of a lease this must leave time for an abort: 5 s and a little is the most.
    fn stop_grace(&self) -> Duration {
        STOP_GRACE
    }

    /// Whether an attempt goes on from the `resume` that an earlier one left.
    fn resumes(&self) -> bool {
        false
    }

    /// How long work may be followed that goes on elsewhere, beyond the time-outs of attempts.
    fn follows_for(&self) -> Duration {
        Duration::ZERO
    }

    /// Everything that decides what it does, in a stable form, for hashing.
    fn canonical(&self) -> Value {
        json!(self)
    }

    /// The statements a database can prepare in advance, to find what is wrong before 08:00.
    fn statements(&self, own: Dialect) -> Vec<Statement> {
        let _ = own;
        Vec::new()
    }

    /// Whether `examine` has anything to ask a database.
    fn looks_at_database(&self) -> bool {
        false
    }

    /// What a database says against the settings beyond what `statements` tell, one message each. The transaction is
    /// rolled back: nothing that it changes stays.
    async fn examine(&self, tx: &mut AppTx) -> Result<Vec<String>, Failure> {
        let _ = tx;
        Ok(Vec::new())
    }

    /// What is doubtful in the tables of the team as they were found, one message each, with its remedy; told by
    /// `workers check`.
    fn doubts(&self, found: &Adopted) -> Vec<String> {
        let _ = found;
        Vec::new()
    }

    /// The tables of the team that it only looks at, where they exist; `workers check` tells what they lack.
    fn tables_looked_at(&self) -> Vec<&'static TeamTable> {
        Vec::new()
    }

    /// The tables of the team that it works on; its statements may wear the marks of [`team::Adopted`] then.
    fn team_tables(&self) -> Vec<&'static TeamTable> {
        Vec::new()
    }
}

macro_rules! handlers {
    ($($(#[$about:meta])* $name:ident as $variant:ident),+ $(,)?) => {
        $(pub mod $name;)+

        /// What a job does: a handler and its settings.
        #[derive(Debug, Clone, PartialEq)]
        #[expect(clippy::large_enum_variant, reason = "there is one per job, and it is shared, not moved")]
        pub enum Work {
            $($(#[$about])* $variant($name::Settings)),+
        }

        impl Work {
            /// The keys that `run.<handler>` knows.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name)),+];

            /// The key of this work's handler.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$variant(_) => stringify!($name)),+ }
            }

            /// Reads the settings under `run.<name>`. Unknown names and unknown settings are errors.
            pub fn parse<'de, D: Deserializer<'de>>(name: &str, settings: D) -> Result<Self, D::Error> {
                match name {
                    $(stringify!($name) => $name::Settings::deserialize(settings).map(Self::$variant),)+
                    unknown => Err(de::Error::unknown_variant(unknown, Self::NAMES)),
                }
            }

            /// The JSON Schema of the settings under `run.<name>`; `None` for an unknown name.
            pub fn schema(name: &str, generator: &mut SchemaGenerator) -> Option<Schema> {
                match name {
                    $(stringify!($name) => Some(generator.subschema_for::<$name::Settings>()),)+
                    _ => None,
                }
            }

            /// Reads files and targets and finds what a parser cannot see: one message per mistake, none = it can run.
            /// Must be called once before `run`, `statements` and `canonical`.
            pub fn check(&mut self, scope: &Scope<'_>) -> Vec<String> {
                match self { $(Self::$variant(settings) => settings.check(scope)),+ }
            }

            /// What is doubtful, one message each, to be told and no more; after `check`.
            pub fn warnings(&self) -> Vec<String> {
                match self { $(Self::$variant(settings) => settings.warnings()),+ }
            }

            /// One attempt. Panics and time-outs are the caller's to catch.
            pub async fn run(&self, ctx: Context) -> Ending {
                match self { $(Self::$variant(settings) => settings.run(ctx).await),+ }
            }

            /// What stands in the table that it drains; `None` = it drains none. Panics and time-outs are the caller's.
            pub async fn look(&self, look: QueueLook) -> Option<Result<QueueFigures, Failure>> {
                match self { $(Self::$variant(settings) => settings.look(look).await),+ }
            }

            /// How long an attempt may take to end by itself once it was told to.
            pub fn stop_grace(&self) -> Duration {
                match self { $(Self::$variant(settings) => settings.stop_grace()),+ }
            }

            /// Whether it can go on from what an earlier attempt left.
            pub fn resumes(&self) -> bool {
                match self { $(Self::$variant(settings) => settings.resumes()),+ }
            }

            /// How long work may be followed that goes on elsewhere, beyond the time-outs of attempts.
            pub fn follows_for(&self) -> Duration {
                match self { $(Self::$variant(settings) => settings.follows_for()),+ }
            }

            /// Everything that decides what this work does, the text of SQL files included, in a stable form: for
            /// hashing, never for showing, because it holds secrets.
            pub fn canonical(&self) -> Value {
                match self { $(Self::$variant(settings) => json!({ stringify!($name): settings.canonical() })),+ }
            }

            /// Statements that `workers check` can prepare; `own` is what the daemon's own database speaks.
            pub fn statements(&self, own: Dialect) -> Vec<Statement> {
                match self { $(Self::$variant(settings) => settings.statements(own)),+ }
            }

            /// Whether `examine` has anything to ask.
            pub fn looks_at_database(&self) -> bool {
                match self { $(Self::$variant(settings) => settings.looks_at_database()),+ }
            }

            /// What the daemon's own database says against this work beyond its statements; `workers check` asks.
            pub async fn examine(&self, tx: &mut AppTx) -> Result<Vec<String>, Failure> {
                match self { $(Self::$variant(settings) => settings.examine(tx).await),+ }
            }

            /// What is doubtful in these tables as they were found, to be told and no more.
            pub fn doubts(&self, found: &Adopted) -> Vec<String> {
                match self { $(Self::$variant(settings) => settings.doubts(found)),+ }
            }

            /// The tables of the team that this work only looks at, where they exist.
            pub fn tables_looked_at(&self) -> Vec<&'static TeamTable> {
                match self { $(Self::$variant(settings) => settings.tables_looked_at()),+ }
            }

            /// The tables of the team that this work needs; the handler creates or adopts them when it runs.
            pub fn team_tables(&self) -> Vec<&'static TeamTable> {
                match self { $(Self::$variant(settings) => settings.team_tables()),+ }
            }
        }
    };
}

handlers! {
    /// Calls an HTTP endpoint and judges its answer by content.
    http as Http,
    /// Runs a program, without a shell.
    command as Command,
    /// Runs SQL statements in one transaction.
    sql as Sql,
    /// Takes work from a table the team already has.
    drain as Drain,
    /// Cools leads that stopped answering.
    temperature_decay as TemperatureDecay,
    /// Sends the messages that wait in the team's queue.
    fila as Fila,
    /// Follows up on shifts that a recruiter has not confirmed, and lets them go in time.
    handoffs as Handoffs,
    /// Asks for confirmation of shifts that are over.
    shifts as Shifts,
    /// Keeps the directives as the team's briefing has them.
    briefing as Briefing,
    /// Tells the team what a day brought.
    report as Report,
    /// Runs a cycle of the group pipeline and watches its queue.
    grupos as Grupos,
    /// Answers what came in out of business hours.
    retomada as Retomada,
    /// Watches how the pilot group fares.
    pilot as Pilot,
    /// Does nothing.
    noop as Noop,
}
