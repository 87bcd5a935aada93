//! The native INT8 engine, run in the test process: bits, errors, damaged files.

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;

use embedd_kernels::InstructionSet;
use embedd_model::accuracy::cosine;
use embedd_model::bundle::{Bundle, NATIVE_FILE, NATIVE_WEIGHTS_FILE, Variant};
use embedd_model::engine::{Session, SessionOptions, TokenIds};
use embedd_model::tokenize::Tokenizer;
use embedd_model::tokenize::Truncation;
use fastrand::Rng;

use crate::support::models::{Model, copy_of, runtime};
use crate::support::reference;
use crate::support::server::temporary_folder;
use crate::support::skips::cpu_has;

/// The number of words and positions of all-MiniLM-L6-v2.
const VOCABULARY: u32 = 30_522;
const POSITIONS: usize = 512;

fn random_text(random: &mut Rng, tokens: usize) -> TokenIds {
    TokenIds::new((0..tokens).map(|_| random.u32(..VOCABULARY)).collect::<Vec<_>>())
}

fn sessions(set: Option<InstructionSet>, count: usize, threads: usize) -> Vec<Box<dyn Session>> {
    let bundle = Bundle::open(Model::MiniLm.bundle()).expect("a bundle");
    let number = |number| NonZeroUsize::new(number).expect("not 0");
    let runtime = runtime().with_instruction_set(set).expect("this CPU has it");
    let options = SessionOptions { threads: number(threads) };
    runtime.sessions(&bundle, Variant::Native, number(count), options).expect("sessions")
}

/// The bits of every component, for each text of the batch.
fn bits(session: &mut dyn Session, batch: &[&TokenIds]) -> Vec<Vec<u32>> {
    let embeddings = session.infer(batch).expect("embeddings");
    assert_eq!(embeddings.dim(), (batch.len(), Model::MiniLm.dimension()));
    embeddings.rows().into_iter().map(|row| row.iter().map(|value| value.to_bits()).collect()).collect()
}

fn floats(session: &mut dyn Session, text: &TokenIds) -> Vec<f32> {
    bits(session, &[text]).remove(0).into_iter().map(f32::from_bits).collect()
}

#[test]
fn a_text_has_the_same_bits_at_every_position_of_every_batch_in_every_session() {
    let mut random = Rng::with_seed(7);
    let lengths = [1, 2, 3, 5, 7, 11, 12, 13, 16, 17, 24, 31, 33, 48, 65, 130];
    let texts: Vec<TokenIds> = lengths.iter().map(|&tokens| random_text(&mut random, tokens)).collect();
    let mut pool: Vec<_> = [1, 2, 3].into_iter().flat_map(|threads| sessions(None, 2, threads)).collect();
    let alone: Vec<_> = texts.iter().map(|text| bits(pool[0].as_mut(), &[text]).remove(0)).collect();

    for round in 0..18 {
        let batch: Vec<usize> = (0..random.usize(1..=6)).map(|_| random.usize(..texts.len())).collect();
        let together: Vec<&TokenIds> = batch.iter().map(|&text| &texts[text]).collect();
        let session = round % pool.len();
        for (position, found) in bits(pool[session].as_mut(), &together).into_iter().enumerate() {
            let text = batch[position];
            assert!(found == alone[text], "text {text} at {position} of {batch:?}, session {session}");
        }
    }
    // As the first, middle and last text, among longer and shorter ones.
    let short = &texts[1];
    let long = random_text(&mut random, 200);
    for (text, alone) in texts.iter().zip(&alone) {
        for (at, batch) in [[text, &long, short], [short, text, &long], [&long, short, text]].iter().enumerate() {
            assert!(bits(pool[at].as_mut(), batch)[at] == *alone, "{} tokens at {at}", text.len());
        }
    }
    // All at once, after many calls.
    let all: Vec<&TokenIds> = texts.iter().collect();
    for (number, session) in pool.iter_mut().enumerate() {
        assert!(bits(session.as_mut(), &all) == alone, "session {number}");
    }
}

#[test]
fn concurrent_sessions_do_not_disturb_each_other() {
    let mut random = Rng::with_seed(11);
    let texts: Vec<TokenIds> = (0..12).map(|_| random_text(&mut random, 20)).collect();
    let mut pool = sessions(None, 3, 2);
    let alone: Vec<_> = texts.iter().map(|text| bits(pool[0].as_mut(), &[text]).remove(0)).collect();
    std::thread::scope(|scope| {
        for session in &mut pool {
            scope.spawn(|| {
                for (text, alone) in texts.iter().zip(&alone) {
                    assert!(bits(session.as_mut(), &[text])[0] == *alone);
                }
            });
        }
    });
}

