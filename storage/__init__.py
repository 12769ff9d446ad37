"""Content-addressed bytes, in an S3 bucket or in a folder, behind one small interface.

Open a `FolderStore` or an `S3Store`; code that uses one asks for a `Store`.
"""

from storage.base import NotFound, Stat, Store, StoreUnavailable, Torn
from storage.folder import FolderStore
from storage.s3 import S3Store

__all__ = ["FolderStore", "NotFound", "S3Store", "Stat", "Store", "StoreUnavailable", "Torn"]
