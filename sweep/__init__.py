"""Rigorous speed comparison of deep-learning frameworks."""

__version__ = "0.1.0"
