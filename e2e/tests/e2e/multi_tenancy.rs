//! `docs/multi-tenancy.md`: the API server answers who may do what as the page says.

use policy_baseline_e2e::{TIMEOUT, World};

use crate::docs::page;
use crate::samples::commands;
use crate::support::{run, shell};

#[tokio::test]
async fn the_roles_of_the_page_allow_what_the_page_says() {
    let world = World::new().await.unwrap();
    for name in ["team-a", "team-b"] {
        world.namespace_named(name, &[]).await.unwrap();
    }
    let mut asked = 0;
    for command in commands(&page("multi-tenancy.md")) {
        let Some((question, expected)) = command.split_once(" # ") else {
            run(&mut shell(&world, &command));
            continue;
        };
        asked += 1;
        // A new binding takes a moment.
        let answers = async || {
            let output = shell(&world, question).output().map_err(|err| err.to_string())?;
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            if said.trim() == expected.trim() {
                Ok(true)
            } else {
                Err(format!("{said} {}", String::from_utf8_lossy(&output.stderr)))
            }
        };
        world.eventually(question, TIMEOUT, answers).await.unwrap();
    }
    assert_eq!(asked, 8);
}
