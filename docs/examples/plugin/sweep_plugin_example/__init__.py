"""Sweep learns of these files by the entry points in pyproject.toml; nothing has to be imported here."""
