//! The API server accepts every sample without a warning, and every sample becomes Ready.

use policy_baseline_e2e::{World, repo};

use crate::scene::until_ready;

/// The examples of a page: the content of its fenced YAML blocks, unchanged.
pub fn yaml_blocks(page: &str) -> Vec<String> {
    blocks(page, "```yaml")
}

/// The shell blocks of a page.
pub fn shell_blocks(page: &str) -> Vec<String> {
    blocks(page, "```sh")
}

/// The lines of the shell blocks of a page.
pub fn commands(page: &str) -> Vec<String> {
    shell_blocks(page).iter().flat_map(|block| block.lines()).map(str::to_owned).collect()
}

/// The commands of a section of a page.
pub fn commands_of(page: &str, section: &str) -> Vec<String> {
    let (_, text) = page.split_once(&format!("\n## {section}\n")).unwrap_or_else(|| panic!("no section {section}"));
    commands(text.split("\n## ").next().unwrap())
}

fn blocks(page: &str, begin: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut inside: Option<(usize, String)> = None;
    for line in page.lines() {
        let text = line.trim_start();
        inside = match inside {
            None => text.starts_with(begin).then(|| (line.len() - text.len(), String::new())),
            Some((_, block)) if text.starts_with("```") => {
                blocks.push(block);
                None
            }
            Some((indent, block)) => Some((indent, block + line.get(indent..).unwrap_or_default() + "\n")),
        };
    }
    blocks
}

#[tokio::test]
async fn every_sample_is_accepted_without_a_warning_and_becomes_ready() {
    let mut world = World::new().await.unwrap();
    world.start_operator().await.unwrap();
    let samples = repo().join("manifests/samples");
    let mut names = Vec::new();
    for file in std::fs::read_dir(&samples).unwrap().map(|f| f.unwrap().path()).filter(|path| path.is_file()) {
        let applied = world.plane().kubectl().args(["apply", "--server-side", "-f"]).arg(&file).output().unwrap();
        let said = String::from_utf8_lossy(&applied.stderr).into_owned();
        assert!(applied.status.success() && said.is_empty(), "{}: {said}", file.display());
        let text = std::fs::read_to_string(&file).unwrap();
        let object: serde_json::Value = serde_yaml::from_str(&text).unwrap();
        names.push(object["metadata"]["name"].as_str().unwrap().to_owned());
    }
    assert!(names.len() >= 3, "{names:?}");
    for name in &names {
        until_ready(&world, name).await;
    }
}
