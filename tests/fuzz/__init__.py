"""Harnesses that feed broken and hostile input to the command line, and count what goes wrong."""
