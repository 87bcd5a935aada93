use std::num::NonZeroUsize;

use super::*;
use embedd_proto::open_inference::{InferParameter, InferTensorContents, ModelInferRequest};

const LIMITS: Limits = Limits {
    max_texts: NonZeroUsize::new(3).expect("not zero"),
    max_text_bytes: 8,
    truncates_any_size: false,
    dimension: 4,
};

fn contents(elements: &[&[u8]]) -> Option<InferTensorContents> {
    let bytes_contents = elements.iter().map(|element| element.to_vec()).collect();
    Some(InferTensorContents { bytes_contents, ..Default::default() })
}

fn input(shape: &[i64], contents: Option<InferTensorContents>) -> InferInputTensor {
    InferInputTensor {
        name: "text".to_owned(),
        datatype: "BYTES".to_owned(),
        shape: shape.to_vec(),
        parameters: HashMap::new(),
        contents,
    }
}

fn typed(shape: &[i64], elements: &[&[u8]]) -> ModelInferRequest {
    ModelInferRequest { inputs: vec![input(shape, contents(elements))], ..Default::default() }
}

fn raw(shape: &[i64], tensors: &[&[u8]]) -> ModelInferRequest {
    let raw_input_contents = tensors.iter().map(|tensor| tensor.to_vec()).collect();
    ModelInferRequest { inputs: vec![input(shape, None)], raw_input_contents, ..Default::default() }
}

fn with(name: &str, value: ParameterChoice) -> ModelInferRequest {
    let parameters = HashMap::from([parameter(name, value)]);
    ModelInferRequest { parameters, ..typed(&[1], &[b"a"]) }
}

fn parameter(name: &str, value: ParameterChoice) -> (String, InferParameter) {
    (name.to_owned(), InferParameter { parameter_choice: Some(value) })
}

fn output(name: &str, parameters: &[&str]) -> InferRequestedOutputTensor {
    let parameters = parameters.iter().map(|name| parameter(name, ParameterChoice::Int64Param(1))).collect();
    InferRequestedOutputTensor { name: name.to_owned(), parameters }
}

fn checked(request: ModelInferRequest) -> Result<(EmbedRequest, Form), Violations> {
    check(request, Truncation::Start, &LIMITS, &Prompts::default(), None).map(|call| (call.request, call.form))
}

#[test]
fn texts_are_read_in_both_forms_and_both_shapes() {
    let cases = [
        (typed(&[2], &[b"a", b""]), vec!["a", ""], Form::Typed),
        (typed(&[1, 1], &["é".as_bytes()]), vec!["é"], Form::Typed),
        (raw(&[2], &[b"\x01\0\0\0a\0\0\0\0"]), vec!["a", ""], Form::Raw),
        (raw(&[1, 1], &[b"\x02\0\0\0\xc3\xa9"]), vec!["é"], Form::Raw),
        // Some clients send an empty `contents` along with raw elements.
        (
            ModelInferRequest { inputs: vec![input(&[1], contents(&[]))], ..raw(&[], &[b"\x01\0\0\0a"]) },
            vec!["a"],
            Form::Raw,
        ),
        (
            ModelInferRequest { outputs: vec![output("embedding", &["other"])], ..typed(&[1], &[b"a"]) },
            vec!["a"],
            Form::Typed,
        ),
    ];
    for (request, texts, form) in cases {
        let (valid, valid_form) = checked(request.clone()).expect("valid");
        assert_eq!(
            (valid.inputs(), valid_form),
            (&texts.iter().map(|&text| text.to_owned().into()).collect::<Vec<_>>()[..], form)
        );
    }
}

#[test]
fn known_parameters_are_options_and_others_are_ignored() {
    use ParameterChoice::{BoolParam, DoubleParam, Int64Param, StringParam, Uint64Param};
    let default = EmbedOptions { truncation: TruncationChoice::Default(Truncation::Start), ..EmbedOptions::default() };
    let side = |side: &str| StringParam(side.to_owned());
    let requested =
        |truncation| EmbedOptions { truncation: TruncationChoice::Requested(truncation), ..default.clone() };
    let cases = [
        (with("normalize", BoolParam(false)), EmbedOptions { normalize: false, ..default.clone() }),
        (with("normalize", BoolParam(true)), default.clone()),
        (with("dimensions", Int64Param(2)), EmbedOptions { dimensions: Some(2), ..default.clone() }),
        (with("dimensions", Uint64Param(4)), EmbedOptions { dimensions: Some(4), ..default.clone() }),
        (with("truncation", side("end")), requested(Truncation::End)),
        (with("truncation", side("start")), requested(Truncation::Start)),
        (with("truncation", side("reject")), requested(Truncation::Reject)),
        (with("prompt_name", side("")), EmbedOptions { prompt: PromptChoice::None, ..default.clone() }),
        (with("priority", DoubleParam(1.0)), default.clone()),
    ];
    for (request, expected) in cases {
        let (valid, _) = checked(request.clone()).expect("valid");
        assert_eq!(valid.options(), &expected, "{request:?}");
    }
}

