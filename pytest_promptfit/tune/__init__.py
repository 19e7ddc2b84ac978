"""The optimizer loop behind ``--tune``; nothing in here knows pytest."""
