//! Goal: `cargo xtask mutations` learns which steps there are. Compiled with the feature `mutation` only.

#[test]
fn steps_are_listed() {
    for (name, what) in durable_log::mutation_steps() {
        println!("step: {name}: {what}");
    }
}