#[test]
fn an_invalid_request_is_rejected_with_the_field_and_the_reason() {
    use ParameterChoice::{Int64Param, StringParam};
    let good = || typed(&[1], &[b"a"]);
    let named = |name: &str| InferInputTensor { name: name.to_owned(), ..input(&[1], contents(&[b"a"])) };
    let floats = InferTensorContents { fp32_contents: vec![1.0], ..Default::default() };
    let shared = InferInputTensor {
        parameters: HashMap::from([parameter("shared_memory_region", StringParam("region".to_owned()))]),
        ..input(&[1], None)
    };
    let inputs = |inputs: &[InferInputTensor]| ModelInferRequest { inputs: inputs.to_vec(), ..Default::default() };
    let outputs = |outputs: &[InferRequestedOutputTensor]| ModelInferRequest { outputs: outputs.to_vec(), ..good() };
    let cases = [
        (inputs(&[]), "inputs", "is empty"),
        (inputs(&[named("text"), named("text")]), "inputs", "2 times"),
        (inputs(&[named("text"), named("input_ids")]), "inputs[1].name", "`input_ids`"),
        (inputs(&[shared]), "inputs[0].parameters", "shared_memory_region"),
        (
            inputs(&[InferInputTensor { datatype: "FP32".to_owned(), ..named("text") }]),
            "inputs[0].datatype",
            "must be BYTES",
        ),
        (typed(&[], &[b"a"]), "inputs[0].shape", "is []"),
        (typed(&[-1], &[b"a"]), "inputs[0].shape", "is [-1]"),
        (typed(&[0], &[]), "inputs[0].shape", "is [0]"),
        (typed(&[4], &[b"a".as_slice(); 4]), "inputs[0].shape", "1 to 3"),
        (typed(&[1, 2], &[b"a", b"b"]), "inputs[0].shape", "is [1, 2]"),
        (typed(&[1, 1, 1], &[b"a"]), "inputs[0].shape", "is [1, 1, 1]"),
        (typed(&[1; 1000], &[b"a"]), "inputs[0].shape", "(1000 dimensions)"),
        (typed(&[i64::MAX], &[b"a"]), "inputs[0].shape", "1 to 3"),
        (typed(&[2], &[b"a"]), "inputs[0].shape", "elements sent: 1"),
        (typed(&[1], &[b"a", b"b"]), "inputs[0].shape", "elements sent: 2"),
        (raw(&[2], &[b"\x01\0\0\0a"]), "inputs[0].shape", "elements sent: 1"),
        (raw(&[1], &[b""]), "inputs[0].shape", "elements sent: 0"),
        (inputs(&[input(&[1], None)]), "inputs[0].shape", "elements sent: 0"),
        (inputs(&[input(&[1], Some(floats))]), "inputs[0].contents", "bytes_contents"),
        (raw(&[1], &[b"\0\0\0\0", b"\0\0\0\0"]), "raw_input_contents", "2 tensors"),
        (
            ModelInferRequest { raw_input_contents: vec![b"\x01\0\0\0a".to_vec()], ..good() },
            "raw_input_contents",
            "together with inputs[0].contents",
        ),
        (raw(&[1], &[b"\x01\0\0"]), "raw_input_contents[0]", "inside the 4-byte length of an element at byte 0 of 3"),
        (
            raw(&[2], &[b"\x01\0\0\0a\x02\0\0\0b"]),
            "raw_input_contents[0]",
            "inside an element of 2 bytes at byte 5 of 10",
        ),
        (raw(&[1], &[b"\xff\xff\xff\xffa"]), "raw_input_contents[0]", "of 4294967295 bytes at byte 0"),
        (raw(&[1], &[b"\x01\0\0\0a\0\0\0\0"]), "raw_input_contents[0]", "another one begins at byte 5 of 9"),
        (typed(&[2], &[b"a", b"b\xff"]), "text[1]", "not valid UTF-8 from byte 1"),
        (typed(&[2], &[b"a", b"123456789"]), "text[1]", "has 9 bytes"),
        (outputs(&[output("embedding", &[]), output("scores", &[])]), "outputs[1].name", "`scores`"),
        (outputs(&[output("embedding", &["classification"])]), "outputs[0].parameters", "classification"),
        (with("normalize", Int64Param(1)), "normalize", "`true` or `false`"),
        (with("dimensions", Int64Param(0)), "dimensions", "is 0"),
        (with("dimensions", Int64Param(5)), "dimensions", "is 5"),
        (with("dimensions", Int64Param(-1)), "dimensions", "positive integer"),
        (with("dimensions", StringParam("4".to_owned())), "dimensions", "positive integer"),
        (with("truncation", StringParam("left".to_owned())), "truncation", "`end`"),
    ];
    for (request, field, part) in cases {
        let violations = checked(request.clone()).expect_err("invalid");
        let reported: Vec<_> = violations.iter().collect();
        assert_eq!(reported.len(), 1, "{reported:?}");
        assert_eq!(reported[0].field, field, "{reported:?}");
        assert!(reported[0].description.contains(part), "{reported:?}");
    }
    let empty = InferParameter { parameter_choice: None };
    let parameters = ["normalize", "dimensions", "truncation"].map(|name| (name.to_owned(), empty.clone()));
    let violations = checked(ModelInferRequest { parameters: parameters.into(), ..typed(&[1], &[b"\xff"]) });
    let fields: Vec<_> = violations.expect_err("invalid").iter().map(|violation| violation.field.clone()).collect();
    assert_eq!(fields, ["normalize", "dimensions", "truncation", "text[0]"]);
}
