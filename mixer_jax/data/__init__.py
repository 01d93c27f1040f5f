"""Sources, transforms and batches: from (config, seed, step) to pixels."""
