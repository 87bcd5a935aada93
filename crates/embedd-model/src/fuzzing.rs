//! Functions that must accept any bytes. `fuzz/` runs them under libFuzzer, and the tests below with mutations of valid
//! files.

use std::fs;
use std::path::{Path, PathBuf};

use embedd_kernels::PageBuffer;
use tempfile::TempDir;

use crate::bundle::{Bundle, MANIFEST_FILE, ModelRecord};
use crate::native::NativeWeights;
use crate::tokenize::{Tokenized, Tokenizer, TokenizerError, Truncation};

/// The maximum number of tokens of the tokenizers.
const MAX_TOKENS: u32 = 16;
const TEXTS: [&str; 6] =
    ["", "a", "the quick brown fox", "</s> <mask> [CLS]", "\u{fdfa}\u{301}\u{1f468}\u{200d}", "\0 \u{feff}"];

/// A bundle's manifest. If it is accepted, it names only files of its own folder.
pub fn manifest(bytes: &[u8]) {
    let (folder, _) = in_folder(MANIFEST_FILE, bytes);
    let Ok(bundle) = Bundle::open(folder.path()) else { return };
    let manifest = bundle.manifest();
    assert!(manifest.dimension > 0 && manifest.max_tokens > 0 && manifest.max_tokens <= manifest.position_limit);
    for file in manifest.files.keys() {
        assert_eq!(folder.path().join(file).parent(), Some(folder.path()), "{file}");
    }
    for file in manifest.models.values().flat_map(ModelRecord::files) {
        assert!(manifest.files.contains_key(file), "{file}");
        // Neither the file nor its folder exists.
        bundle.verify(file).expect_err("a missing file");
    }
}

/// A tokenizer's file. If it is accepted, it respects the maximum number of tokens.
pub fn tokenizer(bytes: &[u8]) {
    let Ok(tokenizer) = load(bytes) else { return };
    let prompt = tokenizer.prompt(TEXTS[3], true).ok();
    for text in TEXTS {
        for truncation in [Truncation::End, Truncation::Start, Truncation::Reject] {
            for prompt in [None, prompt.as_ref()] {
                let Ok(Tokenized { ids, .. }) = tokenizer.tokenize_with(text, prompt, truncation) else { continue };
                let count = ids.len();
                assert!(count > 0 && count <= tokenizer.max_tokens(), "{count} tokens");
                assert!(ids.excluded() <= count, "{} of {count} tokens are excluded", ids.excluded());
            }
        }
        let Ok(tokens) = tokenizer.tokens(text, true) else { continue };
        let ids: Vec<u32> = tokens.iter().map(|token| token.id).collect();
        // Ids that the tokenizer itself has given.
        drop(tokenizer.decode(&ids, true));
    }
}

fn load(bytes: &[u8]) -> Result<Tokenizer, TokenizerError> {
    Tokenizer::parse(bytes, Path::new("tokenizer.json"), MAX_TOKENS, false)
}

/// The weights of a native model. If they are accepted, every tensor has the elements that its shape requires.
pub fn native_weights(bytes: &[u8]) {
    let Ok(mut file) = PageBuffer::zeroed(bytes.len()) else { return };
    file.copy_from_slice(bytes);
    // Why a file is rejected does not matter.
    drop(NativeWeights::read_all(file));
}

fn in_folder(name: &str, bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(name);
    fs::write(&path, bytes).expect("a file");
    (folder, path)
}

#[cfg(test)]
mod tests;
