//! Parsing and checking of configurations, with common mistakes.

use super::*;

const MINIMAL: &str = "server_name = \"alpha.example\"\ndata_dir = \"data\"\n\
                       [[listen]]\naddress = \"127.0.0.1:8008\"\nserve = [\"client\"]\n";

fn parse_text(text: &str) -> Result<Config, Invalid> {
    parse(text, Some(Path::new("/etc/weft/weft.toml")), &BTreeMap::new())
}

fn with_variables(text: &str, variables: &[(&str, &str)]) -> Result<Config, Invalid> {
    let variables = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    parse(text, Some(Path::new("/etc/weft/weft.toml")), &variables)
}

/// The displayed problems of the minimal file with these lines added.
fn problems(more: &str) -> Vec<String> {
    let text = format!("{MINIMAL}{more}");
    parse_text(&text).map_or_else(
        |invalid| invalid.problems.iter().map(ToString::to_string).collect(),
        |_| Vec::new(),
    )
}

#[test]
fn absent_settings_have_defaults() {
    let config = parse_text(MINIMAL).unwrap();
    assert_eq!(config.server_name, "alpha.example");
    assert_eq!(config.data_dir, Path::new("/etc/weft/data"));
    assert_eq!(config.registration.mode, RegistrationMode::Closed);
    assert_eq!(config.registration.shared_secret, None);
    assert!(!config.registration.guests);
    assert_eq!(config.documents.seal_idle.as_millis(), 2000);
    assert_eq!(config.documents.seal_max.as_millis(), 5000);
    assert_eq!(config.access_log, AccessLog::default());
    assert_eq!(config.webhooks.allow_addresses, []);
    assert_eq!(config.storage.lanes, None);
    assert!(config.limits.rate_limit);
    let rates = config.limits.edit_rates.unwrap();
    assert_eq!((rates.per_user, rates.per_document), (200, 1_000));
    assert_eq!(config.limits.participants_per_document, 10_000);
    assert_eq!(config.limits.traffic, weft_gateway::traffic::TrafficLimits::default());
    assert_eq!(config.limits.outgoing, weft_federation::OutgoingLimits::default());
    assert_eq!(config.limits.account_data_bytes, 4 * 1024 * 1024);
    assert_eq!(config.limits.filter_bytes, 512 * 1024);
    assert_eq!(config.trusted_proxies, []);
    assert_eq!(config.limits.invitations, weft_room::InvitationBounds::default());
    assert!(config.listen[0].tls.is_none());
    assert_eq!(config.warnings, []);
}

#[test]
fn the_file_of_the_readme_is_parsed() {
    let folder = tempfile::tempdir().unwrap();
    let authority = folder.path().join("ca.pem");
    std::fs::write(&authority, "").unwrap();
    let text = format!(
        r#"
        server_name = "127.0.0.1:8448"
        data_dir = "/var/lib/weft"
        trusted_proxies = ["127.0.0.1", "2001:db8::/32"]
        [[listen]]
        address = "127.0.0.1:8008"
        serve = ["client", "documents", "web"]
        [[listen]]
        address = "0.0.0.0:8448"
        serve = ["federation", "client", "documents"]
        tls = {{ certificate = "fullchain.pem", private_key = "/keys/key.pem" }}
        [registration]
        mode = "token"
        tokens = ["let-me-in"]
        shared_secret = "s3cret"
        [federation]
        extra_ca_certificates = [{authority:?}]
        allow_addresses = ["10.0.0.0/8", "127.0.0.1", "::1/128"]
        notaries = ["notary.example"]
        [documents]
        seal_idle = "500ms"
        seal_max = "1m"
        [webhooks]
        allow_addresses = ["10.2.0.0/16"]
        [storage]
        lanes = 256
        [limits]
        rate_limit = false
        connections = 500
        connections_per_network = 50
        stranger_in_flight_bytes_per_network = 100_000_000
        account_in_flight_bytes_per_user = 110_000_000
        account_in_flight_bytes = 110_000_000
        outgoing_requests_per_stranger = 1
        outgoing_requests_for_strangers = 2
        account_data_bytes = 300_000
        filter_bytes = 70_000
        invitations_per_user = 7
        participants_per_document = 30
        [log]
        format = "json"
        filter = "weft_room=debug,info"
        "#
    );
    let config = parse_text(&text).unwrap();
    assert_eq!(config.server_name, "127.0.0.1:8448");
    assert_eq!(config.trusted_proxies.len(), 2);
    assert_eq!(config.listen[1].serve.len(), 3);
    let tls = config.listen[1].tls.as_ref().unwrap();
    assert_eq!(tls.certificate, Path::new("/etc/weft/fullchain.pem"));
    assert_eq!(tls.private_key, Path::new("/keys/key.pem"));
    assert_eq!(config.registration.mode, RegistrationMode::Token);
    assert_eq!(config.registration.shared_secret.as_deref(), Some("s3cret"));
    assert_eq!(config.federation.allow_addresses.len(), 3);
    assert_eq!(config.federation.notaries, ["notary.example"]);
    assert_eq!(config.documents.seal_idle.as_millis(), 500);
    assert_eq!(config.webhooks.allow_addresses, ["10.2.0.0/16".parse().unwrap()]);
    assert_eq!(config.storage.lanes, weft_store::Lanes::new(256));
    assert_limits(&config);
    assert_eq!(config.log.format, weft_telemetry::LogFormat::Json);
}

