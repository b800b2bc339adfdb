"""Training: the Lightning module, optimisers and schedules, run folders and checkpoints."""
