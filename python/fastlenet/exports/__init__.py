"""A network in a file for other programs: `export` writes one. FORMATS is the table of kinds of files, by suffix."""

from fastlenet.exports.writing import FORMATS, Exported, ExportError, export

__all__ = ["FORMATS", "ExportError", "Exported", "export"]
