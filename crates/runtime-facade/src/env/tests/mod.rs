//! Every variable: a good value has its effect, and nonsense is refused.

mod cases;

use std::{ffi::OsString, os::unix::ffi::OsStringExt};

use self::cases::CASES;
use super::{
    form::{Form, Given},
    log_filter_of,
    read::Variables,
    setting::Setting,
    table::{PARTS, Part},
};
use crate::{
    Config, ConfigError, DiscoverySource, RequestPlane, env, features::Features,
    settings::Overrides,
};

fn config(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::from_variables(pairs.iter().copied())
}

fn text(config: &Config) -> String {
    format!("{config:?}")
}

fn settings() -> impl Iterator<Item = (Part, &'static Setting)> {
    PARTS.iter().flat_map(|(part, all)| all.iter().map(|one| (*part, one)))
}

/// Fails unless the variable is refused, by its name and with its value unless that is a secret.
#[track_caller]
fn assert_refused(pairs: &[(&str, &str)], setting: &Setting) -> String {
    let (name, value) = pairs[0];
    let Err(error) = config(pairs) else { panic!("{name}={value:?} is taken") };
    assert_eq!(error.setting(), name, "{value:?}: {error}");
    let shown = error.to_string().contains(value.escape_debug().to_string().as_str());
    assert_eq!(shown, !setting.is_secret() && !value.contains('@'), "{value:?}: {error}");
    error.to_string()
}

/// True for Dynamo's names of the request plane.
fn asks_for_dynamo(name: &str) -> bool {
    name.starts_with("DYN_REQUEST_PLANE") && name != "DYN_REQUEST_PLANE_CODEC"
}

#[test]
fn every_name_stands_once() {
    let mut names: Vec<_> = settings().flat_map(|(_, one)| one.names()).collect();
    names.sort_unstable();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all);
}

#[test]
fn every_setting_that_is_honoured_has_a_case() {
    for (part, setting) in settings() {
        let has_effect = setting.no_effect().is_none() && part != Part::Logging;
        let cases = CASES.iter().filter(|case| case.name == setting.name()).count();
        if setting.is_in_this_build() {
            let expected = usize::from(has_effect);
            assert_eq!(cases, expected, "{} in env/tests/cases.rs", setting.name());
        }
    }
    for case in CASES {
        assert!(settings().any(|(_, one)| one.name() == case.name), "{} is in no row", case.name);
    }
}

#[test]
fn a_good_value_has_its_effect_under_every_name() {
    for case in CASES {
        let (_, setting) = settings().find(|(_, one)| one.name() == case.name).unwrap();
        for name in setting.names().filter(|name| !asks_for_dynamo(name) || Features::THIS.dynamo) {
            let mut pairs = vec![(name, case.good)];
            let base = config(case.with);
            pairs.extend_from_slice(case.with);
            let changed = config(&pairs).unwrap_or_else(|error| panic!("{error}"));
            assert!((case.effect)(&changed), "{name}={} has no effect", case.good);
            // What the variable needs beside it may be refused without it.
            assert!(!base.is_ok_and(|base| (case.effect)(&base)), "{name}: always so");
        }
    }
}

#[test]
fn nonsense_is_refused_by_name_and_value() {
    for (part, setting) in settings() {
        let mut bad: Vec<String> = match setting.form {
            Form::Switch(_) => vec!["maybe".into(), "2".into(), " true".into()],
            Form::Number { least, most, .. } => {
                let over =
                    most.checked_add(1).map_or("9223372036854775808".into(), |n| n.to_string());
                vec!["many".into(), (least - 1).to_string(), over, "1.5".into()]
            }
            Form::Seconds { most, .. } | Form::Millis { most, .. } => {
                vec!["soon".into(), "-1".into(), (most + 1).to_string(), u64::MAX.to_string()]
            }
            Form::Bytes { least, most, .. } => {
                let outside = [least - 1, most + 1].map(|bytes| bytes.to_string());
                outside.into_iter().chain(["much".into(), "-1".into(), "1.5G".into()]).collect()
            }
            Form::Choice { .. } => vec!["nonsense".into(), "NATS ".into()],
            Form::Text { .. } | Form::Secret(_) => Vec::new(),
        };
        let case = CASES.iter().find(|case| case.name == setting.name());
        bad.extend(case.iter().flat_map(|case| case.bad.iter().map(|bad| (*bad).to_owned())));
        if part != Part::OtherPrograms {
            bad.push("a\u{7}b".to_owned());
        }
        for value in bad {
            for name in setting.names() {
                assert_refused(&[(name, &value)], setting);
            }
        }
    }
}

