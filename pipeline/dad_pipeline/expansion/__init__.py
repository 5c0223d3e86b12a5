"""Codes-only sets turned into ordinary image sets on the reader's machine."""
