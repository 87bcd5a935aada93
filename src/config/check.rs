//! Rules that involve several settings.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use super::choices::{EngineChoice, HttpApiChoice};
use super::configuration::Configuration;
use super::error::{Given, Mistake};
use super::reader::Reader;
use super::table::Settings;
use embedd_fetch::model_ref::{DEFAULT_MODEL, ModelRef};

/// `bundle` and `model` both name what is served. The stronger source wins, so that a flag can override what is
/// built into an image. If both come from the same source, that is a mistake unless the model is the default one.
/// Returns notes about what was overridden.
pub(super) fn choose_between_bundle_and_model(reader: &mut Reader) -> Vec<String> {
    let (Some(bundle), Some(model)) = (reader.strongest("bundle").cloned(), reader.strongest("model").cloned()) else {
        return Vec::new();
    };
    if bundle.text.eq_ignore_ascii_case("none") {
        return Vec::new();
    }
    match bundle.origin.rank().cmp(&model.origin.rank()) {
        Ordering::Greater => vec![override_weaker(reader, "model", &model, &bundle)],
        Ordering::Less => vec![override_weaker(reader, "bundle", &bundle, &model)],
        Ordering::Equal if model.text == DEFAULT_MODEL => Vec::new(),
        Ordering::Equal => {
            let problem = "both name what to serve; set only one (an empty variable counts as unset)".to_owned();
            reader.reject(Mistake::Conflict { first: bundle, second: model, problem });
            Vec::new()
        }
    }
}

/// A revision belongs to the model that its own source names, or to the default model. If a stronger source names another
/// model or a bundle, the revision is dropped. Call this after [`choose_between_bundle_and_model`], which may have dropped
/// the model. Returns a note about it.
pub(super) fn forget_revision_of_another_model(reader: &mut Reader) -> Option<String> {
    let revision = reader.strongest("revision")?.clone();
    let model = reader.strongest("model").filter(|_| reader.names(&revision.origin, "model"));
    let bundle = reader.strongest("bundle").filter(|bundle| !bundle.text.eq_ignore_ascii_case("none"));
    let stronger = bundle.or(model).filter(|given| given.origin.rank() > revision.origin.rank())?.clone();
    Some(override_weaker(reader, "revision", &revision, &stronger))
}

/// Resets the setting `key` to its default, and returns a note about it.
fn override_weaker(reader: &mut Reader, key: &str, weaker: &Given, stronger: &Given) -> String {
    reader.forget(key);
    format!("{weaker} is overridden by {stronger}")
}

/// A rule that involves several settings.
struct Rule {
    /// The settings involved; the message names the first two.
    keys: &'static [&'static str],
    broken: bool,
    /// Why the settings conflict, and what to do.
    problem: &'static str,
}

/// The rules that are broken. Rules about a setting with an invalid value are skipped.
pub(super) fn conflicts(settings: &Settings, effective: &[Given], invalid: &BTreeSet<&str>) -> Vec<Mistake> {
    let rules = revision(settings)
        .into_iter()
        .chain([engine(settings)])
        .chain(limits(settings))
        .chain(listeners(settings))
        .chain(access(settings));
    let broken = rules.filter(|rule| rule.broken && rule.keys.iter().all(|key| !invalid.contains(key)));
    broken.filter_map(|rule| conflict(effective, rule.keys[0], rule.keys[1], rule.problem)).collect()
}

fn revision(settings: &Settings) -> [Rule; 2] {
    let is_set = !settings.revision.is_default();
    [
        Rule {
            keys: &["revision", "model"],
            broken: is_set && matches!(settings.model, ModelRef::Folder(_)),
            problem: "only models from the hub have revisions, and this one is a folder; leave out the revision",
        },
        Rule {
            keys: &["revision", "bundle"],
            broken: is_set && settings.bundle.is_some(),
            problem: "a bundle is used as it is; leave out the revision, or name a model instead of the bundle",
        },
    ]
}

fn engine(settings: &Settings) -> Rule {
    let is_for_cpus = matches!(settings.engine, EngineChoice::Native | EngineChoice::Portable);
    Rule {
        keys: &["engine", "device"],
        broken: is_for_cpus && settings.device.is_gpu(),
        problem: "the INT8 engines are for CPUs, and GPUs run fp16 and fp32; leave out the engine, or the device",
    }
}

