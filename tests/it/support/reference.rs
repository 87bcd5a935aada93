//! The reference set: texts, and what PyTorch makes of them.

use std::path::Path;

use embedd::reference::{ReferenceSet, ReferenceText};

use super::models::Model;

pub(crate) fn load(model: Model) -> ReferenceSet {
    let name = model.id().rsplit('/').next().expect("a name");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("reference/{name}.safetensors"));
    let set = ReferenceSet::read(&path).expect("the reference set");
    assert_eq!(set.texts.len(), 253, "the whole reference set");
    set
}

pub(crate) fn find<'s>(set: &'s ReferenceSet, id: &str) -> &'s ReferenceText {
    set.texts.iter().find(|text| text.id == id).expect("a text of the reference set")
}
