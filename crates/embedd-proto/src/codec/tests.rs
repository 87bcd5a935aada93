use std::collections::BTreeSet;
use std::fmt::Debug;

use fastrand::Rng;
use prost_types::FileDescriptorSet;
use tonic::Code;

use super::shapes::{Count, Field, Kind};
use super::*;
use crate::open_inference as inference;
use crate::open_inference::{model_infer_request, model_infer_response, model_metadata_response};
use crate::{EmbedRequest, tei};

/// Calls a function with every message of the protocols as its type parameter.
macro_rules! for_each_message {
    ($function:ident $arguments:tt) => {
        for_each_message!(@types $function $arguments:
            crate::Accuracy, crate::BenchmarkProgress, crate::BenchmarkRequest, crate::BenchmarkResponse,
            crate::BenchmarkResult, crate::BenchmarkRow, crate::CacheStats, crate::ClearCacheRequest,
            crate::ClearCacheResponse, crate::CountTokensRequest, crate::CountTokensResponse, crate::EmbedRequest,
            crate::EmbedResponse, crate::Embedding, crate::GetModelRequest, crate::GetModelResponse,
            crate::GetStatsRequest, crate::GetStatsResponse, crate::Latency, crate::Limits, crate::MethodStats,
            crate::QueueStats, crate::ReferencePair, crate::ReloadModelRequest, crate::ReloadModelResponse,
            crate::Runtime, crate::SessionStats, crate::StageStats, crate::TextAccuracy, crate::Timings,
            crate::TokenCount, crate::ValidateRequest, crate::ValidateResponse,
            tei::DecodeRequest, tei::DecodeResponse, tei::EmbedAllRequest, tei::EmbedAllResponse, tei::EmbedRequest,
            tei::EmbedResponse, tei::EmbedSparseRequest, tei::EmbedSparseResponse, tei::EncodeRequest,
            tei::EncodeResponse, tei::InfoRequest, tei::InfoResponse, tei::Metadata, tei::SimpleToken,
            tei::SparseValue, tei::TokenEmbedding,
            inference::InferParameter, inference::InferTensorContents, inference::ModelInferRequest,
            inference::ModelInferResponse, inference::ModelMetadataRequest, inference::ModelMetadataResponse,
            inference::ModelReadyRequest, inference::ModelReadyResponse, inference::ServerLiveRequest,
            inference::ServerLiveResponse, inference::ServerMetadataRequest, inference::ServerMetadataResponse,
            inference::ServerReadyRequest, inference::ServerReadyResponse, model_infer_request::InferInputTensor,
            model_infer_request::InferRequestedOutputTensor, model_infer_response::InferOutputTensor,
            model_metadata_response::TensorMetadata)
    };
    (@types $function:ident $arguments:tt: $($message:ty),+) => {
        $($function::<$message>$arguments;)+
    };
}

fn name_of<M: Name>(names: &mut BTreeSet<String>) {
    names.insert(M::full_name());
}

#[test]
fn the_tests_cover_every_message_of_the_protocols() {
    fn add(names: &mut BTreeSet<String>, outer: &str, message: &prost_types::DescriptorProto) {
        let is_entry = message.options.as_ref().is_some_and(prost_types::MessageOptions::map_entry);
        let name = format!("{outer}.{}", message.name());
        message.nested_type.iter().for_each(|nested| add(names, &name, nested));
        if !is_entry {
            names.insert(name);
        }
    }
    let mut described = BTreeSet::new();
    for set in [crate::FILE_DESCRIPTOR_SET, tei::FILE_DESCRIPTOR_SET, inference::FILE_DESCRIPTOR_SET] {
        let set = FileDescriptorSet::decode(set).expect("descriptors");
        for file in set.file.iter().filter(|file| !file.package().starts_with("google.")) {
            file.message_type.iter().for_each(|message| add(&mut described, file.package(), message));
        }
    }
    let mut covered = BTreeSet::new();
    for_each_message!(name_of(&mut covered));
    assert_eq!(covered, described);
}

fn size_is_right<M: Name>() {
    let size = SHAPES.of::<M>().size;
    let real = size_of::<M>();
    assert!((real..=real + real / 4 + 16).contains(&size), "{}: {size} for {real}", M::full_name());
}

