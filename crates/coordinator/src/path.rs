//! Paths of nodes.

use crate::{Error, MAX_DATA, MAX_OPS, Op};

/// A path is `/` and names, each of letters, digits, `_`, `-` and `.`, with `/` between them. At most 512 bytes.
///
/// # Errors
/// [`Error::Invalid`] with the path and the rule.
pub fn check_path(path: &str) -> Result<(), Error> {
    let name = |name: &str| {
        let of = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
        !name.is_empty() && name != "." && name != ".." && name.bytes().all(of)
    };
    let fine = path.len() <= 512 && path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(name));
    if fine || path == "/" {
        return Ok(());
    }
    Err(Error::Invalid(format!("{path:?} is no path of a node: `/` and names of letters, digits, `_`, `-`, `.` are")))
}

/// The path of the parent; that of `/a` is `/`. Only for valid paths other than `/`.
pub(crate) fn parent(path: &str) -> &str {
    match path.rfind('/').expect("a valid path has a slash") {
        0 => "/",
        at => &path[..at],
    }
}

/// `path` is `root` or below it.
pub(crate) fn within(path: &str, root: &str) -> bool {
    root == "/" || path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Checks what can be said of a commit without looking at nodes.
pub(crate) fn check_ops(ops: &[Op]) -> Result<(), Error> {
    if ops.is_empty() || ops.len() > MAX_OPS {
        return Err(Error::Invalid(format!("a commit has 1 to {MAX_OPS} operations, not {}", ops.len())));
    }
    for op in ops {
        check_path(op.path())?;
        if op.path() == "/" && !matches!(op, Op::Check { .. }) {
            return Err(Error::Invalid("the root can neither be created nor set nor deleted".into()));
        }
        if let Op::Create { data, path, .. } | Op::Set { data, path, .. } = op
            && data.len() > MAX_DATA
        {
            return Err(Error::Invalid(format!("{} bytes are too many for {path}: {MAX_DATA} at most", data.len())));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_names_with_slashes_and_cannot_climb() {
        for fine in ["/", "/a", "/a/b-1_x.y/..c"] {
            assert_eq!(check_path(fine), Ok(()), "{fine}");
        }
        for bad in
            ["", "a", "//", "/a/", "/a//b", "/..", "/a/./b", "/a b", "/ä", "/a\0", &format!("/{}", "x".repeat(512))]
        {
            assert!(check_path(bad).is_err(), "{bad}");
        }
        assert_eq!((parent("/a/b"), parent("/a")), ("/a", "/"));
        assert!(within("/a/b", "/a") && within("/a", "/a") && within("/a", "/") && !within("/ab", "/a"));
    }
}
