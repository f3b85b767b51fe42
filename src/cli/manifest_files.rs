//! Reads manifests from files, from folders and from standard input.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::flow_input;

/// The files of a folder that are manifests.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// The name and the text of each manifest: the file itself, or those in the folder and its folders, in the order of their names.
pub fn texts(path: &str) -> Result<Vec<(String, String)>, String> {
    if path == "-" || !Path::new(path).is_dir() {
        return Ok(vec![(flow_input::shown(path).to_owned(), flow_input::text(path)?)]);
    }
    let mut files = Vec::new();
    find(Path::new(path), &mut files).map_err(|error| format!("cannot read the folder {path}: {error}"))?;
    let text = |file: PathBuf| {
        let name = file.display().to_string();
        flow_input::text(&name).map(|text| (name.clone(), text))
    };
    files.into_iter().map(text).collect()
}

/// Adds the manifests of a folder. Hidden folders and links to folders are passed over.
fn find(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let is_hidden = entry.file_name().to_string_lossy().starts_with('.');
        if entry.file_type()?.is_dir() {
            if !is_hidden {
                find(&path, files)?;
            }
        } else if path.is_file() && path.extension().is_some_and(|of| EXTENSIONS.iter().any(|one| of.eq_ignore_ascii_case(one))) {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_read_with_its_folders_in_the_order_of_names() {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["b", ".git"] {
            fs::create_dir(dir.path().join(folder)).unwrap();
        }
        for file in ["c.yaml", "a.json", "b/d.YML", "notes.md", ".git/e.yaml"] {
            fs::write(dir.path().join(file), file).unwrap();
        }
        let found: Vec<String> = texts(dir.path().to_str().unwrap()).unwrap().into_iter().map(|(_, text)| text).collect();
        assert_eq!(found, ["a.json", "b/d.YML", "c.yaml"]);
        let one = dir.path().join("notes.md");
        assert_eq!(texts(one.to_str().unwrap()).unwrap()[0].1, "notes.md", "a file that is named is read, whatever its name");
        assert_eq!(texts("/no/such").unwrap_err(), "cannot read /no/such: No such file or directory (os error 2)");
    }
}
