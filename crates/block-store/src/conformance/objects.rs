//! What the objects of every store do.

use bytes::Bytes;

use crate::{
    BlockStore, OBJECT_BYTES_MAX, ObjectDeleteError, ObjectGetError, ObjectListError,
    ObjectPutError, Objects, PutIf, Version,
};

pub(super) fn check_all(make: &dyn Fn() -> Box<dyn BlockStore>) {
    the_last_put_is_what_is_got(make().objects());
    a_put_with_a_condition_takes_place_only_if_it_holds(make().objects());
    of_those_who_want_to_be_first_one_is(make().objects());
    names_are_listed_in_order_by_prefix(make().objects());
    bad_names_and_large_objects_are_refused(make().objects());
}

fn content(objects: &dyn Objects, name: &str) -> Option<Bytes> {
    objects.get(name).expect("get").map(|(bytes, _)| bytes)
}

fn put(objects: &dyn Objects, name: &str, bytes: &'static [u8], condition: PutIf) -> Version {
    objects.put(name, Bytes::from_static(bytes), condition).expect("put")
}

fn the_last_put_is_what_is_got(objects: &dyn Objects) {
    assert_eq!(content(objects, "roots/a"), None);
    objects.delete("roots/a").expect("delete what is not there");
    for bytes in [&b"one"[..], b"", b"three"] {
        put(objects, "roots/a", bytes, PutIf::Always);
        assert_eq!(content(objects, "roots/a").expect("put"), bytes);
    }
    let large = Bytes::from(vec![7; OBJECT_BYTES_MAX as usize]);
    objects.put("roots/b", large.clone(), PutIf::Always).expect("put");
    assert_eq!(content(objects, "roots/b").expect("put"), large);
    assert_eq!(content(objects, "roots/a").expect("put"), &b"three"[..]);
    objects.delete("roots/a").expect("delete");
    assert_eq!(content(objects, "roots/a"), None);
}

fn a_put_with_a_condition_takes_place_only_if_it_holds(objects: &dyn Objects) {
    let refused = |condition: PutIf| {
        let error =
            objects.put("owner", Bytes::from_static(b"no"), condition).expect_err("refused");
        assert!(matches!(&error, ObjectPutError::Conflict { name } if name == "owner"), "{error}");
    };
    let first = put(objects, "owner", b"1", PutIf::Absent);
    assert_eq!(objects.get("owner").expect("get"), Some(("1".into(), first.clone())));
    refused(PutIf::Absent);
    // The same bytes again are another version.
    let second = put(objects, "owner", b"1", PutIf::Is(first.clone()));
    assert_ne!(first, second);
    refused(PutIf::Is(first));
    let third = put(objects, "owner", b"3", PutIf::Is(second.clone()));
    refused(PutIf::Is(second));
    assert_eq!(objects.get("owner").expect("get"), Some(("3".into(), third.clone())));
    objects.delete("owner").expect("delete");
    refused(PutIf::Is(third));
    put(objects, "owner", b"4", PutIf::Absent);
    assert_eq!(content(objects, "owner").expect("put"), &b"4"[..]);
}

fn of_those_who_want_to_be_first_one_is(objects: &dyn Objects) {
    let claim = |n: u8| match objects.put("owner", Bytes::from(vec![n]), PutIf::Absent) {
        Ok(_) => Some(n),
        Err(ObjectPutError::Conflict { .. }) => None,
        Err(error) => panic!("{error}"),
    };
    let claim = &claim;
    let winners: Vec<u8> = std::thread::scope(|scope| {
        let claims: Vec<_> = (0..4).map(|n| scope.spawn(move || claim(n))).collect();
        claims.into_iter().filter_map(|claim| claim.join().expect("no panic")).collect()
    });
    assert_eq!(winners.len(), 1, "{winners:?} all think that they own the store");
    assert_eq!(content(objects, "owner").expect("put"), &winners[..]);
}

fn names_are_listed_in_order_by_prefix(objects: &dyn Objects) {
    assert!(objects.list("").expect("list").is_empty());
    let mut names =
        ["a/b", "a.b", "a-b", "a", "a/b/c", "a_b", "b", "ledger/root-10", "ledger/root-9"];
    for name in names {
        put(objects, name, b"x", PutIf::Always);
    }
    names.sort_unstable();
    assert_eq!(objects.list("").expect("list"), names);
    assert_eq!(objects.list("a/").expect("list"), ["a/b", "a/b/c"]);
    assert_eq!(objects.list("ledger/root").expect("list"), ["ledger/root-10", "ledger/root-9"]);
    assert!(objects.list("c").expect("list").is_empty());
}

fn bad_names_and_large_objects_are_refused(objects: &dyn Objects) {
    for bad in ["", "..", "a/../b", "/a", "a/", "A", "a b", "a\0"] {
        let refused = objects.put(bad, Bytes::new(), PutIf::Always);
        assert!(matches!(refused, Err(ObjectPutError::BadName { .. })), "{bad:?}");
        assert!(matches!(objects.get(bad), Err(ObjectGetError::BadName { .. })), "{bad:?}");
        assert!(matches!(objects.delete(bad), Err(ObjectDeleteError::BadName { .. })), "{bad:?}");
    }
    assert!(matches!(objects.list("A"), Err(ObjectListError::BadName { .. })));
    let large = Bytes::from(vec![0; OBJECT_BYTES_MAX as usize + 1]);
    let refused = objects.put("a", large, PutIf::Always);
    assert!(
        matches!(refused, Err(ObjectPutError::TooLarge { bytes: 1_048_577, .. })),
        "{refused:?}"
    );
    assert!(objects.list("").expect("list").is_empty());
}
