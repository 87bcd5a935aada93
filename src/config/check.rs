//! Rules between settings.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroUsize;

use super::Configuration;
use super::error::{Given, Mistake};
use super::resolve::Reader;
use super::table::Settings;
use crate::model_ref::DEFAULT_MODEL;

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

/// Rules that values break together. Rules about a spoilt setting are not judged.
pub(super) fn conflicts(settings: &Settings, effective: &[Given], spoilt: &BTreeSet<&str>) -> Vec<Mistake> {
    let broken = [
        (
            ["max_text_bytes", "max_message_bytes"],
            settings.max_text_bytes > settings.max_message_bytes,
            "a text travels in a message; lower the first or raise the second",
        ),
        (
            ["max_texts", "queue_total_texts"],
            settings.max_texts > settings.queue_total_texts,
            "a request of so many texts could never wait; lower the first or raise the second",
        ),
        (
            ["listen", "admin_listen"],
            settings.admin_listen.is_some_and(|admin| collide(settings.listen, admin)),
            "two listeners cannot share an address; give one of them another port",
        ),
    ];
    let known = |keys: &[&str; 2]| keys.iter().all(|key| !spoilt.contains(key));
    let judged = broken.into_iter().filter(|(keys, broken, _)| *broken && known(keys));
    judged.filter_map(|([first, second], _, problem)| conflict(effective, first, second, problem)).collect()
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

impl Configuration {
    /// What is no mistake and yet may surprise, on a machine whose quota is `cpus`.
    pub fn warnings(&self, cpus: NonZeroUsize) -> Vec<String> {
        let mut warnings = self.notes.clone();
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
