"""Drawn chest films with known findings, reports in words, and the small models trained on them: the offline default."""
