"""What makes text trustworthy: reading, filters, duplicates, decontamination, BPE and packing. No stage, no model."""
