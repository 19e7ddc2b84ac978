"""The optimizer loop behind ``--tune``, and writing its result into the YAML; nothing in here knows pytest."""