#[test]
fn structs_are_counted_with_their_size() {
    for_each_message!(size_is_right());
}

/// Writes messages that are valid for a shape: few or many fields, small or large, often empty.
struct Writer {
    random: Rng,
    /// The maximum number of elements of a list.
    elements: usize,
}

impl Writer {
    fn message(&mut self, shape: &Shape, depth: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for field in &shape.fields {
            if self.random.bool() {
                self.field(field, depth, &mut bytes);
            }
        }
        bytes
    }

    fn field(&mut self, field: &Field, depth: usize, bytes: &mut Vec<u8>) {
        let count = match field.count {
            Count::One | Count::Boxed => 1,
            Count::Repeated | Count::Entry => self.random.usize(0..=self.elements),
        };
        let packed = field.count == Count::Repeated && self.random.bool();
        match field.kind {
            Kind::Varint(_) | Kind::Fixed32 | Kind::Fixed64 if packed => {
                let numbers: Vec<u8> = (0..count).flat_map(|_| self.number(field.kind)).collect();
                delimited(field.number, &numbers, bytes);
            }
            Kind::Varint(_) | Kind::Fixed32 | Kind::Fixed64 => {
                for _ in 0..count {
                    key(field.number, wire_type(field.kind), bytes);
                    bytes.extend(self.number(field.kind));
                }
            }
            Kind::Bytes => {
                for _ in 0..count {
                    let length = [0, 0, 1, 7, 8, 40][self.random.usize(..6)];
                    let text: String = (0..length).map(|_| self.random.alphanumeric()).collect();
                    delimited(field.number, text.as_bytes(), bytes);
                }
            }
            Kind::Message(index) => {
                for _ in 0..count {
                    let empty = depth == 0 || self.random.u8(..4) == 0;
                    let inner = if empty { Vec::new() } else { self.message(SHAPES.message(index), depth - 1) };
                    delimited(field.number, &inner, bytes);
                }
            }
            Kind::Group => unreachable!("the protocols have no groups"),
        }
    }

    fn number(&mut self, kind: Kind) -> Vec<u8> {
        match kind {
            Kind::Fixed32 => self.random.u32(..).to_le_bytes().to_vec(),
            Kind::Fixed64 => self.random.u64(..).to_le_bytes().to_vec(),
            _ => {
                let bits = self.random.u32(0..64);
                let mut bytes = Vec::new();
                prost::encoding::encode_varint(self.random.u64(..) >> bits, &mut bytes);
                bytes
            }
        }
    }
}

fn wire_type(kind: Kind) -> u32 {
    match kind {
        Kind::Varint(_) => 0,
        Kind::Fixed64 => 1,
        Kind::Fixed32 => 5,
        _ => 2,
    }
}

fn key(number: u32, wire_type: u32, bytes: &mut Vec<u8>) {
    prost::encoding::encode_varint(u64::from(number << 3 | wire_type), bytes);
}

fn delimited(number: u32, content: &[u8], bytes: &mut Vec<u8>) {
    key(number, 2, bytes);
    prost::encoding::encode_varint(content.len() as u64, bytes);
    bytes.extend_from_slice(content);
}

/// NaNs differ from themselves, so that decoded messages are compared by their text.
fn decodes_like_prost<M: Message + Name + Default + Debug>() {
    let mut writer = Writer { random: Rng::with_seed(1), elements: 6 };
    for _ in 0..100 {
        let bytes = writer.message(SHAPES.of::<M>(), 4);
        let decoded = decode::<M>(&bytes).unwrap_or_else(|error| panic!("{error}: {bytes:02x?}"));
        let expected = M::decode(&bytes[..]).expect("valid");
        // The order of a map's entries differs from one decoding to the next.
        assert_eq!(sorted(&decoded), sorted(&expected));
    }
}

fn sorted<M: Debug>(message: &M) -> Vec<u8> {
    let mut text: Vec<u8> = format!("{message:?}").into_bytes();
    text.sort_unstable();
    text
}

#[test]
fn valid_messages_are_decoded_as_prost_decodes_them() {
    for_each_message!(decodes_like_prost());
}

