//! Reads manifests from files, from folders and from standard input: without the patches of kustomizations and the templates of Helm charts,
//! which are parts of objects and no objects.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::flow_input;
use crate::policy::preview::ManifestText;

/// The names of a kustomization.
const KUSTOMIZATIONS: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// What could be read, and what could not.
#[derive(Debug, Default)]
pub struct ReadFiles {
    pub texts: Vec<ManifestText>,
    /// One sentence about each folder that was left out.
    pub notes: Vec<String>,
    pub errors: Vec<String>,
}

/// The part of a kustomization that names patches: they are parts of objects, and no objects.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct KustomizationPatches {
    patches: Vec<KustomizePatch>,
    patches_strategic_merge: Vec<String>,
    patches_json6902: Vec<KustomizePatch>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct KustomizePatch {
    path: Option<String>,
}

/// Reads files, folders and standard input, each file once: of a folder, the regular files that end in .yaml, .yml or .json, in the order of the arguments, and inside of folders by name.
pub fn read(paths: &[String]) -> ReadFiles {
    let mut all = ReadFiles::default();
    let mut seen = BTreeSet::new();
    for path in paths {
        let mut files = Vec::new();
        if path == "-" || !Path::new(path).is_dir() {
            files.push(path.clone());
        } else {
            let mut patches = BTreeSet::new();
            all.folder(Path::new(path), &mut files, &mut patches);
            files.retain(|file| fs::canonicalize(file).map_or(true, |file| !patches.contains(&file)));
        }
        // One file may be reached by several paths.
        let key = |file: &String| fs::canonicalize(file).unwrap_or_else(|_| file.into());
        for file in files.into_iter().filter(|file| seen.insert(key(file))) {
            match flow_input::text(&file) {
                Ok(text) => all.texts.push(ManifestText { name: flow_input::shown(&file).into(), text }),
                Err(error) => all.errors.push(error),
            }
        }
    }
    all
}

impl ReadFiles {
    /// Adds the files of a folder and of those inside. Links to folders are not followed.
    fn folder(&mut self, folder: &Path, files: &mut Vec<String>, patches: &mut BTreeSet<PathBuf>) {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries.filter_map(Result::ok).map(|entry| entry.path()).collect::<BTreeSet<PathBuf>>(),
            Err(error) => return self.errors.push(format!("cannot read {}: {error}", folder.display())),
        };
        let is_chart = entries.contains(&folder.join("Chart.yaml"));
        for name in KUSTOMIZATIONS.map(|name| folder.join(name)).iter().filter(|name| entries.contains(*name)) {
            // What is no kustomization names no patches.
            let text = fs::read_to_string(name).unwrap_or_default();
            let named: KustomizationPatches = serde_yaml::from_str(&text).unwrap_or_default();
            let paths = named.patches.into_iter().chain(named.patches_json6902).filter_map(|patch| patch.path);
            let paths = paths.chain(named.patches_strategic_merge).map(|path| folder.join(path));
            patches.extend(paths.filter_map(|path| fs::canonicalize(path).ok()));
        }
        for path in entries {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let is_folder = path.is_dir();
            if name.starts_with('.') || (is_folder && path.is_symlink()) {
                continue;
            }
            if is_folder && is_chart && name == "templates" {
                self.notes.push(format!("{} is left out: it has templates. Give what helm template writes", path.display()));
            } else if is_folder {
                self.folder(&path, files, patches);
            } else if path.is_file()
                && path.extension().is_some_and(|end| ["yaml", "yml", "json"].iter().any(|known| end.eq_ignore_ascii_case(known)))
            {
                files.push(path.to_string_lossy().into_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_read_without_patches_templates_and_hidden_files_and_each_file_once() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
        };
        for name in
            ["b.yaml", "a/x.json", "a/notes.md", "a/PATCH.yml", "chart/Chart.yaml", "chart/templates/t.yaml", ".git/c.yaml"]
        {
            write(name, "a: 1");
        }
        write("a/old.yaml", "a: 1");
        write("kustomization.yaml", "patches: [{path: a/PATCH.yml}, {patch: inline}]\npatchesStrategicMerge: [a/old.yaml]");
        std::os::unix::fs::symlink(dir.path(), dir.path().join("loop")).unwrap();
        let root = dir.path().to_str().unwrap().to_owned();
        let read = read(&[root.clone(), format!("{root}/./b.yaml"), format!("{root}/none.yaml")]);
        let names: Vec<&str> = read.texts.iter().map(|source| source.name.strip_prefix(&root).unwrap()).collect();
        assert_eq!(names, ["/a/x.json", "/b.yaml", "/chart/Chart.yaml", "/kustomization.yaml"]);
        assert_eq!(read.errors, [format!("cannot read {root}/none.yaml: No such file or directory (os error 2)")]);
        assert_eq!(read.notes.len(), 1, "{:?}", read.notes);
    }
}
