//! Goal: a tree behind the wire is the tree, whatever happens to the connection and the server.
//! Method: real server and client halves over in-memory and Unix transports, on the reference model;
//! `lab` cuts connections and takes the model back to what was committed.

mod hostile;
mod lab;
mod restarts;
mod transports;
mod wires;
