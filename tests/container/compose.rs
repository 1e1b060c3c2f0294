//! Reads the compose files that are shipped as examples.

use std::collections::BTreeMap;

use yaml_rust2::{Yaml, YamlLoader};

/// A compose file; paths are looked up in its one document.
pub struct Compose(Yaml);

impl Compose {
    pub fn parse(text: &str) -> Self {
        let mut documents = YamlLoader::load_from_str(text).expect("the file is YAML");
        assert_eq!(documents.len(), 1, "one document");
        Self(documents.remove(0))
    }

    /// The value at `services.workers.read_only`, say; `BadValue` when there is none.
    pub fn at(&self, path: &str) -> &Yaml {
        path.split('.').fold(&self.0, |yaml, key| &yaml[key])
    }

    pub fn text(&self, path: &str) -> &str {
        self.at(path).as_str().unwrap_or_else(|| panic!("no text at {path}"))
    }

    pub fn texts(&self, path: &str) -> Vec<&str> {
        let list = self.at(path).as_vec().unwrap_or_else(|| panic!("no list at {path}"));
        list.iter().map(|item| item.as_str().unwrap_or_else(|| panic!("no text in {path}"))).collect()
    }

    pub fn keys(&self, path: &str) -> Vec<&str> {
        let Some(map) = self.at(path).as_hash() else { return Vec::new() };
        map.keys().filter_map(Yaml::as_str).collect()
    }

    /// The environment of a service.
    pub fn environment(&self, service: &str) -> BTreeMap<&str, &str> {
        let path = format!("services.{service}.environment");
        self.keys(&path).into_iter().map(|name| (name, self.at(&path)[name].as_str().unwrap_or_default())).collect()
    }

    /// Seconds of a value such as `40s`.
    pub fn seconds(&self, path: &str) -> u64 {
        let text = self.text(path);
        text.strip_suffix('s').and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{path}: {text}"))
    }
}
