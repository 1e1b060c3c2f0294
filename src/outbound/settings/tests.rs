//! Where each setting of `[outbound]` comes from, and what is refused.

use super::*;

const EVOLUTION: [(&str, &str); 3] = [
    ("EVOLUTION_API_URL", "http://zap.example.org/c4nary-path"),
    ("EVOLUTION_API_KEY", "c4nary-key"),
    ("EVOLUTION_INSTANCE", "escala"),
];

fn resolved(table: serde_json::Value, variables: &[(&str, &str)]) -> Result<Outbound, Vec<String>> {
    let table: OutboundTable = serde_json::from_value(table).expect("keys of the table");
    table
        .resolve(&variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(), &targets())
}

fn targets() -> Targets {
    Targets::from([("default".to_owned(), Target::at("http://api.example.org"))])
}

fn good(table: serde_json::Value, variables: &[(&str, &str)]) -> Outbound {
    resolved(table, variables).expect("good settings")
}

#[test]
fn a_value_comes_from_the_file_then_the_teams_variable_then_what_is_built_in() {
    use serde_json::json;
    let variables =
        [("MAX_MSGS_POR_HORA", "7"), ("MAX_MSGS_POR_DIA", " 70 "), ("SLACK_WEBHOOK_URL", "https://h/variable")];
    let limits = |table, variables: &[_]| {
        let limits = good(table, variables).limits;
        (limits.per_hour, limits.per_day)
    };
    let slack = |table, variables: &[_]| good(table, variables).slack.map(|slack| slack.reveal().to_owned());

    assert_eq!(limits(json!({}), &[]), (20, 100));
    assert_eq!(limits(json!({}), &[("MAX_MSGS_POR_HORA", "")]), (20, 100));
    assert_eq!(limits(json!({}), &variables), (7, 70));
    assert_eq!(limits(json!({ "limits": { "per_hour": 0 } }), &variables), (0, 70));
    assert_eq!(slack(json!({}), &[]), None);
    assert_eq!(slack(json!({ "slack": " " }), &[]), None);
    assert_eq!(slack(json!({ "slack": "" }), &variables).as_deref(), Some("https://h/variable"));
    assert_eq!(slack(json!({ "slack": "https://h/file" }), &variables).as_deref(), Some("https://h/file"));
    let built_in = Limits::default();
    assert_eq!((built_in.between.as_secs(), built_in.per_client_hour), (45, 3));
    let of_kinds =
        good(json!({ "limits": { "per_tipo_hour": { "campanha": 1, "aviso": 2 } } }), &[]).limits.per_tipo_hour;
    let of_kinds: Vec<_> = of_kinds.iter().map(|(tipo, most)| (tipo.as_str(), *most)).collect();
    assert_eq!(
        of_kinds,
        [("aviso", 2), ("campanha", 1), ("followup", 15), ("prospeccao", 10), ("resposta", 50), ("sistema", 1_000)]
    );
}

#[test]
fn the_gateway_is_the_one_that_is_configured() {
    use serde_json::json;
    let name = |table, variables: &[_]| match good(table, variables).gateway {
        GatewayChoice::Log => "log",
        GatewayChoice::Evolution(_) => "evolution",
        GatewayChoice::Webhook(_) => "webhook",
    };
    let webhook = json!({ "webhook": { "post": "/messages" } });

    assert_eq!(name(json!({}), &[]), "log");
    assert_eq!(name(json!({}), &EVOLUTION), "evolution");
    assert_eq!(name(json!({ "gateway": "log" }), &EVOLUTION), "log");
    assert_eq!(name(json!({ "evolution": { "url": "http://h", "instance": "i", "key": "k" } }), &[]), "evolution");
    assert_eq!(name(webhook.clone(), &EVOLUTION), "webhook");
    let both = json!({ "gateway": "evolution", "webhook": { "post": "/messages" } });
    assert_eq!(name(both, &EVOLUTION), "evolution");
    let GatewayChoice::Webhook(webhook) = good(webhook, &[]).gateway else { panic!("a webhook") };
    assert_eq!((webhook.target.as_str(), webhook.post.as_str()), ("default", "/messages"));
    let own = json!({ "evolution": { "instance": "piloto" } });
    let GatewayChoice::Evolution(evolution) = good(own, &EVOLUTION).gateway else { panic!("evolution") };
    assert_eq!((evolution.instance.as_str(), evolution.key.reveal()), ("piloto", "c4nary-key"));
}

