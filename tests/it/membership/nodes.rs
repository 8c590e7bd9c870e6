//! Members come and go on three nodes.
