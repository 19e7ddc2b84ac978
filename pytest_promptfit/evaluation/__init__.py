"""From replies to verdicts: outcomes, figures, the baseline, gates."""
