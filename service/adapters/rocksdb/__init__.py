"""The state store on local disk."""

from service.adapters.rocksdb.store import RocksDbStore, RocksDbStores, StoreDamaged, StoreLocked

__all__ = ["RocksDbStore", "RocksDbStores", "StoreDamaged", "StoreLocked"]
