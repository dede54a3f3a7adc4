"""File formats: every file is checked before its contents are used."""