#[test]
fn every_instruction_set_of_this_cpu_gives_the_same_vectors_up_to_rounding() {
    let mut random = Rng::with_seed(13);
    let texts: Vec<TokenIds> = [1, 4, 13, 40].map(|tokens| random_text(&mut random, tokens)).into();
    let mut plain = sessions(Some(InstructionSet::Plain), 1, 1).remove(0);
    let here: Vec<InstructionSet> = InstructionSet::ALL.into_iter().filter(|&set| cpu_has(set)).collect();
    assert!(here.contains(&InstructionSet::Plain));
    for set in here {
        let mut session = sessions(Some(set), 1, 2).remove(0);
        for text in &texts {
            let cosine = cosine(&floats(session.as_mut(), text), &floats(plain.as_mut(), text));
            assert!(cosine > 0.9995, "{set}, {} tokens: {cosine}", text.len());
        }
    }
}

/// The plain kernels are too slow for the whole reference set. The tests of `proof` run the others on all of it.
#[test]
fn kernels_without_vector_instructions_are_close_to_pytorch() {
    let bundle = Bundle::open(Model::MiniLm.bundle()).expect("a bundle");
    let set = reference::load(Model::MiniLm);
    let tokenizer = Tokenizer::load(&bundle, Some(set.max_tokens)).expect("a tokenizer");
    let mut session = sessions(Some(InstructionSet::Plain), 1, 2).remove(0);
    let short: Vec<_> = set.texts.iter().filter(|text| text.token_count <= 24).step_by(8).collect();
    assert!(short.len() >= 8, "{} texts", short.len());
    for text in short {
        let ids = tokenizer.tokenize(&text.text, Truncation::End).expect("tokens").ids;
        let cosine = cosine(&floats(session.as_mut(), &ids), &text.embedding);
        assert!(cosine >= reference::Nearness::INT8.min_cosine, "{}: {cosine}", text.id);
    }
}

#[test]
fn a_batch_that_cannot_be_embedded_is_an_error_and_the_session_stays_usable() {
    let mut session = sessions(None, 1, 2).remove(0);
    let text = TokenIds::new([101, 7592, 102]);
    let before = bits(session.as_mut(), &[&text]);
    let unknown = TokenIds::new([101, VOCABULARY, 102]);
    let error = session.infer(&[&text, &unknown]).expect_err("an unknown word").to_string();
    assert!(error.contains("token 30522 at position 1"), "{error}");
    let long = TokenIds::new(vec![101; POSITIONS + 1]);
    let error = session.infer(&[&long]).expect_err("too many positions").to_string();
    assert!(error.contains("position 512"), "{error}");
    assert!(session.infer(&[]).is_err());
    assert_eq!(bits(session.as_mut(), &[&text]), before);
}

#[test]
fn damaged_files_are_rejected() {
    let options = SessionOptions { threads: NonZeroUsize::MIN };
    let load = |folder: &Path| {
        let bundle = Bundle::open(folder).expect("a bundle");
        let session = runtime().one_session(&bundle, Variant::Native, options);
        session.err().expect("damaged").to_string()
    };
    for file in [NATIVE_FILE, NATIVE_WEIGHTS_FILE] {
        let (_folder, folder) = temporary_folder();
        copy_of(Model::MiniLm, &folder, &[file]);
        let path = folder.join(file);
        let mut contents = fs::read(&path).expect("a file");
        let middle = contents.len() / 2;
        contents[middle] ^= 1;
        fs::write(&path, &contents).expect("written");
        let error = load(&folder);
        assert!(error.contains(file) && error.contains("sha256"), "{error}");
        fs::write(&path, &contents[..middle]).expect("written");
        let error = load(&folder);
        assert!(error.contains(file) && error.contains("bytes"), "{error}");
    }
}

#[test]
fn weights_of_another_graph_are_rejected_with_the_name_of_the_missing_tensor() {
    let options = SessionOptions { threads: NonZeroUsize::MIN };
    let load = |model: Model, weights: &Path| {
        let graph = model.bundle().join(NATIVE_FILE);
        let session = runtime().native_session(&graph, weights, options);
        session.err().expect("the wrong weights").to_string()
    };
    let error = load(Model::MiniLm, &Model::MiniLm.bundle().join("reference.safetensors"));
    assert!(error.contains("tensor `word_embeddings` not found"), "{error}");
    let error = load(Model::MiniLm, &Model::Mpnet.bundle().join(NATIVE_WEIGHTS_FILE));
    assert!(error.contains("tensor"), "{error}");
    let (_folder, folder) = temporary_folder();
    fs::write(folder.join("x"), "not weights").expect("written");
    let error = load(Model::MiniLm, &folder.join("x"));
    assert!(error.contains("not a safetensors file"), "{error}");
}
