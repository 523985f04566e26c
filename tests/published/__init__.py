"""Checkpoints in the layouts that the field publishes, with random weights, and forwards written without our loaders.

``python -m tests.published`` prints the table of docs/models.md: one row per annotator and per target.
"""