#[test]
fn the_number_of_lanes_is_from_1_to_256() {
    let of = |lanes: &str| problems(&format!("[storage]\nlanes = {lanes}\n")).join("\n");
    assert_eq!((of("1"), of("16")), (String::new(), String::new()));
    for wrong in ["0", "-1", "257", "65536", "\"16\""] {
        let shown = of(wrong);
        assert!(shown.contains("storage.lanes"), "{wrong}: {shown}");
    }
}

/// The section `[limits]` of the file above.
fn assert_limits(config: &Config) {
    assert!(!config.limits.rate_limit);
    assert_eq!(
        (config.limits.edit_rates, config.limits.participants_per_document),
        (None, 30)
    );
    assert_eq!(config.limits.traffic.connections, 500);
    assert_eq!(config.limits.traffic.connections_per_network, 50);
    let traffic = config.limits.traffic;
    assert_eq!(traffic.stranger_bytes_per_network, 100_000_000);
    assert_eq!(
        traffic.stranger_bytes, 100_000_000,
        "the total is at least the limit of one"
    );
    let of_accounts = (traffic.account_bytes_per_user, traffic.account_bytes);
    assert_eq!(of_accounts, (110_000_000, 110_000_000));
    let outgoing = config.limits.outgoing;
    assert_eq!((outgoing.per_stranger, outgoing.for_strangers), (1, 2));
    assert_eq!(config.limits.account_data_bytes, 300_000);
    assert_eq!(config.limits.filter_bytes, 70_000);
    assert_eq!(config.limits.invitations.per_user, 7);
}

