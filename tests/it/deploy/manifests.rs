//! Checks that the parts of the manifests match each other: ports, labels, times and privileges.

use std::net::SocketAddr;
use std::time::Duration;

use embedd::config::Settings;
use serde_json::{Value, json};

use super::{base, pod, resources, settings, variants};

fn port_of(container: &Value, name: &str) -> Option<u64> {
    let ports = container["ports"].as_array().expect("ports");
    ports.iter().find(|port| port["name"] == name).and_then(|port| port["containerPort"].as_u64())
}

fn port(address: Option<SocketAddr>) -> Option<u64> {
    address.map(|address| address.port().into())
}

/// The ports of the probes.
fn probed(container: &Value) -> Vec<Option<u64>> {
    ["startupProbe", "readinessProbe", "livenessProbe"].map(|probe| container[probe]["grpc"]["port"].as_u64()).into()
}

/// Callers could use up the connections of any other listener, which would make the kubelet restart the pods.
#[test]
fn containers_name_the_configured_ports_and_probes_use_the_health_listener() {
    for overlay in variants() {
        let (pod, settings) = (pod(overlay), settings::of(overlay));
        let container = &pod["spec"]["containers"][0];
        assert_eq!(port_of(container, "grpc"), port(Some(settings.listen)), "{overlay:?}");
        assert_eq!(port_of(container, "health"), port(settings.health_listen), "{overlay:?}");
        assert_probes_have_their_own_listener(container, &settings, &format!("{overlay:?}"));
    }
    let runtime = &resources("deploy/examples/kserve", "ServingRuntime")[0]["spec"]["containers"][0];
    let settings = settings::of_flags(runtime);
    assert_eq!(port_of(runtime, "grpc-port"), port(Some(settings.listen)));
    assert_probes_have_their_own_listener(runtime, &settings, "KServe");
}

fn assert_probes_have_their_own_listener(container: &Value, settings: &Settings, place: &str) {
    let health = settings.health_listen.unwrap_or_else(|| panic!("{place}: no listener for health only"));
    assert!(!health.ip().is_loopback(), "{place}: the kubelet connects from outside the pod");
    let others = [Some(settings.listen), settings.http_listen, settings.admin_listen].map(port);
    assert!(!others.contains(&port(Some(health))), "{place}: {health}");
    assert_eq!(probed(container), vec![port(Some(health)); 3], "{place}: {container}");
}

#[test]
fn services_and_policies_use_the_ports_and_labels_of_the_pods() {
    let pod = pod(None);
    let (labels, container) = (&pod["metadata"]["labels"], &pod["spec"]["containers"][0]);
    let deployment = base("Deployment");
    assert_eq!(&deployment["spec"]["selector"]["matchLabels"], labels);
    assert_eq!(&base("PodDisruptionBudget")["spec"]["selector"]["matchLabels"], labels);
    for constraint in pod["spec"]["topologySpreadConstraints"].as_array().expect("constraints") {
        assert_eq!(&constraint["labelSelector"]["matchLabels"], labels);
    }
    for service in resources("deploy/base", "Service") {
        assert_eq!(&service["spec"]["selector"], labels);
        for entry in service["spec"]["ports"].as_array().expect("ports") {
            let target = entry["targetPort"].as_str().expect("a name");
            assert_eq!(entry["port"].as_u64(), port_of(container, target), "{entry}");
            assert_ne!(target, "health", "only probes use this port");
        }
    }
    let policy = base("NetworkPolicy");
    assert_eq!(&policy["spec"]["podSelector"]["matchLabels"], labels);
    let open: Vec<&Value> =
        policy["spec"]["ingress"].as_array().expect("rules").iter().map(|rule| &rule["ports"]).collect();
    assert_eq!(
        open,
        [&json!([{ "port": "grpc" }]), &json!([{ "port": "metrics" }])],
        "neither health nor the admin service has an open port"
    );
    assert_eq!(policy["spec"]["egress"], json!([]), "no outgoing traffic");
    let monitor = &resources("deploy/components/monitoring", "ServiceMonitor")[0];
    assert!(port_of(container, monitor["spec"]["endpoints"][0]["port"].as_str().expect("a name")).is_some());
    let [target] = [&base("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"]];
    assert_eq!(target, &deployment["metadata"]["name"]);
}

/// Kubernetes kills a pod that is still running at the end of its grace period.
fn assert_time_to_stop(pod: &Value, container: &Value, settings: &Settings, place: &str) {
    let grace = pod["terminationGracePeriodSeconds"].as_u64().map(Duration::from_secs).expect("a grace period");
    let hook =
        container["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().map(Duration::from_secs).unwrap_or_default();
    let needed = hook + settings.shutdown_grace + settings.drain_timeout;
    assert!(grace > needed, "{place}: {grace:?} for {needed:?}");
}

#[test]
fn pods_have_enough_time_to_stop() {
    for overlay in variants() {
        let (pod, settings) = (pod(overlay), settings::of(overlay));
        assert_time_to_stop(&pod["spec"], &pod["spec"]["containers"][0], &settings, &format!("{overlay:?}"));
    }
    let runtime = &resources("deploy/examples/kserve", "ServingRuntime")[0]["spec"]["containers"][0];
    let settings = settings::of_flags(runtime);
    let predictor = &resources("deploy/examples/kserve", "InferenceService")[0]["spec"]["predictor"];
    assert_time_to_stop(predictor, runtime, &settings, "KServe");
}

#[test]
fn containers_conform_to_the_restricted_profile() {
    let pods =
        variants().map(pod).chain([resources("deploy/examples/envoy", "Deployment")[0]["spec"]["template"].clone()]);
    for pod in pods {
        let (spec, container) = (&pod["spec"], &pod["spec"]["containers"][0]);
        assert_eq!(spec["automountServiceAccountToken"], false);
        let context = &spec["securityContext"];
        assert_eq!((&context["runAsNonRoot"], &context["runAsUser"]), (&json!(true), &json!(65532)));
        assert_eq!(context["seccompProfile"]["type"], "RuntimeDefault");
        let expected = json!({
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": { "drop": ["ALL"] },
        });
        assert_eq!(container["securityContext"], expected);
    }
}

#[test]
fn files_that_settings_name_are_in_mounted_volumes() {
    let settings = settings::of(Some("mtls"));
    let pod = pod(Some("mtls"));
    let mounts = pod["spec"]["containers"][0]["volumeMounts"].as_array().expect("mounts");
    let volumes = pod["spec"]["volumes"].as_array().expect("volumes");
    for file in [&settings.tls_certificate, &settings.tls_key, &settings.tls_client_ca] {
        let file = file.as_ref().expect("a file");
        let mount = mounts.iter().find(|mount| mount["mountPath"].as_str().is_some_and(|path| file.starts_with(path)));
        let name = &mount.unwrap_or_else(|| panic!("{} is not in a volume", file.display()))["name"];
        assert!(volumes.iter().any(|volume| volume["name"] == *name), "{name}");
    }
}