#[test]
fn a_value_that_is_not_utf_8_is_refused_under_every_name() {
    let value = OsString::from_vec(b"/caf\xe9".to_vec());
    for (_, setting) in settings() {
        for name in setting.names() {
            let error = Config::from_variables([(name, value.clone())]).unwrap_err();
            assert_eq!(error.setting(), name);
            assert!(error.reason().ends_with("is not UTF-8"), "{error}");
            assert_eq!(error.reason().contains("/caf"), !setting.is_secret(), "{error}");
        }
    }
    // What is none of ours may be anything.
    assert!(Config::from_variables([("PATH", value)]).is_ok());
}

#[test]
fn aliases_that_disagree_are_named_both() {
    for (_, setting) in settings() {
        let (one, other) = match setting.form {
            Form::Switch(_) => ("true", "off"),
            Form::Choice { of, .. } => (of[0], of[1]),
            Form::Text { .. } | Form::Secret(_) => {
                let Some(case) = CASES.iter().find(|case| case.name == setting.name()) else {
                    continue;
                };
                (case.good, case.other)
            }
            Form::Bytes { least, most, .. } => (&*least.to_string(), &*most.to_string()),
            Form::Number { least, .. } => (&*least.to_string(), &*(least + 1).to_string()),
            Form::Seconds { least, .. } | Form::Millis { least, .. } => {
                (&*least.to_string(), &*(least + 1).to_string())
            }
        };
        for alias in setting.aliases() {
            let pairs = [(setting.name(), one), (alias, other)];
            let error = config(&pairs).unwrap_err();
            let said = error.to_string();
            assert!(said.contains(setting.name()) && said.contains(alias), "{said}");
            assert!(said.contains("means the same"), "{said}");
            assert!(!setting.is_secret() || !said.contains(one), "{said}");
        }
    }
    // The same in other words is no contradiction.
    assert!(config(&[("SINEW_UNIX", "1"), ("SINEW_INSECURE", "false")]).is_ok());
    let same = [("SINEW_TCP_POOL_ENABLED", "0"), ("DYN_TCP_POOL_ENABLED", "False")];
    assert!(!config(&same).unwrap().dial_back.pool);
}

#[test]
fn what_no_build_has_is_refused_and_what_asks_for_nothing_is_not() {
    let plain = text(&Config::default());
    for (part, setting) in settings().filter(|(part, _)| *part != Part::Logging) {
        let values: Vec<&str> = match setting.form {
            Form::Switch(_) => vec!["true", "false"],
            Form::Number { least: -1, .. } => vec!["-1", "9090", "0"],
            Form::Choice { of, .. } => of.to_vec(),
            Form::Text { .. } | Form::Secret(_) => vec!["/some/file"],
            _ => vec!["7"],
        };
        if setting.no_effect().is_none() && setting.asks.is_none() {
            continue;
        }
        for value in values {
            let given = setting.form.read(value).unwrap();
            let asks = setting.asks.is_some_and(|asks| (asks.by)(&given));
            match asks {
                true => {
                    let said = assert_refused(&[(setting.name(), value)], setting);
                    assert!(said.contains("not in this build"), "{said}");
                }
                false if setting.no_effect().is_some() => {
                    let config = config(&[(setting.name(), value)]);
                    assert_eq!(text(&config.unwrap()), plain, "{}: {part}", setting.name());
                }
                false => assert!(config(&[(setting.name(), value)]).is_ok()),
            }
        }
    }
}