#[test]
fn the_written_file_contains_the_defaults() {
    let name = <&ruma::ServerName>::try_from("alpha.example").unwrap();
    let written = parse_text(&template(name, Path::new("/srv/a \"b\""))).unwrap();
    let plain = parse_text(MINIMAL).unwrap();
    assert_eq!(written.data_dir, Path::new("/srv/a \"b\""));
    assert_eq!(written.registration.mode, plain.registration.mode);
    assert_eq!(written.registration.guests, plain.registration.guests);
    assert_eq!(written.registration.shared_secret, plain.registration.shared_secret);
    assert_eq!(written.documents.seal_idle, plain.documents.seal_idle);
    assert_eq!(written.documents.seal_max, plain.documents.seal_max);
    assert_eq!(written.limits.rate_limit, plain.limits.rate_limit);
    assert_eq!(written.limits.traffic, plain.limits.traffic);
    assert_eq!(written.limits.outgoing, plain.limits.outgoing);
    assert_eq!(written.limits.account_data_bytes, plain.limits.account_data_bytes);
    assert_eq!(written.limits.filter_bytes, plain.limits.filter_bytes);
    assert_eq!(
        written.limits.event_bytes_per_user_and_day,
        plain.limits.event_bytes_per_user_and_day
    );
    assert_eq!(
        written.limits.staged_event_bytes_per_room,
        plain.limits.staged_event_bytes_per_room
    );
    assert_eq!(
        written.limits.fetched_history_bytes_per_room,
        plain.limits.fetched_history_bytes_per_room
    );
    assert_eq!(written.limits.fetched_history_bytes, plain.limits.fetched_history_bytes);
    let events = plain.limits.event_bytes_per_server_and_day;
    assert_eq!(written.limits.event_bytes_per_server_and_day, events);
    assert_eq!(written.trusted_proxies, plain.trusted_proxies);
    assert_eq!(written.limits.invitations, plain.limits.invitations);
    assert_eq!(written.log.filter, plain.log.filter);
    assert_eq!(written.warnings, []);
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn each_mistake_is_reported_with_its_line() {
    let cases = [
        (
            "[documents]\nseal_idle = \"2x\"\n",
            "/etc/weft/weft.toml:7: documents.seal_idle: \"2x\" is not a duration",
        ),
        (
            "[documents]\nseal_idle = 2\n",
            "/etc/weft/weft.toml:7: documents.seal_idle: must be text in quotes",
        ),
        (
            "[documents]\nseal_max = \"1s\"\n",
            "weft.toml:7: documents.seal_max: is less than documents.seal_idle",
        ),
        (
            "[documents]\nseal_max = \"2h\"\n",
            "weft.toml:7: documents.seal_max: is more than a minute",
        ),
        (
            "[documents]\nseal_idel = \"2s\"\n",
            "weft.toml:7: documents.seal_idel: there is no such setting; did you mean seal_idle?",
        ),
        (
            "[document]\nseal_idle = \"2s\"\n",
            "weft.toml:6: document: there is no such setting; did you mean documents?",
        ),
        (
            "[registration]\nmode = \"opne\"\n",
            "registration.mode: \"opne\" is not one of closed, token, open; did you mean open?",
        ),
        ("[registration]\nmode = \"token\"\n", "registration.tokens: is missing"),
        (
            "[federation]\nallow_addresses = [\"10.0.0.0/40\"]\n",
            "federation.allow_addresses: \"10.0.0.0/40\" is not a network",
        ),
        (
            "[federation]\nnotaries = [\"a b\"]\n",
            "federation.notaries: \"a b\" is not a server name",
        ),
        (
            "[federation]\nnotaries = \"a\"\n",
            "federation.notaries: must be a list of texts",
        ),
        (
            "[federation]\nextra_ca_certificates = [\"no.pem\"]\n",
            "extra_ca_certificates: /etc/weft/no.pem: No such file",
        ),
        (
            "[limits]\nrate_limit = \"no\"\n",
            "limits.rate_limit: must be true or false",
        ),
        (
            "[limits]\nconnections = 0\n",
            "limits.connections: must be a whole number above 0",
        ),
        (
            "[limits]\nstranger_in_flight_bytes_per_network = 1000\n",
            "limits.stranger_in_flight_bytes_per_network: must be at least 13213696: one signed request of another server",
        ),
        (
            "[limits]\naccount_in_flight_bytes_per_user = 1000\n",
            "limits.account_in_flight_bytes_per_user: must be at least 100606496: one document of maximum size",
        ),
        (
            "[limits]\nserver_in_flight_bytes_per_server = 1000\n",
            "limits.server_in_flight_bytes_per_server: must be at least 147431424: one response of maximum size",
        ),
        (
            "[limits]\nserver_in_flight_bytes_per_server = 400000000\nserver_in_flight_bytes = 300000000\n",
            "weft.toml:8: limits.server_in_flight_bytes: must be at least 400000000: server_in_flight_bytes_per_server",
        ),
        (
            "[limits]\noutgoing_requests_for_accounts = 7\n",
            "limits.outgoing_requests_for_accounts: must be at least 8: outgoing_requests_per_account",
        ),
        (
            "[limits]\naccount_data_bytes = 1000\n",
            "limits.account_data_bytes: must be at least 262144: one value of account data",
        ),
        (
            "[limits]\nevent_bytes_per_server_and_day = 1000\n",
            "limits.event_bytes_per_server_and_day: must be at least 13107200: one transaction",
        ),
        (
            "[limits]\nevent_bytes_per_user_and_day = 1000\n",
            "limits.event_bytes_per_user_and_day: must be at least 14155776: one new room with all its first events",
        ),
        (
            "[limits]\nstaged_event_bytes_per_room = 1000\n",
            "limits.staged_event_bytes_per_room: must be at least 52428800: one transaction of each of 4 servers",
        ),
        (
            "[limits]\nfilter_bytes = 1000\n",
            "limits.filter_bytes: must be at least 65536: one filter",
        ),
        (
            "[limits]\ninvitations_per_user = 0\n",
            "limits.invitations_per_user: must be a whole number above 0",
        ),
        (
            "[log]\nformat = \"xml\"\n",
            "log.format: \"xml\" is neither pretty nor json",
        ),
        ("[log]\nfilter = \"=====\"\n", "log.filter: "),
        (
            "[[listen]]\nserve = [\"web\"]\n",
            "weft.toml:6: listen[1].address: is missing",
        ),
        (
            "[[listen]]\naddress = \"0.0.0.0:1\"\n",
            "weft.toml:6: listen[1].serve: is missing",
        ),
        (
            "[[listen]]\naddress = \"8008\"\nserve = [\"web\"]\n",
            "weft.toml:7: listen[1].address: \"8008\" is not an address",
        ),
        (
            "[[listen]]\naddress = \"0.0.0.0:1\"\nserve = [\"wbe\"]\n",
            "listen[1].serve: \"wbe\" is not one of client, documents, federation, web; did you mean web?",
        ),
        (
            "[[listen]]\naddress = \"0.0.0.0:1\"\nserve = []\n",
            "listen[1].serve: is empty",
        ),
        (
            "[[listen]]\naddress = \"127.0.0.1:8008\"\nserve = [\"web\"]\n",
            "listen[1].address: 127.0.0.1:8008 is already in another [[listen]]",
        ),
        (
            "[[listen]]\naddress = \"0.0.0.0:1\"\nserve = [\"web\"]\ntls = { certificate = \"a\" }\n",
            "weft.toml:9: listen[1].tls.private_key: is missing",
        ),
        ("[[listen]\n", "/etc/weft/weft.toml:6: "),
    ];
    for (more, expected) in cases {
        let shown = problems(more);
        assert!(
            shown.iter().any(|problem| problem.contains(expected)),
            "{more}\nshows {shown:#?}\nnot {expected}"
        );
    }
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let invalid = parse_text("server_nam = \"a\"\n[limits]\nrate_limit = 1\n").unwrap_err();
    let shown = invalid.to_string();
    for expected in [
        "server_name: is missing",
        "data_dir: is missing",
        "listen: is missing",
        "limits.rate_limit",
        "did you mean server_name?",
    ] {
        assert!(shown.contains(expected), "{expected} is not in\n{shown}");
    }
}

#[test]
fn variables_override_the_file() {
    let config = with_variables(
        MINIMAL,
        &[
            ("WEFT_SERVER_NAME", "beta.example"),
            ("WEFT_DATA_DIR", "elsewhere"),
            ("WEFT_TRUSTED_PROXIES", "[\"10.0.0.0/8\"]"),
            ("WEFT_REGISTRATION_MODE", "open"),
            ("WEFT_REGISTRATION_TOKENS", "[\"the first\", \"the second\"]"),
            ("WEFT_REGISTRATION_SHARED_SECRET", "x"),
            ("WEFT_FEDERATION_NOTARIES", "[\"n.example\"]"),
            ("WEFT_FEDERATION_ALLOW_ADDRESSES", "[\"127.0.0.0/8\"]"),
            ("WEFT_DOCUMENTS_SEAL_IDLE", "1s"),
            ("WEFT_LIMITS_RATE_LIMIT", "false"),
            ("WEFT_LOG_FORMAT", "json"),
        ],
    )
    .unwrap();
    assert_eq!(config.server_name, "beta.example");
    assert_eq!(config.data_dir, Path::new("elsewhere"));
    assert_eq!(config.trusted_proxies.len(), 1);
    assert_eq!(config.registration.mode, RegistrationMode::Open);
    assert_eq!(config.registration.tokens, ["the first", "the second"]);
    assert_eq!(config.federation.notaries, ["n.example"]);
    assert_eq!(config.documents.seal_idle.as_secs(), 1);
    assert!(!config.limits.rate_limit);
    assert_eq!(config.warnings, []);
}

#[test]
fn an_invalid_variable_is_named_in_the_message() {
    let invalid = with_variables(MINIMAL, &[("WEFT_LIMITS_RATE_LIMIT", "maybe")]).unwrap_err();
    assert!(
        invalid
            .to_string()
            .contains("WEFT_LIMITS_RATE_LIMIT: limits.rate_limit: \"maybe\" is neither")
    );
}

#[test]
fn an_unknown_variable_is_a_warning_only() {
    let config = with_variables(MINIMAL, &[("WEFT_REGISTRATON_MODE", "open"), ("WEFT_CONFIG", "x")]).unwrap();
    let shown: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        ["WEFT_REGISTRATON_MODE: there is no such setting; did you mean WEFT_REGISTRATION_MODE?"]
    );
}

