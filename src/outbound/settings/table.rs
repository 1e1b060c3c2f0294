//! `[outbound]` as it is written, and how the team's own variables fill it in.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Allowlist, Confidential, Evolution, GatewayChoice, Outbound, TRY_LIMIT, Webhook, allowlist::Numbers,
    limits::LimitsTable,
};
use crate::{
    domain::duration::Length,
    outbound::{
        Hours,
        call::{BreakerSettings, DEFAULT_TARGET, Network, Targets, web_url, within_reach},
    },
};

/// Settings of `[outbound]`, which all jobs that write to people share.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OutboundTable {
    /// Who carries messages to people; `log` carries them nowhere. Default: `webhook` when `webhook` is given, else
    /// `evolution` when it has a URL, else `log`.
    pub gateway: Option<GatewayName>,
    /// The Evolution API, which carries messages to WhatsApp.
    pub evolution: EvolutionTable,
    /// An endpoint of the team's own that carries messages.
    pub webhook: Option<WebhookTable>,
    /// Bound of one try to hand a message over.
    #[schemars(extend("default" = "15s"))]
    pub timeout: Option<Length>,
    /// When the gateway is left alone, whichever it is.
    pub breaker: BreakerSettings,
    /// When proactive messages may go.
    pub hours: Hours,
    /// How often people are written to.
    pub limits: LimitsTable,
    /// Unless `APP_ENV` is `production`, only these numbers are written to; `OUTBOUND_ALLOWLIST`. With the gateway `log`
    /// and no list everybody may be, because nothing leaves.
    pub allowlist: Option<Numbers>,
    /// Address of Slack's incoming webhook, where the team is told things; `SLACK_WEBHOOK_URL`. Default: nobody is told.
    pub slack: Confidential,
}

/// The gateways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum GatewayName {
    Evolution,
    Webhook,
    Log,
}

/// `evolution`: whose account carries messages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EvolutionTable {
    /// Base URL of the API; `EVOLUTION_API_URL`.
    pub url: Confidential,
    /// The instance that is connected to the team's number; `EVOLUTION_INSTANCE`.
    pub instance: String,
    /// The key of the API or of the instance; `EVOLUTION_API_KEY`.
    pub key: Confidential,
}

/// `webhook`: which endpoint carries messages.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookTable {
    /// A table under `[targets]`, with its headers, signature, rate and breaker.
    #[serde(default = "default_target")]
    pub target: String,
    /// A path below the target's base URL.
    pub post: String,
}

fn default_target() -> String {
    DEFAULT_TARGET.into()
}

/// A text of the file, else of the team's variable, with the name of where it stands.
#[derive(Clone, Copy)]
struct Given<'a> {
    text: &'a str,
    name: &'static str,
}

/// The settings of a file beside the variables of the process.
struct Reading<'a> {
    table: &'a OutboundTable,
    variables: &'a BTreeMap<String, String>,
    targets: &'a Targets,
    mistakes: Vec<String>,
}

impl OutboundTable {
    /// The settings in force: the file first, then the team's own variables, then what is built in (spec 3, Order). One
    /// message per mistake; they quote neither addresses nor keys nor numbers of people.
    pub fn resolve(&self, variables: &BTreeMap<String, String>, targets: &Targets) -> Result<Outbound, Vec<String>> {
        let mut reading = Reading { table: self, variables, targets, mistakes: self.hours.check() };
        reading.mistakes.extend(self.breaker.check());
        let team = (reading.number("MAX_MSGS_POR_HORA"), reading.number("MAX_MSGS_POR_DIA"));
        let gateway = reading.gateway();
        let outbound = Outbound {
            hours: self.hours.clone(),
            limits: self.limits.resolve(team),
            allowlist: reading.allowlist(&gateway),
            gateway,
            timeout: self.timeout.map_or(TRY_LIMIT, |length| length.0),
            breaker: self.breaker.clone(),
            slack: reading.slack(),
            is_production: reading.is_production(),
        };
        if reading.mistakes.is_empty() { Ok(outbound) } else { Err(reading.mistakes) }
    }
}

