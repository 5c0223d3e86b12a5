"""Clean image datasets in the layouts people have them in, behind one protocol."""

from dad_datasets.sources.clean_source import CleanSample, CleanSource, WorkUnit
from dad_datasets.sources.opening import open_source
from dad_datasets.sources.settings import SourceKind, SourceSettings

__all__ = ["CleanSample", "CleanSource", "SourceKind", "SourceSettings", "WorkUnit", "open_source"]
