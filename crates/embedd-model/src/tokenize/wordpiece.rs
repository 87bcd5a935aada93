//! WordPiece: the longest pieces of the vocabulary that form a word, from left to right.
//!
//! The crate `tokenizers` looks up every prefix of what is left of the word, so that a word of 100 characters can take
//! 5000 lookups. Here, the vocabulary is a trie, and a piece costs no more steps than the longest piece has bytes.

use std::ops::Range;

use tokenizers::Model as _;
use tokenizers::models::wordpiece::WordPiece;

/// The pieces of a WordPiece model.
#[derive(Debug)]
pub(super) struct Words {
    /// Pieces at the beginning of a word.
    first: Trie,
    /// Pieces within a word, without their prefix.
    further: Trie,
    /// Stands for words that are too long or have no pieces; `None` if the vocabulary has no such token.
    unknown: Option<u32>,
    max_chars: usize,
}

#[derive(Debug, thiserror::Error)]
#[error("the vocabulary has no token for unknown words")]
pub(super) struct NoUnknownToken;

impl Words {
    pub(super) fn new(model: &WordPiece) -> Self {
        let vocabulary = model.get_vocab();
        let first = vocabulary.iter().map(|(piece, id)| (piece.as_str(), *id)).collect();
        let prefix = model.continuing_subword_prefix.as_str();
        let further = vocabulary.iter().filter_map(|(piece, id)| Some((piece.strip_prefix(prefix)?, *id))).collect();
        Self {
            first: Trie::new(first),
            further: Trie::new(further),
            unknown: vocabulary.get(&model.unk_token).copied(),
            max_chars: model.max_input_chars_per_word,
        }
    }

    /// Adds the pieces of a word; `piece` makes one of its id and its bytes.
    pub(super) fn split<T>(
        &self,
        word: &str,
        pieces: &mut Vec<T>,
        piece: impl Fn(u32, Range<usize>) -> T,
    ) -> Result<(), NoUnknownToken> {
        let before = pieces.len();
        let is_short = word.len() <= self.max_chars || word.chars().count() <= self.max_chars;
        if !is_short || !self.add(word, pieces, &piece) {
            pieces.truncate(before);
            pieces.push(piece(self.unknown.ok_or(NoUnknownToken)?, 0..word.len()));
        }
        Ok(())
    }

    /// Returns whether the whole word consists of pieces. Ends at the first part that does not.
    fn add<T>(&self, word: &str, pieces: &mut Vec<T>, piece: impl Fn(u32, Range<usize>) -> T) -> bool {
        let mut start = 0;
        while start < word.len() {
            let trie = if start == 0 { &self.first } else { &self.further };
            let Some((id, bytes)) = trie.longest_prefix(&word.as_bytes()[start..]) else { return false };
            pieces.push(piece(id, start..start + bytes));
            start += bytes;
        }
        true
    }
}

/// Keys that are not empty, with their ids.
#[derive(Debug)]
struct Trie {
    nodes: Vec<Node>,
    /// The bytes that lead from each node to another one, sorted.
    edges: Vec<(u8, u32)>,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    /// The range in `edges`.
    first_edge: u32,
    edges: u32,
    /// The id of the key that ends here.
    id: Option<u32>,
}

impl Trie {
    fn new(mut keys: Vec<(&str, u32)>) -> Self {
        keys.retain(|(key, _)| !key.is_empty());
        keys.sort_unstable();
        let root = Node { first_edge: 0, edges: 0, id: None };
        let mut trie = Self { nodes: vec![root], edges: Vec::new() };
        // Nodes whose edges are still to be added: their keys, and the length of the prefix that these have in common.
        let mut open = vec![(0, &keys[..], 0)];
        while let Some((node, keys, depth)) = open.pop() {
            let first_edge = trie.edges.len() as u32;
            for group in keys.chunk_by(|(a, _), (b, _)| a.as_bytes()[depth] == b.as_bytes()[depth]) {
                let child = trie.nodes.len();
                let (shortest, id) = group[0];
                let ends_here = shortest.len() == depth + 1;
                trie.nodes.push(Node { first_edge: 0, edges: 0, id: ends_here.then_some(id) });
                trie.edges.push((shortest.as_bytes()[depth], child as u32));
                open.push((child, &group[usize::from(ends_here)..], depth + 1));
            }
            trie.nodes[node].first_edge = first_edge;
            trie.nodes[node].edges = trie.edges.len() as u32 - first_edge;
        }
        trie
    }

    /// The id and length of the longest key that `text` begins with. Keys are valid UTF-8, so they end between
    /// characters.
    fn longest_prefix(&self, text: &[u8]) -> Option<(u32, usize)> {
        let mut node = self.nodes[0];
        let mut longest = None;
        for (index, byte) in text.iter().enumerate() {
            let edges = &self.edges[node.first_edge as usize..][..node.edges as usize];
            let Ok(edge) = edges.binary_search_by_key(byte, |(byte, _)| *byte) else { break };
            node = self.nodes[edges[edge].1 as usize];
            longest = node.id.map(|id| (id, index + 1)).or(longest);
        }
        longest
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn the_longest_key_is_found() {
        let keys = ["a", "ab", "abcd", "é", "b", "bab"];
        let trie = Trie::new(keys.iter().zip(1..).map(|(key, id)| (*key, id)).collect());
        for (text, expected) in [
            ("", None),
            ("x", None),
            ("a", Some((1, 1))),
            ("abc", Some((2, 2))),
            ("abcde", Some((3, 4))),
            ("éa", Some((4, 2))),
            ("ba", Some((5, 1))),
            ("ec", None),
        ] {
            assert_eq!(trie.longest_prefix(text.as_bytes()), expected, "{text}");
        }
        assert_eq!(Trie::new(Vec::new()).longest_prefix(b"a"), None);
    }

    #[test]
    fn words_have_the_pieces_that_the_crate_finds() {
        let pieces = ["[UNK]", "a", "##a", "ab", "##ab", "##b", "c", "##", "##c\u{301}", "\u{4e00}", "abab"];
        let vocabulary: HashMap<_, _> = pieces.into_iter().zip(0..).collect();
        let model = serde_json::json!({
            "type": "WordPiece", "vocab": vocabulary, "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 9,
        });
        let model: WordPiece = serde_json::from_str(&model.to_string()).expect("a model");
        let words = Words::new(&model);
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..20_000 {
            let letters = ["a", "b", "c", "#", "\u{301}", "\u{4e00}", "x"];
            let known = if random.bool() { 2 } else { letters.len() };
            let word: String = (0..random.usize(0..12)).map(|_| letters[random.usize(0..known)]).collect();
            let expected = model.tokenize(&word).expect("tokens");
            let mut found = Vec::new();
            let piece = |id, bytes: Range<usize>| (id, (bytes.start, bytes.end));
            words.split(&word, &mut found, piece).expect("it has an unknown token");
            assert_eq!(found, expected.iter().map(|token| (token.id, token.offsets)).collect::<Vec<_>>(), "{word}");
        }
    }
}
