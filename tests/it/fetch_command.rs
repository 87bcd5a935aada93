//! `embedd fetch`: which pip it runs, and with which configuration.

use std::fs;

use crate::support::server::{command, temporary_folder};

#[test]
fn pip_is_the_installed_one_with_the_users_configuration() {
    let (_folder, folder) = temporary_folder();
    let working_directory = folder.join("work");
    fs::create_dir_all(&working_directory).expect("a folder");
    let executed = folder.join("executed");
    let module = format!("open({:?}, 'w').close()\n", executed.to_str().expect("text"));
    // `random` and `logging` are modules that pip imports.
    for name in ["pip.py", "random.py", "logging.py", "usercustomize.py", "sitecustomize.py"] {
        fs::write(working_directory.join(name), &module).expect("a module");
    }
    // Needs no network: the user's configuration file disables pip's index.
    let configuration = folder.join("pip.conf");
    fs::write(&configuration, "[global]\nno-index = true\nfind-links =\nrequire-virtualenv = true\n").expect("a file");
    for python_path in ["", ".", working_directory.to_str().expect("text")] {
        let mut fetch = command();
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PIP_")) {
            fetch.env_remove(name);
        }
        fetch.args(["fetch", "--no-model"]).current_dir(&working_directory);
        fetch.env("EMBEDD_HOME", folder.join("home")).env("PYTHONPATH", python_path);
        fetch.env("PIP_CONFIG_FILE", &configuration).env("PIP_REQUIRE_VIRTUALENV", "1");
        let output = fetch.output().expect("the program runs");
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!executed.exists(), "a module in the working directory was executed (PYTHONPATH={python_path:?})");
        assert_eq!(output.status.code(), Some(1), "{printed}");
        assert!(printed.contains("No matching distribution found for onnxruntime"), "{printed}");
    }
}