#[test]
fn tls_on_tcp_never_ends_in_plain_text() {
    for name in ["CERT_PATH", "KEY_PATH", "CA_CERT_PATH", "CLIENT_CERT_PATH", "CERT_PAHT", "X"] {
        let name = format!("DYN_TCP_TLS_{name}");
        let error = config(&[(&name, "/tls.pem")]).unwrap_err();
        assert_eq!(error.setting(), name);
        assert!(error.reason().contains("not in this build"), "{error}");
    }
    let both = [("DYN_TCP_TLS_CERT_PATH", "/c.pem"), ("DYN_TCP_TLS_KEY_PATH", "/k.pem")];
    assert!(config(&both).is_err());
    assert!(config(&[("DYN_TCP_TLS_CERT_PATH", "")]).is_ok(), "set to nothing is not set");
}

#[test]
fn the_limits_of_a_value_are_those_of_what_it_sets() {
    let honoured = |one: &Setting| one.no_effect().is_none() && one.is_in_this_build();
    for (_, setting) in settings().filter(|(_, one)| honoured(one)) {
        let (least, most) = match setting.form {
            Form::Number { least, most, .. } => (least.to_string(), most.to_string()),
            Form::Bytes { least, most, .. } => (least.to_string(), most.to_string()),
            Form::Seconds { least, most, .. } | Form::Millis { least, most, .. } => {
                (least.to_string(), most.to_string())
            }
            _ => continue,
        };
        for value in [least, most] {
            let draft = config(&[(setting.name(), &value)]).unwrap();
            let checked = draft.checked();
            assert!(checked.is_ok(), "{}={value}: {}", setting.name(), checked.unwrap_err());
        }
    }
}

#[test]
fn the_defaults_of_the_list_are_those_that_hold() {
    let plain = text(&Config::default());
    let mut compared = 0;
    let has_default = |one: &Setting| !one.default().is_empty() && one.is_in_this_build();
    for (_, setting) in settings().filter(|(_, one)| has_default(one)) {
        // A sentence describes what no value says.
        if setting.default().contains(' ') || setting.form.read(setting.default()).is_err() {
            continue;
        }
        let same = config(&[(setting.name(), setting.default())]).unwrap();
        assert_eq!(text(&same), plain, "{}", setting.name());
        compared += 1;
    }
    assert!(compared >= 20, "{compared}");
}

#[test]
fn a_mistyped_name_of_ours_gets_a_hint() {
    let error = config(&[("SINEW_DISCOVRY", "memory")]).unwrap_err();
    assert!(error.to_string().contains("did you mean SINEW_DISCOVERY?"), "{error}");
    let name = OsString::from_vec(b"SINEW_\xff\x1b[2J".to_vec());
    let error = Config::from_variables([(name, "x")]).unwrap_err();
    assert!(!error.to_string().contains('\x1b'), "{error}");
    for fine in ["SINEW_TEST_X", "SINEW_BENCH_X", "DYN_OF_TOMORROW", "ETCDCTL_API", "OTEL_X"] {
        assert!(config(&[(fine, "3")]).is_ok(), "{fine}");
    }
}

#[test]
fn an_environment_made_for_dynamo_means_the_same_here() {
    let etcd = config(&[
        ("DYN_DISCOVERY_BACKEND", "etcd"),
        ("ETCD_ENDPOINTS", "http://10.0.0.1:2379,http://10.0.0.2:2379"),
    ]);
    let etcd = etcd.unwrap();
    assert_eq!(etcd.discovery.to_string(), "etcd://10.0.0.1:2379,10.0.0.2:2379");
    let both = config(&[("DYN_DISCOVERY_BACKEND", "etcd"), ("DYN_FILE_KV", "/kv")]).unwrap();
    assert_eq!(both.discovery.to_string(), "etcd://localhost:2379");
    let file = config(&[("DYN_DISCOVERY_BACKEND", "file")]).unwrap();
    assert!(file.discovery.to_string().ends_with("/dynamo_store_kv"), "{}", file.discovery);
    let memory = config(&[("DYN_DISCOVERY_BACKEND", "mem"), ("DYN_FILE_KV", "/kv")]).unwrap();
    assert_eq!(memory.discovery, DiscoverySource::Memory);
}

