"""What an attention costs: seconds, bytes and products, measured and counted, never taken from a formula."""
