"""The prompt file and its samples as values: read, checked, and written nowhere."""