#[test]
fn our_own_names_come_before_those_of_dynamo_and_agree_among_themselves() {
    let ours = [("DYN_DISCOVERY_BACKEND", "etcd"), ("SINEW_DISCOVERY", "memory")];
    assert_eq!(config(&ours).unwrap().discovery, DiscoverySource::Memory);
    let ours = [("DYN_FILE_KV", "/kv"), ("SINEW_DISCOVERY", "memory")];
    assert_eq!(config(&ours).unwrap().discovery, DiscoverySource::Memory);
    let ours = [("DYN_DISCOVERY_BACKEND", "etcd"), ("SINEW_DISCOVERY_DIR", "/d")];
    assert_eq!(config(&ours).unwrap().discovery.to_string(), "file:/d");
    let error =
        config(&[("SINEW_DISCOVERY", "memory"), ("SINEW_DISCOVERY_DIR", "/d")]).unwrap_err();
    assert!(error.to_string().contains("SINEW_DISCOVERY_DIR"), "{error}");
    let same = [("SINEW_DISCOVERY", "file:/d"), ("SINEW_DISCOVERY_DIR", "/d")];
    assert_eq!(config(&same).unwrap().discovery.to_string(), "file:/d");
}

#[test]
fn lists_of_members_forgive_what_says_nothing() {
    for list in ["http://h:1/", "http://h:1,", " http://h:1 , ", "h:1", "http://h:1//,,"] {
        let pairs = [("DYN_DISCOVERY_BACKEND", "etcd"), ("ETCD_ENDPOINTS", list)];
        assert_eq!(config(&pairs).unwrap().discovery.to_string(), "etcd://h:1", "{list:?}");
    }
    let advice = config(&[("ETCD_ENDPOINTS", "h")]).unwrap_err().to_string();
    assert!(advice.contains("http://HOST:PORT"), "{advice}");
    let tls = [("DYN_DISCOVERY_BACKEND", "etcd"), ("ETCD_ENDPOINTS", "https://h:1")];
    let error = config(&tls).unwrap_err();
    assert_eq!(error.setting(), "ETCD_ENDPOINTS");
    assert!(error.reason().contains("not in this build"), "{error}");
    // Of a plane that is not used.
    assert!(config(&[("ETCD_ENDPOINTS", "https://h:1")]).is_ok());
}