#[test]
fn federation_without_tls_is_allowed_with_a_warning() {
    let more = "[[listen]]\naddress = \"0.0.0.0:8448\"\nserve = [\"federation\"]\n";
    let config = parse_text(&format!("{MINIMAL}{more}")).unwrap();
    assert_eq!(config.warnings.len(), 1);
}

#[test]
fn secrets_are_not_in_the_debug_output() {
    let text =
        format!("{MINIMAL}[registration]\nmode = \"token\"\ntokens = [\"hush-token\"]\nshared_secret = \"hush\"\n");
    let shown = format!("{:?}", parse_text(&text).unwrap());
    assert!(!shown.contains("hush"));
}

#[test]
fn a_short_token_causes_a_warning() {
    let with = |tokens: &str| {
        let text = format!("{MINIMAL}[registration]\nmode = \"token\"\ntokens = {tokens}\n");
        let warnings = parse_text(&text).unwrap().warnings;
        warnings.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert!(with("[\"let-me-in-please\"]").is_empty());
    let warned = with("[\"let-me-in-please\", \"abc\"]");
    assert!(
        warned[0].contains("registration.tokens: a token of fewer than 8"),
        "{warned:?}"
    );
    assert!(!warned[0].contains("abc"), "a warning must not contain a token");
}
