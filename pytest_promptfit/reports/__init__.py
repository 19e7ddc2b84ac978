"""What people and machines read of a run: pure functions from results to lines and values."""