#[test]
fn secrets_go_together_and_exclude_each_other() {
    for (pairs, names) in [
        (&[("SINEW_ETCD_USER", "me")][..], ["SINEW_ETCD_USER", "SINEW_ETCD_PASSWORD"]),
        (&[("ETCD_AUTH_PASSWORD", "hunter2")], ["ETCD_AUTH_PASSWORD", "SINEW_ETCD_USER"]),
        (&[("NATS_AUTH_PASSWORD", "hunter2")], ["NATS_AUTH_PASSWORD", "SINEW_NATS_USER"]),
        (
            &[("SINEW_NATS_TOKEN", "hunter2"), ("NATS_AUTH_NKEY", "hunter2")],
            ["SINEW_NATS_TOKEN", "NATS_AUTH_NKEY"],
        ),
        (
            &[("NATS_TLS_CLIENT_CERT_PATH", "/c")],
            ["NATS_TLS_CLIENT_CERT_PATH", "SINEW_NATS_TLS_KEY_FILE"],
        ),
    ] {
        let said = config(pairs).unwrap_err().to_string();
        assert!(names.iter().all(|name| said.contains(name)), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[test]
fn what_this_build_lacks_for_nats_is_refused_by_the_variables_name() {
    let bare = Features { nats: true, nats_tls: false, nats_nkeys: false, ..Features::THIS };
    for (name, feature) in [
        ("NATS_AUTH_NKEY", "nats-nkeys"),
        ("SINEW_NATS_CREDENTIALS_FILE", "nats-nkeys"),
        ("NATS_TLS_CA_CERT_PATH", "nats-tls"),
    ] {
        let pairs = [(name, "SUSECRET"), ("NATS_SERVER", "nats://h:1")];
        let error =
            env::read(Variables::read(pairs).unwrap(), Overrides::default(), bare).unwrap_err();
        assert_eq!(error.setting(), name);
        assert!(error.reason().contains("not in this build"), "{error}");
        assert!(error.reason().contains(feature) && !error.reason().contains("SUSECRET"));
        let unused = Variables::read([(name, "x")]).unwrap();
        assert!(
            env::read(unused, Overrides::default(), bare).is_ok(),
            "{name} tunes what is not used"
        );
    }
}

/// Whoever asks for Dynamo gets it or hears why not.
#[test]
fn a_build_without_dynamo_refuses_what_asks_for_it() {
    let (with, without) = (Features::THIS, Features { dynamo: false, ..Features::THIS });
    let refused = |pairs: &[(&str, &str)], options| {
        let error = with_options(pairs, options, without).unwrap_err();
        assert_eq!(error.setting(), pairs[0].0);
        assert!(error.reason().contains("not in this build"), "{error}");
        assert!(error.reason().contains("the feature `dynamo`"), "{error}");
    };
    let mut needy = 0;
    for (_, setting) in settings().filter(|(_, one)| one.feature() == Some("dynamo")) {
        for name in setting.names() {
            refused(&[(name, "7")], Overrides::default());
            if with.dynamo {
                assert!(with_options(&[(name, "7")], Overrides::default(), with).is_ok());
            }
            needy += 1;
        }
    }
    assert_eq!(needy, 10);
    for plane in ["tcp", "nats"] {
        for name in ["DYN_REQUEST_PLANE", "DYN_REQUEST_PLANE_MODE"] {
            refused(&[(name, plane)], Overrides::default());
            let option = Overrides::default().request_plane(RequestPlane::Auto);
            assert!(with_options(&[(name, plane)], option, without).is_ok(), "nobody looks at it");
        }
    }
    // What means the same between two ends of Sinew.
    for pair in [
        ("SINEW_REQUEST_PLANE", "tcp"),
        ("DYN_REQUEST_PLANE_CODEC", "json"),
        ("DYN_TCP_CONNECT_TIMEOUT", "7"),
        ("DYN_TCP_MAX_MESSAGE_SIZE", "65536"),
        ("DYN_TCP_POOL_ENABLED", "0"),
        ("DYN_DISCOVERY_BACKEND", "mem"),
    ] {
        assert!(with_options(&[pair], Overrides::default(), without).is_ok(), "{}", pair.0);
    }
}

/// What variables and options come to together.
fn with_options(
    pairs: &[(&str, &str)],
    options: Overrides,
    build: Features,
) -> Result<Config, ConfigError> {
    env::read(Variables::read(pairs.iter().copied()).unwrap(), options, build)
}

fn nats_option(servers: &str) -> Overrides {
    Overrides::default().nats(servers).unwrap()
}

#[test]
fn options_come_before_the_variables_of_the_same() {
    let all = Features { nats: true, nats_tls: true, nats_nkeys: true, ..Features::THIS };
    let variables = [
        ("SINEW_NATS_SERVER", "nats://old:1"),
        ("SINEW_REQUEST_PLANE", "nats"),
        ("DYN_DISCOVERY_BACKEND", "etcd"),
        ("ETCD_ENDPOINTS", "https://h:1"),
        ("SINEW_ETCD_USER", "me"),
        ("SINEW_ETCD_PASSWORD", "pw"),
    ];
    let options = nats_option("h:1, tls://i").request_plane(RequestPlane::Auto);
    let options = options.discovery("etcd://new:2".parse().unwrap());
    let config = with_options(&variables, options, all).unwrap();
    assert_eq!(config.nats, ["nats://h:1", "tls://i"]);
    assert_eq!(config.request_plane, RequestPlane::Auto);
    assert_eq!(config.discovery.to_string(), "etcd://new:2");
    #[cfg(feature = "etcd")]
    assert_eq!(config.etcd.user, Some(("me".to_owned(), "pw".to_owned())));
    for bad in ["", ",", "http://h:1", "nats://bob:hunter2@h:1", "hunter2@h"] {
        let error = Overrides::default().nats(bad).unwrap_err();
        assert_eq!(error.setting(), "nats");
        assert!(!error.reason().contains("hunter2"), "{error}");
        assert!(!bad.contains('@') || error.reason().contains("SINEW_NATS_TOKEN"), "{error}");
    }
}

/// A connection without the credentials that were given would be one of somebody else.
#[cfg(feature = "nats")]
#[test]
fn credentials_go_with_a_server_wherever_it_is_named() {
    use sinew_transport_nats::NatsAuth;
    let all = Features { nats: true, nats_tls: true, nats_nkeys: true, ..Features::THIS };
    let [user, password] = ["me", "pw"].map(str::to_owned);
    for (pairs, auth) in [
        (
            &[("SINEW_NATS_USER", "me"), ("SINEW_NATS_PASSWORD", "pw")][..],
            NatsAuth::UserPassword { user, password },
        ),
        (&[("SINEW_NATS_TOKEN", "t")], NatsAuth::Token("t".to_owned())),
        (&[("SINEW_NATS_NKEY", "SUA")], NatsAuth::Nkey("SUA".to_owned())),
        (&[("SINEW_NATS_CREDENTIALS_FILE", "/c")], NatsAuth::CredentialsFile("/c".into())),
    ] {
        // Without a server here, a program may name its own afterwards.
        for options in [nats_option("nats://h:1"), Overrides::default()] {
            let config = with_options(pairs, options, all).unwrap();
            assert_eq!(config.nats_auth, auth, "{pairs:?}");
        }
    }
    let tls = with_options(&[("SINEW_NATS_TLS_CA_FILE", "/ca")], nats_option("tls://h"), all);
    assert_eq!(tls.unwrap().nats_tls.ca_file, Some("/ca".into()));
}

#[test]
fn what_this_build_lacks_is_refused_also_for_a_server_of_an_option() {
    let bare = Features { nats: true, nats_tls: false, nats_nkeys: false, ..Features::THIS };
    let over_nats = Overrides::default().request_plane(RequestPlane::Nats);
    for name in ["SINEW_NATS_NKEY", "SINEW_NATS_CREDENTIALS_FILE", "SINEW_NATS_TLS_CA_FILE"] {
        let pairs = [(name, "SUSECRET"), ("SINEW_REQUEST_PLANE", "auto")];
        for options in [nats_option("h:1"), over_nats.clone()] {
            let error = with_options(&pairs, options, bare).unwrap_err();
            assert_eq!(error.setting(), name);
            assert!(error.reason().contains("not in this build"), "{error}");
        }
        let pairs = [(name, "SUSECRET"), ("SINEW_REQUEST_PLANE", "nats")];
        let unused = Overrides::default().request_plane(RequestPlane::Tcp);
        assert!(with_options(&pairs, unused, bare).is_ok(), "{name} tunes what is not used");
    }
}

/// What the command says to do when the server of a variable is down.
#[test]
fn a_request_plane_of_an_option_does_without_the_nats_server_of_a_variable() {
    let pairs = [("SINEW_NATS_SERVER", "nats://h:1")];
    let without = Overrides::default().request_plane(RequestPlane::Tcp);
    let config = with_options(&pairs, without, Features::THIS).unwrap();
    assert!(config.nats.is_empty() && config.checked().is_ok());
    let pairs = [("SINEW_NATS_SERVER", "nats://h:1"), ("SINEW_REQUEST_PLANE", "tcp")];
    let both = with_options(&pairs, Overrides::default(), Features::THIS).unwrap();
    assert_eq!(both.checked().unwrap_err().setting(), "nats", "of equal rank they contradict");
}

#[test]
fn waits_and_graces_of_dynamo_give_way_to_ours() {
    let wait = |pairs: &[(&str, &str)]| config(pairs).unwrap().startup_wait.as_secs();
    let [etcd, nats] =
        ["ETCD_STARTUP_CONNECT_TIMEOUT_SECONDS", "NATS_STARTUP_CONNECT_TIMEOUT_SECONDS"];
    assert_eq!(wait(&[(etcd, "7"), (nats, "9")]), 9);
    assert_eq!(wait(&[(etcd, "7"), ("SINEW_STARTUP_WAIT", "3")]), 3);
    let grace = |pairs: &[(&str, &str)]| config(pairs).unwrap().grace.as_millis();
    let [worker, runtime] =
        ["DYN_WORKER_GRACEFUL_SHUTDOWN_TIMEOUT", "DYN_RUNTIME_GRACEFUL_SHUTDOWN_TIMEOUT_SECS"];
    assert_eq!(grace(&[(worker, "40"), (runtime, "900")]), 40_000);
    assert_eq!(grace(&[(worker, "40"), ("SINEW_GRACE_MS", "5")]), 5);
    let silence = |pairs: &[(&str, &str)]| {
        let limits = config(pairs).unwrap().limits;
        [limits.first_item, limits.idle].map(|limit| limit.map(|time| time.as_secs()))
    };
    let stream = "DYN_HTTP_BACKEND_STREAM_TIMEOUT_SECS";
    assert_eq!(silence(&[(stream, "0")]), [None; 2]);
    assert_eq!(silence(&[(stream, "7"), ("SINEW_IDLE_TIMEOUT", "3")]), [Some(7), Some(3)]);
    assert_eq!(silence(&[("SINEW_FIRST_ITEM_TIMEOUT", "3"), (stream, "7")]), [Some(3), Some(7)]);
}

#[test]
fn the_log_filter_is_ours_or_else_that_of_all_programs() {
    let filter = |pairs: &[(&'static str, &'static str)]| {
        log_filter_of(&Variables::read(pairs.iter().copied()).unwrap())
    };
    let is = |name, text: &str| Ok(Some((name, text.to_owned())));
    assert_eq!(filter(&[]), Ok(None));
    assert_eq!(filter(&[("RUST_LOG", "debug")]), is("RUST_LOG", "debug"));
    assert_eq!(filter(&[("RUST_LOG", "debug"), ("SINEW_LOG", "info")]), is("SINEW_LOG", "info"));
    assert_eq!(filter(&[("RUST_LOG", "debug"), ("DYN_LOG", "info")]), is("DYN_LOG", "info"));
    assert_eq!(filter(&[("SINEW_LOG", ""), ("RUST_LOG", "debug")]), is("RUST_LOG", "debug"));
    assert!(filter(&[("SINEW_LOG", "info"), ("DYN_LOG", "debug")]).is_err());
    let json = [("DYN_LOGGING_JSONL", "true"), ("DYN_LOGGING_CONSOLE_FORMAT", "jsonl")];
    for pair in json {
        assert!(filter(&[pair]).unwrap_err().reason().contains("not in this build"));
        // A library's program may well have them.
        assert!(config(&[pair]).is_ok());
    }
    assert!(filter(&[("DYN_LOGGING_JSONL", "maybe")]).is_err());
    assert!(filter(&[("TOKIO_WORKER_THREADS", "0")]).is_err());
}

#[test]
fn a_question_asks_by_its_kind() {
    assert!(Given::Switch(true).is_on() && !Given::Switch(false).is_on());
    assert!(Given::Text(String::new()).at_all());
    assert_eq!(Given::Number(3).text(), "");
}
