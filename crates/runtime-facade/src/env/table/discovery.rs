//! Where instances are announced and found.

use sinew_discovery::OwnersError;

use crate::{
    ConfigError,
    env::{form::Form, setting::Setting},
    servers,
};

pub(super) const SETTINGS: &[Setting] = &[
    Setting::new(
        "SINEW_DISCOVERY",
        Form::Text {
            form: "file:PATH, etcd://HOST:PORT,..., dns://NAME:PORT, static:HOST:PORT,... or \
                   memory; several with ; between them",
            set: |draft, text| {
                let source = text.parse().map_err(|error: ConfigError| error.reason().to_owned());
                draft.discovery.source = Some(source?);
                Ok(())
            },
        },
        "file: a folder of the user, see XDG_RUNTIME_DIR",
        "where instances are announced and found; comes before the three of Dynamo that say the \
         same: DYN_DISCOVERY_BACKEND, DYN_FILE_KV and ETCD_ENDPOINTS",
    ),
    Setting::new(
        "SINEW_DISCOVERY_DIR",
        Form::Text {
            form: "a folder",
            set: |draft, text| {
                draft.discovery.folder = Some(text.into());
                Ok(())
            },
        },
        "",
        "the folder of file discovery: file:PATH in other words; DYN_FILE_KV says nothing when \
         DYN_DISCOVERY_BACKEND names another backend",
    )
    .alias(&["DYN_FILE_KV"]),
    Setting::new(
        "SINEW_DISCOVERY_USERS",
        Form::Text {
            form: "own, any, or user numbers such as 1000,1001",
            set: |draft, text| {
                let owners = text.parse().map_err(|error: OwnersError| error.to_string())?;
                draft.config.file.trust.owners = owners;
                Ok(())
            },
        },
        "own",
        "whose folders and records count in file discovery, beside those of this user and of root; \
         with any, whoever can write in the folder decides who gets requests",
    ),
    Setting::new(
        "DYN_DISCOVERY_BACKEND",
        Form::Choice {
            of: &["etcd", "file", "mem", "kubernetes"],
            set: |draft, text| draft.discovery.backend = Some(text.to_owned()),
        },
        "",
        "where a process that is set up for Dynamo looks: etcd is that of ETCD_ENDPOINTS, file is \
         DYN_FILE_KV or else dynamo_store_kv in the folder for temporary files; kubernetes is not \
         in this build",
    )
    .asks(
        |given| given.text() == "kubernetes",
        "discovery through Kubernetes, which is not in this build: use etcd, file or mem",
    ),
    Setting::new(
        "ETCD_ENDPOINTS",
        Form::Text {
            form: "http://HOST:PORT,...",
            set: |draft, text| {
                let members = servers::items(text).map(servers::etcd_member);
                let members = members.collect::<Result<Vec<_>, _>>();
                let advice = |reason| format!("{reason}: write http://HOST:PORT,HOST:PORT,...");
                let members = members.map_err(advice)?;
                if members.is_empty() {
                    return Err("names no member: write http://HOST:PORT,HOST:PORT,...".to_owned());
                }
                draft.discovery.etcd_members = members;
                Ok(())
            },
        },
        "http://localhost:2379",
        "the members of the etcd cluster, where DYN_DISCOVERY_BACKEND is etcd; https:// is not in \
         this build",
    ),
    Setting::new(
        "SINEW_ETCD_LEASE_TTL",
        Form::Seconds {
            least: 2,
            most: 3_600,
            set: |draft, time| draft.etcd.lease_ttl = Some(time),
        },
        "30",
        "for how long entries in etcd outlive a process that was killed",
    )
    .alias(&["ETCD_LEASE_TTL"])
    .needs("etcd"),
    Setting::new(
        "SINEW_ETCD_USER",
        Form::Text {
            form: "a name",
            set: |draft, text| {
                draft.etcd.user = Some(text.to_owned());
                Ok(())
            },
        },
        "",
        "who asks etcd; goes with SINEW_ETCD_PASSWORD",
    )
    .alias(&["ETCD_AUTH_USERNAME"])
    .needs("etcd"),
    Setting::new(
        "SINEW_ETCD_PASSWORD",
        Form::Secret(|draft, text| draft.etcd.password = Some(text.to_owned())),
        "",
        "the password of SINEW_ETCD_USER",
    )
    .alias(&["ETCD_AUTH_PASSWORD"])
    .needs("etcd"),
];
