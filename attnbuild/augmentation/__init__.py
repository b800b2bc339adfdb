"""What changes images at random in training."""
