//! The rules of a range, without etcd.
