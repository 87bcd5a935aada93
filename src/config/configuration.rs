//! The result of reading all sources.

use super::error::Given;
use super::table::Settings;

/// Settings, and where each of them comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    /// The values.
    pub settings: Settings,
    /// The text and origin of every setting, in the order of [`TABLE`](super::TABLE).
    pub(super) effective: Vec<Given>,
    /// Notes about overridden settings.
    pub(super) notes: Vec<String>,
}
