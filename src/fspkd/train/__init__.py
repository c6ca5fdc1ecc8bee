"""One engine for training from scratch, stage 1 and stage 2."""
