//! Collects the text of every setting from all sources, and the mistakes in them.

use std::collections::{BTreeMap, BTreeSet};

use super::error::{Given, Mistake, Origin};
use super::parse::Parsed;
use super::setting::Setting;

/// Hands out the value of each setting from its strongest source, and collects mistakes in all sources.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// By key, the strongest source first.
    given: BTreeMap<&'static str, Vec<Given>>,
    /// The texts that took effect, in the order of reading.
    effective: Vec<Given>,
    /// Keys with a mistake: rules about them would only repeat it.
    invalid: BTreeSet<&'static str>,
    mistakes: Vec<Mistake>,
}

impl Reader {
    /// Adds a text for the setting. The strongest source must come first.
    pub(super) fn offer(&mut self, setting: &'static Setting, text: String, origin: Origin) {
        let given = Given { setting: setting.name(), text, origin };
        self.given.entry(setting.key).or_default().push(given);
    }

    pub(super) fn reject(&mut self, mistake: Mistake) {
        self.mistakes.push(mistake);
    }

    /// Rejects a value of the setting.
    pub(super) fn reject_value(&mut self, setting: &'static Setting, mistake: Mistake) {
        self.invalid.insert(setting.key);
        self.mistakes.push(mistake);
    }

    /// The value of the setting from its strongest source, else its default. Texts of weaker sources are checked, too:
    /// otherwise their mistakes would surface only when the stronger source is removed.
    pub(super) fn read<T>(&mut self, setting: &'static Setting, parse: impl Fn(&str) -> Parsed<T>) -> Option<T> {
        let mut given = self.given.get(setting.key).cloned().unwrap_or_default();
        given.push(Given { setting: setting.name(), text: setting.default.to_owned(), origin: Origin::Default });
        let mut value = None;
        for given in given {
            match parse(&given.text) {
                Ok(parsed) if value.is_none() => {
                    value = Some(parsed);
                    self.effective.push(given);
                }
                Ok(_) => {}
                Err(expected) => self.reject_value(setting, Mistake::Value { given, expected }),
            }
        }
        value
    }

    /// The text of the setting from its strongest source, if any source has one.
    pub(super) fn strongest(&self, key: &str) -> Option<&Given> {
        self.given.get(key).and_then(|given| given.first())
    }

    /// Whether a source of the same kind as `origin` has a text for the setting.
    pub(super) fn names(&self, origin: &Origin, key: &str) -> bool {
        let mut given = self.given.get(key).into_iter().flatten();
        given.any(|given| given.origin.rank() == origin.rank())
    }

    /// Drops all texts for the setting, so that its default applies.
    pub(super) fn forget(&mut self, key: &str) {
        self.given.remove(key);
    }

    /// Whether a source that may hold values could not be read.
    pub(super) fn lacks_a_source(&self) -> bool {
        let hides_values = |mistake: &Mistake| {
            matches!(mistake, Mistake::Syntax { .. } | Mistake::Unreadable { .. } | Mistake::NotText { .. })
        };
        self.mistakes.iter().any(hides_values)
    }

    pub(super) fn effective(&self) -> &[Given] {
        &self.effective
    }

    pub(super) fn invalid(&self) -> &BTreeSet<&'static str> {
        &self.invalid
    }

    /// The texts that took effect, and all mistakes.
    pub(super) fn finish(self) -> (Vec<Given>, Vec<Mistake>) {
        (self.effective, self.mistakes)
    }
}