/// What the measurement rejects, prost rejects, too; apart from maps, of which prost ignores the wire type.
fn rejects_no_more_than_prost<M: Message + Name + Default>() {
    let mut writer = Writer { random: Rng::with_seed(2), elements: 3 };
    let shape = SHAPES.of::<M>();
    for round in 0..400 {
        let mut bytes = writer.message(shape, 3);
        for _ in 0..writer.random.usize(0..4) {
            let at = writer.random.usize(0..=bytes.len());
            match writer.random.u8(..4) {
                0 => bytes.insert(at, writer.random.u8(..)),
                1 => bytes.truncate(at),
                2 => bytes.extend([0x0b, 0x0c, 0xa3, 1, 0x08, 1, 0xa4, 1].iter().skip(writer.random.usize(..4) * 2)),
                _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = writer.random.u8(..)),
            }
        }
        if round % 4 == 0 {
            bytes = (0..writer.random.usize(0..60)).map(|_| writer.random.u8(..)).collect();
        }
        let measured = Meter::new(&SHAPES, usize::MAX).measure(shape, &bytes);
        let decoded = M::decode(&bytes[..]);
        let lenient = matches!(&measured, Err(Obstacle::Malformed(reason)) if reason.contains("wire type of another"));
        assert!(measured.is_ok() || decoded.is_err() || lenient, "{measured:?}: {bytes:02x?}");
        assert_eq!(decode::<M>(&bytes).is_ok(), measured.is_ok() && decoded.is_ok());
    }
}

#[test]
fn invalid_messages_are_rejected_as_prost_rejects_them() {
    for_each_message!(rejects_no_more_than_prost());
}

/// The memory that a message is estimated to take, and the memory that it takes, at the end and at the peak.
fn memory<M: Message + Name + Default>(bytes: &[u8]) -> (usize, usize, usize) {
    let estimate = Meter::new(&SHAPES, usize::MAX).measure(SHAPES.of::<M>(), bytes).expect("valid");
    let mut decoded = None;
    let used = allocation_counter::measure(|| decoded = Some(M::decode(bytes).expect("valid")));
    (estimate, usize::try_from(used.bytes_current).expect("more than before"), used.bytes_max as usize)
}

fn takes_no_more_than_twice_the_estimate<M: Message + Name + Default>() {
    let shape = SHAPES.of::<M>();
    let check = |bytes: &[u8]| {
        let (estimate, kept, peak) = memory::<M>(bytes);
        let name = M::full_name();
        assert!(kept <= 2 * estimate, "{name}: {kept} bytes for an estimate of {estimate}: {bytes:02x?}");
        // A vector that grows has its old and its new memory for a moment.
        assert!(peak <= 3 * estimate, "{name}: {peak} bytes for an estimate of {estimate}: {bytes:02x?}");
    };
    for elements in [1, 2, 40] {
        let mut writer = Writer { random: Rng::with_seed(3), elements };
        (0..60).for_each(|_| check(&writer.message(shape, 2)));
    }
    // The worst case: very many elements that are as small as possible.
    for field in &shape.fields {
        for count in [1, 2, 3, 4, 5, 8, 9, 1000, 1025, 4097] {
            let mut bytes = Vec::new();
            for index in 0..count {
                let mut content = Vec::new();
                if field.count == Count::Entry {
                    // Distinct keys: equal ones replace each other.
                    delimited(1, format!("{index}").as_bytes(), &mut content);
                }
                match field.kind {
                    Kind::Bytes | Kind::Message(_) => delimited(field.number, &content, &mut bytes),
                    kind => {
                        key(field.number, wire_type(kind), &mut bytes);
                        bytes.extend(vec![0; [1, 8, 0, 0, 0, 4][wire_type(kind) as usize]]);
                    }
                }
            }
            if M::decode(&bytes[..]).is_ok() {
                check(&bytes);
            }
        }
    }
}

#[test]
fn decoded_messages_take_at_most_twice_the_estimated_memory() {
    for_each_message!(takes_no_more_than_twice_the_estimate());
}

/// `count` elements of a field without content: two bytes each.
fn empty_elements(number: u32, count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    (0..count).for_each(|_| delimited(number, &[], &mut bytes));
    bytes
}

