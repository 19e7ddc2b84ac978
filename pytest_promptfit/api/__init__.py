"""The prompt file in Python: a classifier for production, and the runs of the plugin for scripts and notebooks."""
