//! Environment variables: which ones belong to embedd, and which ones only look as if they did.

use super::error::{Mistake, Origin};
use super::reader::Reader;
use super::setting::Setting;
use super::suggest::nearest;
use super::table::TABLE;

/// The variable that names the TOML file.
pub(super) const CONFIG_VARIABLE: &str = "EMBEDD_CONFIG";

const PREFIX: &str = "EMBEDD_";

/// Variables of embedd that are not settings, and their meaning.
pub const OTHER_VARIABLES: &[(&str, &str)] = &[
    (CONFIG_VARIABLE, "The TOML file, if `--config` does not name one."),
    ("EMBEDD_PYTHON", "The Python whose pip fetches packages; by default `python3`."),
    ("HF_ENDPOINT", "The hub or a mirror; by default `https://huggingface.co`."),
    ("HF_TOKEN", "The access token for gated and private models. It is sent to the hub only."),
    ("HF_TOKEN_PATH", "The file with the token if `HF_TOKEN` is not set; by default `token` in `HF_HOME`."),
    ("HF_HOME", "The folder where `hf auth login` stores the token; by default `~/.cache/huggingface`."),
];

/// Whether the variable matters to a configuration.
pub(super) fn concerns(name: &str) -> bool {
    name.starts_with(PREFIX) || TABLE.iter().any(|setting| setting.also.contains(&name))
}

/// Offers the values of variables, each setting's own before that of another program. An empty variable counts as
/// unset, which makes it possible to undo a variable that an image or a template sets.
pub(super) fn offer(reader: &mut Reader, env: &[(String, String)]) {
    let find = |wanted: &str| env.iter().find(|(name, text)| name == wanted && !text.is_empty());
    for setting in TABLE {
        let own = setting.variable();
        let names = std::iter::once(own.as_str()).chain(setting.also.iter().copied());
        for (name, text) in names.filter_map(find) {
            reader.offer(setting, text.clone(), Origin::Variable(name.clone()));
        }
    }
    for (name, _) in env.iter().filter(|(name, _)| !is_known(name) && !is_of_kubernetes(name)) {
        reader.reject(Mistake::Unknown {
            name: name.clone(),
            origin: Origin::Variable(name.clone()),
            suggestion: nearest_variable(name),
        });
    }
}

/// The variable that `name` may be a typo of.
fn nearest_variable(name: &str) -> Option<String> {
    let settings = TABLE.iter().map(Setting::variable);
    let others = OTHER_VARIABLES.iter().map(|(name, _)| (*name).to_owned());
    let known: Vec<String> = settings.chain(others).collect();
    nearest(name, known.iter().map(String::as_str)).map(str::to_owned)
}

fn is_known(name: &str) -> bool {
    !name.starts_with(PREFIX)
        || OTHER_VARIABLES.iter().any(|(other, _)| *other == name)
        || TABLE.iter().map(Setting::variable).any(|variable| variable == name)
}

/// Whether Kubernetes may have set the variable. It sets such variables for every Service of the namespace, and a
/// Service named `embedd` or `embedd-admin` must not keep the server from starting.
fn is_of_kubernetes(name: &str) -> bool {
    let is_port = |rest: &str| {
        let mut parts = rest.split('_');
        let number = parts.next().is_some_and(|port| port.parse::<u16>().is_ok());
        number && matches!(parts.next(), Some("TCP" | "UDP" | "SCTP"))
    };
    name.starts_with("EMBEDD_SERVICE_")
        || name == "EMBEDD_PORT"
        || name.starts_with("EMBEDD_PORT_")
        || name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || name.ends_with("_PORT")
        || name.match_indices("_PORT_").any(|(at, port)| is_port(&name[at + port.len()..]))
}

#[cfg(test)]
mod tests {
    use crate::config::{ConfigErrors, Settings, Sources};

    fn resolve(env: &[(&str, &str)]) -> Result<Settings, ConfigErrors> {
        let env = env.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        Settings::resolve(&Sources { env, ..Sources::default() })
    }

    #[test]
    fn variables_of_kubernetes_are_ignored() {
        let names = [
            "EMBEDD_SERVICE_HOST",
            "EMBEDD_SERVICE_PORT",
            "EMBEDD_SERVICE_PORT_GRPC",
            "EMBEDD_PORT",
            "EMBEDD_PORT_50051_TCP",
            "EMBEDD_PORT_50051_TCP_PROTO",
            "EMBEDD_PORT_50051_TCP_PORT",
            "EMBEDD_PORT_50051_TCP_ADDR",
            "EMBEDD_ADMIN_SERVICE_HOST",
            "EMBEDD_ADMIN_SERVICE_PORT_GRPC",
            "EMBEDD_ADMIN_PORT",
            "EMBEDD_ADMIN_PORT_50052_TCP_ADDR",
        ];
        for name in names {
            assert!(resolve(&[(name, "tcp://10.0.0.1:50051")]).is_ok(), "{name}");
        }
    }

    #[test]
    fn an_unknown_variable_is_a_mistake_with_a_suggestion() {
        let errors = resolve(&[("EMBEDD_LISTN", "1")]).expect_err("unknown").to_string();
        assert!(errors.contains("EMBEDD_LISTN") && errors.contains("did you mean `EMBEDD_LISTEN`?"), "{errors}");
        assert!(resolve(&[("EMBEDD_SOMETHING_QUITE_DIFFERENT", "1")]).is_err());
    }

    #[test]
    fn variables_of_other_programs_and_documented_ones_are_accepted() {
        assert!(
            resolve(&[("PATH", "/bin"), ("LISTEN", "x"), ("EMBEDD_PYTHON", "python3"), ("EMBEDD_CONFIG", "x")]).is_ok()
        );
    }

    #[test]
    fn an_empty_variable_counts_as_unset() {
        let settings = resolve(&[("EMBEDD_BUNDLE", ""), ("EMBEDD_MAX_TOKENS", "")]).expect("valid");
        assert_eq!((settings.bundle, settings.max_tokens), (None, None));
    }

    #[test]
    fn our_own_variable_overrides_the_one_of_another_program() {
        let both = [("ORT_DYLIB_PATH", "/theirs.so"), ("EMBEDD_ONNXRUNTIME", "/ours.so")];
        assert_eq!(resolve(&both).expect("valid").onnxruntime, Some("/ours.so".into()));
        assert_eq!(resolve(&both[..1]).expect("valid").onnxruntime, Some("/theirs.so".into()));
    }
}