#[test]
fn messages_that_grow_are_rejected_without_allocating() {
    let inner_maps = {
        let mut tensor = Vec::new();
        (0..100_000).for_each(|_| delimited(4, &[], &mut tensor));
        let mut request = Vec::new();
        delimited(5, &tensor, &mut request);
        request
    };
    let cases = [
        (decode::<inference::ModelInferRequest>(&empty_elements(5, 200_000)).map(drop), "inputs"),
        (decode::<inference::ModelInferRequest>(&empty_elements(6, 4 << 20)).map(drop), "outputs"),
        (decode::<inference::ModelInferRequest>(&inner_maps).map(drop), "inputs.parameters"),
        (decode::<EmbedRequest>(&empty_elements(1, 4 << 20)).map(drop), "texts"),
        (decode::<crate::ValidateRequest>(&empty_elements(1, 2 << 20)).map(drop), "pairs"),
    ];
    for (result, expected) in cases {
        let Err(Undecodable::TooLarge { field, .. }) = result else { panic!("{expected}: {result:?}") };
        assert_eq!(field, expected);
    }
    let bytes = empty_elements(1, 4 << 20);
    let used = allocation_counter::measure(|| drop(decode::<EmbedRequest>(&bytes)));
    assert!(used.bytes_max < 1000, "{used:?}");
}

#[test]
fn the_largest_legal_requests_are_accepted() {
    for length in [0, 1, 9, 100] {
        let texts = vec!["x".repeat(length); 65_536];
        let embed = EmbedRequest { texts: texts.clone(), ..EmbedRequest::default() }.encode_to_vec();
        assert!(decode::<EmbedRequest>(&embed).is_ok(), "{length}");
        let bytes_contents = texts.iter().map(|text| text.clone().into_bytes()).collect();
        let input = model_infer_request::InferInputTensor {
            name: "text".to_owned(),
            shape: vec![65_536, 1],
            contents: Some(inference::InferTensorContents { bytes_contents, ..Default::default() }),
            ..Default::default()
        };
        let infer = inference::ModelInferRequest { inputs: vec![input], ..Default::default() }.encode_to_vec();
        assert!(decode::<inference::ModelInferRequest>(&infer).is_ok(), "{length}");
    }
    let ids = tei::DecodeRequest { ids: vec![7; 8 << 20], ..Default::default() }.encode_to_vec();
    assert_eq!(decode::<tei::DecodeRequest>(&ids).map(|request| request.ids.len()), Ok(8 << 20));
    let pair = crate::ReferencePair { text: String::new(), embedding: vec![0.5; 1024] };
    let pairs = crate::ValidateRequest { pairs: vec![pair; 1000], min_cosine: None }.encode_to_vec();
    assert!(decode::<crate::ValidateRequest>(&pairs).is_ok());
    let token = tei::SimpleToken { text: "x".to_owned(), start: Some(0), stop: Some(1), ..Default::default() };
    let tokens = tei::EncodeResponse { tokens: vec![token; 65_536] }.encode_to_vec();
    assert!(decode::<tei::EncodeResponse>(&tokens).is_ok());
}

#[test]
fn callers_are_told_which_field_is_wrong_and_servers_are_blamed_for_responses() {
    let malformed = decode::<EmbedRequest>(b"\x0a\x02\xff\xfe").expect_err("not UTF-8");
    let request = status(&malformed, Direction::Request);
    assert_eq!(request.code(), Code::InvalidArgument);
    assert!(request.message().starts_with("not a valid embedd.v1.EmbedRequest: "), "{request}");
    assert!(!request.message().contains('\u{fffd}'), "{request}");

    let large = decode::<EmbedRequest>(&empty_elements(1, 1 << 20)).expect_err("too large");
    let request = status(&large, Direction::Request);
    let violations = request.get_details_bad_request().expect("details").field_violations;
    assert_eq!((request.code(), violations[0].field.as_str()), (Code::InvalidArgument, "texts"));
    assert_eq!(status(&large, Direction::Response).code(), Code::Internal);

    assert_eq!(SHAPES.of::<EmbedRequest>().direction, Direction::Request);
    assert_eq!(SHAPES.of::<crate::EmbedResponse>().direction, Direction::Response);
    assert_eq!(SHAPES.of::<inference::ModelInferRequest>().direction, Direction::Request);
    let path = decode::<inference::ModelInferRequest>(b"\x2a\x02\x18").expect_err("cut off");
    assert!(path.to_string().ends_with("ModelInferRequest: inputs: ends inside a field"), "{path}");
}
