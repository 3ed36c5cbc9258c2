//! Goal: the tiered store behaves as every store does.

use std::sync::Arc;

use object_store::memory::InMemory;

use super::*;
use crate::conformance::check_all;

#[test]
fn conforms() {
    let dir = tempfile::tempdir().unwrap();
    let made = std::cell::Cell::new(0);
    check_all(&|| {
        made.set(made.get() + 1);
        let host = Host::real();
        let remote =
            Remote::over(&host, Arc::new(InMemory::new()), "some/where", Duration::from_secs(5))
                .unwrap();
        let dir = dir.path().join(made.get().to_string());
        Box::new(Tiered::open(&host, &dir, remote, TieredOptions::default()).unwrap())
    });
}
