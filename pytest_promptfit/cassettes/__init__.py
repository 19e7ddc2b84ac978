"""Recorded replies: found by key, written as they arrive, explained where one is missing."""
