//! What may be asked of a collection: by which fields its lists and topics may be filtered and ordered.

use std::collections::BTreeSet;

/// Which fields queries may name in conditions and orders.
#[derive(Debug, Clone, Default)]
pub(crate) struct Queryable {
    /// All that compare without it.
    pub(super) filterable: Option<BTreeSet<String>>,
    /// The texts that have an order.
    pub(super) orderable: BTreeSet<String>,
}
