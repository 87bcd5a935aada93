//! Rules between settings.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use super::Configuration;
use super::choices::OpenAiChoice;
use super::error::{Given, Mistake};
use super::resolve::Reader;
use super::table::Settings;
use embedd_fetch::model_ref::DEFAULT_MODEL;

/// `bundle` and `model` both say what is served. The stronger source decides, so that a flag can outdo what an image
/// has baked in; of one source, both are a mistake unless the model is the default one. The notes tell what was
/// outdone.
pub(super) fn choose_between_bundle_and_model(reader: &mut Reader) -> Vec<String> {
    let (Some(bundle), Some(model)) = (reader.strongest("bundle").cloned(), reader.strongest("model").cloned()) else {
        return Vec::new();
    };
    if bundle.text.eq_ignore_ascii_case("none") {
        return Vec::new();
    }
    match bundle.origin.rank().cmp(&model.origin.rank()) {
        Ordering::Greater => vec![outdo(reader, "model", &model, &bundle)],
        Ordering::Less => vec![outdo(reader, "bundle", &bundle, &model)],
        Ordering::Equal if model.text == DEFAULT_MODEL => Vec::new(),
        Ordering::Equal => {
            let problem = "both say what is served; leave one out (an empty variable counts as left out)".to_owned();
            reader.reject(Mistake::Conflict { first: bundle, second: model, problem });
            Vec::new()
        }
    }
}

/// Leaves the setting `key` at its default and tells so.
fn outdo(reader: &mut Reader, key: &str, weaker: &Given, stronger: &Given) -> String {
    reader.forget(key);
    format!("{weaker} is outdone by {stronger}")
}

/// A rule between settings.
struct Rule {
    /// The settings that it is about; the first two are named in the message.
    keys: &'static [&'static str],
    broken: bool,
    /// Why they do not go together, and what to do.
    problem: &'static str,
}

/// Rules that values break together. Rules about a spoilt setting are not judged.
pub(super) fn conflicts(settings: &Settings, effective: &[Given], spoilt: &BTreeSet<&str>) -> Vec<Mistake> {
    let rules = limits(settings).into_iter().chain(listeners(settings)).chain(access(settings));
    let known = |rule: &Rule| rule.keys.iter().all(|key| !spoilt.contains(key));
    let judged = rules.filter(|rule| rule.broken && known(rule));
    judged.filter_map(|rule| conflict(effective, rule.keys[0], rule.keys[1], rule.problem)).collect()
}

fn limits(settings: &Settings) -> [Rule; 2] {
    [
        Rule {
            keys: &["max_text_bytes", "max_message_bytes"],
            broken: settings.max_text_bytes > settings.max_message_bytes,
            problem: "a text travels in a message; lower the first or raise the second",
        },
        Rule {
            keys: &["max_texts", "queue_total_texts"],
            broken: settings.max_texts > settings.queue_total_texts,
            problem: "a request of so many texts could never wait; lower the first or raise the second",
        },
    ]
}

fn listeners(settings: &Settings) -> [Rule; 6] {
    let Settings { admin_listen: admin, health_listen: health, http_listen: http, .. } = *settings;
    let service = Some(settings.listen);
    let meet = |a: Option<SocketAddr>, b: Option<SocketAddr>| a.zip(b).is_some_and(|(a, b)| collide(a, b));
    let problem = "two listeners cannot share an address; give one of them another port";
    [
        Rule { keys: &["listen", "admin_listen"], broken: meet(service, admin), problem },
        Rule { keys: &["listen", "health_listen"], broken: meet(service, health), problem },
        Rule { keys: &["listen", "http_listen"], broken: meet(service, http), problem },
        Rule { keys: &["admin_listen", "health_listen"], broken: meet(admin, health), problem },
        Rule { keys: &["admin_listen", "http_listen"], broken: meet(admin, http), problem },
        Rule { keys: &["health_listen", "http_listen"], broken: meet(health, http), problem },
    ]
}