impl<'a> Reading<'a> {
    /// An empty text is what a variable without a value leaves behind: as if it were not there.
    fn given(&self, own: (&'static str, &'a str), variable: &'static str) -> Option<Given<'a>> {
        let of_team = self.variables.get(variable).map_or("", |value| value.trim());
        let places = [(own.0, own.1.trim()), (variable, of_team)];
        places.into_iter().find(|(_, text)| !text.is_empty()).map(|(name, text)| Given { text, name })
    }

    fn number(&mut self, variable: &'static str) -> Option<u32> {
        let given = self.given(("", ""), variable)?;
        let number = given.text.parse();
        if number.is_err() {
            self.mistakes.push(format!("{variable}: {:?} is not a whole number of 0 or more", given.text));
        }
        number.ok()
    }

    fn gateway(&mut self) -> GatewayChoice {
        let table = self.table;
        let has_url = self.given(("evolution.url", table.evolution.url.reveal()), "EVOLUTION_API_URL").is_some();
        let chosen = match (table.gateway, &table.webhook) {
            (Some(name), _) => name,
            (None, Some(_)) => GatewayName::Webhook,
            (None, None) if has_url => GatewayName::Evolution,
            (None, None) => GatewayName::Log,
        };
        match chosen {
            GatewayName::Evolution => GatewayChoice::Evolution(self.evolution()),
            GatewayName::Webhook => self.webhook().map_or(GatewayChoice::Log, GatewayChoice::Webhook),
            GatewayName::Log => GatewayChoice::Log,
        }
    }

    fn evolution(&mut self) -> Evolution {
        let EvolutionTable { url, instance, key } = &self.table.evolution;
        let url = self.needed(("evolution.url", url.reveal()), "EVOLUTION_API_URL");
        if let Some(fault) = url.and_then(|url| wrong_url(url.text)) {
            self.mistakes.push(format!("{}: {fault}", url.map_or("", |url| url.name)));
        }
        let instance = self.needed(("evolution.instance", instance), "EVOLUTION_INSTANCE");
        let key = self.needed(("evolution.key", key.reveal()), "EVOLUTION_API_KEY");
        if let Some(key) = key.filter(|key| !key.text.bytes().all(|byte| byte.is_ascii_graphic())) {
            self.mistakes.push(format!("{}: a key is made of plain letters, digits and signs", key.name));
        }
        let text = |given: Option<Given<'_>>| given.map_or("", |given| given.text).to_owned();
        Evolution { url: Confidential::new(text(url)), instance: text(instance), key: Confidential::new(text(key)) }
    }

    fn needed(&mut self, own: (&'static str, &'a str), variable: &'static str) -> Option<Given<'a>> {
        let given = self.given(own, variable);
        if given.is_none() {
            self.mistakes.push(format!("the gateway evolution needs {}: give it, or set {variable}", own.0));
        }
        given
    }

    fn webhook(&mut self) -> Option<Webhook> {
        let Some(WebhookTable { target, post }) = &self.table.webhook else {
            self.mistakes.push("the gateway webhook needs `webhook = { target = \"..\", post = \"/..\" }`".into());
            return None;
        };
        if !post.starts_with('/') {
            self.mistakes.push(format!("webhook: post is {post:?}, and must begin with /"));
        }
        let Some(to) = self.targets.get(target) else {
            let known: Vec<&str> = self.targets.keys().map(String::as_str).collect();
            self.mistakes.push(format!("webhook: unknown target {target:?}; known are: {}", known.join(", ")));
            return None;
        };
        Some(Webhook { target: target.clone(), post: post.clone(), to: to.clone() })
    }

    /// In production everybody; elsewhere those who are listed. Where nothing leaves and nobody is listed, everybody.
    fn allowlist(&mut self, gateway: &GatewayChoice) -> Allowlist {
        let variable = self.given(("", ""), "OUTBOUND_ALLOWLIST");
        let (name, numbers) = match (&self.table.allowlist, variable) {
            (Some(numbers), _) if !numbers.is_left_empty() => ("allowlist", Some(numbers.clone())),
            (_, variable) => ("OUTBOUND_ALLOWLIST", variable.map(|given| Numbers::split(given.text))),
        };
        let listed = numbers.as_ref().map_or(Ok(Default::default()), Numbers::digits);
        let listed = listed.unwrap_or_else(|fault| {
            self.mistakes.push(format!("{name}: {fault}"));
            Default::default()
        });
        match (self.is_production(), gateway, numbers) {
            (true, _, _) | (false, GatewayChoice::Log, None) => Allowlist::Everybody,
            (false, _, _) => Allowlist::Only(listed),
        }
    }

    fn is_production(&self) -> bool {
        self.variables.get("APP_ENV").is_some_and(|name| name.trim() == "production")
    }

    fn slack(&mut self) -> Option<Confidential> {
        let given = self.given(("slack", self.table.slack.reveal()), "SLACK_WEBHOOK_URL")?;
        if let Some(fault) = wrong_url(given.text) {
            self.mistakes.push(format!("{}: {fault}", given.name));
        }
        Some(Confidential::new(given.text))
    }
}

/// What is wrong with an address of the web. It is not quoted: it may let in whoever knows it.
fn wrong_url(text: &str) -> Option<String> {
    match web_url(text) {
        Err(fault) => Some(fault),
        Ok(url) if url.query().is_some() || url.fragment().is_some() => {
            Some("the URL has a query or a fragment, and takes none".into())
        }
        Ok(url) => within_reach(&url, Network::Any).err(),
    }
}
