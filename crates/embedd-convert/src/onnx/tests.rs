use super::*;
use crate::onnx_proto::tensor_proto::DataLocation;

#[test]
fn a_streamed_model_can_be_decoded() {
    let mut graph = GraphBuilder::new("test");
    let x = graph.input("x", DataType::Float, &[Dim::Named("batch"), Dim::Fixed(3)]);
    let w = graph.weight("w", &[3, 2], || Ok(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
    let one = graph.integers(&[1], &[]);
    let y = graph.node("y", "MatMul", &[&x, &w], &[Attribute::Int("axis", -1)]);
    graph.node_in(MICROSOFT, "z", "BiasGelu", &[&y, &one], &[Attribute::Float("epsilon", 0.5)]);
    graph.output("out", &y, DataType::Float, &[Dim::Named("batch"), Dim::Fixed(2)]);
    let mut bytes = Vec::new();
    let mut reported = 0;
    graph.write(&[("key", "value".to_owned())], &mut bytes, |written| reported += written).expect("write");

    let model = ModelProto::decode(bytes.as_slice()).expect("a protobuf message");
    let decoded = model.graph.expect("a graph");
    assert_eq!(model.metadata_props[0].value, "value");
    assert_eq!(decoded.node.len(), 3);
    assert_eq!(decoded.initializer.len(), 2);
    assert_eq!(decoded.initializer[0].dims, [3, 2]);
    assert_eq!(decoded.initializer[0].raw_data.len(), 24);
    assert_eq!(decoded.initializer[0].raw_data[20..], 6.0f32.to_le_bytes());
    assert_eq!((reported, graph.weight_bytes()), (32, 32));
}

#[test]
fn the_body_of_an_operator_has_its_own_nodes_and_the_weights_and_domains_of_the_model() {
    let mut graph = GraphBuilder::new("test");
    let x = graph.input("x", DataType::Float, &[Dim::Named("n")]);
    let outer = graph.start_subgraph("body");
    let row = graph.input("row", DataType::Float, &[]);
    let two = graph.float(2.0);
    let sum = graph.node("sum", "Add", &[&row, &two], &[]);
    let activated = graph.node_in(MICROSOFT, "activated", "Gelu", &[&sum], &[]);
    let body = graph.finish_subgraph(outer, &activated, &[]);
    let y = graph.node("y", "Scan", &[&x], &[Attribute::Graph("body", &body), Attribute::Int("num_scan_inputs", 1)]);
    graph.output("out", &y, DataType::Float, &[Dim::Named("n")]);
    let mut bytes = Vec::new();
    graph.write(&[], &mut bytes, |_| {}).expect("write");

    let model = ModelProto::decode(bytes.as_slice()).expect("a protobuf message");
    let domains: Vec<_> = model.opset_import.iter().map(|opset| opset.domain.as_str()).collect();
    assert_eq!(domains, ["", MICROSOFT]);
    let decoded = model.graph.expect("a graph");
    let names = |graph: &GraphProto| graph.node.iter().map(|node| node.op_type.clone()).collect::<Vec<_>>();
    assert_eq!((names(&decoded), decoded.initializer.len()), (vec!["Scan".to_owned(), "Identity".to_owned()], 1));
    let body = decoded.node[0].attribute[0].g.as_ref().expect("a graph");
    assert_eq!((names(body), body.initializer.len()), (vec!["Add".to_owned(), "Gelu".to_owned()], 0));
    assert_eq!((body.input[0].name.as_str(), body.output[0].name.as_str()), ("row", "activated"));
}

#[test]
fn a_model_that_exceeds_the_formats_limit_is_rejected_before_anything_is_written() {
    let mut graph = GraphBuilder::new("test");
    graph.weight("w", &[1 << 29], || unreachable!("nothing is read"));
    let mut bytes = Vec::new();
    let error = graph.write(&[], &mut bytes, |_| {}).expect_err("too large");
    assert!(matches!(error, WriteError::TooLarge(_)) && bytes.is_empty(), "{error}");
}

/// A model that is written without its weights refers to bytes of another model's file, except for small weights.
#[test]
fn external_weights_point_to_their_values_in_the_other_file() {
    let large: Vec<f32> = (0..300).map(|value| value as f32).collect();
    let mut graph = GraphBuilder::new("test");
    let x = graph.input("x", DataType::Float, &[Dim::Named("batch"), Dim::Fixed(3)]);
    graph.weight("first", &[300], || Ok(vec![0.0; 300]));
    let w = graph.weight("w", &[3, 100], || Ok(large.clone()));
    graph.integers(&[7], &[]);
    let y = graph.node("y", "MatMul", &[&x, &w], &[]);
    graph.output("out", &y, DataType::Float, &[Dim::Named("batch"), Dim::Fixed(100)]);
    let mut whole = Vec::new();
    let locations = graph.write(&[("key", "value".to_owned())], &mut whole, |_| {}).expect("write");
    let mut bytes = Vec::new();
    graph.write_without_weights(&[], "whole.onnx", &locations, &mut bytes).expect("write");

    let decoded = ModelProto::decode(bytes.as_slice()).expect("a protobuf message").graph.expect("a graph");
    assert_eq!(decoded.node.len(), 2);
    let [_, external, small] = &decoded.initializer[..] else { panic!("three weights") };
    assert_eq!((small.data_location(), small.raw_data.len()), (DataLocation::Default, 8));
    assert_eq!((external.data_location(), external.raw_data.len()), (DataLocation::External, 0));
    let entry = |key: &str| {
        let entry = external.external_data.iter().find(|entry| entry.key == key).expect(key);
        entry.value.clone()
    };
    assert_eq!(entry("location"), "whole.onnx");
    let offset: usize = entry("offset").parse().expect("a number");
    let length: usize = entry("length").parse().expect("a number");
    let expected: Vec<u8> = large.iter().flat_map(|value| value.to_le_bytes()).collect();
    assert_eq!(whole[offset..offset + length], expected);

    let error = graph.write_without_weights(&[], "empty.onnx", &WeightLocations::new(), &mut Vec::new());
    assert!(error.expect_err("no weights").to_string().contains("empty.onnx has no weight `first`"));
}