/// Who may come in.
fn access(settings: &Settings) -> [Rule; 9] {
    const WITHOUT_KEY: &str = "a certificate is of use only with its private key; name the key's file";
    const WITHOUT_CERTIFICATE: &str = "a private key is of use only with its certificate; name the certificate's file";
    const WITHOUT_TLS: &str = "clients show certificates over TLS only; name the server's own certificate and key, too";
    let Settings { tls_certificate: certificate, tls_key: key, tls_client_ca: ca, .. } = settings;
    let Settings { admin_tls_certificate: admin_certificate, admin_tls_key: admin_key, .. } = settings;
    let (admin_ca, admin_tokens) = (&settings.admin_tls_client_ca, &settings.admin_token_file);
    let without = |first: &Option<PathBuf>, second: &Option<PathBuf>| first.is_some() && second.is_none();
    let admin_is_open = admin_tokens.is_none() && admin_ca.is_none();
    let openai = settings.openai == OpenAiChoice::On;
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
            "whoever reaches the admin service could reload the model and load the CPUs; listen on a loopback address, or \
             name a file of tokens or, with TLS, admin-tls-client-ca",
        ),
        rule(
            &["openai", "tls_client_ca", "token_file"],
            openai && ca.is_some() && settings.token_file.is_none(),
            "OpenAI's API is served without TLS, so that whoever reaches the HTTP port could call without a certificate; \
             name a file of tokens, or leave openai `auto`",
        ),
        rule(
            &["openai", "http_listen"],
            openai && settings.http_listen.is_none(),
            "OpenAI's API is served on the HTTP port; name an address for it, or leave openai `auto`",
        ),
    ]
}

fn conflict(effective: &[Given], first: &str, second: &str, problem: &str) -> Option<Mistake> {
    let find = |key: &str| effective.iter().find(|given| given.setting.replace('-', "_") == key).cloned();
    Some(Mistake::Conflict { first: find(first)?, second: find(second)?, problem: problem.to_owned() })
}

/// Whether two sockets cannot both be bound. Port 0 is a free port each time.
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let overlap = a.ip().to_canonical() == b.ip().to_canonical() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && a.port() != 0 && overlap
}

/// Whether only this machine reaches the address.
fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// Tokens that can be read on their way.
fn bare_tokens(settings: &Settings) -> impl Iterator<Item = String> {
    let Settings { listen, token_file, tls_certificate, .. } = settings;
    let Settings { admin_listen, admin_token_file, admin_tls_certificate, .. } = settings;
    let doors = [
        ("token-file", "tls-certificate", token_file, Some(*listen), tls_certificate),
        ("admin-token-file", "admin-tls-certificate", admin_token_file, *admin_listen, admin_tls_certificate),
    ];
    let bare = doors.into_iter().filter(|(_, _, tokens, address, certificate)| {
        tokens.is_some() && certificate.is_none() && address.is_some_and(|address| !is_loopback(address))
    });
    bare.map(|(tokens, certificate, ..)| {
        format!(
            "{tokens} is set without {certificate}: tokens travel in the clear, and whoever sees one may use it; set \
             {certificate}, or let something in front of the server encrypt"
        )
    })
}

/// Callers who were meant to come by TLS, and need not.
fn bare_openai(settings: &Settings) -> Option<String> {
    let bare = settings.openai == OpenAiChoice::On
        && settings.tls_certificate.is_some()
        && settings.http_listen.is_some_and(|address| !is_loopback(address));
    bare.then(|| {
        "openai is `on` beside tls-certificate: the HTTP port has no TLS, so that texts and tokens travel in the clear \
         there; let something in front of it encrypt, or listen on loopback (http-listen)"
            .to_owned()
    })
}

impl Configuration {
    /// What is no mistake and yet may surprise, on a machine whose quota is `cpus`.
    pub fn warnings(&self, cpus: NonZeroUsize) -> Vec<String> {
        let mut warnings = self.notes.clone();
        warnings.extend(bare_tokens(&self.settings));
        warnings.extend(bare_openai(&self.settings));
        let Settings { sessions, threads, .. } = &self.settings;
        let one = NonZeroUsize::MIN;
        let busy = sessions.unwrap_or(one).saturating_mul(threads.unwrap_or(one));
        if busy > cpus {
            warnings.push(format!(
                "sessions x threads is {busy}, but the CPU quota of this process is {cpus}: threads will wait for each \
                 other; lower sessions or threads, or leave them `auto`"
            ));
        }
        warnings
    }
}

#[cfg(test)]
mod tests;
