use super::*;

#[test]
fn a_streamed_model_decodes_as_a_whole_one() {
    let mut graph = GraphBuilder::new("test");
    let x = graph.input("x", DataType::Float, &[Dim::Named("batch"), Dim::Fixed(3)]);
    let w = graph.weight("w", &[3, 2], || Ok(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
    let one = graph.integers(&[1], &[]);
    let y = graph.node("y", "MatMul", &[&x, &w], &[Attribute::Int("axis", -1)]);
    graph.node_in(MICROSOFT, "z", "BiasGelu", &[&y, &one], &[Attribute::Float("epsilon", 0.5)]);
    graph.output("out", &y, DataType::Float, &[Dim::Named("batch"), Dim::Fixed(2)]);
    let mut bytes = Vec::new();
    let mut told = 0;
    graph.write(&[("key", "value".to_owned())], &mut bytes, |written| told += written).expect("write");

    let model = ModelProto::decode(bytes.as_slice()).expect("a protobuf message");
    let decoded = model.graph.expect("a graph");
    assert_eq!(model.metadata_props[0].value, "value");
    assert_eq!(decoded.node.len(), 3);
    assert_eq!(decoded.initializer.len(), 2);
    assert_eq!(decoded.initializer[0].dims, [3, 2]);
    assert_eq!(decoded.initializer[0].raw_data.len(), 24);
    assert_eq!(decoded.initializer[0].raw_data[20..], 6.0f32.to_le_bytes());
    assert_eq!((told, graph.weight_bytes()), (32, 32));
}

#[test]
fn a_model_over_the_limit_of_the_format_is_refused_before_anything_is_written() {
    let mut graph = GraphBuilder::new("test");
    graph.weight("w", &[1 << 29], || unreachable!("nothing is read"));
    let mut bytes = Vec::new();
    let error = graph.write(&[], &mut bytes, |_| {}).expect_err("too large");
    assert!(matches!(error, WriteError::TooLarge(_)) && bytes.is_empty(), "{error}");
}