/// Of limits for one connection and for all.
const PART_OF_ALL: &str = "one connection cannot have more than all together; lower the first or raise the second";

fn limits(settings: &Settings) -> [Rule; 5] {
    [
        Rule {
            keys: &["max_text_bytes", "max_message_bytes"],
            broken: settings.max_text_bytes > settings.max_message_bytes,
            problem: "a text must fit into a message; lower the first or raise the second",
        },
        Rule {
            keys: &["max_texts", "queue_total_texts"],
            broken: settings.max_texts > settings.queue_total_texts,
            problem: "the largest request must fit into the queue; lower the first or raise the second",
        },
        Rule {
            keys: &["max_message_bytes", "receive_bytes_per_connection"],
            broken: settings.max_message_bytes > settings.receive_bytes_per_connection,
            problem: "the largest message must fit into memory; lower the first or raise the second",
        },
        Rule {
            keys: &["receive_bytes_per_connection", "receive_bytes"],
            broken: settings.receive_bytes_per_connection > settings.receive_bytes,
            problem: PART_OF_ALL,
        },
        Rule {
            keys: &["reply_bytes_per_connection", "reply_bytes"],
            broken: settings.reply_bytes_per_connection > settings.reply_bytes,
            problem: PART_OF_ALL,
        },
    ]
}

fn listeners(settings: &Settings) -> [Rule; 6] {
    let Settings { admin_listen: admin, health_listen: health, http_listen: http, .. } = *settings;
    let service = Some(settings.listen);
    let same = |a: Option<SocketAddr>, b: Option<SocketAddr>| a.zip(b).is_some_and(|(a, b)| collide(a, b));
    let problem = "two listeners cannot share an address; give one of them another port";
    [
        Rule { keys: &["listen", "admin_listen"], broken: same(service, admin), problem },
        Rule { keys: &["listen", "health_listen"], broken: same(service, health), problem },
        Rule { keys: &["listen", "http_listen"], broken: same(service, http), problem },
        Rule { keys: &["admin_listen", "health_listen"], broken: same(admin, health), problem },
        Rule { keys: &["admin_listen", "http_listen"], broken: same(admin, http), problem },
        Rule { keys: &["health_listen", "http_listen"], broken: same(health, http), problem },
    ]
}

fn access(settings: &Settings) -> [Rule; 10] {
    const WITHOUT_KEY: &str = "a certificate needs its private key; name the key's file";
    const WITHOUT_CERTIFICATE: &str = "a private key needs its certificate; name the certificate's file";
    const WITHOUT_TLS: &str = "client certificates need TLS; name the server's own certificate and key, too";
    let Settings { tls_certificate: certificate, tls_key: key, tls_client_ca: ca, .. } = settings;
    let Settings { admin_tls_certificate: admin_certificate, admin_tls_key: admin_key, .. } = settings;
    let Settings { admin_tls_client_ca: admin_ca, admin_token_file: admin_tokens, .. } = settings;
    let without = |first: &Option<PathBuf>, second: &Option<PathBuf>| first.is_some() && second.is_none();
    // A generated token is for users of this machine.
    let admin_is_open = admin_tokens.file().is_none() && admin_ca.is_none();
    let http_api = settings.http_api == HttpApiChoice::On;
    let rule = |keys, broken, problem| Rule { keys, broken, problem };
    [
        rule(&["tls_certificate", "tls_key"], without(certificate, key), WITHOUT_KEY),
        rule(&["tls_key", "tls_certificate"], without(key, certificate), WITHOUT_CERTIFICATE),
        rule(&["tls_client_ca", "tls_certificate"], without(ca, certificate), WITHOUT_TLS),
        rule(&["admin_tls_certificate", "admin_tls_key"], without(admin_certificate, admin_key), WITHOUT_KEY),
        rule(&["admin_tls_key", "admin_tls_certificate"], without(admin_key, admin_certificate), WITHOUT_CERTIFICATE),
        rule(&["admin_tls_client_ca", "admin_tls_certificate"], without(admin_ca, admin_certificate), WITHOUT_TLS),
        rule(
            &["admin_listen", "admin_token_file", "admin_tls_client_ca"],
            admin_is_open && settings.admin_listen.is_some_and(|address| !is_loopback(address)),
            "anyone who can reach the admin service could reload the model and load the CPUs; listen on a loopback \
             address, or require tokens (name a file with admin-token-file) or client certificates \
             (admin-tls-client-ca)",
        ),
        rule(
            &["http_api", "tls_client_ca", "token_file"],
            http_api && ca.is_some() && settings.token_file.is_none() && !settings.http_tls,
            "the HTTP port has no TLS, so anyone who can reach it could call its APIs without a certificate; set http-tls, \
             require tokens (token-file), or leave http-api at `auto`",
        ),
        rule(
            &["http_api", "http_listen"],
            http_api && settings.http_listen.is_none(),
            "the APIs need the HTTP port; set its address, or leave http-api at `auto`",
        ),
        rule(
            &["http_tls", "tls_certificate"],
            settings.http_tls && certificate.is_none(),
            "TLS on the HTTP port needs a certificate; name it and its key, or leave http-tls off",
        ),
    ]
}

