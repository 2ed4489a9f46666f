//! Replays the fuzzing corpus, so that what a fuzzer found once stays fixed. To fuzz:
//! `cargo fuzz run --fuzz-dir tests/fuzz message` (needs cargo-fuzz).
#![allow(
    clippy::unwrap_used,
    reason = "a test program fails by panicking; its helpers do too"
)]

mod targets;

use std::fs;
use std::path::Path;

#[test]
fn corpus_of_every_decoder_is_replayed_without_panic() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    for (name, target) in targets::TARGETS {
        let folder = corpus.join(name);
        let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let mut replayed = 0;
        for entry in entries {
            let path = entry.unwrap().path();
            println!("{}", path.display());
            let seed = fs::read(&path).unwrap();
            target(&seed);
            // Every prefix and every single flipped byte of a seed are cheap and find most mistakes.
            for length in 0..seed.len().min(600) {
                target(&seed[..length]);
                let mut flipped = seed.clone();
                flipped[length] ^= 0x41;
                target(&flipped);
            }
            replayed += 1;
        }
        assert!(replayed > 0, "{} has no seeds", folder.display());
    }
}

#[test]
fn every_target_has_a_fuzzing_program() {
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/fuzz_targets");
    for (name, _) in targets::TARGETS {
        assert!(programs.join(format!("{name}.rs")).exists(), "{name}");
    }
}
