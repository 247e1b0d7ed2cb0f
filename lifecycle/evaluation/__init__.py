"""What is measured and what follows from it: decoding, grading, likelihood, baselines, intervals."""