fn conflict(effective: &[Given], first: &str, second: &str, problem: &str) -> Option<Mistake> {
    let find = |key: &str| effective.iter().find(|given| given.setting.replace('-', "_") == key).cloned();
    Some(Mistake::Conflict { first: find(first)?, second: find(second)?, problem: problem.to_owned() })
}

/// Whether two sockets cannot both be bound. Port 0 stands for a new free port each time.
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let overlap = a.ip().to_canonical() == b.ip().to_canonical() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && a.port() != 0 && overlap
}

/// Whether only this machine can reach the address.
fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// Warnings about tokens that are sent unencrypted.
fn unencrypted_tokens(settings: &Settings) -> impl Iterator<Item = String> {
    let Settings { listen, token_file, tls_certificate, .. } = settings;
    let Settings { admin_listen, admin_token_file, admin_tls_certificate, .. } = settings;
    let listeners = [
        ("token-file", "tls-certificate", token_file.as_ref(), Some(*listen), tls_certificate),
        ("admin-token-file", "admin-tls-certificate", admin_token_file.file(), *admin_listen, admin_tls_certificate),
    ];
    let unencrypted = listeners.into_iter().filter(|(_, _, tokens, address, certificate)| {
        tokens.is_some() && certificate.is_none() && address.is_some_and(|address| !is_loopback(address))
    });
    unencrypted.map(|(tokens, certificate, ..)| {
        format!(
            "{tokens} is set without {certificate}: tokens are sent unencrypted, and anyone who sees one can use it; \
             set {certificate}, or terminate TLS in front of the server"
        )
    })
}

/// A warning if the HTTP port bypasses the TLS of the gRPC listener.
fn unencrypted_apis(settings: &Settings) -> Option<String> {
    let bypasses_tls = settings.http_api == HttpApiChoice::On
        && settings.tls_certificate.is_some()
        && !settings.http_tls
        && settings.http_listen.is_some_and(|address| !is_loopback(address));
    bypasses_tls.then(|| {
        "http-api is `on` together with tls-certificate: the HTTP port has no TLS, so texts and tokens are sent \
         unencrypted; set http-tls, terminate TLS in front of it, or listen on loopback (http-listen)"
            .to_owned()
    })
}

impl Configuration {
    /// Warnings about settings that are valid but may have surprising effects, given a CPU quota of `cpus`.
    pub fn warnings(&self, cpus: NonZeroUsize) -> Vec<String> {
        let mut warnings = self.notes.clone();
        warnings.extend(unencrypted_tokens(&self.settings));
        warnings.extend(unencrypted_apis(&self.settings));
        let sessions = self.settings.sessions.unwrap_or(NonZeroUsize::MIN);
        let threads = self.settings.threads.unwrap_or(NonZeroUsize::MIN);
        let busy = sessions.saturating_mul(threads);
        if busy > cpus {
            warnings.push(format!(
                "sessions x threads is {busy}, but the CPU quota of this process is {cpus}: threads will wait for each \
                 other; lower sessions or threads, or leave them at `auto`"
            ));
        }
        warnings
    }
}

#[cfg(test)]
mod tests;
