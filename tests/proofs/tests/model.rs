//! `decide` under a model check: every scene explored breadth-first, each to so many states (MODEL_STATES), its promises
//! checked in every one. `make model` prints what was found; the sample in `make test` looks at fewer.

use proofs::explore::explore;
use proofs::scenes::scenes;

/// States of each scene that the sample looks at.
const SAMPLE: usize = 500;

#[test]
fn no_order_of_steps_breaks_a_promise() {
    let most = std::env::var("MODEL_STATES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(SAMPLE);
    let only = std::env::var("MODEL_SCENE").ok();
    let (mut states, mut depth, mut broken) = (0, 0, Vec::new());
    for scene in scenes(None) {
        if only.as_ref().is_some_and(|only| !scene.name.contains(only.as_str())) {
            continue;
        }
        let found = explore(&scene, most);
        println!("{found}  {}", scene.name);
        states += found.states;
        depth = depth.max(found.depth);
        if let Some(broken_one) = found.broken {
            println!("  the way there: {:?}", broken_one.way);
            broken.push(format!("{}: {}", scene.name, broken_one.what));
        }
    }
    let verdict = if broken.is_empty() {
        "no violation".to_owned()
    } else {
        format!("{} violations", broken.len())
    };
    println!("{states} states explored, depth {depth}: {verdict}");
    assert!(broken.is_empty(), "{broken:#?}");
}