#[test]
fn outside_of_production_only_listed_numbers_are_written_to() {
    use serde_json::json;
    let production = ("APP_ENV", "production");
    let listed = ("OUTBOUND_ALLOWLIST", "+55 11 5555-0100, 551155550101");
    let evolution = |more: &[(&'static str, &'static str)]| [&EVOLUTION[..], more].concat();
    for (table, variables, is_listed_allowed, is_other_allowed) in [
        // Nothing leaves, and nobody is listed.
        (json!({}), vec![], true, true),
        (json!({}), vec![listed], true, false),
        (json!({ "allowlist": [] }), vec![listed], false, false),
        (json!({}), evolution(&[]), false, false),
        (json!({}), evolution(&[("APP_ENV", "staging")]), false, false),
        (json!({}), evolution(&[("APP_ENV", "Production")]), false, false),
        (json!({}), evolution(&[listed]), true, false),
        (json!({ "allowlist": "" }), evolution(&[listed]), true, false),
        (json!({ "allowlist": "551155550199" }), evolution(&[listed]), false, true),
        (json!({}), evolution(&[production]), true, true),
        (json!({}), evolution(&[production, listed]), true, true),
    ] {
        let outbound = good(table.clone(), &variables);

        assert_eq!(outbound.allows("551155550100"), is_listed_allowed, "{table} {variables:?}");
        assert_eq!(outbound.allows("+55 (11) 5555-0199"), is_other_allowed, "{table} {variables:?}");
    }
}

#[test]
fn a_log_for_a_gateway_is_doubtful_in_production_alone() {
    let warnings = |variables: &[_]| good(serde_json::json!({}), variables).warnings().len();
    let production = ("APP_ENV", "production");

    assert_eq!((warnings(&[]), warnings(&[production])), (0, 1));
    assert_eq!(warnings(&[&EVOLUTION[..], &[production]].concat()), 0);
}

#[test]
fn what_is_missing_or_wrong_is_told_by_its_name_and_never_quoted() {
    use serde_json::json;
    let table = json!({
        "slack": "c4nary", "allowlist": "maria", "evolution": { "url": "ftp://c4nary", "key": "c4nary\n" }
    });

    let of_file = resolved(table, &[("MAX_MSGS_POR_HORA", "-1")]).expect_err("mistakes");
    let of_variables = resolved(
        json!({}),
        &[("EVOLUTION_API_URL", "c4nary"), ("EVOLUTION_API_KEY", "c4 nary"), ("SLACK_WEBHOOK_URL", "c4nary")],
    )
    .expect_err("mistakes");
    let of_webhook = resolved(json!({ "gateway": "webhook" }), &[]).expect_err("no webhook");

    assert_eq!(
        of_file,
        [
            "MAX_MSGS_POR_HORA: \"-1\" is not a whole number of 0 or more",
            "evolution.url: the URL begins with \"ftp\", and must begin with http:// or https://",
            "the gateway evolution needs evolution.instance: give it, or set EVOLUTION_INSTANCE",
            "allowlist: number 1 of 1 has no digits",
            "slack: not a URL: relative URL without a base",
        ]
    );
    assert_eq!(
        of_variables,
        [
            "EVOLUTION_API_URL: not a URL: relative URL without a base",
            "the gateway evolution needs evolution.instance: give it, or set EVOLUTION_INSTANCE",
            "EVOLUTION_API_KEY: a key is made of plain letters, digits and signs",
            "SLACK_WEBHOOK_URL: not a URL: relative URL without a base",
        ]
    );
    assert_eq!(of_webhook, ["the gateway webhook needs `webhook = { target = \"..\", post = \"/..\" }`"]);
}

#[test]
fn neither_keys_nor_addresses_nor_numbers_are_in_what_is_shown_or_hashed() {
    let variables = [
        &EVOLUTION[..],
        &[("SLACK_WEBHOOK_URL", "https://hooks.example.org/c4nary"), ("OUTBOUND_ALLOWLIST", "551155550100")],
    ]
    .concat();
    let outbound = good(serde_json::json!({}), &variables);

    for text in [format!("{outbound:?}"), serde_json::to_string(&outbound).expect("JSON")] {
        assert!(!text.contains("c4nary") && !text.contains("5555") && !text.contains("http"), "{text}");
        assert!(text.contains("escala"), "{text}");
    }
}
