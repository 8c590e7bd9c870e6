//! The prepared tables of a store.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use fieldsync::Collection;
use fieldsync::backend::{ForeignKey, SchemaMismatch, StoreError};

use crate::catalog::ForeignKeyInfo;
use crate::dialect::Dialect;
use crate::log_sizes::LogSizes;
use crate::side_tables::SideSchema;
use crate::statements::LogStatements;
use crate::table::Table;

/// The prepared tables by the names of their collections, and the statements of the side tables.
#[derive(Debug)]
pub struct Tables<D: Dialect> {
    tables: HashMap<Arc<str>, Arc<Table<D>>>,
    /// The collections whose tables have capture, by their names.
    captured: Arc<HashMap<Arc<str>, Arc<Collection>>>,
    /// The names of the collections by those of their logs.
    collections: HashMap<Arc<str>, Arc<str>>,
    /// The statements of the side tables.
    pub log: Arc<LogStatements>,
    /// The driver's own statements of the side tables.
    pub own: Arc<D::SideStatements>,
    /// The schema of the side tables.
    pub side: SideSchema,
    /// The sizes of the logs, as far as they are known.
    pub sizes: LogSizes,
}

impl<D: Dialect> Default for Tables<D> {
    fn default() -> Self {
        Self::new(SideSchema::default())
    }
}

impl<D: Dialect> Tables<D> {
    /// No tables yet. The side tables are in this schema.
    #[must_use]
    pub fn new(side: SideSchema) -> Self {
        Self {
            tables: HashMap::new(),
            captured: Arc::default(),
            collections: HashMap::new(),
            log: Arc::new(LogStatements::new::<D>(&side)),
            own: Arc::new(D::side_statements(&|sql| side.render::<D>(sql))),
            side,
            sizes: LogSizes::default(),
        }
    }

    /// The table of a collection.
    ///
    /// # Errors
    /// If the collection was not prepared.
    pub fn of(&self, collection: &str) -> Result<&Arc<Table<D>>, StoreError> {
        self.tables.get(collection).ok_or_else(|| {
            StoreError::Backend(format!("collection {collection} was not prepared").into())
        })
    }

    /// The names of the collections.
    pub fn collections(&self) -> impl ExactSizeIterator<Item = &Arc<str>> {
        self.tables.keys()
    }

    /// The name of the log of a collection.
    ///
    /// # Errors
    /// If the collection was not prepared.
    pub fn log_of(&self, collection: &str) -> Result<&Arc<str>, StoreError> {
        Ok(&self.of(collection)?.log)
    }

    /// The name of the collection that has this log, if it was prepared.
    #[must_use]
    pub fn collection_of(&self, log: &str) -> Option<&Arc<str>> {
        self.collections.get(log)
    }

    /// The table that has this log, if it was prepared.
    #[must_use]
    pub fn with_log(&self, log: &str) -> Option<&Arc<Table<D>>> {
        self.tables.get(self.collection_of(log)?)
    }

    /// The names of the logs.
    pub fn logs(&self) -> impl ExactSizeIterator<Item = &Arc<str>> {
        self.collections.keys()
    }

    /// The foreign keys between the tables.
    #[must_use]
    pub fn foreign_keys(&self) -> Vec<ForeignKey> {
        let tables = self.tables.values();
        let all = tables.flat_map(|table| table.foreign_keys.iter().map(move |key| (table, key)));
        let foreign_key = |(table, key): (&Arc<Table<D>>, &ForeignKeyInfo)| {
            let target = self.with_log(&key.target)?;
            Some(ForeignKey {
                collection: Arc::clone(&table.collection),
                fields: table.fields_of(&key.columns),
                target: Arc::clone(&target.collection),
                target_fields: target.fields_of(&key.target_columns),
            })
        };
        all.filter_map(foreign_key).collect()
    }

    /// The collections whose tables have capture, by their names.
    #[must_use]
    pub fn captured(&self) -> &Arc<HashMap<Arc<str>, Arc<Collection>>> {
        &self.captured
    }

    /// Adds a table.
    ///
    /// # Errors
    /// If it belongs to another collection: a node that has a log under two names would announce changes under one of them.
    pub fn insert(&mut self, table: Arc<Table<D>>) -> Result<(), SchemaMismatch> {
        let name = Arc::clone(&table.collection);
        if let Some(other) = self.collections.get(&table.log)
            && *other != name
        {
            return Err(SchemaMismatch {
                table: table.name.clone(),
                column: None,
                found: format!("the table of both collections {other} and {name}"),
                expected: "only one collection of an app on each table".to_owned(),
            });
        }
        self.put(table);
        Ok(())
    }

    fn put(&mut self, table: Arc<Table<D>>) {
        let name = Arc::clone(&table.collection);
        self.collections
            .insert(Arc::clone(&table.log), Arc::clone(&name));
        let captured = Arc::make_mut(&mut self.captured);
        if table.has_capture {
            captured.insert(Arc::clone(&name), Arc::clone(&table.definition));
        } else {
            captured.remove(&name);
        }
        self.tables.insert(name, table);
    }
}

/// The tables that a store has prepared so far.
#[derive(Debug)]
pub struct TableRegistry<D: Dialect>(RwLock<Arc<Tables<D>>>);

impl<D: Dialect> Default for TableRegistry<D> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<D: Dialect> TableRegistry<D> {
    /// The tables as they are now.
    #[must_use]
    pub fn current(&self) -> Arc<Tables<D>> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds tables, or replaces those of the same collections.
    pub fn extend(&self, added: Tables<D>) {
        let mut tables = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let mut all = Tables::new(added.side);
        let known = tables.tables.values().cloned();
        known
            .chain(added.tables.into_values())
            .for_each(|table| all.put(table));
        *tables = Arc::new(all);
    }
}
